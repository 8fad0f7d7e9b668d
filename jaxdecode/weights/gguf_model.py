"""A GGUF file as a model: its metadata read as a `ModelConfig` and a tokenizer source.

Architectures llama (also SmolLM2 and Mistral), qwen2, qwen3 and gpt2. What would change
the numbers and is not implemented is refused by its key.
"""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from jaxdecode.models.config import ModelConfig, RopeScaling
from jaxdecode.models.rope import frequencies
from jaxdecode.weights.checkpoint import (
    Checkpoint,
    Tensors,
    TokenizerSource,
    special_ids,
)
from jaxdecode.weights.errors import CheckpointError, listing
from jaxdecode.weights.gguf_file import GGUFFile, is_decodable
from jaxdecode.weights.names import account, gguf_layout, require_plausible

ARCHITECTURES = ("llama", "qwen2", "qwen3", "gpt2")
ROPE_FACTORS = "rope_freqs.weight"
TOKENIZER = "tokenizer.ggml."
# Keys that change the numbers, with the values that do not.
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "expert_count": (0,),
    "attention.causal": (True,),
    "attention.scale": (0.0,),
    "logit_scale": (0.0, 1.0),
    "embedding_scale": (0.0, 1.0),
    "residual_scale": (0.0, 1.0),
}
_REQUIRED: Any = object()


def open_gguf(path: str | Path) -> Checkpoint:
    """Open a GGUF file; see `open_checkpoint`."""
    file = GGUFFile(path)
    try:
        return _open(file)
    except CheckpointError as error:
        if str(error).startswith(str(file.path)):
            raise
        raise CheckpointError(f"{file.path}: {error}") from error


def _open(file: GGUFFile) -> Checkpoint:
    config, arch = read_config(file)
    stored = dict(file.tensors)
    if config.family == "llama":
        stored.pop(ROPE_FACTORS, None)  # it became config.rope_scaling
    layout = gguf_layout(config, arch)
    account(layout, stored)
    wrong = [
        f"{n} is {e.dtype}" for n, e in stored.items() if not is_decodable(e.dtype)
    ]
    if wrong:
        raise CheckpointError(f"types that cannot be decoded: {listing(wrong)}.")
    tokenizer, ids = _tokenizer(file.metadata, config.vocab_size)
    return Checkpoint(
        config=config,
        tensors=Tensors(layout, dict.fromkeys(stored, file)),
        tokenizer=tokenizer,
        eos_ids=ids[0],
        bos_id=ids[1],
        pad_id=ids[2],
        chat_template=tokenizer.metadata.get("chat_template") if tokenizer else None,
        name=str(file.metadata.get("general.name", file.path.stem)),
    )


def read_config(file: GGUFFile) -> tuple[ModelConfig, str]:
    """Map the metadata of a GGUF file onto a `ModelConfig`.

    Args:
      file: the opened file; its tensors tell which biases there are and whether the
        output is tied.

    Returns:
      The config and the architecture's name.

    Raises:
      CheckpointError: for an unknown architecture, an option that is not supported, a
        missing key or a value out of range.
    """
    arch = file.metadata.get("general.architecture")
    if arch not in ARCHITECTURES:
        raise CheckpointError(
            f"general.architecture must be one of {', '.join(ARCHITECTURES)}, "
            f"got {arch!r}."
        )
    keys = _Keys(file.metadata, arch)
    try:
        options = _common(keys, file)
        if arch == "gpt2":
            config = ModelConfig(family="gpt2", **options)
            require_plausible(config, file.tensors)
        else:
            config = ModelConfig(family="llama", **options, **_llama(keys, file))
            require_plausible(config, file.tensors)
            config = _with_rope_factors(config, file)
    except (TypeError, ValueError) as error:
        raise CheckpointError(str(error)) from error
    return config, arch


class _Keys:
    """The metadata under the architecture's prefix."""

    def __init__(self, metadata: dict[str, Any], arch: str):
        self.metadata = metadata
        self.arch = arch

    def __call__(self, name: str, default: Any = _REQUIRED) -> Any:
        value = self.metadata.get(f"{self.arch}.{name}", default)
        if value is _REQUIRED:
            raise CheckpointError(f"metadata `{self.arch}.{name}` is missing.")
        if isinstance(value, list):
            raise CheckpointError(f"`{self.arch}.{name}` per layer is not supported.")
        if isinstance(value, float):
            return float(str(np.float32(value)))  # 1e-05, not 9.99999974e-06
        return value

    def must_be(self, name: str, neutral: tuple[Any, ...]) -> None:
        value = self(name, None)
        if value is not None and value not in neutral:
            raise CheckpointError(
                f"metadata `{self.arch}.{name}` = {value!r} is not supported."
            )


def _common(keys: _Keys, file: GGUFFile) -> dict[str, Any]:
    table = file.tensors.get("token_embd.weight")
    if table is None or len(table.shape) != 2:
        raise CheckpointError("there is no tensor token_embd.weight of two axes.")
    keys.must_be("vocab_size", (table.shape[0],))
    for name, neutral in NEUTRAL.items():
        keys.must_be(name, neutral)
    gpt2 = keys.arch == "gpt2"
    norm = "layer_norm_epsilon" if gpt2 else "layer_norm_rms_epsilon"
    return {
        "vocab_size": table.shape[0],
        "max_length": keys("context_length"),
        "width": keys("embedding_length"),
        "mlp_width": keys("feed_forward_length"),
        "num_layers": keys("block_count"),
        "num_heads": keys("attention.head_count"),
        "norm_eps": keys(f"attention.{norm}"),
        "tied_output": "output.weight" not in file.tensors,
        "activation": "gelu_new" if gpt2 else "silu",
    }


def _llama(keys: _Keys, file: GGUFFile) -> dict[str, Any]:
    width, heads = keys("embedding_length"), keys("attention.head_count")
    size = keys("attention.key_length", width // max(heads, 1))
    keys.must_be("attention.value_length", (size,))
    keys.must_be("rope.dimension_count", (size,))
    length = keys("context_length")
    window = keys("attention.sliding_window", None)
    if window is not None and (window == 0 or window >= length):
        window = None
    if window is not None and keys.arch != "llama":
        raise CheckpointError(
            f"metadata `{keys.arch}.attention.sliding_window` = {window} does not say "
            "for which layers, and is not supported."
        )
    return {
        "num_kv_heads": keys("attention.head_count_kv", heads),
        "head_dim": size,
        "qkv_bias": "blk.0.attn_q.bias" in file.tensors,
        "output_bias": "blk.0.attn_output.bias" in file.tensors,
        "mlp_bias": "blk.0.ffn_up.bias" in file.tensors,
        "qk_norm": keys.arch == "qwen3",
        "sliding_window": window,
        "rope_theta": keys("rope.freq_base", 10000.0),
        "rope_scaling": _scaling(keys),
    }


def _scaling(keys: _Keys) -> RopeScaling | None:
    kind = keys("rope.scaling.type", "none")
    factor = keys("rope.scaling.factor", keys("rope.scale_linear", 1.0))
    keys.must_be("rope.scaling.attn_factor", (1.0,))
    if kind not in ("none", "linear"):
        raise CheckpointError(
            f"metadata `{keys.arch}.rope.scaling.type` = {kind!r} is not supported."
        )
    # As llama.cpp does: a factor alone means linear; "none" switches it off.
    off = factor in (0.0, 1.0) or keys("rope.scaling.type", None) == "none"
    return None if off else RopeScaling("linear", factor)


def _with_rope_factors(config: ModelConfig, file: GGUFFile) -> ModelConfig:
    """Read a table of frequency divisors as the llama 3 scaling it was made from.

    The file keeps no parameters, only what each frequency is divided by. Every published
    model has the same cuts; only the stretch, the largest divisor, differs.
    """
    if ROPE_FACTORS not in file.tensors:
        return config
    factors = file.read(ROPE_FACTORS)
    if factors.shape != (config.head_size // 2,) or not np.all(factors >= 1.0):
        raise CheckpointError(f"{ROPE_FACTORS} must be one divisor >= 1 per frequency.")
    if np.all(factors == 1.0):
        return config
    scaling = RopeScaling("llama3", float(factors.max()), 1.0, 4.0, 8192)
    scaled = dataclasses.replace(config, rope_scaling=scaling)
    expected = frequencies(config) / frequencies(scaled)
    if config.rope_scaling is not None or not np.allclose(factors, expected, rtol=1e-4):
        raise CheckpointError(
            f"{ROPE_FACTORS} is not the llama 3 scaling of 8192 positions and is not "
            "supported."
        )
    return scaled


def _tokenizer(metadata: dict[str, Any], vocab_size: int):
    found = {
        key.removeprefix(TOKENIZER): value
        for key, value in metadata.items()
        if key.startswith(TOKENIZER)
    }
    eos = [found.get(f"{name}_token_id") for name in ("eos", "eot", "eom")]
    ids = special_ids(
        vocab_size,
        eos=eos,
        bos=found.get("bos_token_id"),
        pad=found.get("padding_token_id"),
    )
    tokens = found.get("tokens")
    if tokens is None:
        return None, ids
    if not isinstance(tokens, list) or len(tokens) > vocab_size:
        raise CheckpointError(
            f"the tokenizer must have at most {vocab_size} tokens, as the embedding."
        )
    template = metadata.get("tokenizer.chat_template")
    if isinstance(template, str):
        found["chat_template"] = template
    return TokenizerSource("gguf", metadata=found), ids
