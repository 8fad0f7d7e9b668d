"""Two readings of one text, as a model: guidance by a negative prompt or a weaker model.

Each wrapper has the `Model` protocol, so whatever decodes a model decodes it, and the
logits of the pair are "the model's own". A wrapper's cache holds one cache per reading,
and whatever it must know of each row, so that rows can be repeated or reordered.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdecode.core import check
from jaxdecode.core.pytree import pytree, static
from jaxdecode.core.shapes import Scalar
from jaxdecode.decode.partition import partition
from jaxdecode.decode.prefill import prefill
from jaxdecode.decode.prompts import Prompts, as_prompts

FORMS = ("log_softmax", "raw")


@pytree
class Guided:
    """A model steered away from a negative prompt; made by `guided`.

    The first call on a cache reads the prompt; all that comes behind it is generated,
    and is read behind the negative prompt as well.

    Attributes:
      model: the model that reads both.
      scale: float32, a number or one per row.
      tokens: int32 [N, W], the negative prompts, N rows or one for all.
      lengths: int32 [N].
      form: "log_softmax" or "raw". Static.
    """

    model: Any
    scale: Scalar
    tokens: Any
    lengths: Any
    form: str = static(default="log_softmax")

    @property
    def vocab_size(self) -> int:
        """Number of token ids, V."""
        return self.model.vocab_size

    @property
    def max_length(self) -> int:
        """Positions it can hold: what is generated must fit behind either prompt."""
        return self.model.max_length - self.tokens.shape[1] + 1

    def init_cache(self, rows: int, length: int) -> dict[str, Any]:
        """Return an empty cache for the prompts, the negative prompts already read.

        Raises:
          ValueError: if there is neither one negative prompt nor one per row.
        """
        count, width = self.tokens.shape
        if count not in (1, rows):
            raise ValueError(
                "guided: `negative_prompts` must be one or as many as prompts "
                f"({rows}), got {count}."
            )
        lengths = jnp.asarray(self.lengths)
        columns = min(length + width, self.model.max_length)
        last, cache = prefill(
            self.model,
            Prompts(self.tokens, lengths),
            self.model.init_cache(count, columns),
            reversible=True,
        )
        away = {"cache": cache, "last": last, "lengths": lengths}
        if count != rows:
            away = jax.tree.map(lambda leaf: jnp.repeat(leaf, rows, axis=0), away)
        scale = per_row("guided", "scale", self.scale, rows)
        begin = jnp.zeros((rows,), jnp.int32)  # 0: the prompt was not read yet
        towards = self.model.init_cache(rows, length)
        return {"towards": towards, "away": away, "scale": scale, "begin": begin}

    def read_prompts(
        self, prompts: Prompts, cache: dict[str, Any], *, reversible: bool
    ) -> tuple[jax.Array, Any]:
        """Read whole prompts, in as many calls of the model as it takes."""
        towards, own = prefill(
            self.model, prompts, cache["towards"], reversible=reversible
        )
        away, scale = cache["away"]["last"], _like(cache["scale"], towards)
        logits = _guide(towards, away, scale, raw=self.form == "raw")
        return logits, cache | {"towards": own, "begin": jnp.asarray(prompts.lengths)}

    def __call__(
        self,
        tokens: jax.Array,
        positions: jax.Array,
        cache: dict[str, Any],
        *,
        at: jax.Array | None = None,
    ) -> tuple[jax.Array, Any]:
        """Read tokens [B, S]; return float32 logits [B, S, V] ([B, V] with `at`)."""
        towards, own = self.model(tokens, positions, cache["towards"], at=at)
        new, begin = cache["begin"] == 0, cache["begin"]
        last = cache["away"]["last"]
        last = last if at is not None else last[:, None, :]

        def only_prompts():
            return jnp.broadcast_to(last, towards.shape), cache["away"]["cache"]

        def some_go_on():
            logits, memory = self._read_away(tokens, positions, cache, at)
            return jnp.where(_like(new, logits), last, logits), memory

        if tokens.shape[1] == 1:  # a step of the loop: a branch would copy the caches
            away, memory = some_go_on()
        else:
            away, memory = jax.lax.cond(jnp.all(new), only_prompts, some_go_on)
        end = tokens.shape[1] - 1 if at is None else at
        begin = jnp.where(new, positions[:, 0] + end + 1, begin)
        scale = _like(cache["scale"], towards)
        logits = _guide(towards, away, scale, raw=self.form == "raw")
        away_now = cache["away"] | {"cache": memory}
        return logits, cache | {"towards": own, "away": away_now, "begin": begin}

    def _read_away(self, tokens, positions, cache, at):
        """Read what of the tokens is generated behind the negative prompt.

        A call may begin inside the prompt: its generated part is then moved to the front
        for this reading, and its logits are moved back. What stands behind it, as well
        as all tokens of a row whose prompt is new, is overwritten before it is seen.
        """
        count, width = tokens.shape
        steps = jnp.arange(width, dtype=jnp.int32)[None, :]
        skipped = jnp.maximum(cache["begin"] - positions[:, 0], 0)
        skipped = jnp.where(cache["begin"] == 0, 0, skipped)[:, None]
        begin = jnp.where(cache["begin"] == 0, positions[:, 0], cache["begin"])
        away = cache["away"]
        moved = jnp.minimum(steps + skipped, width - 1)
        offset = away["lengths"] - begin
        places = positions[:, :1] + skipped + steps + offset[:, None]
        read = jnp.take_along_axis(tokens, moved, axis=1)
        if at is not None:
            back = jnp.maximum(at - skipped[:, 0], 0)
            return self.model(read, places, away["cache"], at=back)
        logits, memory = self.model(read, places, away["cache"])
        back = jnp.broadcast_to(jnp.maximum(steps - skipped, 0), (count, width))
        return jax.vmap(lambda rows, index: rows[index])(logits, back), memory


@pytree
class Contrastive:
    """A strong model against a weak one; made by `contrastive`.

    Attributes:
      expert: the strong model.
      amateur: the weak one, of the same vocabulary.
      alpha: float32, a number or one per row.
      beta: the same.
      temperature: the same.
    """

    expert: Any
    amateur: Any
    alpha: Scalar
    beta: Scalar
    temperature: Scalar

    @property
    def vocab_size(self) -> int:
        """Number of token ids, V."""
        return self.expert.vocab_size

    @property
    def max_length(self) -> int:
        """Positions that both models can hold."""
        return min(self.expert.max_length, self.amateur.max_length)

    def init_cache(self, rows: int, length: int) -> dict[str, Any]:
        """Return an empty cache for both models.

        Raises:
          ValueError: if a parameter has neither one value nor one per row.
        """
        knobs = {
            name: per_row("contrastive", name, getattr(self, name), rows)
            for name in ("alpha", "beta", "temperature")
        }
        return knobs | {
            "expert": self.expert.init_cache(rows, length),
            "amateur": self.amateur.init_cache(rows, length),
        }

    def read_prompts(
        self, prompts: Prompts, cache: dict[str, Any], *, reversible: bool
    ) -> tuple[jax.Array, Any]:
        """Read whole prompts with both models, each in its own way."""
        return self._contrast_of(
            cache,
            prefill(self.expert, prompts, cache["expert"], reversible=reversible),
            prefill(self.amateur, prompts, cache["amateur"], reversible=reversible),
        )

    def __call__(
        self,
        tokens: jax.Array,
        positions: jax.Array,
        cache: dict[str, Any],
        *,
        at: jax.Array | None = None,
    ) -> tuple[jax.Array, Any]:
        """Read tokens [B, S]; return float32 logits [B, S, V] ([B, V] with `at`)."""
        return self._contrast_of(
            cache,
            self.expert(tokens, positions, cache["expert"], at=at),
            self.amateur(tokens, positions, cache["amateur"], at=at),
        )

    def _contrast_of(self, cache, expert, amateur) -> tuple[jax.Array, Any]:
        """Return the logits of two readings (logits, cache), and what both left."""
        (strong, expert), (weak, amateur) = expert, amateur
        alpha, beta, heat = (
            _like(cache[name], strong) for name in ("alpha", "beta", "temperature")
        )
        logits = _contrast(strong, weak / heat, alpha, beta)
        return logits, cache | {"expert": expert, "amateur": amateur}


def guided(
    model: Any, scale: Any, negative_prompts: Any, *, form: str = "log_softmax"
) -> Guided:
    """Steer a model away from negative prompts (classifier-free guidance).

    Every text is read twice, behind its prompt and behind its negative prompt. With l
    and u the two log-softmaxes, the logits are `u + scale * (l - u)`; with `form="raw"`
    l and u are raw logits. A token that either reading bans (-inf) is banned where it is
    so behind the prompt. Costs two readings of each token.

    The result is a model: pass it where a model is expected. The first call on a fresh
    cache must read the whole prompt, as `generate`, `stream`, `score` and `beam_search`
    do. Its `max_length` is shorter than the model's by the width of the negative
    prompts, rounded up to 16, 32, 64 ..., less one.

    Args:
      model: anything that satisfies the `Model` protocol.
      scale: finite, a number or one per prompt; 1 is neutral (bit for bit), 0 follows
        the negative prompt, above 1 moves away from it. Usual values: 1.2 to 3.
      negative_prompts: one token list per prompt, or one for all; or (tokens [N, W],
        lengths [N]) as for `generate`. An unconditional reading is the model's own first
        token, [[bos]].
      form: "log_softmax" (Hugging Face's text models) or "raw". Static.

    Returns:
      A `Guided` model. Other scales or negative prompts of the same bucket do not
      recompile.

    Raises:
      TypeError: if `model` is no model, or for tokens or a scale of the wrong kind.
      ValueError: for an unknown form, a scale that is not finite, an empty negative
        prompt or an id outside the vocabulary.

    Reference: Sanchez et al., Stay on Topic with Classifier-Free Guidance, 2023, arXiv
    2306.17806.
    """
    partition(model)
    check.choice("guided", "form", form, FORMS)
    read = as_prompts(
        "guided",
        negative_prompts,
        model.vocab_size,
        model.max_length,
        name="negative_prompts",
    )
    return Guided(
        model=model,
        scale=check.real("guided", "scale", scale),
        tokens=read.tokens,
        lengths=read.lengths,
        form=form,
    )


def contrastive(
    expert: Any,
    amateur: Any,
    *,
    alpha: Any = 0.1,
    beta: Any = 1.0,
    temperature: Any = 1.0,
) -> Contrastive:
    """Search for what a strong model says and a weak one would not.

    Among tokens that the expert finds plausible, `p_e >= alpha * max(p_e)`, the logits
    are `log p_e - beta * log p_a`; all others are banned. `p_a` is the amateur's
    distribution at its own temperature. Both models read every token.

    Args:
      expert: anything that satisfies the `Model` protocol.
      amateur: another, of the same vocabulary.
      alpha: how plausible a token must be, in [0, 1]; 1 leaves the expert's best, 0 all.
        Usual value: 0.1. A number or one per prompt, as the others.
      beta: how much the amateur counts, >= 0; 0 is the expert alone. Usual value: 1. The
        form `(1 + b) * e - b * a` is `beta = b / (1 + b)` at temperature `1 / (1 + b)`.
      temperature: of the amateur, > 0. Usual values: 0.5 to 1.

    Returns:
      A `Contrastive` model. Other values do not recompile.

    Raises:
      TypeError: if a model is none, or a value not a number.
      ValueError: for a value out of range or NaN, or two vocabularies.

    Reference: Li et al., Contrastive Decoding: Open-ended Text Generation as
    Optimization, 2022, arXiv 2210.15097; the other form is O'Brien and Lewis, 2023,
    arXiv 2309.09117.
    """
    partition(expert)
    partition(amateur)
    if expert.vocab_size != amateur.vocab_size:
        raise ValueError(
            f"contrastive: `amateur` must have the expert's vocabulary of "
            f"{expert.vocab_size} token ids, got {amateur.vocab_size}."
        )
    who = "contrastive"
    return Contrastive(
        expert=expert,
        amateur=amateur,
        alpha=check.real(who, "alpha", alpha, low=0.0, high=1.0),
        beta=check.real(who, "beta", beta, low=0.0),
        temperature=check.real(who, "temperature", temperature, low=0.0, low_open=True),
    )


def per_row(who: str, name: str, value: Any, rows: int) -> jax.Array:
    """Return a parameter as one value per row [B], to be kept in a cache."""
    if np.ndim(value) and np.shape(value) != (rows,):
        raise ValueError(
            f"{who}: `{name}` must be a number or one per prompt ({rows}), "
            f"got {np.shape(value)[0]}."
        )
    return jnp.broadcast_to(jnp.asarray(value), (rows,))


def _guide(towards, away, scale, *, raw: bool) -> jax.Array:
    """Return away + scale * (towards - away), `towards` itself at scale 1."""
    if raw:
        to, off = towards, away
    else:
        to, off = jax.nn.log_softmax(towards), jax.nn.log_softmax(away)
    banned = to == -jnp.inf
    off = jnp.where(off == -jnp.inf, to, off)  # -inf would lend its weight to nothing
    mixed = jnp.where(banned, -jnp.inf, off + scale * (to - off))
    return jnp.where(scale == 1, towards, mixed)


def _contrast(strong, weak, alpha, beta) -> jax.Array:
    best = jnp.max(strong, axis=-1, keepdims=True)
    plausible = (strong > -jnp.inf) & (strong >= best + jnp.log(alpha))
    expert, amateur = jax.nn.log_softmax(strong), jax.nn.log_softmax(weak)
    lowest = jnp.finfo(jnp.float32).min  # the amateur's bans must not become +inf
    taken = jnp.where(beta > 0, beta * jnp.maximum(amateur, lowest), 0.0)
    unlikely = jnp.minimum(expert - taken, -lowest)
    logits = jnp.where(plausible, unlikely, -jnp.inf)
    return jnp.where(jnp.isnan(strong) | jnp.isnan(weak), jnp.nan, logits)


def _like(values: jax.Array, logits: jax.Array) -> jax.Array:
    """Reshape one value per row [B] to the rank of `logits`, along its first axis."""
    return values.reshape(values.shape + (1,) * (logits.ndim - 1))
