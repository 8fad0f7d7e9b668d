"""Two predictions combined into one model: with a negative prompt, or a weaker model.

Each wrapper satisfies the `Model` protocol, so it can be decoded like any model, and the
combined logits are "the model's own". The cache of a wrapper holds the caches of both
predictions, and its parameters for each row, so that rows can be repeated or reordered.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdecode.core import check, varying
from jaxdecode.core.protocol import Model, logits_of
from jaxdecode.core.pytree import pytree, static
from jaxdecode.core.rows import repeat_rows
from jaxdecode.core.shapes import PerRow, Scalar, TokenLists
from jaxdecode.decode.model_check import check_model
from jaxdecode.decode.prefilling import prefill
from jaxdecode.decode.prompts import Prompts, as_prompts

FORMS = ("log_softmax", "raw")


@pytree
class Guided:
    """A model steered away from a negative prompt; made by `guided`.

    The conditional text is the prompt and what is generated; the unconditional text is
    the negative prompt and what is generated. The first call on a cache must pass the
    prompt; all later tokens are generated and are read after both prompts.

    Attributes:
      model: the model that reads both texts.
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
    keeps_protocol = True  # if the model inside does

    @property
    def vocab_size(self) -> int:
        """Number of token ids, V."""
        return self.model.vocab_size

    @property
    def max_length(self) -> int:
        """Positions it can hold: the generated text must fit after either prompt."""
        return self.model.max_length - self.tokens.shape[1] + 1

    def init_cache(self, rows: int, length: int) -> dict[str, Any]:
        """Return an empty cache for the prompts; the negative prompts are read already.

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
        unconditional = {"cache": cache, "last": last, "lengths": lengths}
        if count != rows:
            unconditional = repeat_rows(unconditional, rows)
        return {
            "conditional": self.model.init_cache(rows, length),
            "unconditional": unconditional,
            "scale": per_row("guided", "scale", self.scale, rows),
            "prompt_length": jnp.zeros((rows,), jnp.int32),  # 0: no prompt read yet
        }

    def read_prompts(
        self, prompts: Prompts, cache: dict[str, Any], *, reversible: bool
    ) -> tuple[jax.Array, Any]:
        """Read whole prompts; return logits [B, V] after each, and the cache."""
        conditional, conditional_cache = prefill(
            self.model, prompts, cache["conditional"], reversible=reversible
        )
        logits = self._combine(conditional, cache["unconditional"]["last"], cache)
        return logits, cache | {
            "conditional": conditional_cache,
            "prompt_length": jnp.asarray(prompts.lengths),
        }

    def __call__(
        self,
        tokens: jax.Array,
        positions: jax.Array,
        cache: dict[str, Any],
        *,
        at: jax.Array | None = None,
    ) -> tuple[jax.Array, Any]:
        """Return float32 logits [B, S, V] of tokens [B, S] ([B, V] with `at`)."""
        conditional, conditional_cache = logits_of(
            self.model, tokens, positions, cache["conditional"], at=at
        )
        is_new = cache["prompt_length"] == 0
        last = cache["unconditional"]["last"]
        last = last if at is not None else last[:, None, :]

        def only_prompts():
            repeated = jnp.broadcast_to(last, conditional.shape)
            return repeated, cache["unconditional"]["cache"]

        def some_generated():
            logits, new_cache = self._read_unconditional(tokens, positions, cache, at)
            return jnp.where(_like(is_new, logits), last, logits), new_cache

        if tokens.shape[1] == 1:  # a decode step: a branch would copy the caches
            unconditional, unconditional_cache = some_generated()
        else:
            unconditional, unconditional_cache = varying.cond(
                jnp.all(is_new), only_prompts, some_generated
            )
        end = tokens.shape[1] - 1 if at is None else at
        return self._combine(conditional, unconditional, cache), cache | {
            "conditional": conditional_cache,
            "unconditional": cache["unconditional"] | {"cache": unconditional_cache},
            "prompt_length": jnp.where(
                is_new, positions[:, 0] + end + 1, cache["prompt_length"]
            ),
        }

    def _combine(self, conditional, unconditional, cache) -> jax.Array:
        scale = _like(cache["scale"], conditional)
        return _guide(conditional, unconditional, scale, raw=self.form == "raw")

    def _read_unconditional(self, tokens, positions, cache, at):
        """Read the generated tokens of a call after the negative prompt.

        A call may begin inside the prompt. Its generated part is then moved to the front
        for this model call, and the logits are moved back. The columns after that part,
        and all tokens of a row whose prompt is new, hold tokens that do not matter: they
        are overwritten before any token attends to them.
        """
        count, width = tokens.shape
        steps = jnp.arange(width, dtype=jnp.int32)[None, :]
        is_new, first = cache["prompt_length"] == 0, positions[:, 0]
        generated_from = jnp.where(is_new, first, cache["prompt_length"])
        skipped = jnp.maximum(generated_from - first, 0)[:, None]
        unconditional = cache["unconditional"]
        offset = (unconditional["lengths"] - generated_from)[:, None]
        new_positions = positions[:, :1] + skipped + steps + offset
        source = jnp.minimum(steps + skipped, width - 1)
        generated = jnp.take_along_axis(tokens, source, axis=1)
        given = generated, new_positions, unconditional["cache"]
        if at is not None:
            back = jnp.maximum(at - skipped[:, 0], 0)
            return logits_of(self.model, *given, at=back)
        logits, new_cache = logits_of(self.model, *given)
        back = jnp.broadcast_to(jnp.maximum(steps - skipped, 0), (count, width))
        return jax.vmap(lambda rows, index: rows[index])(logits, back), new_cache


@pytree
class Contrastive:
    """A strong model contrasted with a weak one; made by `contrastive`.

    Attributes:
      expert: the strong model.
      amateur: the weak model, with the same vocabulary.
      alpha: float32, a number or one per row.
      beta: float32, a number or one per row.
      temperature: float32, a number or one per row.
    """

    expert: Any
    amateur: Any
    alpha: Scalar
    beta: Scalar
    temperature: Scalar
    keeps_protocol = True  # if the models inside do

    @property
    def vocab_size(self) -> int:
        """Number of token ids, V."""
        return self.expert.vocab_size

    @property
    def max_length(self) -> int:
        """Positions that both models can hold."""
        return min(self.expert.max_length, self.amateur.max_length)

    def init_cache(self, rows: int, length: int) -> dict[str, Any]:
        """Return empty caches for both models, and the parameters of each row.

        Raises:
          ValueError: if a parameter has neither one value nor one per row.
        """
        parameters = {
            name: per_row("contrastive", name, getattr(self, name), rows)
            for name in ("alpha", "beta", "temperature")
        }
        return parameters | {
            "expert": self.expert.init_cache(rows, length),
            "amateur": self.amateur.init_cache(rows, length),
        }

    def read_prompts(
        self, prompts: Prompts, cache: dict[str, Any], *, reversible: bool
    ) -> tuple[jax.Array, Any]:
        """Read whole prompts with both models; return logits [B, V] and the cache."""
        return self._combine(
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
        """Return float32 logits [B, S, V] of tokens [B, S] ([B, V] with `at`)."""
        given = tokens, positions
        return self._combine(
            cache,
            logits_of(self.expert, *given, cache["expert"], at=at),
            logits_of(self.amateur, *given, cache["amateur"], at=at),
        )

    def _combine(self, cache, expert, amateur) -> tuple[jax.Array, Any]:
        """Return combined logits and the new cache; takes pairs (logits, cache)."""
        (strong, expert_cache), (weak, amateur_cache) = expert, amateur
        alpha, beta, temperature = (
            _like(cache[name], strong) for name in ("alpha", "beta", "temperature")
        )
        logits = _contrast(strong, weak / temperature, alpha, beta)
        return logits, cache | {"expert": expert_cache, "amateur": amateur_cache}


def guided(
    model: Model,
    scale: PerRow,
    negative_prompts: TokenLists,
    *,
    form: str = "log_softmax",
) -> Guided:
    """Steer a model away from negative prompts (classifier-free guidance).

    Every text is read twice: after its prompt (conditional) and after its negative prompt
    (unconditional). With c and u the two log-softmaxes, the logits are
    `u + scale * (c - u)`; with `form="raw"` c and u are raw logits. A token banned (-inf)
    in c stays banned; one banned in u only keeps c.

    The result is a model: pass it where a model is expected. The first call on a fresh
    cache must pass the whole prompt, as `generate`, `stream`, `score` and `beam_search`
    do. Its `max_length` is that of the model less the width of the negative prompts
    (rounded up to 16, 32, 64 ...) plus one. Each token costs two model calls.

    Args:
      model: anything that satisfies the `Model` protocol.
      scale: finite, a number or one per prompt; 1 is neutral (bit for bit), 0 follows
        the negative prompt, above 1 moves away from it. Usual values: 1.2 to 3.
      negative_prompts: one token list per prompt, or one for all; or (tokens [N, W],
        lengths [N]) as for `generate`. [[bos]], the first token of any text, gives the
        usual unconditional prediction.
      form: "log_softmax" (Hugging Face's text models) or "raw". Static.

    Returns:
      A `Guided` model. Other scales or negative prompts of the same bucket do not
      recompile.

    Raises:
      TypeError: if `model` is not a model, or for tokens or a scale of the wrong kind.
      ValueError: for an unknown form, a scale that is not finite, an empty negative
        prompt or an id outside the vocabulary.

    Reference: Sanchez et al., Stay on Topic with Classifier-Free Guidance, 2023, arXiv
    2306.17806.
    """
    check_model("guided", model)
    check.choice("guided", "form", form, FORMS)
    negative = as_prompts(
        "guided",
        negative_prompts,
        model.vocab_size,
        model.max_length,
        name="negative_prompts",
    )
    return Guided(
        model=model,
        scale=check.real("guided", "scale", scale),
        tokens=negative.tokens,
        lengths=negative.lengths,
        form=form,
    )


def contrastive(
    expert: Model,
    amateur: Model,
    *,
    alpha: PerRow = 0.1,
    beta: PerRow = 1.0,
    temperature: PerRow = 1.0,
) -> Contrastive:
    """Prefer tokens that a strong model finds likelier than a weak one does.

    For tokens that the expert finds plausible, `p_e >= alpha * max(p_e)`, the logits are
    `log p_e - beta * log p_a`; all other tokens are banned. `p_a` is the amateur's
    distribution at its own temperature. Both models read every token.

    Args:
      expert: anything that satisfies the `Model` protocol.
      amateur: another model with the same vocabulary.
      alpha: how plausible a token must be, in [0, 1]; 1 keeps only the expert's best
        token, 0 keeps all. Usual value: 0.1. A number or one per prompt.
      beta: weight of the amateur, >= 0; 0 is the expert alone. Usual value: 1. The form
        `(1 + b) * e - b * a` is `beta = b / (1 + b)` at temperature `1 / (1 + b)`. A
        number or one per prompt.
      temperature: the amateur's temperature, > 0. Usual values: 0.5 to 1. A number or
        one per prompt.

    Returns:
      A `Contrastive` model. Other values do not recompile.

    Raises:
      TypeError: if one of the two is not a model, or a value is not a number.
      ValueError: for a value out of range or NaN, or two vocabularies.

    Reference: Li et al., Contrastive Decoding: Open-ended Text Generation as
    Optimization, 2022, arXiv 2210.15097; the other form is O'Brien and Lewis, 2023,
    arXiv 2309.09117.
    """
    check_model("contrastive", expert, "expert")
    check_model("contrastive", amateur, "amateur")
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
    """Return a parameter as one value per row [B], to be stored in a cache."""
    if np.ndim(value) and np.shape(value) != (rows,):
        raise ValueError(
            f"{who}: `{name}` must be a number or one per prompt ({rows}), "
            f"got {np.shape(value)[0]}."
        )
    return jnp.broadcast_to(jnp.asarray(value), (rows,))


def _guide(conditional, unconditional, scale, *, raw: bool) -> jax.Array:
    """Return u + scale * (c - u), c conditional, u unconditional; c itself at scale 1."""
    if raw:
        c, u = conditional, unconditional
    else:
        c, u = jax.nn.log_softmax(conditional), jax.nn.log_softmax(unconditional)
    banned = c == -jnp.inf
    u = jnp.where(u == -jnp.inf, c, u)  # -inf - -inf would be NaN
    guided_logits = jnp.where(banned, -jnp.inf, u + scale * (c - u))
    return jnp.where(scale == 1, conditional, guided_logits)


def _contrast(strong, weak, alpha, beta) -> jax.Array:
    """Return log p_e - beta * log p_a of the tokens plausible under `strong`."""
    best = jnp.max(strong, axis=-1, keepdims=True)
    plausible = (strong > -jnp.inf) & (strong >= best + jnp.log(alpha))
    expert, amateur = jax.nn.log_softmax(strong), jax.nn.log_softmax(weak)
    lowest = jnp.finfo(jnp.float32).min  # the amateur's bans must not become +inf
    penalty = jnp.where(beta > 0, beta * jnp.maximum(amateur, lowest), 0.0)
    contrast = jnp.minimum(expert - penalty, -lowest)
    logits = jnp.where(plausible, contrast, -jnp.inf)
    return jnp.where(jnp.isnan(strong) | jnp.isnan(weak), jnp.nan, logits)


def _like(values: jax.Array, logits: jax.Array) -> jax.Array:
    """Reshape one value per row [B] to the rank of `logits`, along its first axis."""
    return values.reshape(values.shape + (1,) * (logits.ndim - 1))
