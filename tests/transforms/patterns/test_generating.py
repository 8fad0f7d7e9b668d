"""Generated texts fit, whatever the model, the budget, the company and the search."""

import re

import jax
import numpy as np
import pytest

import jaxdecode as jd
from jaxdecode.core.rows import own_tables, put_rows, take_rows
from jaxdecode.testing import count_compiles
from tests import tiny
from tests.transforms.patterns.samples import EOS, TOKENS

DATE, WORD = r"\d{4}-\d\d-\d\d", r"(ab|ba)+(é|日)?"
PROMPTS = [[1, 2, 3], [4], [5, 6]]
LEAST = {DATE: 2, WORD: 2}  # "2020-01-01" is a token, and so is "ab"


def regex(pattern, **more):
    return jd.Regex(pattern, TOKENS, eos_ids=EOS, **more)


def run(link, prompts=PROMPTS, key=0, budget=9, **more):
    options = {"max_new_tokens": budget, "eos_ids": EOS, "new_tokens_max": 16} | more
    sampler = jd.chain(link, jd.Temperature(1.0))
    return jd.generate(tiny.bag(), prompts, key, sampler=sampler, **options)


def texts(out):
    """Return the bytes of each row, which must end with the eos."""
    found = []
    for ids, length, status in zip(out.tokens, out.lengths, out.status, strict=True):
        assert jd.Status(int(status)) is jd.Status.EOS
        assert ids[length - 1] == EOS
        found.append(b"".join(TOKENS[i] for i in np.asarray(ids[: length - 1])))
    return found


@pytest.mark.parametrize("pattern", [DATE, WORD])
def test_every_text_is_a_whole_match_from_the_least_budget_on(pattern):
    for seed in range(5):
        least = LEAST[pattern]
        budget = [least, least + 1 + seed, 16]
        out = run(regex(pattern), key=seed, budget=budget)
        assert (out.lengths <= np.asarray(budget)).all()
        for text in texts(out):
            assert re.fullmatch(pattern, text.decode(), re.ASCII)


def test_less_than_the_least_budget_is_refused_before_anything_compiles():
    with (
        count_compiles() as compiles,
        pytest.raises(
            ValueError, match="`max_new_tokens` must be >= 2.*got 1 for prom"
        ),
    ):
        run(regex(DATE), budget=[5, 1, 7])
    assert compiles.count == 0


def test_a_traced_budget_below_the_least_is_invalid_and_others_are_right():
    link = regex(DATE)
    out = jax.jit(lambda budget: run(link, budget=budget))(np.asarray([9, 1, 2]))
    status = [jd.Status(int(s)) for s in out.status]
    assert status == [jd.Status.EOS, jd.Status.INVALID, jd.Status.EOS]


def test_a_text_that_need_not_finish_only_stays_on_its_way():
    out = run(regex(r"\d{4}-\d{9}", finish=False), budget=3)
    assert {jd.Status(int(s)) for s in out.status} == {jd.Status.LENGTH}
    for ids in np.asarray(out.tokens)[:, :3]:
        text = b"".join(TOKENS[i] for i in ids).decode()
        assert re.fullmatch(r"\d{1,4}|\d{4}-\d*", text)


def test_other_patterns_and_mixes_are_the_same_program():
    run(regex(DATE))
    run(jd.Matches([regex(DATE), None, regex(WORD)]))
    with count_compiles() as compiles:
        run(regex(WORD))
        run(jd.Choice(["ab", "日"], TOKENS, eos_ids=EOS))
        run(jd.JsonSchema({"type": "integer"}, TOKENS, eos_ids=EOS))
        run(jd.Matches([None, regex(WORD), regex(r"a+")]))
    assert compiles.count == 0


def test_each_row_has_its_own_pattern_and_a_free_row_is_as_without():
    mixed = run(jd.Matches([regex(DATE), None, regex(WORD)]), key=[4, 5, 6])
    assert re.fullmatch(DATE, texts(take_rows(mixed, np.asarray([0])))[0].decode())
    assert re.fullmatch(WORD, texts(take_rows(mixed, np.asarray([2])))[0].decode())
    free = run(jd.chain(), PROMPTS[1:2], key=[5])
    np.testing.assert_array_equal(mixed.tokens[1], free.tokens[0])


@pytest.mark.parametrize("row", range(3))
def test_a_text_is_the_same_alone_and_in_company(row):
    patterns = [regex(DATE), regex(WORD), regex(r"[ab ]{3,9}")]
    company = run(jd.Matches(patterns), key=[1, 2, 3])
    alone = run(patterns[row], PROMPTS[row : row + 1], key=[row + 1])
    np.testing.assert_array_equal(company.tokens[row], alone.tokens[0])


def test_a_row_may_be_put_in_the_place_of_another_with_its_pattern():
    one = own_tables(jd.chain(regex(DATE)).per_row(3))
    new = jd.chain(regex(WORD)).per_row(1)
    mixed = put_rows(one, np.asarray([1]), new)
    out = run(mixed)
    assert [bool(re.fullmatch(WORD, t.decode())) for t in texts(out)] == [0, 1, 0]


@pytest.mark.parametrize("budget", [2, 5])
def test_every_beam_is_a_whole_match(budget):
    found = jd.beam_search(
        tiny.bag(),
        PROMPTS,
        num_beams=3,
        num_return=3,
        edits=regex(WORD),
        eos_ids=EOS,
        max_new_tokens=budget,
        new_tokens_max=16,
    )
    count = 0
    for ids, length, status in zip(
        np.reshape(found.tokens, (9, -1)),
        np.reshape(found.lengths, 9),
        np.reshape(found.status, 9),
        strict=True,
    ):
        if jd.Status(int(status)) is jd.Status.INVALID:
            continue  # fewer texts fit than beams are wanted
        assert jd.Status(int(status)) is jd.Status.EOS
        text = b"".join(TOKENS[i] for i in ids[: length - 1])
        assert re.fullmatch(WORD, text.decode())
        count += 1
    assert count == (6 if budget == 2 else 9)  # "ab" and "ba" are the shortest


def test_a_stream_writes_the_same_tokens():
    sampler = jd.chain(regex(WORD), jd.Temperature(1.0))
    options = {"sampler": sampler, "max_new_tokens": 9, "eos_ids": EOS}
    pieces = list(jd.stream(tiny.bag(), PROMPTS[:1], [7], **options))
    streamed = [int(t) for p in pieces for t in p.tokens[0, : p.lengths[0]]]
    whole = run(regex(WORD), PROMPTS[:1], key=[7])
    assert streamed == whole.tokens[0, : whole.lengths[0]].tolist()


def test_a_score_is_that_of_the_model_among_what_fits():
    link, model = regex("[ab]+"), tiny.bag()
    given = [[0, 1, EOS], [4, EOS]]
    score = jd.score(model, PROMPTS[:2], given, sampler=link)
    fits = {i for i, t in enumerate(TOKENS) if t and set(t) <= set(b"ab")}
    row = tiny.forward(model)(PROMPTS[0])
    among = np.logaddexp.reduce([row[i] for i in fits])
    np.testing.assert_allclose(score.sampling_logprobs[0, 0], row[0] - among, rtol=1e-4)
    assert score.sampling_logprobs[1, 0] == -np.inf
    assert np.isfinite(score.model_logprobs[1, :2]).all()


def test_a_score_can_be_differentiated():
    link = regex("[ab]+")

    def loss(table):
        score = jd.score(tiny.Bag(table), PROMPTS[:1], [[0, 1, EOS]], sampler=link)
        return score.sampling_logprobs.sum()

    slope = jax.grad(loss)(tiny.bag().table)
    assert np.isfinite(slope).all()
    assert np.abs(slope).max() > 0


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"eos_ids": None}, "`eos_ids` must hold at least one of the tokens"),
        ({"eos_ids": ()}, "`eos_ids` must hold at least one of the tokens"),
        ({"eos_ids": [0]}, "`eos_ids` must be tokens without text.*got 0"),
    ],
)
def test_a_text_without_a_sound_end_is_refused(more, message):
    with pytest.raises(ValueError, match=message):
        run(regex(DATE), **more)


def test_an_end_must_be_known_where_nothing_is_generated():
    rows = np.zeros((1, tiny.VOCAB), np.float32)
    with pytest.raises(ValueError, match="`eos_ids` must be given to the link"):
        jd.apply(jd.Regex("a+", TOKENS), rows)


def test_more_tokens_than_the_model_has_are_refused():
    link = jd.Regex("a+", [*TOKENS, b"x"], eos_ids=EOS)
    with pytest.raises(ValueError, match=r"`tokens` must be at most .*\(37\), got 38"):
        run(link)


def test_tokens_that_the_list_lacks_are_banned():
    link = jd.Regex("a+", [*TOKENS[:3], None], eos_ids=3)
    out = run(link, eos_ids=3)
    assert set(np.asarray(out.tokens)[np.asarray(out.mask)]) == {0, 3}
