"""A mixture of experts: each token is sent to a few of many gated MLPs.

The experts are one grouped product per map: tokens are sorted by expert, multiplied, and
brought back. An expert that no token was sent to costs nothing on CPU.

Reference: Shazeer et al., Outrageously Large Neural Networks, 2017, arXiv 1701.06538.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from jaxdecode.models.grouped import grouped_matmul
from jaxdecode.models.layers import LayerNorm, Linear, RMSNorm, activation
from jaxdecode.models.llama import Llama, LlamaBlock
from jaxdecode.models.matrix import DTYPES


class Experts(nnx.Module):
    """As many matrices as there are experts, [E, O, I].

    Args:
      count: number of experts, E.
      inputs: size of what comes in.
      outputs: size of what goes out.
      dtype: storage type of the matrices.
      rngs: where initial weights come from; None for shapes without weights.
    """

    def __init__(
        self, count: int, inputs: int, outputs: int, dtype: str, rngs: nnx.Rngs | None
    ):
        shape = (count, outputs, inputs)
        if rngs is None:
            self.weight = nnx.Param(jax.ShapeDtypeStruct(shape, DTYPES[dtype]))
        else:
            draw = jax.random.normal(rngs.params(), shape, jnp.float32)
            self.weight = nnx.Param((draw * inputs**-0.5).astype(DTYPES[dtype]))
        scale = jnp.ones(shape[:2], jnp.float32)
        self.scale = nnx.Param(scale) if dtype == "int8" else None

    def __call__(self, rows: jax.Array, counts: jax.Array) -> jax.Array:
        """Return rows [N, I], sorted by expert, times their expert's matrix: [N, O]."""
        scale = None if self.scale is None else self.scale[...]
        return grouped_matmul(rows, self.weight[...], scale, counts)


class ExpertMLPs(nnx.Module):
    """The gated MLPs of all experts.

    Args:
      count: number of experts.
      width: size of the residual stream.
      hidden: hidden size of an expert.
      activation: name of the activation.
      dtype: storage type of the weights.
      rngs: where initial weights come from; None for shapes without weights.
    """

    def __init__(
        self,
        count: int,
        width: int,
        hidden: int,
        activation: str,
        dtype: str,
        rngs: nnx.Rngs | None,
    ):
        self.gate = Experts(count, width, hidden, dtype, rngs)
        self.up = Experts(count, width, hidden, dtype, rngs)
        self.down = Experts(count, hidden, width, dtype, rngs)
        self.activation = activation

    def __call__(self, rows: jax.Array, counts: jax.Array) -> jax.Array:
        """Return what each row's expert makes of it; rows are sorted by expert."""
        hidden = activation(self.activation)(self.gate(rows, counts))
        return self.down(hidden * self.up(rows, counts), counts)


class MixtureMLP(nnx.Module):
    """`sum_e share_e(n) * down_e(act(gate_e(n)) * up_e(n))` over a token's best experts.

    Args:
      width: size of the residual stream.
      hidden: hidden size of an expert.
      experts: how many there are.
      chosen: how many read each token.
      is_normalised: whether the shares of a token's experts are divided by their sum.
      activation: name of the activation.
      dtype: storage type of the weights.
      rngs: where initial weights come from; None for shapes without weights.
    """

    def __init__(
        self,
        width: int,
        hidden: int,
        *,
        experts: int,
        chosen: int,
        is_normalised: bool,
        activation: str,
        dtype: str,
        rngs: nnx.Rngs | None,
    ):
        self.router = Linear(width, experts, bias=False, dtype=dtype, rngs=rngs)
        self.experts = ExpertMLPs(experts, width, hidden, activation, dtype, rngs)
        self.count = experts
        self.chosen = chosen
        self.is_normalised = is_normalised

    def __call__(
        self,
        x: jax.Array,
        norm: RMSNorm | LayerNorm,
        onto: jax.Array | None = None,
    ) -> jax.Array:
        rows = norm(x).reshape(-1, x.shape[-1])
        shares, ids = self.route(rows)  # [M, chosen]
        flat = ids.reshape(-1)
        order = jnp.argsort(flat, stable=True)
        counts = jnp.zeros(self.count, jnp.int32).at[flat].add(1)
        answers = self.experts(rows[order // self.chosen], counts)
        answers = jnp.zeros_like(answers).at[order].set(answers)
        answers = answers.reshape(*shares.shape, -1) * shares[..., None]
        mixed = jnp.sum(answers, axis=1).reshape(x.shape)
        return mixed if onto is None else onto + mixed

    def route(self, rows: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return the shares and numbers of each row's experts, the best first."""
        shares = jax.nn.softmax(self.router(rows), axis=-1)
        shares, ids = lax.top_k(shares, self.chosen)
        if self.is_normalised:
            shares = shares / jnp.sum(shares, axis=-1, keepdims=True)
        return shares, ids


class MixtureBlock(LlamaBlock):
    """A llama block with experts, in the layers that have them."""

    def make_mlp(
        self, config: Any, layer: int, dtype: str, rngs: nnx.Rngs | None
    ) -> Any:
        """Return the block's MLP."""
        if layer in config.dense_layers:
            return super().make_mlp(config, layer, dtype, rngs)
        return MixtureMLP(
            config.width,
            config.expert_width,
            experts=config.num_experts,
            chosen=config.experts_per_token,
            is_normalised=config.normalises_shares,
            activation=config.activation,
            dtype=dtype,
            rngs=rngs,
        )


class Mixture(Llama):
    """A language model with experts, with the `Model` protocol."""

    block = MixtureBlock
