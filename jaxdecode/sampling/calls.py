"""A chain outside a loop: process rows, or draw one token from each."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxdecode.core import check
from jaxdecode.core.keys import prompt_keys
from jaxdecode.core.platform import Platform
from jaxdecode.core.shapes import Array, KeyLike, TokenLists
from jaxdecode.native import current_platform
from jaxdecode.sampling.drawing import draw
from jaxdecode.sampling.lift import init_rows
from jaxdecode.sampling.processing import process
from jaxdecode.transforms import Chain, Context, Link, as_chain


def apply(
    link_or_chain: Link | Chain,
    logits: Array,
    *,
    prompts: TokenLists | None = None,
    generated: TokenLists | None = None,
    key: KeyLike | None = None,
) -> jax.Array:
    """Process rows of logits as a decoding step would, and return them.

    Dropped and banned tokens are -inf; the others have the values they would be drawn
    with. New parameter values do not recompile; new links, another order or another
    shape do.

    Args:
      link_or_chain: a link, or a chain of them; parameters a number or one per row.
      logits: [B, V], any float type.
      prompts: each row's prompt, token lists, possibly empty; None is empty for all.
      generated: each row's generated tokens so far, likewise.
      key: for stochastic links: keys [B] taken as the step keys, or one key, of which
        row b takes `fold_in(key, b)`.

    Returns:
      float32 [B, V]; NaN in a row with a parameter that turned out, inside a `jit`, to
      be out of range.

    Raises:
      TypeError: if `logits` is not [B, V] floats, or a token is not an integer.
      ValueError: if histories or parameters do not fit the batch or the vocabulary, or
        a stochastic link is given no key.
    """
    chain, rows = _checked("apply", link_or_chain, logits)
    if chain.is_stochastic and key is None:
        raise ValueError("apply: `key` must be given for a stochastic link, got None.")
    keys = (
        None if key is None else prompt_keys("apply", key, rows.shape[0], folds=False)
    )
    contexts = _contexts("apply", rows, prompts, generated, keys)
    return _process(chain, rows, contexts, platform=current_platform())


def sample(
    link_or_chain: Link | Chain, logits: Array, key_or_keys: KeyLike
) -> jax.Array:
    """Draw one token from each row of logits.

    Row b's token is `jax.random.categorical(key_b, apply(link_or_chain, logits)[b])`,
    found without sorting the row where that can be avoided.

    Args:
      link_or_chain: a link, or a chain of them; parameters a number or one per row.
      logits: [B, V], any float type.
      key_or_keys: keys [B] taken as they are, or one key, of which row b takes
        `fold_in(key, b)`; consumed.

    Returns:
      int32 [B]; -1 for a row that holds NaN or +inf, has every token banned, or a
      parameter that turned out, inside a `jit`, to be out of range.

    Raises:
      TypeError: if `logits` is not [B, V] floats, or the key is not a key.
      ValueError: if parameters or keys do not fit the batch or the vocabulary.
    """
    chain, rows = _checked("sample", link_or_chain, logits)
    keys = prompt_keys("sample", key_or_keys, rows.shape[0], folds=False)
    contexts = _contexts("sample", rows, None, None, keys)
    return _draw(chain, rows, contexts, platform=current_platform())


@functools.partial(jax.jit, static_argnames="platform")
def _process(
    chain: Chain, rows: jax.Array, contexts: Context, *, platform: Platform
) -> jax.Array:
    states = init_rows(chain, contexts)
    done = process(chain, rows, contexts, states, platform=platform)
    return jnp.where(chain.is_sound(rows.shape[0])[:, None], done, jnp.nan)


@functools.partial(jax.jit, static_argnames="platform")
def _draw(
    chain: Chain, rows: jax.Array, contexts: Context, *, platform: Platform
) -> jax.Array:
    states = init_rows(chain, contexts)
    drawn = draw(chain, rows, contexts, states, platform=platform)
    return jnp.where(drawn.valid & chain.is_sound(rows.shape[0]), drawn.token, -1)


def _checked(who: str, sampler: Link | Chain, logits: Array) -> tuple[Chain, jax.Array]:
    chain = as_chain(sampler)
    rows = jnp.asarray(logits)
    if rows.ndim != 2 or not jnp.issubdtype(rows.dtype, jnp.floating):
        raise TypeError(
            f"{who}: `logits` must be floats of shape [B, V], "
            f"got {rows.dtype} {rows.shape}."
        )
    chain.check(*rows.shape)
    chain.check_request(rows.shape[1])
    return chain.per_row(rows.shape[0]), rows.astype(jnp.float32)


def _contexts(who, rows, prompts, generated, keys) -> Context:
    count, vocab_size = rows.shape
    heads = _histories(who, "prompts", prompts, count, vocab_size)
    tails = _histories(who, "generated", generated, count, vocab_size)
    lengths = np.asarray([len(h) + len(t) for h, t in zip(heads, tails, strict=True)])
    tokens = np.zeros((count, max(1, int(lengths.max(initial=0)))), np.int32)
    for row, head, tail in zip(tokens, heads, tails, strict=True):
        row[: len(head) + len(tail)] = [*head, *tail]
    return Context(
        tokens=tokens,
        length=lengths.astype(np.int32),
        prompt_length=np.asarray([len(head) for head in heads], np.int32),
        key=keys,
        vocab_size=vocab_size,
    )


def _histories(who, name, histories, count, vocab_size) -> list[list[int]]:
    if histories is None:
        return [[] for _ in range(count)]
    if len(histories) != count:
        raise ValueError(
            f"{who}: `{name}` must have one token list per row ({count}), "
            f"got {len(histories)}."
        )
    rows = [[check.token_id(who, name, t) for t in row] for row in histories]
    for row in rows:
        check.in_vocabulary(who, name, np.asarray(row, np.int32), vocab_size)
    return rows
