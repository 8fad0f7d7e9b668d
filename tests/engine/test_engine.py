"""What a request becomes in the engine is what it becomes alone."""

import random
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdecode as jd
from jaxdecode.core.threefry import fold_in
from jaxdecode.engine import Engine, Result, Sample, programs
from jaxdecode.testing import count_compiles
from tests import tiny
from tests.engine.engine_cases import (
    SHAPE,
    Ask,
    alone,
    asks,
    engine,
    language_model,
    links,
    run,
    texts,
    written,
)
from tests.text.tiny_texts import MESSAGES
from tests.text.tiny_texts import language_model as spaced_language_model

ASKED = asks(14)
# A bag's rows, too, have each its own cache, length and tables.
LLAMA = pytest.param("llama", marks=pytest.mark.slow)


@pytest.mark.parametrize("kind", ["bag", LLAMA])
def test_each_request_is_what_generate_makes_of_it_alone(kind):
    found = run(ASKED, kind=kind)
    assert len(found) == len(ASKED)
    for ask in ASKED:
        samples = found[ask.id].samples
        assert [(s.tokens, s.finish_reason) for s in samples] == alone(ask, kind)
        assert found[ask.id].prompt_tokens == len(ask.prompt)


@pytest.mark.slow
def test_the_texts_are_those_of_the_language_model():
    found = run(ASKED)
    for ask in ASKED[::6]:  # with stop strings
        options = {**ask.options, "num_samples": 2}
        wanted = language_model().generate([ask.prompt], key=[ask.key], **options)[0]
        texts = [sample.text for sample in found[ask.id].samples]
        assert texts[:2] == wanted[: len(texts)]


@pytest.mark.parametrize("kind", ["bag", LLAMA])
def test_order_neighbours_chunks_and_reading_change_no_bit(kind):
    wanted = written(run(ASKED, kind=kind))
    shuffled = random.Random(3).sample(ASKED, len(ASKED))
    assert written(run(shuffled, kind=kind, chunk=3, prefill=999)) == wanted
    some = ASKED[::3]
    lone = written(run(some, kind=kind, prefixes=0, pools=1))
    assert lone == {ask.id: wanted[ask.id] for ask in some}


@pytest.mark.slow
def test_the_number_of_slots_and_their_length_change_no_text():
    wanted = texts(run(ASKED))
    assert texts(run(ASKED, slots=2, length=45)) == wanted


def test_the_invariance_tests_see_a_key_that_depends_on_the_slot(monkeypatch):
    wanted = texts(run(ASKED))
    original = programs.admit

    def wrong(model, rows, slot, asked, key, *rest):
        key = fold_in(key, jnp.asarray([slot], jnp.int32))
        return original(model, rows, slot, asked, key, *rest)

    monkeypatch.setattr(programs, "admit", wrong)
    reverse = texts(run(ASKED[::-1]))
    assert sum(reverse[ask.id] != wanted[ask.id] for ask in ASKED) > len(ASKED) // 2


def test_values_never_recompile():
    run(asks(9, seed=1))
    with count_compiles() as compiles:
        found = run(asks(30, seed=2))
    assert len(found) == 30
    assert compiles.count == 0, compiles.names


@pytest.mark.slow
def test_warming_up_compiles_all_that_is_needed():
    to = Engine(language_model(), **{**SHAPE, "slots": 5, "length": 43})
    to.warm_up()
    with count_compiles() as compiles:
        for length in (1, 2, 17, 18, 33, 40):
            for _ in range(2):
                to.submit([5] * length, key=length, max_new_tokens=3, stop=[[4]])
        assert len(list(to.results())) == 12
    assert compiles.count == 0, compiles.names
    assert to.statistics.requests == 12


def other_chains():
    bias = np.linspace(-1, 1, tiny.VOCAB).astype(np.float32)
    return [
        links(temperature=0.7),
        jd.chain(jd.LogitBias(bias), links()),
        jd.chain(jd.MinP(0.1), jd.Temperature(1.3)),
        jd.chain(jd.LogitBias(bias[::-1].copy()), links(top_k=5)),
        jd.Mirostat(4.0),
        None,
    ]


# Three structures, one more than there are pools, and both chains of one of them: each
# of the other structures is two programs more.
@pytest.mark.parametrize(
    ("pools", "count"), [pytest.param(1, 6, marks=pytest.mark.slow), (2, 4)]
)
def test_requests_of_other_structures_are_answered_as_if_alone(pools, count):
    rng = random.Random(pools)
    chains = other_chains()[:count]
    asked = [
        Ask(i, "hello", i, {"sampler": chain, "max_new_tokens": 5 + i % 4})
        for i, chain in enumerate(chains * 3)
    ]
    found = run(rng.sample(asked, len(asked)), pools=pools)
    for ask in asked:
        assert [(s.tokens, s.finish_reason) for s in found[ask.id].samples] == (
            alone(ask)
        )


def test_a_beginning_that_prompts_share_is_read_once():
    system = "you are a bot and "
    asked = asks(6, seed=5, prefix=system)
    to = engine(prefill=999)
    jobs = [ask.submit(to) for ask in asked]
    found = {result.id: result for result in to.results()}
    assert to.statistics.reused_tokens == (len(asked) - 1) * SHAPE["block"]
    assert written(found) == written(run(asked, prefixes=0))
    assert to.statistics.prompt_tokens == sum(len(j.asked.tokens) for j in jobs)


@pytest.mark.slow
def test_a_beginning_is_forgotten_when_others_take_its_room():
    first, second = "a" * 20, "b" * 20
    asked = [
        Ask(i, prompt, i, {"max_new_tokens": 2})
        for i, prompt in enumerate([first, second] * 3)
    ]
    assert texts(run(asked, prefixes=1)) == texts(run(asked, prefixes=0))


MANY = {"sampler": links(), "num_samples": 7, "max_new_tokens": 6}


def test_more_samples_than_slots_read_their_prompt_once():
    ask = Ask("a", "hello world and all", 5, MANY)
    to = engine()
    ask.submit(to)
    (result,) = to.results()
    assert [(s.tokens, s.finish_reason) for s in result.samples] == alone(ask)
    assert to.statistics.prompt_tokens == 19
    assert to.statistics.steps < 7 * 6


def test_a_stop_does_not_count_before_the_earliest_end():
    sampler = jd.chain(jd.MinNewTokens(6, [0]), jd.Temperature(0.9))
    options = {"sampler": sampler, "stop": [[i] for i in range(2, 28)]}
    asked = [Ask(i, "abc", i, {**options, "max_new_tokens": 9}) for i in range(4)]
    found = run(asked)
    for ask in asked:
        tokens = found[ask.id].samples[0].tokens
        assert len(tokens) == 7
        assert [(tokens, "stop")] == alone(ask)


def test_pieces_joined_are_the_result():
    to = engine()
    ask = ASKED[3]
    other = ASKED[4].submit(to)
    job = ask.submit(to)
    pieces = list(job.stream())
    result = job.result()
    for index, sample in enumerate(result.samples):
        mine = [piece for piece in pieces if piece.sample == index]
        assert "".join(piece.text for piece in mine) == sample.text
        assert [p.finish_reason for p in mine[:-1]] == [None] * (len(mine) - 1)
        assert mine[-1].finish_reason == sample.finish_reason
    assert [(s.tokens, s.finish_reason) for s in result.samples] == alone(ask)
    left = [result.id for result in to.results()]
    assert left == [other.id]


def test_cancelled_requests_free_their_slots_and_leave_others_alone():
    to = engine()
    long = {"sampler": links(), "max_new_tokens": 30, "eos_ids": ()}
    victims = [to.submit("abc", key=i, num_samples=2, **long) for i in range(3)]
    kept = [ask.submit(to) for ask in ASKED[:5]]
    to.step()
    to.step()
    for job in victims:
        job.cancel()
    found = {result.id: result for result in to.results()}
    assert sorted(found) == sorted(job.id for job in kept)
    wanted = texts(run(ASKED[:5]))
    assert texts(found) == wanted
    whole = jd.generate(
        language_model().model, [language_model().encode("abc")], [0], **long
    )
    ended = victims[0].result()
    assert {s.finish_reason for s in ended.samples} == {"cancelled"}
    tokens = ended.samples[0].tokens
    assert 0 < len(tokens) < 30
    assert list(tokens) == whole.tokens[0, : len(tokens)].tolist()


def test_any_thread_may_submit_and_wait():
    wanted = texts(run(ASKED))
    to, found = engine(), {}

    def client(part):
        for ask in part:
            found[ask.id] = ask.submit(to).result()

    threads = [
        threading.Thread(target=client, args=(ASKED[i::4],), daemon=True)
        for i in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert texts(found) == wanted
    assert not list(to.results())


def test_a_row_of_bad_logits_is_invalid_and_its_neighbours_are_as_before():
    to = Engine(tiny.bag(poison={7: np.nan}), **SHAPE)
    options = {"max_new_tokens": 6, "sampler": links(top_k=3, temperature=0.5)}
    jobs = [to.submit(p, key=1, **options) for p in ([1, 2], [7, 2], [5])]
    bad, *good = (jobs[i].result().samples[0] for i in (1, 0, 2))
    assert (bad.finish_reason, bad.tokens) == ("invalid", ())
    for prompt, sample in zip(([1, 2], [5]), good, strict=True):
        lone = jd.generate(tiny.bag(poison={7: np.nan}), [prompt], [1], **options)
        assert list(sample.tokens) == lone.tokens[0, : lone.lengths[0]].tolist()


def recurrent():
    rng = np.random.default_rng(0)
    table = rng.normal(size=(tiny.VOCAB, 8)).astype(np.float32)
    out = rng.normal(size=(8, tiny.VOCAB)).astype(np.float32)

    def read(params, token, state):
        state = jnp.tanh(jnp.asarray(params["in"])[token] + 0.5 * state)
        logits = jnp.einsum("bd,dv->bv", state, jnp.asarray(params["out"]))
        return logits * 3, state

    return jd.from_recurrent(
        read,
        {"in": table, "out": out},
        vocab_size=tiny.VOCAB,
        max_length=48,
        init_state=lambda rows: jnp.zeros((rows, 8), jnp.float32),
    )


@pytest.mark.slow
def test_a_model_that_reads_prompts_itself_is_served():
    model = recurrent()
    to = Engine(model, **SHAPE)
    prompts = [[1, 2, 3], [4] * 20, [9], [5, 6]]
    for i, prompt in enumerate(prompts):
        to.submit(prompt, key=i, max_new_tokens=4 + i)
    for result in to.results():
        i = result.id
        lone = jd.generate(model, [prompts[i]], [i], max_new_tokens=4 + i)
        assert list(result.samples[0].tokens) == lone.tokens[0].tolist()


def test_a_conversation_is_answered_as_chat_does():
    lm, messages = language_model(), [{"role": "user", "content": "hello"}]
    asked = {"sampler": links(), "max_new_tokens": 7}
    wanted = lm.chat(messages, key=[3], **asked)
    assert engine().submit(messages, key=3, **asked).result().text == wanted


def test_a_key_may_be_given_in_the_place_of_a_seed():
    to = engine()
    asked = {"sampler": links(), "max_new_tokens": 9}
    one = to.submit("abc", key=jax.random.key(4), **asked).result()
    assert one.text == to.submit("abc", key=4, **asked).result().text


def test_a_space_at_the_start_of_an_answer_belongs_to_a_pattern():
    lm = spaced_language_model("spaces")
    sampler = jd.chain(jd.Choice([" hello"], lm), jd.Temperature(1.0))
    options = {"max_new_tokens": 4, "sampler": sampler}
    found = Engine(lm, **SHAPE).submit(MESSAGES, key=0, **options).result()
    assert found.text == " hello"


def test_what_is_new_can_be_taken_without_waiting():
    to, ask = engine(), ASKED[0]
    job = ask.submit(to)
    assert job.take() == []
    taken = []
    while to.step():
        taken += job.take()
    taken += job.take()
    assert job.take() == []
    assert written({0: Result(0, joined(taken, ask), 0)}) == written({0: job.result()})


def joined(pieces, ask):
    """Return the samples that some pieces make."""
    numbers = range(ask.options["num_samples"])
    return [Sample.of([p for p in pieces if p.sample == i]) for i in numbers]


def test_slots_are_full_until_no_request_waits():
    to = engine(prefill=999)
    for index in range(40):
        to.submit(
            "abc", key=index, sampler=links(), max_new_tokens=3 + index % 5, eos_ids=(),
            num_samples=1,
        )  # fmt: skip
    assert len(list(to.results())) == 40
    assert to.statistics.occupancy_until_tail > 0.95
    assert to.statistics.occupancy < to.statistics.occupancy_until_tail
    assert to.statistics.row_steps == sum(3 + index % 5 for index in range(40))


def test_what_is_observed_of_each_token_is_what_generate_reports():
    lm, observe = language_model(), ("entropy", "top_logprobs:3")
    options = {"sampler": links(temperature=1.2), "observe": observe}
    options |= {"num_samples": 2, "max_new_tokens": 14, "eos_ids": ()}
    to = engine()
    plain = to.submit("abc", key=2, **{**options, "observe": ()})
    job = to.submit("hello w", key=7, stop_strings=["e"], **options)
    pieces, found = list(job.stream()), job.result()
    prompt = [lm.encode("hello w")]
    out = jd.generate(lm.model, prompt, [7], **options)
    assert len({len(sample.tokens) for sample in found.samples}) == 2  # cut by stops
    for row, sample in enumerate(found.samples):
        mine = [piece.observed for piece in pieces if piece.sample == row]
        assert set(sample.observed) == {"entropy", "top_logprobs", "top_ids"}
        for name, values in sample.observed.items():
            assert len(values) == len(sample.tokens)
            wanted = np.asarray(out.observations[name])[row, : len(values)]
            np.testing.assert_allclose(values, wanted, atol=2e-6)
            np.testing.assert_array_equal(
                np.concatenate([part[name] for part in mine]), values
            )
    assert plain.result().samples[0].observed == {}
    with pytest.raises(ValueError, match="`observe` must be among"):
        to.submit("abc", key=2, max_new_tokens=9, observe=["what"])
