"""A model against its own earlier layers: what the last layers added is what counts.

It takes a model that says what its head would say behind earlier blocks, through
`layer_logits(tokens, positions, cache, *, layers, at)`; our llama family does.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdecode.core import check
from jaxdecode.core.pytree import pytree, static
from jaxdecode.core.shapes import Scalar
from jaxdecode.decode.guidance import per_row
from jaxdecode.decode.partition import partition


@pytree
class LayerContrast:
    """A model whose logits are those of its last layer against an earlier one.

    Made by `dola`.

    Attributes:
      model: the model, with `layer_logits`.
      alpha: float32, a number or one per row.
      layers: the earlier layers to choose from. Static.
    """

    model: Any
    alpha: Scalar
    layers: tuple[int, ...] = static()

    @property
    def vocab_size(self) -> int:
        """Number of token ids, V."""
        return self.model.vocab_size

    @property
    def max_length(self) -> int:
        """Positions the model can hold."""
        return self.model.max_length

    def init_cache(self, rows: int, length: int) -> dict[str, Any]:
        """Return the model's empty cache, with each row's threshold.

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
        """Read tokens [B, S]; return float32 logits [B, S, V] ([B, V] with `at`)."""
        last, early, memory = self.model.layer_logits(
            tokens, positions, cache["model"], layers=self.layers, at=at
        )
        alpha = cache["alpha"].reshape((-1,) + (1,) * (last.ndim - 1))
        return _against_earlier(last, early, alpha), cache | {"model": memory}


def dola(model: Any, layers: Any, *, alpha: Any = 0.1) -> LayerContrast:
    """Prefer what the last layers of a model know and earlier ones do not (DoLa).

    With q the distribution of the last layer and q_j that behind block j: the layer j
    whose distribution is farthest from q (Jensen-Shannon) is chosen for each row and
    position, and the logits of the plausible tokens, `q >= alpha * max(q)`, are
    `log q - log q_j`; all others are banned.

    Args:
      model: a model with `layer_logits`, such as those of `jaxdecode.load` of the llama
        family.
      layers: behind how many blocks to listen, one or several; 0 is the embedding. Usual
        choices: the even ones of the lower or of the upper half. Static.
      alpha: how plausible a token must be, in [0, 1], a number or one per prompt. Usual
        value: 0.1.

    Returns:
      A model that can be decoded like any other. Each layer costs one more reading by the
      head. Other values of `alpha` do not recompile.

    Raises:
      TypeError: if the model is none, or does not expose its layers.
      ValueError: for no layers, or `alpha` out of range.

    Reference: Chuang et al., DoLa: Decoding by Contrasting Layers Improves Factuality in
    Large Language Models, 2023, arXiv 2309.03883. Here earlier layers pass through the
    last norm, and each row chooses its own layer; Hugging Face leaves the norm out and
    chooses one for the batch.
    """
    partition(model)
    if not getattr(model, "exposes_layers", hasattr(model, "layer_logits")):
        raise TypeError(
            "dola: `model` must say what its earlier layers say (`layer_logits`), got "
            f"{check.short(model)}."
        )
    chosen = check.token_ids("dola", "layers", layers, empty=False)
    return LayerContrast(
        model=model,
        alpha=check.real("dola", "alpha", alpha, low=0.0, high=1.0),
        layers=tuple(int(layer) for layer in np.asarray(chosen)),
    )


def _against_earlier(last: jax.Array, early: jax.Array, alpha: jax.Array) -> jax.Array:
    """Return the contrast of logits [..., V] with the farthest of [L, ..., V]."""
    q, q_early = jax.nn.log_softmax(last), jax.nn.log_softmax(early)
    far = jnp.argmax(jax.vmap(_divergence, (None, 0))(q, q_early), axis=0)
    index = far[None, ..., None]
    chosen = jnp.take_along_axis(q_early, index, axis=0)[0]
    best = jnp.max(q, axis=-1, keepdims=True)
    plausible = (last > -jnp.inf) & (q >= best + jnp.log(alpha))
    lowest = jnp.finfo(jnp.float32).min
    contrast = jnp.minimum(q - jnp.maximum(chosen, lowest), -lowest)
    found = jnp.where(plausible, contrast, -jnp.inf)
    sick = jnp.isnan(q) | jnp.any(jnp.isnan(q_early), axis=0)
    return jnp.where(sick, jnp.nan, found)


def _divergence(p: jax.Array, q: jax.Array) -> jax.Array:
    """Return the Jensen-Shannon divergence of log-distributions over the last axis."""
    middle = jnp.logaddexp(p, q) - jnp.log(2.0)

    def to_middle(own):
        gap = jnp.where(own > -jnp.inf, own - middle, 0.0)
        return jnp.sum(jnp.exp(own) * gap, axis=-1)

    return 0.5 * (to_middle(p) + to_middle(q))
