"""Floor 5: what a user's own links and models can be tested with."""

from jaxdecode.testing.case import Case
from jaxdecode.testing.compiles import Compiles, count_compiles
from jaxdecode.testing.laws import LAWS, laws
from jaxdecode.testing.models import ModelCheckError, check_model

__all__ = [
    "LAWS",
    "Case",
    "Compiles",
    "ModelCheckError",
    "check_model",
    "count_compiles",
    "laws",
]
