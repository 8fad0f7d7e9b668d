"""Where each of our parameters lies in a checkpoint, and what must be done to it.

A layout maps our names to `Source`s: the name of the stored tensor, the shape it must
have, and the function that turns it into ours. GPT-2's stored products are [in, out] in
Hugging Face files and its q, k and v are one tensor; a llama GGUF has the rows of q and
k paired for interleaved rotation.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from jaxdecode.models import parameter_shapes
from jaxdecode.models.config import ModelConfig
from jaxdecode.weights.errors import CheckpointError, listing
from jaxdecode.weights.table import Entry

LLAMA_FOLDER = {
    "embedding": "model.embed_tokens",
    "norm": "model.norm",
    "head": "lm_head",
    "attention_norm": "input_layernorm",
    "attention.q": "self_attn.q_proj",
    "attention.k": "self_attn.k_proj",
    "attention.v": "self_attn.v_proj",
    "attention.o": "self_attn.o_proj",
    "attention.q_norm": "self_attn.q_norm",
    "attention.k_norm": "self_attn.k_norm",
    "mlp_norm": "post_attention_layernorm",
    "mlp.gate": "mlp.gate_proj",
    "mlp.up": "mlp.up_proj",
    "mlp.down": "mlp.down_proj",
}
GPT2_FOLDER = {
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
}
GPT2_OUTER = ("embedding", "positions", "norm")  # these have the prefix, the head not
LLAMA_GGUF = {
    "embedding": "token_embd",
    "norm": "output_norm",
    "head": "output",
    "attention_norm": "attn_norm",
    "attention.q": "attn_q",
    "attention.k": "attn_k",
    "attention.v": "attn_v",
    "attention.o": "attn_output",
    "attention.q_norm": "attn_q_norm",
    "attention.k_norm": "attn_k_norm",
    "mlp_norm": "ffn_norm",
    "mlp.gate": "ffn_gate",
    "mlp.up": "ffn_up",
    "mlp.down": "ffn_down",
}
GPT2_GGUF = LLAMA_GGUF | {
    "positions": "position_embd",
    "attention.q": "attn_qkv",
    "attention.k": "attn_qkv",
    "attention.v": "attn_qkv",
}
# Stored by old versions of transformers: computed from the config, never parameters.
BUFFERS = re.compile(
    r"(model\.(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq"
    r"|(transformer\.)?h\.\d+\.attn\.(bias|masked_bias))"
)
_LAYER = re.compile(r"layers\.(\d+)\.(.+)")
_PARTS = ("attention.q", "attention.k", "attention.v")


@dataclass(frozen=True)
class Source:
    """One parameter's origin.

    Attributes:
      name: the stored tensor.
      shape: the shape it must have.
      convert: from the stored array to our parameter.
    """

    name: str
    shape: tuple[int, ...]
    convert: Callable[[np.ndarray], np.ndarray]


def folder_layout(config: ModelConfig, stored: Iterable[str]) -> dict[str, Source]:
    """Return our names with their sources in Hugging Face safetensors files.

    Args:
      config: the model.
      stored: the names in the files; they tell whether GPT-2's have a prefix.
    """
    if config.family == "llama":
        return _layout(config, LLAMA_FOLDER, "model.layers", _as_stored)
    prefix = "transformer." if any(n.startswith("transformer.") for n in stored) else ""
    outer = {name: prefix + GPT2_FOLDER[name] for name in GPT2_OUTER}
    return _layout(config, GPT2_FOLDER | outer, f"{prefix}h", _conv1d)


def gguf_layout(config: ModelConfig, arch: str) -> dict[str, Source]:
    """Return our names with their sources in a GGUF file of architecture `arch`."""
    if config.family == "gpt2":
        return _layout(config, GPT2_GGUF, "blk", _one_of_three)
    rule = _paired if arch == "llama" else _as_stored
    return _layout(config, LLAMA_GGUF, "blk", rule)


def require_plausible(config: ModelConfig, stored: Mapping[str, Entry]) -> None:
    """Check that the config's sizes are no larger than what the files hold.

    Sizes are data of a stranger too: the shapes of a model are worked out only once they
    are known to be of the order of the files.

    Raises:
      CheckpointError: naming the size that is too large.
    """
    total = sum(entry.elements for entry in stored.values())
    needs = {
        "vocab_size": config.vocab_size * config.width,
        "mlp_width": config.mlp_width * config.width,
        "num_heads": config.num_heads * config.head_size * config.width,
        "num_layers": config.num_layers * config.width,
    }
    if config.family == "gpt2":
        needs["max_length"] = config.max_length * config.width
    for name, need in needs.items():
        if need > total:
            raise CheckpointError(
                f"`{name}` of the config needs {need} weights, the files hold {total}."
            )
    if config.num_layers > len(stored):
        raise CheckpointError(
            f"`num_layers` of the config is {config.num_layers}, the files hold "
            f"{len(stored)} tensors."
        )


def account(layout: Mapping[str, Source], stored: Mapping[str, Entry]) -> None:
    """Check that the files hold every tensor of the layout and nothing else.

    Args:
      layout: what the model needs.
      stored: what there is.

    Raises:
      CheckpointError: naming what is missing, unexpected or of another shape.
    """
    wanted = {source.name: source for source in layout.values()}
    problems = [f"{name} is missing" for name in wanted if name not in stored]
    for name, entry in stored.items():
        if name not in wanted:
            if not BUFFERS.fullmatch(name):
                problems.append(f"{name} is unexpected")
        elif entry.shape != wanted[name].shape:
            shape = list(wanted[name].shape)
            problems.append(f"{name} must be {shape}, is {list(entry.shape)}")
    if problems:
        raise CheckpointError(f"tensors do not fit the config: {listing(problems)}.")


def _layout(
    config: ModelConfig, names: Mapping[str, str], block: str, rule: Callable
) -> dict[str, Source]:
    layout = {}
    for ours, shape in parameter_shapes(config).items():
        stem, _, suffix = ours.rpartition(".")
        in_layer = _LAYER.fullmatch(stem)
        if in_layer:
            stem = in_layer[2]
            stored = f"{block}.{in_layer[1]}.{names[stem]}.{suffix}"
        else:
            stored = f"{names[stem]}.{suffix}"
        layout[ours] = Source(stored, *rule(config, stem, shape))
    return layout


def _as_stored(config: ModelConfig, stem: str, shape: tuple[int, ...]):
    return shape, _same


def _paired(config: ModelConfig, stem: str, shape: tuple[int, ...]):
    heads = {"attention.q": config.num_heads, "attention.k": config.kv_heads}
    return shape, _Unpair(heads[stem]) if stem in heads else _same


def _one_of_three(config: ModelConfig, stem: str, shape: tuple[int, ...]):
    if stem not in _PARTS:
        return shape, _same
    return (3 * shape[0], *shape[1:]), _Third(_PARTS.index(stem))


def _conv1d(config: ModelConfig, stem: str, shape: tuple[int, ...]):
    stored, convert = _one_of_three(config, stem, shape)
    if "." not in stem or len(shape) == 1:
        return stored, convert
    return stored[::-1], lambda array: convert(array.T)


def _same(array: np.ndarray) -> np.ndarray:
    return array


@dataclass(frozen=True)
class _Third:
    """One of three matrices (or biases) stored one below the other."""

    index: int

    def __call__(self, array: np.ndarray) -> np.ndarray:
        size = array.shape[0] // 3
        return array[self.index * size : (self.index + 1) * size]


@dataclass(frozen=True)
class _Unpair:
    """Bring the rows of each head from pairs (0, 0', 1, 1', ...) back to halves."""

    heads: int

    def __call__(self, array: np.ndarray) -> np.ndarray:
        paired = array.reshape(self.heads, -1, 2, *array.shape[1:])
        return np.swapaxes(paired, 1, 2).reshape(array.shape)
