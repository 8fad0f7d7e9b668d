"""What a model is, in plain Python values: sizes and switches, checked when built.

Knows no file format and no module: `models/families` has both. Equal configs are one
compiled program, since the object is hashable and holds no array.
"""

import dataclasses
import math
import numbers
from typing import ClassVar

from jaxdecode.core import check

SCALINGS = ("linear", "llama3")
# Fields with a default that every family has, beside the sizes. Any other field is a
# switch of the families whose traits name it.
COMMON = (
    "family",
    "num_kv_heads",
    "head_dim",
    "norm_eps",
    "activation",
    "tied_output",
    "qkv_bias",
    "output_bias",
    "mlp_bias",
    "rope_theta",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Traits:
    """What a config must know of its family.

    Attributes:
      name: what `ModelConfig.family` says.
      activations: the activations it allows, the default first.
      switches: the fields that belong to it besides those of every family.
      is_rotary: whether positions are rotations, not learned vectors.
      has_biases: whether every product has a bias; the bias switches are not read.
      can_balance: whether its channels can be scaled before rounding to int8.
    """

    name: str
    activations: tuple[str, ...]
    switches: tuple[str, ...]
    is_rotary: bool
    has_biases: bool
    can_balance: bool


LLAMA_TRAITS = Traits(
    name="llama",
    activations=("silu",),
    switches=(
        *("qk_norm", "sliding_window", "sliding_layers"),
        *("sliding_rope_theta", "rope_scaling"),
    ),
    is_rotary=True,
    has_biases=False,
    can_balance=True,
)
GPT2_TRAITS = Traits(
    name="gpt2",
    activations=("gelu_new", "gelu_pytorch_tanh", "gelu", "relu", "silu"),
    switches=("scale_attention", "scale_by_layer"),
    is_rotary=False,
    has_biases=True,
    can_balance=False,
)


@dataclasses.dataclass(frozen=True)
class RopeScaling:
    """Stretch rotary positions, for texts longer than those of the first training.

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
        positive(self, "factor", "low_freq_factor", "high_freq_factor")
        _sizes(self, "original_max_length")
        if self.factor < 1.0:
            raise ValueError(f"RopeScaling: `factor` must be >= 1, got {self.factor}.")
        if self.high_freq_factor <= self.low_freq_factor:
            raise ValueError(
                "RopeScaling: `high_freq_factor` must be > `low_freq_factor` "
                f"({self.low_freq_factor}), got {self.high_freq_factor}."
            )


@dataclasses.dataclass(frozen=True)
class LayerKind:
    """How attention looks at positions; layers of one kind share masks and angles.

    Attributes:
      window: how many positions it looks back over, itself included; None is all.
      rope_theta: base of the rotary frequencies; None without rotary positions.
      rope_scaling: how they are stretched, or None.
    """

    window: int | None
    rope_theta: float | None
    rope_scaling: RopeScaling | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Describe a language model of the llama or the GPT-2 family by sizes and switches.

    The llama family has RMS norms, rotary positions and a gated MLP; its switches cover
    llama, SmolLM2, Mistral, Qwen2 and Qwen3. The GPT-2 family has layer norms, learned
    positions, a plain MLP, and biases everywhere (its bias switches are not read).
    A subclass describes a further family: it lists the family's traits in `families`,
    changes the default of `family`, and adds the switches that only this family has.

    Args:
      family: "llama" or "gpt2".
      vocab_size: number of token ids, V.
      max_length: positions the model can hold.
      width: size of the residual stream.
      mlp_width: hidden size of the MLP.
      num_layers: number of blocks.
      num_heads: query heads, H.
      num_kv_heads: key and value heads, K, a divisor of `num_heads`; None is
        `num_heads`.
      head_dim: size of one head, D; None is `width / num_heads`. Even for llama.
      norm_eps: added inside a norm so that it never divides by zero, > 0.
      activation: "silu" for llama (the default there); "gelu_new" (the default),
        "gelu_pytorch_tanh", "gelu", "relu" or "silu" for gpt2.
      tied_output: whether the output projection is the embedding table.
      qkv_bias: whether the q, k and v projections have a bias (Qwen2).
      output_bias: whether the attention's output projection has one.
      mlp_bias: whether the MLP's projections have one.
      qk_norm: whether q and k are RMS-normalised per head before rotation (Qwen3).
      sliding_window: number of newest positions a token attends to, itself included;
        None is all.
      sliding_layers: indices of the layers with the window; None is every layer.
      sliding_rope_theta: base of the rotary frequencies, never scaled, in layers with
        the window; None is as in other layers.
      rope_theta: base of the rotary frequencies, > 0.
      rope_scaling: a `RopeScaling`, or None.
      scale_attention: gpt2: whether scores are divided by sqrt(D).
      scale_by_layer: gpt2: whether scores of layer i are also divided by i + 1.

    Raises:
      TypeError: for a size that is not an integer or a switch that is not a boolean.
      ValueError: for a size out of range or sizes that do not fit together.
    """

    families: ClassVar[tuple[Traits, ...]] = (LLAMA_TRAITS, GPT2_TRAITS)

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
    sliding_rope_theta: float | None = None
    rope_theta: float = 10000.0
    rope_scaling: RopeScaling | None = None
    scale_attention: bool = True
    scale_by_layer: bool = False

    def __post_init__(self):
        names = tuple(traits.name for traits in self.families)
        check.choice(self._who, "family", self.family, names)
        self._check_sizes()
        positive(self, "norm_eps", "rope_theta")
        if self.sliding_rope_theta is not None:
            positive(self, "sliding_rope_theta")
        self._check_booleans()
        self._check_heads()
        self._check_activation()
        self._check_window()
        self._check_scaling()
        self._check_switches()

    @property
    def traits(self) -> Traits:
        """What the family fixes."""
        return next(traits for traits in self.families if traits.name == self.family)

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
        return self.traits.is_rotary

    @property
    def has_biases(self) -> bool:
        """Whether every product has a bias, whatever the switches say."""
        return self.traits.has_biases

    @property
    def can_balance(self) -> bool:
        """Whether channels can be scaled before rounding to int8."""
        return self.traits.can_balance

    def window(self, layer: int) -> int | None:
        """Return how many positions `layer` looks back over, or None for all."""
        if self.sliding_layers is None or layer in self.sliding_layers:
            return self.sliding_window
        return None

    def layer_kind(self, layer: int) -> LayerKind:
        """Return how the attention of `layer` looks at positions."""
        window = self.window(layer)
        if not self.is_rotary:
            return LayerKind(window, None, None)
        if window is None or self.sliding_rope_theta is None:
            return LayerKind(window, self.rope_theta, self.rope_scaling)
        return LayerKind(window, self.sliding_rope_theta, None)

    @property
    def _who(self) -> str:
        return type(self).__name__

    def _check_sizes(self) -> None:
        _sizes(self, "vocab_size", "max_length", "width", "mlp_width")
        _sizes(self, "num_layers", "num_heads")
        for name in ("num_kv_heads", "head_dim", "sliding_window"):
            if getattr(self, name) is not None:
                _sizes(self, name)

    def _check_booleans(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(field.default, bool) and not isinstance(value, bool):
                raise TypeError(
                    f"{self._who}: `{field.name}` must be True or False, "
                    f"got {check.short(value)}."
                )

    def _check_heads(self) -> None:
        if self.num_heads % self.kv_heads:
            raise ValueError(
                f"{self._who}: `num_kv_heads` must divide `num_heads` "
                f"({self.num_heads}), got {self.kv_heads}."
            )
        if self.head_dim is None and self.width % self.num_heads:
            raise ValueError(
                f"{self._who}: `num_heads` must divide `width` ({self.width}) unless "
                f"`head_dim` is given, got {self.num_heads}."
            )
        if self.is_rotary and self.head_size % 2:
            raise ValueError(
                f"{self._who}: `head_dim` must be even for rotary positions, "
                f"got {self.head_size}."
            )

    def _check_activation(self) -> None:
        allowed = self.traits.activations
        if not self.activation:
            object.__setattr__(self, "activation", allowed[0])
        check.choice(self._who, "activation", self.activation, allowed)

    def _check_window(self) -> None:
        if self.sliding_layers is None:
            return
        layers = tuple(self.sliding_layers)
        if self.sliding_window is None and layers:
            raise ValueError(
                f"{self._who}: `sliding_layers` must be None without `sliding_window`, "
                f"got {check.short(layers)}."
            )
        for layer in layers:
            check.whole(
                self._who, "sliding_layers", layer, low=0, high=self.num_layers - 1
            )
        object.__setattr__(self, "sliding_layers", tuple(sorted(map(int, layers))))

    def _check_scaling(self) -> None:
        scaling = self.rope_scaling
        if scaling is not None and not isinstance(scaling, RopeScaling):
            raise TypeError(
                f"{self._who}: `rope_scaling` must be a RopeScaling or None, "
                f"got {check.short(scaling)}."
            )

    def _check_switches(self) -> None:
        for field in dataclasses.fields(self):
            is_size = field.default is dataclasses.MISSING
            if is_size or field.name in (*COMMON, *self.traits.switches):
                continue
            if getattr(self, field.name) != field.default:
                raise ValueError(
                    f"{self._who}: `{field.name}` must be {field.default} for family "
                    f"{self.family!r}, got {check.short(getattr(self, field.name))}."
                )


def positive(node: ModelConfig | RopeScaling, *names: str) -> None:
    """Check that fields are finite numbers > 0, and store them as floats.

    Args:
      node: the object being built; errors name its class.
      *names: the fields.

    Raises:
      TypeError: for a value that is not a number.
      ValueError: for one out of range.
    """
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


def _sizes(node: ModelConfig | RopeScaling, *names: str) -> None:
    who = type(node).__name__
    for name in names:
        value = check.whole(who, name, getattr(node, name), low=1)
        if value.ndim:
            raise TypeError(
                f"{who}: `{name}` must be one number, "
                f"got {check.short(getattr(node, name))}."
            )
        object.__setattr__(node, name, int(value))
