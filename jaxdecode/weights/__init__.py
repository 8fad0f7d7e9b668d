"""Floor 4: checkpoints and known models: from a name or a path to weights in memory."""

from jaxdecode.core.extras import needs

with needs("jaxdecode.weights"):
    from jaxdecode.weights.checkpoint import Checkpoint as Checkpoint
    from jaxdecode.weights.checkpoint import Facts as Facts
    from jaxdecode.weights.checkpoint import TokenizerSource as TokenizerSource
    from jaxdecode.weights.errors import CheckpointError as CheckpointError
    from jaxdecode.weights.errors import DownloadError as DownloadError
    from jaxdecode.weights.inventory import Item as Item
    from jaxdecode.weights.inventory import fetch_model as fetch_model
    from jaxdecode.weights.inventory import inventory as inventory
    from jaxdecode.weights.inventory import remove_model as remove_model
    from jaxdecode.weights.load import LoadedWeights as LoadedWeights
    from jaxdecode.weights.load import load_model as load_model
    from jaxdecode.weights.opening import open_checkpoint as open_checkpoint
    from jaxdecode.weights.opening import read_table as read_table
    from jaxdecode.weights.registry import KNOWN as KNOWN
    from jaxdecode.weights.registry import KnownModel as KnownModel
    from jaxdecode.weights.resolve import resolve as resolve
