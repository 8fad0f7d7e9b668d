"""Many requests at a time: continuous batching over slots, and files of requests."""

from jaxdecode.engine.asking import PromptTooLong, RequestOptions
from jaxdecode.engine.engine import Engine
from jaxdecode.engine.job import Job
from jaxdecode.engine.results import Piece, Result, Sample
from jaxdecode.engine.statistics import Statistics

__all__ = [
    "Engine",
    "Job",
    "Piece",
    "PromptTooLong",
    "RequestOptions",
    "Result",
    "Sample",
    "Statistics",
]
