"""Floor 5: how fast a model decodes on this machine, and what settings make of it."""

from jaxdecode.measure.decoding import Decoding as Decoding
from jaxdecode.measure.decoding import measure_decoding as measure_decoding
from jaxdecode.measure.decoding import random_prompts as random_prompts
from jaxdecode.measure.decoding import step_bytes as step_bytes
from jaxdecode.measure.decoding import stored_as as stored_as
from jaxdecode.measure.machine import bandwidth as bandwidth
from jaxdecode.measure.machine import machine as machine
from jaxdecode.measure.plot import check_plot as check_plot
from jaxdecode.measure.plot import plot as plot
from jaxdecode.measure.sweep_plot import plot_sweep as plot_sweep
from jaxdecode.measure.sweeping import Outcome as Outcome
from jaxdecode.measure.sweeping import Run as Run
from jaxdecode.measure.sweeping import sweep as sweep
from jaxdecode.measure.timings import Timings as Timings
from jaxdecode.measure.timings import interleave as interleave
