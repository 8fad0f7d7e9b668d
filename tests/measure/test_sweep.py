"""A sweep: each run is the text of `generate`, one program serves all, measures hold."""

import dataclasses
import itertools
import os
import pathlib

import numpy as np
import pytest

import jaxdecode as jd
from jaxdecode import measure
from jaxdecode.measure.diversity import bleu, distinct, repetition, self_bleu
from jaxdecode.measure.sweeping import Outcome, with_frontier
from jaxdecode.testing import count_compiles
from tests import tiny

PROMPTS = [[1, 2, 3], [4, 5, 6, 7, 8]]
GRID = [{"temperature": t, "top_p": p} for t in (0.5, 1.5) for p in (0.7, 1.0)]


@pytest.fixture(scope="module")
def swept():
    options = {"max_new_tokens": 11, "eos_ids": [4], "rows": 5}
    return measure.sweep(tiny.llama(), PROMPTS, GRID, range(3), **options)


def test_every_run_is_the_text_of_generate_for_its_prompt_alone(swept):
    _, runs = swept
    assert len(runs) == len(GRID) * len(PROMPTS) * 3
    places = {(run.setting, run.prompt, run.seed) for run in runs}
    assert len(places) == len(runs)
    for run in runs[::5]:
        out = jd.generate(
            tiny.llama(),
            [PROMPTS[run.prompt]],
            run.seed,
            sampler=jd.joint(**GRID[run.setting]),
            max_new_tokens=11,
            eos_ids=[4],
            observe=("entropy",),
        )
        length = int(out.lengths[0])
        assert run.tokens == tuple(out.tokens[0, :length].tolist())
        assert run.logprob == pytest.approx(float(out.model_logprobs.sum()), abs=1e-4)
        total = float(out.observations["entropy"].sum())
        assert run.entropy == pytest.approx(total, abs=1e-4)


def test_an_outcome_sums_up_its_own_runs(swept):
    outcomes, runs = swept
    for place, outcome in enumerate(outcomes):
        own = [run for run in runs if run.setting == place]
        count = sum(len(run.tokens) for run in own)
        assert outcome.setting == GRID[place]
        assert outcome.runs == len(own) == 6
        assert outcome.length == pytest.approx(count / 6)
        total = sum(run.logprob for run in own)
        assert outcome.mean_logprob == pytest.approx(total / count)
        pairs = []
        for prompt in range(2):
            texts = [run.tokens for run in own if run.prompt == prompt]
            grams = [pair for text in texts for pair in itertools.pairwise(text)]
            pairs.append(len(set(grams)) / len(grams))
        assert outcome.distinct_2 == pytest.approx(np.mean(pairs))


def test_new_values_prompts_and_any_number_of_runs_compile_nothing(swept):
    grid = [{"temperature": 0.1 * i, "top_p": 0.9} for i in range(1, 11)]
    prompts = [[7], [8, 9]]
    with count_compiles() as compiles:
        _, runs = measure.sweep(
            tiny.llama(),
            prompts,
            grid,
            [11, 12, 13],
            max_new_tokens=12,
            eos_ids=[5],
            rows=5,
        )
    assert len(runs) == 60
    assert compiles.count == 0, compiles.names


def test_distinct_and_repetition_count_by_hand():
    assert distinct([[1, 2, 1, 2], [1, 2]], 1) == 2 / 6
    assert distinct([[1, 2, 1, 2], [1, 2]], 2) == 2 / 4  # 12 21 12 | 12
    assert distinct([[1]], 2) == 0
    assert repetition([1, 2, 3, 4, 1, 2, 3, 4, 1]) == pytest.approx(2 / 6)
    assert repetition([1, 2, 3]) == 0


def test_bleu_counts_by_hand():
    text, reference = [1, 2, 3, 4, 5], [1, 2, 3, 4, 6, 7]
    # 4 of 5, 3 of 4, 2 of 3, 1 of 2 match; one token shorter than the reference
    wanted = (4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25 * np.exp(1 - 6 / 5)
    assert bleu(text, [reference]) == pytest.approx(wanted)
    assert bleu(text, [reference, text]) == pytest.approx(1)
    # a token counts as often as the reference that has it most often
    assert bleu([1, 1], [[1, 2]]) == pytest.approx((1 / 2 * 0.1) ** 0.5)
    assert self_bleu([[1, 2, 3]] * 3) == pytest.approx(1)
    assert self_bleu([[1, 2, 3]]) is None


def outcome(logprob, variety):
    values = dict.fromkeys((f.name for f in dataclasses.fields(Outcome)), 0.0)
    values |= {"setting": {"temperature": logprob}, "frontier": False}
    return Outcome(**values | {"mean_logprob": logprob, "distinct_2": variety})


def test_the_frontier_is_what_nothing_beats_in_both():
    points = [(-1, 0.1), (-2, 0.5), (-2, 0.4), (-3, 0.5), (-4, 0.9)]
    marked = with_frontier([outcome(*point) for point in points])
    assert [one.frontier for one in marked] == [True, True, False, False, True]


@pytest.mark.parametrize("kind", ["svg", "png"])
def test_a_plot_is_written(swept, tmp_path, kind):
    path = measure.plot_sweep(swept[0], tmp_path / f"plot.{kind}", title="a title")
    assert path.stat().st_size > 5000
    if kind == "svg":
        assert "top_p 0.7" in path.read_text() or "<use" in path.read_text()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"settings": []}, "`settings` must hold at least one"),
        ({"settings": [{"top_k": 1}, {"top_p": 1}]}, "must all have the names"),
        ({"seeds": []}, "`seeds` must hold at least one"),
        ({"prompts": []}, "`prompts` must hold at least one"),
        ({"rows": 0}, "`rows` must be >= 1, got 0"),
        ({"settings": [{"top_p": 2.0}]}, "TopP: `p` must be in"),
    ],
)
def test_bad_arguments_are_refused(changes, message):
    given = {"prompts": PROMPTS, "settings": GRID, "seeds": [0]} | changes
    with pytest.raises(ValueError, match=message):
        measure.sweep(tiny.llama(), **given)


@pytest.mark.model
@pytest.mark.slow
def test_a_thousand_runs_of_the_default_model_compile_once_and_keep_no_memory():
    lm = jd.load("smollm2-135m")
    grid = [
        {"temperature": 0.1 * i, "top_p": p} for i in range(1, 11) for p in (0.8, 1)
    ]
    prompts = [lm.encode(text) for text in ("Once upon a time", "The sea is")]
    options = {"max_new_tokens": 8, "eos_ids": lm.eos_ids, "rows": 50}
    held = []
    with count_compiles() as compiles:
        _, runs = measure.sweep(
            lm.model,
            prompts,
            grid,
            range(25),
            progress=lambda done, total: held.append(resident_megabytes()),
            **options,
        )
    assert len(runs) == 1000
    assert compiles.names.count("jit(_run)") == 1, compiles.names
    assert len(held) == 20
    with count_compiles() as later:
        other = [{"temperature": 1.3, "top_p": 0.5}] * 2
        measure.sweep(lm.model, prompts[::-1], other, range(25), **options)
    assert later.count == 0, later.names
    # The logits and the cache of one call are 30 MB: if calls kept them, the last ten
    # would all hold 300 more. A single figure is no measure: a call that is caught at
    # its work holds some 150 for a moment.
    assert min(held[10:]) - min(held[:5]) < 100, held


def resident_megabytes():
    """What this process holds; 0 where that is not known."""
    path = pathlib.Path("/proc/self/statm")
    if not path.exists():
        return 0.0
    return int(path.read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 1e6
