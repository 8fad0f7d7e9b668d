"""Families with a mixture of experts in place of the MLP: Mixtral and Qwen3-MoE.

Files keep a tensor per expert; ours are one array per map and block.

References: Jiang et al., Mixtral of Experts, 2024, arXiv 2401.04088; Qwen Team, Qwen3
Technical Report, 2025, arXiv 2505.09388.
"""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from jaxdecode.core import check
from jaxdecode.models import fields
from jaxdecode.models.config import LLAMA_TRAITS, ModelConfig, Traits
from jaxdecode.models.families import llama as kind
from jaxdecode.models.families.errors import CheckpointError
from jaxdecode.models.families.gguf_keys import GGUFKeys, Header, layers_of
from jaxdecode.models.families.json_options import layer_count, need
from jaxdecode.models.families.record import Architecture, Family, Format, Naming

if TYPE_CHECKING:
    from jaxdecode.models.mixture import Mixture

SIZES = ("num_experts", "experts_per_token", "expert_width")
TRAITS = dataclasses.replace(
    LLAMA_TRAITS,
    name="mixture",
    switches=(*LLAMA_TRAITS.switches, *SIZES, "normalises_shares", "dense_layers"),
    can_balance=False,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MixtureConfig(ModelConfig):
    """Sizes and switches of a model with experts.

    Args:
      num_experts: experts of a block.
      experts_per_token: how many of them read a token, at most `num_experts`.
      expert_width: hidden size of an expert.
      normalises_shares: whether the shares of a token's experts are divided by their
        sum.
      dense_layers: indices of the layers with a plain gated MLP of `mlp_width`.
    """

    families: ClassVar[tuple[Traits, ...]] = (TRAITS,)
    family: str = "mixture"
    num_experts: int = 1
    experts_per_token: int = 1
    expert_width: int = 1
    normalises_shares: bool = True
    dense_layers: tuple[int, ...] = ()

    def __post_init__(self):
        super().__post_init__()
        fields.sizes(self, *SIZES)
        fields.layers(self, "dense_layers", self.num_layers)
        if self.experts_per_token > self.num_experts:
            raise ValueError(
                f"MixtureConfig: `experts_per_token` must be at most `num_experts` "
                f"({self.num_experts}), got {self.experts_per_token}."
            )


def module() -> "type[Mixture]":
    """Return the nnx module, imported here because Flax comes with it."""
    from jaxdecode.models.mixture import Mixture

    return Mixture


def naming(router: str, gate: str, up: str, down: str) -> Naming:
    """Return the names of a folder's tensors, given those of the experts."""
    names = {
        "mlp.router": router,
        "mlp.experts.gate": gate,
        "mlp.experts.up": up,
        "mlp.experts.down": down,
    }
    return dataclasses.replace(kind.FOLDER, names={**kind.FOLDER.names, **names})


MIXTRAL_TENSORS = naming(
    "block_sparse_moe.gate",
    "block_sparse_moe.experts.{}.w1",
    "block_sparse_moe.experts.{}.w3",
    "block_sparse_moe.experts.{}.w2",
)
QWEN3_TENSORS = naming(
    "mlp.gate",
    "mlp.experts.{}.gate_proj",
    "mlp.experts.{}.up_proj",
    "mlp.experts.{}.down_proj",
)
MIXTRAL = kind.Variant(
    kv_heads_default=True, rope_theta=1e6, eps=1e-5, window=kind.window_if_given
)
EXPERTS_MAX = 1024  # bounds what is enumerated before any weight was seen


def qwen3_window(raw: Mapping[str, Any], types: list[str] | None) -> kind.Window:
    """Every layer has the window, if it is switched on."""
    if not raw.get("use_sliding_window", False):
        return None, None
    return raw.get("sliding_window", 4096), None


QWEN3 = kind.Variant(qk_norm=True, attention_bias=True, window=qwen3_window)


def _experts(raw: Mapping[str, Any], *names: str, per_token: int) -> dict[str, Any]:
    name = next((name for name in names if raw.get(name) is not None), names[0])
    count = need(raw, name)
    if type(count) is not int or not 1 <= count <= EXPERTS_MAX:
        raise CheckpointError(
            f"config.json: `{name}` must be in [1, {EXPERTS_MAX}], "
            f"got {check.short(count)}."
        )
    return {
        "num_experts": count,
        "experts_per_token": raw.get("num_experts_per_tok", per_token),
    }


def from_mixtral(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a Mixtral from the options of a config.json."""
    read = kind.from_json(MIXTRAL, raw) | _experts(raw, *COUNTS, per_token=2)
    return read | {"expert_width": need(raw, "intermediate_size")}


def from_qwen3(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a Qwen3-MoE from the options of a config.json."""
    read = kind.from_json(QWEN3, raw) | _experts(raw, *COUNTS[::-1], per_token=8)
    return read | {
        "expert_width": need(raw, "moe_intermediate_size"),
        "normalises_shares": raw.get("norm_topk_prob", False),
        "dense_layers": _dense_layers(raw),
    }


def _dense_layers(raw: Mapping[str, Any]) -> tuple[int, ...]:
    count, every = layer_count(raw, "num_hidden_layers"), raw.get("decoder_sparse_step")
    listed = raw.get("mlp_only_layers")
    every, listed = 1 if every is None else every, listed or []
    is_list = isinstance(listed, list) and all(type(i) is int for i in listed)
    if type(every) is not int or every < 1 or not is_list:
        raise CheckpointError(
            "config.json: `decoder_sparse_step` must be a whole number >= 1, and "
            "`mlp_only_layers` a list of layers."
        )
    listed = frozenset(listed)
    return tuple(i for i in range(count) if i in listed or (i + 1) % every)


def gguf_naming(base: Naming) -> Naming:
    """Return the names of a GGUF file's tensors, in which all experts are one."""
    names = {
        "mlp.router": "ffn_gate_inp",
        "mlp.experts.gate": "ffn_gate_exps",
        "mlp.experts.up": "ffn_up_exps",
        "mlp.experts.down": "ffn_down_exps",
    }
    return dataclasses.replace(base, names={**base.names, **names})


def has_experts(file: Header) -> bool:
    """Return whether a GGUF file of a llama is a Mixtral."""
    return bool(file.metadata.get("llama.expert_count"))


def from_mixtral_gguf(keys: GGUFKeys) -> dict[str, Any]:
    """Return the fields of a Mixtral from the metadata of a GGUF file."""
    width = keys("feed_forward_length")
    return _from_gguf(MIXTRAL, keys) | {"expert_width": width}


def from_qwen3_gguf(keys: GGUFKeys) -> dict[str, Any]:
    """Return the fields of a Qwen3-MoE from the metadata of a GGUF file."""
    dense = [
        not keys.has(f"blk.{i}.ffn_gate_inp.weight") for i in range(layers_of(keys))
    ]
    return _from_gguf(QWEN3, keys) | {
        "expert_width": keys("expert_feed_forward_length"),
        "dense_layers": tuple(i for i, is_dense in enumerate(dense) if is_dense),
    }


def _from_gguf(variant: kind.Variant, keys: GGUFKeys) -> dict[str, Any]:
    count = keys("expert_count")
    if type(count) is not int or not 1 <= count <= EXPERTS_MAX:
        raise CheckpointError(
            f"metadata `{keys.arch}.expert_count` must be in [1, {EXPERTS_MAX}], "
            f"got {check.short(count)}."
        )
    keys.must_be("expert_weights_scale", (0.0, 1.0))
    keys.must_be("expert_weights_norm", (True,))
    return kind.from_gguf(variant, keys) | {
        "num_experts": count,
        "experts_per_token": keys("expert_used_count"),
        "normalises_shares": True,
    }


EXPERT_KEYS = ("expert_count", "expert_used_count")
COUNTS = ("num_local_experts", "num_experts")
MIXTURE = Family(
    traits=TRAITS,
    config=MixtureConfig,
    module=module,
    architectures=(
        Architecture(
            name="mixtral",
            folder=Format(
                label="MixtralForCausalLM",
                read=from_mixtral,
                tensors=MIXTRAL_TENSORS,
                reads=COUNTS,
            ),
            gguf=Format(
                label="llama",
                read=from_mixtral_gguf,
                tensors=gguf_naming(kind.PAIRED_GGUF),
                reads=EXPERT_KEYS,
                applies=has_experts,
            ),
        ),
        Architecture(
            name="qwen3_moe",
            folder=Format(
                label="Qwen3MoeForCausalLM",
                read=from_qwen3,
                tensors=QWEN3_TENSORS,
                reads=COUNTS,
            ),
            gguf=Format(
                label="qwen3moe",
                read=from_qwen3_gguf,
                tensors=gguf_naming(kind.GGUF),
                reads=EXPERT_KEYS,
            ),
        ),
    ),
)
