"""Files of requests: a line in, a line out, whatever happens on the way."""

from jaxdecode.engine.batch.merging import merge
from jaxdecode.engine.batch.running import Defaults, Summary, run_batch

__all__ = ["Defaults", "Summary", "merge", "run_batch"]
