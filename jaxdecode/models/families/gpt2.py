"""The GPT-2 family: its record.

Stored products are [in, out] in Hugging Face folders; q, k and v are one tensor in both
formats. Whether the names of a folder begin with `transformer.` depends on how it was
saved.
"""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from jaxdecode.models.config import GPT2_TRAITS, ModelConfig
from jaxdecode.models.families.gguf_keys import GGUFKeys, sizes
from jaxdecode.models.families.json_options import layer_count, need
from jaxdecode.models.families.record import Architecture, Family, Format, Naming
from jaxdecode.models.families.storage import conv1d, one_of_three

if TYPE_CHECKING:
    from jaxdecode.models import gpt2

FOLDER = Naming(
    names={
        "embedding": "wte",
        "positions": "wpe",
        "norm": "ln_f",
        "head": "lm_head",
        "attention_norm": "ln_1",
        "attention.q": "attn.c_attn",
        "attention.k": "attn.c_attn",
        "attention.v": "attn.c_attn",
        "attention.o": "attn.c_proj",
        "mlp_norm": "ln_2",
        "mlp.up": "mlp.c_fc",
        "mlp.down": "mlp.c_proj",
    },
    blocks="h",
    rule=conv1d,
    prefix="transformer.",
    unprefixed=("head",),
    # Masks, which old versions of transformers stored.
    ignored=re.compile(r"(transformer\.)?h\.\d+\.attn\.(bias|masked_bias)"),
)
GGUF = Naming(
    names={
        "embedding": "token_embd",
        "positions": "position_embd",
        "norm": "output_norm",
        "head": "output",
        "attention_norm": "attn_norm",
        "attention.q": "attn_qkv",
        "attention.k": "attn_qkv",
        "attention.v": "attn_qkv",
        "attention.o": "attn_output",
        "mlp_norm": "ffn_norm",
        "mlp.up": "ffn_up",
        "mlp.down": "ffn_down",
    },
    blocks="blk",
    rule=one_of_three,
)


def from_json(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a config from the options of a config.json.

    Raises:
      CheckpointError: for a missing option.
    """
    width = need(raw, "n_embd")
    inner = raw.get("n_inner")
    return {
        "vocab_size": need(raw, "vocab_size"),
        "max_length": need(raw, "n_positions"),
        "width": width,
        "mlp_width": 4 * width if inner is None else inner,
        "num_layers": layer_count(raw, "n_layer"),
        "num_heads": need(raw, "n_head"),
        "norm_eps": raw.get("layer_norm_epsilon", 1e-5),
        "activation": raw.get("activation_function", "gelu_new"),
        "tied_output": raw.get("tie_word_embeddings", True),
        "scale_attention": raw.get("scale_attn_weights", True),
        "scale_by_layer": raw.get("scale_attn_by_inverse_layer_idx", False),
    }


def from_gguf(keys: GGUFKeys) -> dict[str, Any]:
    """Return the fields of a config from the metadata of a GGUF file.

    Raises:
      CheckpointError: for a missing key.
    """
    return sizes(keys) | {
        "norm_eps": keys("attention.layer_norm_epsilon"),
        "activation": "gelu_new",
    }


def module() -> "type[gpt2.GPT2]":
    """Return the nnx module, imported here because Flax comes with it."""
    from jaxdecode.models import gpt2

    return gpt2.GPT2


GPT2 = Family(
    traits=GPT2_TRAITS,
    config=ModelConfig,
    module=module,
    architectures=(
        Architecture(
            name="gpt2",
            folder=Format(label="GPT2LMHeadModel", read=from_json, tensors=FOLDER),
            gguf=Format(label="gpt2", read=from_gguf, tensors=GGUF),
        ),
    ),
)
