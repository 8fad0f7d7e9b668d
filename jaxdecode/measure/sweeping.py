"""A grid of settings over prompts and seeds, and what each setting makes of the text.

    for setting in settings:
        for prompt in prompts:
            for seed in seeds:
                texts[setting, prompt] += generate(prompt, seed, setting)
    report on texts, setting by setting

All runs share one program: settings are data, one per row, and every call has the same
number of rows. Every setting meets the same noise, so that differences are its own.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxdecode.core import check
from jaxdecode.core.protocol import Model
from jaxdecode.core.shapes import TokenIds
from jaxdecode.core.status import Status
from jaxdecode.decode import generate
from jaxdecode.measure.diversity import distinct, repetition, self_bleu
from jaxdecode.transforms import Chain, joint

WHO = "sweep"


@dataclasses.dataclass(frozen=True)
class Run:
    """One text of a sweep.

    Attributes:
      setting: the number of its setting.
      prompt: the number of its prompt.
      seed: its seed: the text is that of `generate` for this prompt alone with this key.
      tokens: its tokens.
      logprob: the sum of their log-probs under the model.
      entropy: the sum of the model's entropies before them, in nats.
      status: why it ended.
    """

    setting: int
    prompt: int
    seed: int
    tokens: tuple[int, ...]
    logprob: float
    entropy: float
    status: Status


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What one setting makes of the text: over its seeds, then the mean over prompts.

    Attributes:
      setting: its values by name.
      runs: how many texts.
      mean_logprob: of a token, under the model: how likely the text is.
      entropy: of the model before a token, in nats.
      length: tokens of a text.
      ended: share of texts that the model ended.
      repetition: share of 4-grams that stood in the same text before.
      distinct_1: share of different tokens among those of all seeds.
      distinct_2: the same of pairs.
      distinct_3: the same of triples.
      self_bleu: how alike the texts of a prompt are, in [0, 1]; None of one seed.
      frontier: whether no other setting has both likelier and more varied (distinct_2)
        text.
    """

    setting: Mapping[str, float]
    runs: int
    mean_logprob: float
    entropy: float
    length: float
    ended: float
    repetition: float
    distinct_1: float
    distinct_2: float
    distinct_3: float
    self_bleu: float | None
    frontier: bool = False


def sweep(
    model: Model,
    prompts: Sequence[Sequence[int]],
    settings: Sequence[Mapping[str, float]],
    seeds: Sequence[int],
    *,
    build: Callable[..., Chain] = joint,
    max_new_tokens: int = 64,
    eos_ids: TokenIds | None = None,
    rows: int = 32,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[list[Outcome], list[Run]]:
    """Run every setting on every prompt with every seed, and report on each setting.

    Compiles one program, whatever the values and however many runs there are; another
    number of rows, bucket of prompt length or of `max_new_tokens` is another one.

    Args:
      model: anything that satisfies the `Model` protocol.
      prompts: token lists.
      settings: each a mapping from names to values, all with the same names.
      seeds: seeds of the texts, each as in `generate`.
      build: makes a chain of vectors, one per row, by the settings' names.
      max_new_tokens: >= 1.
      eos_ids: ids that end a text.
      rows: how many texts are written together, >= 1: more need more memory.
      progress: is told how many runs are done, and of how many.

    Returns:
      An `Outcome` for each setting, and every `Run`.

    Raises:
      TypeError: for arguments of the wrong kind.
      ValueError: for values out of range, no prompt, no setting, or settings with
        different names.
    """
    rows = int(check.whole(WHO, "rows", rows, low=1))
    names = _names(settings)
    if not prompts or not seeds:
        what = "prompts" if not prompts else "seeds"
        raise ValueError(f"{WHO}: `{what}` must hold at least one, got none.")
    keys = _keys(seeds)
    grid = list(itertools.product(*map(range, map(len, (settings, prompts, seeds)))))
    padded, lengths = _padded(prompts)
    runs: list[Run] = []
    for part in _parts(grid, rows):
        setting, prompt, seed = (
            np.asarray(column) for column in zip(*part, strict=True)
        )
        values = {name: [settings[i][name] for i in setting] for name in names}
        out = generate(
            model,
            (padded[prompt], lengths[prompt]),
            keys[seed],
            sampler=build(**values),
            max_new_tokens=max_new_tokens,
            eos_ids=eos_ids,
            observe=("entropy",),
        )
        found = _runs(jax.tree.map(np.asarray, out), part, seeds)
        runs += itertools.islice(found, len(grid) - len(runs))
        if progress is not None:
            progress(len(runs), len(grid))
    outcomes = [
        _outcome(one, [run for run in runs if run.setting == i], len(prompts))
        for i, one in enumerate(settings)
    ]
    return with_frontier(outcomes), runs


def with_frontier(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Mark the outcomes that no other one beats in both likelihood and variety."""

    def beaten(one: Outcome) -> bool:
        return any(
            other.mean_logprob >= one.mean_logprob
            and other.distinct_2 >= one.distinct_2
            and (other.mean_logprob, other.distinct_2)
            != (one.mean_logprob, one.distinct_2)
            for other in outcomes
        )

    return [dataclasses.replace(one, frontier=not beaten(one)) for one in outcomes]


def _names(settings: Sequence[Mapping[str, float]]) -> list[str]:
    if not settings:
        raise ValueError(f"{WHO}: `settings` must hold at least one, got none.")
    names = list(settings[0])
    for place, one in enumerate(settings):
        if list(one) != names:
            raise ValueError(
                f"{WHO}: `settings` must all have the names {names}, got {list(one)} "
                f"for setting {place}."
            )
    return names


def _keys(seeds: Sequence[int]) -> jax.Array:
    """Return the key of each seed's first prompt, as `generate` has it."""
    words = np.asarray([check.seed(WHO, seed) for seed in seeds], np.uint32)
    return jax.vmap(lambda seed: jax.random.fold_in(jax.random.key(seed), 0))(words)


def _padded(prompts: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    lengths = np.asarray([len(prompt) for prompt in prompts], np.int32)
    tokens = np.zeros((len(prompts), lengths.max()), np.int32)
    for row, prompt in zip(tokens, prompts, strict=True):
        row[: len(prompt)] = prompt
    return tokens, lengths


def _parts(grid: list[Any], rows: int) -> Iterator[list[Any]]:
    """Cut the grid into parts of equal size; the last one is filled up with its first."""
    rows = min(rows, len(grid))
    for start in range(0, len(grid), rows):
        part = grid[start : start + rows]
        yield part + part[:1] * (rows - len(part))


def _runs(out: Any, part: list[Any], seeds: Sequence[int]) -> Iterator[Run]:
    for row, (setting, prompt, seed) in enumerate(part):
        length = int(out.lengths[row])
        yield Run(
            setting,
            prompt,
            int(seeds[seed]),
            tuple(out.tokens[row, :length].tolist()),
            float(out.model_logprobs[row].sum()),
            float(out.observations["entropy"][row].sum()),
            Status(int(out.status[row])),
        )


def _outcome(setting: Mapping[str, float], runs: list[Run], prompts: int) -> Outcome:
    count = max(sum(len(run.tokens) for run in runs), 1)
    groups = [[r.tokens for r in runs if r.prompt == place] for place in range(prompts)]
    alike = [self_bleu(texts) for texts in groups]

    def mean(values):
        return float(np.mean(list(values)))

    return Outcome(
        setting=dict(setting),
        runs=len(runs),
        mean_logprob=sum(run.logprob for run in runs) / count,
        entropy=sum(run.entropy for run in runs) / count,
        length=mean(len(run.tokens) for run in runs),
        ended=mean(run.status == Status.EOS for run in runs),
        repetition=mean(repetition(run.tokens) for run in runs),
        distinct_1=mean(distinct(texts, 1) for texts in groups),
        distinct_2=mean(distinct(texts, 2) for texts in groups),
        distinct_3=mean(distinct(texts, 3) for texts in groups),
        self_bleu=None if None in alike else mean(alike),
    )
