"""What a model is, in plain Python values: sizes and switches, checked when built.

Knows no file format and no module: `models/families` has both. Equal configs are one
compiled program, since the object is hashable and holds no array.
"""

import dataclasses
import math
from typing import ClassVar

from jaxdecode.core import check
from jaxdecode.models import fields
from jaxdecode.models.fields import positive as positive
from jaxdecode.models.fields import sizes
from jaxdecode.models.rope_scaling import RopeScaling as RopeScaling

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
class LayerKind:
    """How attention looks at positions; layers of one kind share masks and angles.

    Attributes:
      window: how many positions it looks back over, itself included; None is all.
      rope_theta: base of the rotary frequencies; None without rotary positions.
      rope_scaling: how they are stretched, or None.
      rotary_size: how many numbers of a head are rotated, its first; None is all.
      score_cap: scores s become `cap * tanh(s / cap)`; None leaves them as they are.
    """

    window: int | None
    rope_theta: float | None
    rope_scaling: RopeScaling | None
    rotary_size: int | None = None
    score_cap: float | None = None


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
      rotary_size: how many numbers of a head are rotated, its first; None is all. Even.
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
    rotary_size: int | None = None
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
            scaling = self.rope_scaling and self.rope_scaling.within(self.max_length)
            return LayerKind(window, self.rope_theta, scaling, self.rotary_size)
        return LayerKind(window, self.sliding_rope_theta, None, self.rotary_size)

    @property
    def layer_kinds(self) -> tuple[LayerKind, ...]:
        """The kind of each layer."""
        return tuple(map(self.layer_kind, range(self.num_layers)))

    def lone_layer(self, layer: int) -> "ModelConfig":
        """Return the config of a model that has this one layer: alike ones are equal."""
        return dataclasses.replace(
            self,
            num_layers=1,
            sliding_window=self.window(layer),
            sliding_layers=None,
        )

    def score_scale(self, layer: int) -> float:
        """Return what the scores of a layer are multiplied by."""
        scale = 1.0 / math.sqrt(self.head_size) if self.scale_attention else 1.0
        return scale / (layer + 1) if self.scale_by_layer else scale

    @property
    def embedding_scale(self) -> float:
        """What the vectors of tokens are multiplied by."""
        return 1.0

    @property
    def _who(self) -> str:
        return type(self).__name__

    def _check_sizes(self) -> None:
        sizes(self, "vocab_size", "max_length", "width", "mlp_width")
        sizes(self, "num_layers", "num_heads")
        for name in ("num_kv_heads", "head_dim", "sliding_window", "rotary_size"):
            if getattr(self, name) is not None:
                sizes(self, name)

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
        rotated = self.rotary_size
        if rotated is not None and (rotated % 2 or rotated > self.head_size):
            raise ValueError(
                f"{self._who}: `rotary_size` must be even and at most the size of a "
                f"head ({self.head_size}), got {rotated}."
            )

    def _check_activation(self) -> None:
        allowed = self.traits.activations
        if not self.activation:
            object.__setattr__(self, "activation", allowed[0])
        check.choice(self._who, "activation", self.activation, allowed)

    def _check_window(self) -> None:
        if self.sliding_layers is None:
            return
        if self.sliding_window is None and len(self.sliding_layers):
            raise ValueError(
                f"{self._who}: `sliding_layers` must be None without `sliding_window`, "
                f"got {check.short(self.sliding_layers)}."
            )
        fields.layers(self, "sliding_layers", self.num_layers)

    def _check_scaling(self) -> None:
        scaling = self.rope_scaling
        if scaling is not None and not isinstance(scaling, RopeScaling):
            raise TypeError(
                f"{self._who}: `rope_scaling` must be a RopeScaling or None, "
                f"got {check.short(scaling)}."
            )
        planes = (self.rotary_size or self.head_size) // 2
        if scaling and scaling.divisors and len(scaling.divisors) != planes:
            raise ValueError(
                f"{self._who}: `rope_scaling` must have a divisor for each of the "
                f"{planes} planes of a head, got {len(scaling.divisors)}."
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
