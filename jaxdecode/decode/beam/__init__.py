"""Beam search in its forms; knows the model protocol and chains, no concrete model."""

from jaxdecode.decode.beam.result import Beams as Beams
from jaxdecode.decode.beam.sampling import beam_sample as beam_sample
from jaxdecode.decode.beam.scoring import GNMT as GNMT
from jaxdecode.decode.beam.scoring import Hypothesis as Hypothesis
from jaxdecode.decode.beam.scoring import LengthPenalty as LengthPenalty
from jaxdecode.decode.beam.scoring import Scoring as Scoring
from jaxdecode.decode.beam.searching import beam_search as beam_search
from jaxdecode.decode.beam.stochastic import StochasticBeams as StochasticBeams
from jaxdecode.decode.beam.stochastic import (
    stochastic_beam_search as stochastic_beam_search,
)
