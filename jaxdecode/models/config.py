"""What a model is, in plain Python values: sizes and switches, checked when built.

Knows nothing of any file format: the weights floor maps a `config.json` or GGUF
metadata onto it. Equal configs are one compiled program, since the object is hashable
and holds no array.
"""

import dataclasses
import math
import numbers
from typing import Any

from jaxdecode.core import check

FAMILIES = ("llama", "gpt2")
ACTIVATIONS = {
    "llama": ("silu",),
    "gpt2": ("gelu_new", "gelu_pytorch_tanh", "gelu", "relu", "silu"),
}
SCALINGS = ("linear", "llama3")


@dataclasses.dataclass(frozen=True)
class RopeScaling:
    """Stretch rotary frequencies so that a model reads further than it was trained.

    Args:
      kind: "linear" divides every frequency by `factor`; "llama3" divides those whose
        wavelength is beyond `original_max_length / low_freq_factor`, keeps those below
        `original_max_length / high_freq_factor` and blends in between.
      factor: the stretch, >= 1.
      low_freq_factor: llama3 only, > 0.
      high_freq_factor: llama3 only, > `low_freq_factor`.
      original_max_length: llama3 only, positions of the original training.

    Raises:
      ValueError: for a kind that is not implemented or a factor out of range.

    Reference: Meta AI, The Llama 3 Herd of Models, 2024, arXiv 2407.21783.
    """

    kind: str
    factor: float
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_length: int = 8192

    def __post_init__(self):
        check.choice("RopeScaling", "kind", self.kind, SCALINGS)
        _reals(self, "factor", "low_freq_factor", "high_freq_factor")
        _sizes(self, "original_max_length")
        if self.factor < 1.0:
            raise ValueError(f"RopeScaling: `factor` must be >= 1, got {self.factor}.")
        if self.high_freq_factor <= self.low_freq_factor:
            raise ValueError(
                "RopeScaling: `high_freq_factor` must be > `low_freq_factor` "
                f"({self.low_freq_factor}), got {self.high_freq_factor}."
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Sizes and switches of a language model of the llama or the GPT-2 family.

    The llama family is: RMS norms, rotary positions, a gated MLP; its switches cover
    llama, SmolLM2, Mistral, Qwen2 and Qwen3. The GPT-2 family is: layer norms, learned
    positions, a plain MLP, biases everywhere (its bias switches are not read).

    Args:
      family: "llama" or "gpt2".
      vocab_size: number of token ids, V.
      max_length: positions the model can hold.
      width: size of the residual stream.
      mlp_width: hidden size of the MLP.
      num_layers: number of blocks.
      num_heads: query heads, H.
      num_kv_heads: key and value heads, K; None is `num_heads`. Divides `num_heads`.
      head_dim: size of one head, D; None is `width / num_heads`. Even for llama.
      norm_eps: the term that keeps a norm from dividing by zero, > 0.
      activation: "silu" for llama (the default there); "gelu_new" (the default),
        "gelu_pytorch_tanh", "gelu", "relu" or "silu" for gpt2.
      tied_output: whether the output projection is the embedding table.
      qkv_bias: whether the q, k and v projections have a bias (Qwen2).
      output_bias: whether the attention's output projection has one.
      mlp_bias: whether the MLP's projections have one.
      qk_norm: whether q and k are RMS-normalised per head before rotation (Qwen3).
      sliding_window: newest positions a token attends to, itself included; None is all.
      sliding_layers: indices of the layers the window is for; None is every layer.
      rope_theta: base of the rotary frequencies, > 0.
      rope_scaling: a `RopeScaling`, or None.
      scale_attention: gpt2: whether scores are divided by sqrt(D).
      scale_by_layer: gpt2: whether scores of layer i are also divided by i + 1.

    Raises:
      TypeError: for a size that is no integer, a switch that is no boolean.
      ValueError: for a size out of range or sizes that do not fit together.
    """

    family: str = "llama"
    vocab_size: int
    max_length: int
    width: int
    mlp_width: int
    num_layers: int
    num_heads: int
    num_kv_heads: int | None = None
    head_dim: int | None = None
    norm_eps: float = 1e-5
    activation: str = ""
    tied_output: bool = False
    qkv_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False
    sliding_window: int | None = None
    sliding_layers: tuple[int, ...] | None = None
    rope_theta: float = 10000.0
    rope_scaling: RopeScaling | None = None
    scale_attention: bool = True
    scale_by_layer: bool = False

    def __post_init__(self):
        check.choice("ModelConfig", "family", self.family, FAMILIES)
        self._check_sizes()
        _reals(self, "norm_eps", "rope_theta")
        _switches(self)
        self._check_heads()
        self._check_activation()
        self._check_window()
        self._check_family_switches()

    @property
    def kv_heads(self) -> int:
        """Key and value heads, with the default filled in."""
        return self.num_kv_heads or self.num_heads

    @property
    def head_size(self) -> int:
        """Size of one head, with the default filled in."""
        return self.head_dim or self.width // self.num_heads

    @property
    def is_rotary(self) -> bool:
        """Whether positions are rotations of queries and keys, not learned vectors."""
        return self.family == "llama"

    @property
    def has_biases(self) -> bool:
        """Whether every product has a bias, whatever the switches say."""
        return self.family == "gpt2"

    def window(self, layer: int) -> int | None:
        """Return how many positions `layer` looks back over, or None for all."""
        if self.sliding_layers is None or layer in self.sliding_layers:
            return self.sliding_window
        return None

    def _check_sizes(self) -> None:
        _sizes(self, "vocab_size", "max_length", "width", "mlp_width")
        _sizes(self, "num_layers", "num_heads")
        for name in ("num_kv_heads", "head_dim", "sliding_window"):
            if getattr(self, name) is not None:
                _sizes(self, name)

    def _check_heads(self) -> None:
        if self.num_heads % self.kv_heads:
            raise ValueError(
                f"ModelConfig: `num_kv_heads` must divide `num_heads` "
                f"({self.num_heads}), got {self.kv_heads}."
            )
        if self.head_dim is None and self.width % self.num_heads:
            raise ValueError(
                f"ModelConfig: `num_heads` must divide `width` ({self.width}) unless "
                f"`head_dim` is given, got {self.num_heads}."
            )
        if self.family == "llama" and self.head_size % 2:
            raise ValueError(
                f"ModelConfig: `head_dim` must be even for rotary positions, "
                f"got {self.head_size}."
            )

    def _check_activation(self) -> None:
        allowed = ACTIVATIONS[self.family]
        if not self.activation:
            object.__setattr__(self, "activation", allowed[0])
        check.choice("ModelConfig", "activation", self.activation, allowed)

    def _check_window(self) -> None:
        if self.sliding_layers is None:
            return
        layers = tuple(self.sliding_layers)
        if self.sliding_window is None and layers:
            raise ValueError(
                "ModelConfig: `sliding_layers` must be None without `sliding_window`, "
                f"got {check.short(layers)}."
            )
        for layer in layers:
            check.whole(
                "ModelConfig", "sliding_layers", layer, low=0, high=self.num_layers - 1
            )
        object.__setattr__(self, "sliding_layers", tuple(sorted(map(int, layers))))

    def _check_family_switches(self) -> None:
        if self.rope_scaling is not None and not isinstance(
            self.rope_scaling, RopeScaling
        ):
            raise TypeError(
                "ModelConfig: `rope_scaling` must be a RopeScaling or None, "
                f"got {check.short(self.rope_scaling)}."
            )
        other = {"llama": _GPT2_ONLY, "gpt2": _LLAMA_ONLY}[self.family]
        defaults = {f.name: f.default for f in dataclasses.fields(self)}
        for name in other:
            if getattr(self, name) != defaults[name]:
                raise ValueError(
                    f"ModelConfig: `{name}` must be {defaults[name]} for family "
                    f"{self.family!r}, got {check.short(getattr(self, name))}."
                )


_GPT2_ONLY = ("scale_attention", "scale_by_layer")
_LLAMA_ONLY = ("qk_norm", "sliding_window", "sliding_layers", "rope_scaling")


def _sizes(node: Any, *names: str) -> None:
    for name in names:
        value = check.whole(type(node).__name__, name, getattr(node, name), low=1)
        object.__setattr__(node, name, _plain(node, name, value, int))


def _reals(node: Any, *names: str) -> None:
    for name in names:
        value = getattr(node, name)
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            raise TypeError(
                f"{type(node).__name__}: `{name}` must be a number, "
                f"got {check.short(value)}."
            )
        if not 0.0 < float(value) < math.inf:
            raise ValueError(
                f"{type(node).__name__}: `{name}` must be finite and > 0, got {value}."
            )
        object.__setattr__(node, name, float(value))


def _switches(node: ModelConfig) -> None:
    for field in dataclasses.fields(node):
        value = getattr(node, field.name)
        if isinstance(field.default, bool) and not isinstance(value, bool):
            raise TypeError(
                f"ModelConfig: `{field.name}` must be True or False, "
                f"got {check.short(value)}."
            )


def _plain(node: Any, name: str, value: Any, kind: type) -> Any:
    if value.ndim:
        raise TypeError(
            f"{type(node).__name__}: `{name}` must be one number, "
            f"got {check.short(getattr(node, name))}."
        )
    return kind(value)
