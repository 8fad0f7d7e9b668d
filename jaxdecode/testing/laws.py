"""The laws that every link keeps, and one call that tries them all on yours."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdecode.core.pytree import same
from jaxdecode.core.rows import own_tables, put_rows, take_rows
from jaxdecode.sampling import Draw, draw
from jaxdecode.sampling.lift import init_rows, update_rows
from jaxdecode.testing.case import LENGTH, Case, Oracle
from jaxdecode.testing.compiles import count_compiles
from jaxdecode.transforms import Chain, Context, Drawn, Link, as_chain

BANNED = -np.inf


def laws(
    link: Link | Chain,
    *,
    neutral: Link | Chain | None = None,
    varied: Link | Chain | None = None,
    oracle: Oracle | None = None,
    keeps_argmax: bool = False,
    names_tokens: bool = False,
    bans: bool = False,
    feedback: bool = False,
    tolerance: float = 2e-5,
) -> None:
    """Try every law on a link, on rows of every kind; raise at the first one broken.

    The rows: normal, wide, peaked, flat, tied, of huge range, far from 0, mostly banned,
    with one token allowed, and more; each with a history of 11 tokens.

    Args:
      link: the link, or a chain, with parameters that act.
      neutral: the same with its neutral parameters; must change no bit. None skips.
      varied: the same structure with other values; must not compile again. None skips.
      oracle: what one row should become, in plain Python: a function of its logits (a
        list of floats), its prompt and its generated tokens, returning a list of
        floats. None skips.
      keeps_argmax: whether the best token must still be the best afterwards.
      names_tokens: whether it knows tokens by their ids, so that permuting the
        vocabulary is no symmetry.
      bans: whether it may ban all tokens of a row that had few.
      feedback: whether its state depends on more than the tokens.
      tolerance: relative difference allowed between the link and its oracle.

    Raises:
      AssertionError: naming the law.
    """
    case = Case(
        link=link,
        neutral=neutral,
        varied=varied,
        oracle=oracle,
        keeps_argmax=keeps_argmax,
        names_tokens=names_tokens,
        bans=bans,
        feedback=feedback,
        tolerance=tolerance,
    )
    for name, law in LAWS.items():
        try:
            law(case)
        except AssertionError as broken:
            raise AssertionError(
                f"{link!r} breaks the law: {name}. {broken}"
            ) from broken


def _neutral_is_identity(case: Case) -> None:
    if case.neutral is not None:
        assert np.array_equal(case.process(case.neutral), case.rows)


def _never_empty(case: Case) -> None:
    done = case.process(case.link)
    assert done.dtype == np.float32
    assert not np.isnan(done).any(), "a NaN"
    assert (done < np.inf).all(), "a +inf"
    empty = ~(done > BANNED).any(axis=1)
    assert case.bans or not empty.any(), "a row with every token banned"


def _bans_stay(case: Case) -> None:
    done = case.process(case.link)
    assert (done[case.rows == BANNED] == BANNED).all()


def _argmax_stays(case: Case) -> None:
    if case.keeps_argmax:
        done = case.process(case.link)
        first = np.argmax(case.rows, axis=1)
        assert (done[np.arange(len(done)), first] == done.max(axis=1)).all()


def _oracle_agrees(case: Case) -> None:
    if case.oracle is None:
        return
    done = case.process(case.link)
    for row, got, prompt, generated in zip(
        case.rows, done, *case.histories, strict=True
    ):
        wanted = case.oracle([float(z) for z in row], prompt, generated)
        np.testing.assert_allclose(
            got, np.asarray(wanted), rtol=case.tolerance, atol=case.tolerance
        )


def _rows_are_independent(case: Case) -> None:
    done = case.process(case.link)
    for i in range(0, len(done), 3):  # beside rows of its own, in the same program
        alike = case.process(case.link, at=[i] * len(done))
        _assert_alike(alike, done[[i] * len(done)])


def _values_differ_by_row(case: Case) -> None:
    if case.varied is None:
        return
    count = len(case.rows)
    one, other = (as_chain(x).per_row(count) for x in (case.link, case.varied))
    even = np.arange(count) % 2 == 0
    done = case.process(_mix(one, other, even))
    _assert_alike(done[even], case.process(case.link)[even])
    _assert_alike(done[~even], case.process(case.varied)[~even])


def _eager_is_compiled(case: Case) -> None:
    at = [0, 4]
    with jax.disable_jit():
        eager = case.process(case.link, at=at)
    _assert_alike(eager, case.process(case.link)[at])


def _permutes(case: Case) -> None:
    if case.names_tokens:
        return
    order = np.random.default_rng(1).permutation(case.vocab_size)
    done = case.process(case.link, case.rows[:, order], names=np.argsort(order))
    at = case.distinct  # ties go to the lower id, whatever its name
    _assert_alike(done[at], case.process(case.link)[:, order][at])


def _window_is_sorted_row(case: Case) -> None:
    chain = as_chain(case.link).per_row(len(case.rows))
    drawn = _draw_from_windows(chain, case.rows, case.contexts())
    processed = case.process(case.link)
    pairs = zip(case.keys, processed, strict=True)
    expected = [int(jax.random.categorical(key, row)) for key, row in pairs]
    valid = (processed > BANNED).any(axis=1)
    assert drawn.valid.tolist() == valid.tolist()
    assert np.array_equal(drawn.token[valid], np.asarray(expected)[valid])
    logprobs = np.asarray(jax.nn.log_softmax(processed, axis=1))
    chosen = logprobs[np.arange(len(expected)), expected]
    np.testing.assert_allclose(
        drawn.logprob[valid], chosen[valid], rtol=1e-4, atol=1e-4
    )


def _one_token_vocabulary(case: Case) -> None:
    if not case.names_tokens:
        single = dataclasses.replace(case, vocab_size=1)
        done = single.process(case.link)
        assert case.bans or np.isfinite(done).all()


def _no_retraces(case: Case) -> None:
    if case.varied is not None:
        case.process(case.link)
        with count_compiles() as compiles:
            case.process(case.varied)
        assert compiles.count == 0, f"compiled {compiles.names} for new values"


def _round_trips(case: Case) -> None:
    leaves, tree = jax.tree.flatten(case.link)
    assert same(tree.unflatten(leaves), case.link)
    kinds = (np.float32, np.int32, np.uint32, np.bool_)
    assert all(np.result_type(leaf) in kinds for leaf in leaves), (
        "a leaf of another dtype"
    )


def _state_keeps_its_shape(case: Case) -> None:
    chain = as_chain(case.link)
    contexts = case.contexts(LENGTH - 1)
    before = jax.eval_shape(init_rows, chain, contexts)
    after = jax.eval_shape(_advance, chain, case.rows, contexts)
    assert jax.tree.structure(before) == jax.tree.structure(after)
    for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)


def _update_is_a_longer_history(case: Case) -> None:
    chain = as_chain(case.link)
    if case.feedback or not jax.tree.leaves(
        jax.eval_shape(init_rows, chain, case.contexts())
    ):
        return
    states = jax.jit(_advance)(chain, case.rows, case.contexts(LENGTH - 1))
    expected = jax.jit(init_rows)(chain, case.contexts())
    for a, b in zip(jax.tree.leaves(states), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


LAWS = {
    "neutral parameters change no bit": _neutral_is_identity,
    "no row becomes empty, NaN or infinite": _never_empty,
    "a ban is never lifted": _bans_stay,
    "the best token stays the best": _argmax_stays,
    "the oracle agrees": _oracle_agrees,
    "rows do not feel each other": _rows_are_independent,
    "rows may have different values": _values_differ_by_row,
    "eager is compiled": _eager_is_compiled,
    "permuting the vocabulary permutes the result": _permutes,
    "a window is the sorted row": _window_is_sorted_row,
    "a vocabulary of one token is served": _one_token_vocabulary,
    "new values do not compile again": _no_retraces,
    "a link survives being a pytree": _round_trips,
    "state keeps structure and dtypes": _state_keeps_its_shape,
    "an updated state is that of the longer history": _update_is_a_longer_history,
}


def _assert_alike(got: np.ndarray, wanted: np.ndarray) -> None:
    """Compare rows: the same tokens dropped, values equal up to rounding."""
    assert np.array_equal(got == BANNED, wanted == BANNED), "other tokens dropped"
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)


def _mix(one: Chain, other: Chain, first: np.ndarray) -> Chain:
    """Return a chain whose rows are those of `one` where `first`, else of `other`."""
    rows = np.flatnonzero(~first).astype(np.int32)
    return put_rows(own_tables(one), rows, take_rows(other, rows))


def _advance(chain: Chain, rows: Any, contexts: Context) -> Any:
    """Return the states after the next token of every row's history."""
    states = init_rows(chain, contexts)
    at = contexts.length[:, None]
    tokens = jnp.take_along_axis(contexts.tokens, at, axis=1)[:, 0]
    seen = draw(chain, rows, contexts, states).seen
    logprobs = jnp.zeros(rows.shape[0])
    drawn = Drawn(token=tokens, logprob=logprobs, context=contexts, seen=seen)
    return update_rows(chain, states, drawn)


@jax.jit
def _draw_from_windows(chain: Chain, rows: Any, contexts: Context) -> Draw:
    return draw(chain, rows, contexts, init_rows(chain, contexts), windows=(11,))
