"""The module of the StarCoder2 architecture: a llama with layer norms and a plain MLP."""

from flax import nnx

from jaxdecode.models.config import ModelConfig
from jaxdecode.models.gpt2 import MLP
from jaxdecode.models.layers import LayerNorm
from jaxdecode.models.llama import Llama, LlamaBlock


class Starcoder2Block(LlamaBlock):
    """A block with layer norms and a plain MLP."""

    norm_class = LayerNorm

    def make_mlp(
        self, config: ModelConfig, layer: int, dtype: str, rngs: nnx.Rngs | None
    ) -> MLP:
        """Return the block's MLP."""
        del layer
        return MLP(config, dtype, rngs)


class Starcoder2(Llama):
    """A StarCoder2 language model with the `Model` protocol."""

    block = Starcoder2Block
    last_norm = LayerNorm
