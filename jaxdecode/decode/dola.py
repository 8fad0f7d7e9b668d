"""DoLa: a model's last layer contrasted with one of its own earlier layers.

Works with any model that has `core.protocol.ExposesLayers`, such as the llama family.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdecode.core import check
from jaxdecode.core.protocol import ExposesLayers, Model
from jaxdecode.core.pytree import pytree, static
from jaxdecode.core.shapes import PerRow, Scalar, TokenIds
from jaxdecode.decode.guidance import per_row
from jaxdecode.decode.model_check import check_model


@pytree
class LayerContrast:
    """A model whose logits contrast its last layer with an earlier one.

    Made by `dola`.

    Attributes:
      model: the model, with `layer_logits`.
      alpha: float32, a number or one per row.
      layers: the earlier layers to choose from. Static.
    """

    model: Any
    alpha: Scalar
    layers: tuple[int, ...] = static()
    keeps_protocol = True  # if the model inside does

    @property
    def vocab_size(self) -> int:
        """Number of token ids, V."""
        return self.model.vocab_size

    @property
    def max_length(self) -> int:
        """Positions the model can hold."""
        return self.model.max_length

    def init_cache(self, rows: int, length: int) -> dict[str, Any]:
        """Return the model's empty cache, and `alpha` of each row.

        Raises:
          ValueError: if `alpha` has neither one value nor one per row.
        """
        alpha = per_row("dola", "alpha", self.alpha, rows)
        return {"model": self.model.init_cache(rows, length), "alpha": alpha}

    def __call__(
        self,
        tokens: jax.Array,
        positions: jax.Array,
        cache: dict[str, Any],
        *,
        at: jax.Array | None = None,
    ) -> tuple[jax.Array, Any]:
        """Return float32 logits [B, S, V] of tokens [B, S] ([B, V] with `at`)."""
        last, early, model_cache = self.model.layer_logits(
            tokens, positions, cache["model"], layers=self.layers, at=at
        )
        last, early = last.astype(jnp.float32), early.astype(jnp.float32)
        alpha = cache["alpha"].reshape((-1,) + (1,) * (last.ndim - 1))
        return _layer_contrast(last, early, alpha), cache | {"model": model_cache}


def dola(model: Model, layers: TokenIds, *, alpha: PerRow = 0.1) -> LayerContrast:
    """Prefer tokens that the last layer of a model finds likelier than an earlier one.

    Let q be the distribution of the last layer and q_j that of the head applied after
    block j. For each row and position the layer j whose distribution has the largest
    Jensen-Shannon divergence from q is chosen. The logits of the plausible tokens,
    `q >= alpha * max(q)`, are `log q - log q_j`; all other tokens are banned.

    Args:
      model: a model with `layer_logits` (`core.protocol.ExposesLayers`), such as the
        llama family of `jaxdecode.load`.
      layers: the earlier layers, one or several, each as a number of blocks; 0 is the
        embedding. Usual choices: the even ones of the lower or of the upper half. Static.
      alpha: how plausible a token must be, in [0, 1], a number or one per prompt. Usual
        value: 0.1.

    Returns:
      A model that can be decoded like any other. Each layer costs one more product with
      the head. Other values of `alpha` do not recompile.

    Raises:
      TypeError: if `model` is not a model, or does not expose its layers.
      ValueError: for no layers, or `alpha` out of range.

    Reference: Chuang et al., DoLa: Decoding by Contrasting Layers Improves Factuality in
    Large Language Models, 2023, arXiv 2309.03883. Here earlier layers pass through the
    last norm, and each row chooses its own layer; Hugging Face leaves the norm out and
    chooses one layer for the whole batch.
    """
    check_model("dola", model)
    exposes = getattr(model, "exposes_layers", True)
    if not (isinstance(model, ExposesLayers) and exposes):
        raise TypeError(
            "dola: `model` must expose its layers (a method `layer_logits`), got "
            f"{check.short(model)}."
        )
    chosen = check.token_ids("dola", "layers", layers, empty=False)
    return LayerContrast(
        model=model,
        alpha=check.real("dola", "alpha", alpha, low=0.0, high=1.0),
        layers=tuple(int(layer) for layer in np.asarray(chosen)),
    )


def _layer_contrast(last: jax.Array, early: jax.Array, alpha: jax.Array) -> jax.Array:
    """Return the contrast of logits [..., V] with the farthest of [L, ..., V]."""
    q, q_early = jax.nn.log_softmax(last), jax.nn.log_softmax(early)
    farthest = jnp.argmax(jax.vmap(_divergence, (None, 0))(q, q_early), axis=0)
    index = farthest[None, ..., None]
    q_j = jnp.take_along_axis(q_early, index, axis=0)[0]
    best = jnp.max(q, axis=-1, keepdims=True)
    plausible = (last > -jnp.inf) & (q >= best + jnp.log(alpha))
    lowest = jnp.finfo(jnp.float32).min  # -inf of the earlier layer must not give +inf
    contrast = jnp.minimum(q - jnp.maximum(q_j, lowest), -lowest)
    logits = jnp.where(plausible, contrast, -jnp.inf)
    has_nan = jnp.isnan(q) | jnp.any(jnp.isnan(q_early), axis=0)
    return jnp.where(has_nan, jnp.nan, logits)


def _divergence(p: jax.Array, q: jax.Array) -> jax.Array:
    """Return the Jensen-Shannon divergence of log-distributions over the last axis."""
    middle = jnp.logaddexp(p, q) - jnp.log(2.0)

    def kl_to_middle(logprobs):
        gap = jnp.where(logprobs > -jnp.inf, logprobs - middle, 0.0)
        return jnp.sum(jnp.exp(logprobs) * gap, axis=-1)

    return 0.5 * (kl_to_middle(p) + kl_to_middle(q))
