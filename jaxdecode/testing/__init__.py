"""Floor 5: what a user's own links can be tested with; the suite uses it for ours."""

from jaxdecode.testing.case import Case
from jaxdecode.testing.compiles import Compiles, count_compiles
from jaxdecode.testing.laws import LAWS, laws

__all__ = ["LAWS", "Case", "Compiles", "count_compiles", "laws"]
