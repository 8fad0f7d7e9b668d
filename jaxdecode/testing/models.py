"""`check_model`: whether a model keeps the `Model` protocol, with numbers.

A model that looks ahead, mixes rows or reads stale columns still writes text, only not
its own. Each check here runs a few tokens two ways that must agree, and says what to
change where they do not.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxdecode.core.protocol import ReadsPrompts, logits_of
from jaxdecode.core.rows import take_rows
from jaxdecode.decode.model_check import check_model as check_shapes
from jaxdecode.decode.prefilling import prefill
from jaxdecode.decode.programs import compiled
from jaxdecode.decode.prompts import Prompts

ROWS, COLUMNS = 3, 8
LENGTHS = np.asarray([8, 3, 5], np.int32)


class ModelCheckError(AssertionError):
    """What is wrong with a model.

    Attributes:
      failures: a message for each check that failed, by its name.
    """

    def __init__(self, failures: dict[str, str]):
        self.failures = failures
        lines = [f"{name}: {message}" for name, message in failures.items()]
        super().__init__("check_model: the model must pass, got\n" + "\n".join(lines))


@dataclasses.dataclass(frozen=True)
class Trial:
    """A model, a few tokens for it, and what counts as equal.

    Attributes:
      model: the model.
      tokens: int32 [3, 9], ids of its vocabulary; the last column comes after prompts.
      other: the same shape, another id at every place.
      tolerance: largest difference of logits that counts as equal.
    """

    model: Any
    tokens: np.ndarray
    other: np.ndarray
    tolerance: float

    def start(self, rows: int = ROWS) -> Any:
        """Return an empty cache."""
        return _start(self.model, rows=rows, length=self.tokens.shape[1])

    def read(self, tokens: Any, first: Any, cache: Any) -> tuple[np.ndarray, Any]:
        """Read tokens [B, S] from column `first` (one, or one per row) on."""
        tokens = np.asarray(tokens, np.int32)
        steps = np.arange(tokens.shape[1], dtype=np.int32)
        places = np.broadcast_to(np.reshape(first, (-1, 1)) + steps, tokens.shape)
        places = jnp.asarray(places, jnp.int32)
        logits, cache = _read(self.model, jnp.asarray(tokens), places, cache)
        return np.asarray(logits), cache

    def prompts(self, tokens: Any, lengths: Any) -> tuple[np.ndarray, Any]:
        """Read prompts as `generate` does; return the last logits and the cache."""
        given = Prompts(np.asarray(tokens, np.int32), np.asarray(lengths, np.int32))
        logits, cache = _prompts(self.model, given, self.start(len(tokens)))
        return np.asarray(logits), cache

    def same(self, got: np.ndarray, wanted: np.ndarray) -> bool:
        """Whether logits agree, within the tolerance; NaN agrees with nothing."""
        return bool(np.all(np.abs(got - wanted) <= self.tolerance))


def check_model(model: Any, *, seed: int = 0, tolerance: float = 1e-3) -> None:
    """Run a few tokens through a model in ways that must agree.

    Shapes and types first, then: logits are finite, a token does not see later ones,
    rows do not see each other, `at` picks its column, a prompt read in two calls is the
    prompt read in one, a token read twice counts once, columns beyond a row's position
    are never seen, rows of different lengths equal rows alone, and rows of the cache can
    be taken and repeated. Some two dozen calls of the model, in about ten programs.

    Args:
      model: anything that `jaxdecode.generate` takes.
      seed: which tokens are tried, in [0, 2**32 - 1].
      tolerance: largest difference of two logits that counts as equal, as a part of the
        largest logit.

    Raises:
      ModelCheckError: naming every check that failed, and what to change.
      TypeError: if the model lacks something.
      ValueError: if its cache or logits have a wrong shape.
    """
    check_shapes("check_model", model)
    trial = _trial(model, seed, tolerance)
    failures = {}
    for name, (check, advice) in CHECKS.items():
        if not check(trial):
            failures[name] = advice
    if failures:
        raise ModelCheckError(failures)


@compiled(static=("rows", "length"))
def _start(model: Any, *, rows: int, length: int) -> Any:
    return model.init_cache(rows, length)


@compiled()
def _read(model: Any, tokens: Any, positions: Any, cache: Any, at: Any = None) -> Any:
    return logits_of(model, tokens, positions, cache, at=at)


@compiled()
def _prompts(model: Any, prompts: Prompts, cache: Any) -> Any:
    return prefill(model, prompts, cache)


def _trial(model: Any, seed: int, tolerance: float) -> Trial:
    generator = np.random.default_rng(seed)
    vocab, columns = model.vocab_size, min(COLUMNS + 1, model.max_length)
    tokens = generator.integers(0, vocab, (ROWS, columns))
    other = (tokens + generator.integers(1, max(vocab, 2), tokens.shape)) % vocab
    trial = Trial(model, tokens, other, tolerance)
    logits, _ = trial.prompts(tokens[:, :-1], _lengths(trial))
    return dataclasses.replace(trial, tolerance=tolerance * (1 + np.abs(logits).max()))


def _is_finite(trial: Trial) -> bool:
    logits, _ = trial.prompts(trial.tokens[:, :-1], _lengths(trial))
    return bool(np.isfinite(logits).all())


def _is_causal(trial: Trial) -> bool:
    if isinstance(trial.model, ReadsPrompts):  # padding after the end is all it may see
        padded = np.where(_beyond(trial), trial.other, trial.tokens)[:, :-1]
        kept = trial.tokens[:, :-1]
        found = [trial.prompts(t, _lengths(trial))[0] for t in (kept, padded)]
        return trial.same(*found)
    half = trial.tokens.shape[1] // 2
    changed = np.concatenate([trial.tokens[:, :half], trial.other[:, half:]], axis=1)
    logits, _ = trial.read(trial.tokens, 0, trial.start())
    others, _ = trial.read(changed, 0, trial.start())
    return trial.same(logits[:, :half], others[:, :half])


def _keeps_rows_apart(trial: Trial) -> bool:
    changed = trial.tokens.copy()
    changed[1] = trial.other[1]
    found = [trial.prompts(t[:, :-1], _lengths(trial)) for t in (trial.tokens, changed)]
    stepped = [
        trial.read(tokens[:, -1:], _lengths(trial), cache)[0][:, 0]
        for tokens, (_, cache) in zip((trial.tokens, changed), found, strict=True)
    ]
    firsts = [logits for logits, _ in found]
    apart = [0, 2]
    return trial.same(firsts[0][apart], firsts[1][apart]) and trial.same(
        stepped[0][apart], stepped[1][apart]
    )


def _picks_columns(trial: Trial) -> bool:
    if isinstance(trial.model, ReadsPrompts):
        return True
    width = trial.tokens.shape[1]
    every, _ = trial.read(trial.tokens, 0, trial.start())
    at = np.asarray([width - 1, 0, width // 2], np.int32)
    places = jnp.broadcast_to(jnp.arange(width, dtype=jnp.int32), trial.tokens.shape)
    tokens = jnp.asarray(trial.tokens, jnp.int32)
    one, _ = _read(trial.model, tokens, places, trial.start(), jnp.asarray(at))
    return trial.same(np.asarray(one), every[np.arange(ROWS), at])


def _reads_in_parts(trial: Trial) -> bool:
    if isinstance(trial.model, ReadsPrompts):
        return True
    half = trial.tokens.shape[1] // 2
    whole, _ = trial.read(trial.tokens, 0, trial.start())
    first, cache = trial.read(trial.tokens[:, :half], 0, trial.start())
    second, _ = trial.read(trial.tokens[:, half:], half, cache)
    return trial.same(np.concatenate([first, second], axis=1), whole)


def _reads_again(trial: Trial) -> bool:
    tokens, lengths = trial.tokens[:, :-1], _lengths(trial)
    last = np.take_along_axis(tokens, lengths[:, None] - 1, axis=1)
    wanted, cache = trial.prompts(tokens, lengths)
    again, cache = trial.read(last, lengths - 1, cache)
    after, _ = trial.read(trial.tokens[:, -1:], lengths, cache)
    once, _ = trial.read(
        trial.tokens[:, -1:], lengths, trial.prompts(tokens, lengths)[1]
    )
    return trial.same(again[:, 0], wanted) and trial.same(after, once)


def _forgets_stale_columns(trial: Trial) -> bool:
    tokens, lengths = trial.tokens[:, :-1], _lengths(trial)
    dirty = np.where(_beyond(trial), trial.other, trial.tokens)[:, :-1]
    steps = [
        trial.read(trial.tokens[:, -1:], lengths, trial.prompts(t, lengths)[1])[0]
        for t in (tokens, dirty)
    ]
    if isinstance(trial.model, ReadsPrompts):
        return trial.same(*steps)
    short = max(tokens.shape[1] // 2, 1)
    _, used = trial.read(trial.other[:, :-1], 0, trial.start())
    again, _ = trial.read(tokens[:, :short], 0, used)
    fresh, _ = trial.read(tokens[:, :short], 0, trial.start())
    return trial.same(*steps) and trial.same(again, fresh)


def _equals_rows_alone(trial: Trial) -> bool:
    tokens, lengths = trial.tokens[:, :-1], _lengths(trial)
    logits, cache = trial.prompts(tokens, lengths)
    step, _ = trial.read(trial.tokens[:, -1:], lengths, cache)
    for row, length in enumerate(lengths):
        own, alone = trial.prompts(tokens[row : row + 1], [length])
        next_one, _ = trial.read(trial.tokens[row : row + 1, -1:], [length], alone)
        if not (trial.same(logits[row], own[0]) and trial.same(step[row], next_one[0])):
            return False
    return True


def _repeats_rows(trial: Trial) -> bool:
    tokens, lengths = trial.tokens[:, :-1], _lengths(trial)
    index = np.asarray([2, 0, 0, 1], np.int32)
    _, cache = trial.prompts(tokens, lengths)
    step, _ = trial.read(trial.tokens[:, -1:], lengths, cache)
    taken = take_rows(cache, index)
    moved, _ = trial.read(trial.tokens[index, -1:], lengths[index], taken)
    return trial.same(moved, step[index])


def _lengths(trial: Trial) -> np.ndarray:
    return np.minimum(LENGTHS, trial.tokens.shape[1] - 1).clip(1)


def _beyond(trial: Trial) -> np.ndarray:
    return np.arange(trial.tokens.shape[1])[None] >= _lengths(trial)[:, None]


CHECKS: dict[str, tuple[Callable[[Trial], bool], str]] = {
    "finite": (
        _is_finite,
        "logits must be finite. Mask with a large negative number inside attention, and "
        "see that a token attends to itself.",
    ),
    "causal": (
        _is_causal,
        "a token's logits must not change with later tokens. Mask columns beyond "
        "`positions`, not beyond a count of tokens.",
    ),
    "rows apart": (
        _keeps_rows_apart,
        "a row must not change with its neighbours. Look for a statistic, an index or a "
        "reshape over the row axis.",
    ),
    "at": (
        _picks_columns,
        "with `at` the logits must be those of column at[b] of each row b.",
    ),
    "parts": (
        _reads_in_parts,
        "a prompt read in two calls must equal the prompt read in one. Take places and "
        "masks from `positions`, and return the cache that holds the new tokens.",
    ),
    "again": (
        _reads_again,
        "a token read twice at one position must count once. Write where `positions` "
        "says, not where an index stands; keep recurrent state as "
        "`jaxdecode.from_recurrent` does.",
    ),
    "stale columns": (
        _forgets_stale_columns,
        "columns at or beyond a row's position hold padding or an older text and must "
        "never be seen. Mask by `positions`, not by what the cache holds.",
    ),
    "rows alone": (
        _equals_rows_alone,
        "rows of different lengths must equal each row alone. One index for the whole "
        "batch cannot serve them; `jaxdecode.from_single` gives every row its own.",
    ),
    "repeat": (
        _repeats_rows,
        "rows of the cache must be free to move. Keep nothing that says which row it "
        "is, and every leaf with the row axis first.",
    ),
}
