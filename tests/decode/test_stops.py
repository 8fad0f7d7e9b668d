"""A row ends where a stop is completed: in ids, or in bytes however tokens cut them."""

import jax
import numpy as np
import pytest

import jaxdecode as jd
from jaxdecode.testing import count_compiles
from jaxdecode.transforms.automaton import Automaton, token_table
from tests import tiny

PROMPTS = [[1, 2, 3], [4], [5, 6]]
STEPS = 16
# ids 0..7, then letters a.. for the rest
PIECES = [b"", b"ab", b"b", b"abc", b"cab", b"\xe6\x97", b"\xa5", b"\n"]
PIECES += [bytes([97 + i]) for i in range(tiny.VOCAB - len(PIECES))]


def script(*ids):
    """Return a sampler under which every row says these ids."""
    return jd.ForcedTokens(dict(enumerate(ids)), count_prompt=False)


def say(ids, stop, least=0, prompts=((1,),), **options):
    sampler = jd.chain(script(*ids), jd.MinNewTokens(least, [36]))
    return jd.generate(
        tiny.bag(), [list(p) for p in prompts], 0, sampler=sampler,
        max_new_tokens=len(ids), stop=stop, new_tokens_max=STEPS, **options
    )  # fmt: skip


def length(*args, **options):
    out = say(*args, **options)
    stopped = out.status[0] == jd.Status.STOP
    assert stopped or out.lengths[0] == len(args[0])
    return int(out.lengths[0]) if stopped else None


def of_strings(*strings, sequences=()):
    return jd.Stops.of(sequences, strings, PIECES)


@pytest.mark.parametrize(
    ("ids", "stop", "ended"),
    [
        ([9, 9, 9, 9], [[9]], 1),
        ([8, 9, 10, 11], [[9, 10]], 3),
        ([8, 9, 8, 9, 10, 9], [[8, 9, 10]], 5),  # a false start inside
        ([9, 9, 9, 10], [[9, 9, 10]], 4),  # overlapping with itself
        ([8, 9, 10, 11], [[9, 10, 11], [10]], 3),  # the shorter one ends first
        ([8, 9, 10, 11], [[11, 10]], None),
        ([8, 9, 10, 11], [], None),
        ([8, 9], [list(range(8, 20))], None),  # longer than the text
    ],
)
def test_a_sequence_of_ids_ends_the_row_where_it_is_complete(ids, stop, ended):
    assert length(ids, stop) == ended


def test_a_stop_in_the_prompt_or_across_its_end_does_not_count():
    assert length([9, 8, 8], [[8, 9]], prompts=[[9, 8]]) is None
    assert length([9, 8, 9], [[8, 9]], prompts=[[8]]) == 3
    assert length([2, 8, 8], of_strings("ab"), prompts=[[1, 8]]) is None


@pytest.mark.parametrize(
    ("ids", "strings", "ended"),
    [
        ([10, 8, 9, 11], ["ab"], 3),  # one letter each
        ([1, 8], ["ab"], 1),  # inside one token
        ([4, 9], ["abb"], 2),  # begins inside one, ends in another: c[ab] [b]
        ([4, 3, 8], ["bab"], 2),  # c a[b] [ab]c: begins and ends inside tokens
        ([8, 0, 0, 9], ["ab"], 4),  # tokens without text lie in between
        ([8, 8, 9], ["aab"], 3),
        ([8, 9, 8, 9, 10], ["ababc", "bc"], 5),
        ([5, 6], ["日"], 2),  # a character cut in two
        ([5, 5, 6], ["日"], 3),
        ([7, 7, 8], ["\n\n"], 2),
        ([8, 9], ["abc"], None),
    ],
)
def test_a_string_is_found_however_tokens_cut_it(ids, strings, ended):
    assert length(ids, of_strings(*strings)) == ended


def test_strings_and_sequences_act_together():
    stop = of_strings("zz", "abc", sequences=[[12, 13]])
    assert length([12, 13, 3], stop) == 2
    assert length([12, 3, 13], stop) == 2


def test_the_stop_is_part_of_the_output_and_padding_follows():
    out = say([8, 9, 10, 11], [[9]], pad_id=36)
    assert out.tokens[0].tolist()[:4] == [8, 9, 36, 36]
    assert out.model_logprobs[0, 2] == 0


def test_an_eos_and_a_budget_that_come_with_a_stop():
    assert say([8, 9], [[9]], eos_ids=[9]).status[0] == jd.Status.EOS
    assert say([8, 9], [[9]]).status[0] == jd.Status.STOP  # the last token it may draw


@pytest.mark.parametrize(("n", "ended"), [(0, 2), (1, 2), (2, 4), (3, 4), (4, None)])
def test_min_new_tokens_passes_over_stops_among_the_first_n(n, ended):
    for stop in ([[8, 9]], of_strings("ab")):
        assert length([8, 9, 8, 9], stop, n) == ended


def test_min_new_tokens_is_a_number_for_each_row():
    sampler = jd.chain(script(8, 8, 8, 8), jd.MinNewTokens([0, 2, 3], [36]))
    out = jd.generate(
        tiny.bag(), PROMPTS, 0, sampler=sampler, max_new_tokens=4, stop=[[8]],
        num_samples=2,
    )  # fmt: skip
    assert out.lengths.tolist() == [1, 1, 3, 3, 4, 4]


def plain_end(ids, pieces, strings, sequences):
    """Return after how many tokens the slow way stops, or None."""
    for n in range(1, len(ids) + 1):
        before = b"".join(pieces[i] for i in ids[: n - 1])
        text = before + pieces[ids[n - 1]]
        for string in strings:
            starts = range(len(text) - len(string) + 1)
            ends = [s + len(string) for s in starts if text[s:].startswith(string)]
            if any(end > len(before) for end in ends):
                return n
        if any(ids[:n][-len(s) :] == s for s in sequences):
            return n
    return None


@pytest.mark.parametrize("seed", range(6))
def test_random_texts_end_where_a_plain_search_says(seed):
    rng = np.random.default_rng(seed)

    def word(low, high):
        return bytes(rng.integers(97, 99, rng.integers(low, high)).astype(np.uint8))

    pieces = [word(0, 4) for _ in range(tiny.VOCAB)]
    strings = [word(2, 6) for _ in range(rng.integers(1, 4))]
    sequences = rng.integers(0, tiny.VOCAB, (2, 2)).tolist()
    prompts = rng.integers(0, tiny.VOCAB, (11, 3)).tolist()
    stop = jd.Stops.of(sequences, strings, pieces)
    options = {"sampler": jd.Temperature(1.5), "max_new_tokens": STEPS}
    whole = jd.generate(tiny.bag(), prompts, seed, **options)
    out = jd.generate(tiny.bag(), prompts, seed, stop=stop, **options)
    for row, ids in enumerate(np.asarray(whole.tokens).tolist()):
        end = plain_end(ids, pieces, strings, sequences)
        ended = jd.Status.LENGTH if end is None else jd.Status.STOP
        assert out.tokens[row, : out.lengths[row]].tolist() == ids[:end]
        assert out.status[row] == ended


def test_the_table_says_what_the_automaton_does_byte_by_byte():
    rng = np.random.default_rng(3)
    automaton = Automaton.of([b"abab", b"ba", b"bab\xff", b"abab"])
    pieces = [bytes(rng.integers(96, 99, n % 7).astype(np.uint8)) for n in range(60)]
    table = token_table(automaton, pieces)
    for state in range(automaton.depth.size):
        for token, data in enumerate(pieces):
            after = state
            for byte in data:
                after = int(automaton.follows[after, byte])
            hit = automaton.first(state, data) is not None
            assert table[state, token] == np.int32(after | (-(2**31) if hit else 0))


def test_other_stops_of_about_the_same_size_do_not_compile_again():
    say([8, 9, 10], [[8]])
    say([8, 9, 10], of_strings("ab"))
    with count_compiles() as count:
        say([8, 9, 10], [[9, 10], [3, 4, 5]])
        say([8, 9, 10], [])
        say([8, 9, 10], of_strings("x", "yz", sequences=[[2]]))
    assert count.count == 0, count.names


def test_stops_may_be_traced():
    def run(stop):
        return jd.generate(
            tiny.bag(), [[1]], 0, sampler=script(8, 9, 8), max_new_tokens=3, stop=stop
        )

    assert jax.jit(run)(of_strings("ab")).lengths.tolist() == [2]


def test_a_stream_ends_at_the_stop():
    pieces = list(
        jd.stream(tiny.bag(), [[1]], 0, sampler=script(10, 8, 9, 11),
                  max_new_tokens=4, stop=of_strings("ab"), every=2)
    )  # fmt: skip
    assert sum(int(p.lengths[0]) for p in pieces) == 3
    assert pieces[-1].status[0] == jd.Status.STOP


BAD = [
    ("ab", TypeError, "lists of token ids"),
    (["ab"], TypeError, "lists of token ids"),
    ([8, 9], TypeError, r"\[\[...\], ...\]"),
    ([[8], []], ValueError, "empty sequence"),
    ([[8.0]], TypeError, "integers, got 8.0"),
    ([[True]], TypeError, "integers"),
    ([[-1]], ValueError, "got -1"),
    ([[37]], ValueError, "vocabulary size 37, got 37"),
    (3, TypeError, "lists of token ids"),
]


@pytest.mark.parametrize(("stop", "kind", "message"), BAD)
def test_a_bad_stop_is_refused(stop, kind, message):
    with pytest.raises(kind, match=f"generate: `stop` must.*{message}"):
        jd.generate(tiny.bag(), [[1]], 0, max_new_tokens=4, stop=stop)


@pytest.mark.parametrize(
    ("strings", "pieces", "kind", "message"),
    [
        ([""], PIECES, ValueError, "empty text"),
        ([3], PIECES, TypeError, "texts, got 3"),
        (["a"], None, ValueError, "token_bytes"),
        (["a" * 2**15], PIECES, ValueError, "32767 bytes"),
    ],
)
def test_bad_strings_are_refused(strings, pieces, kind, message):
    with pytest.raises(kind, match=f"Stops: .*{message}"):
        jd.Stops.of([], strings, pieces)


def test_stops_of_another_vocabulary_are_refused():
    with pytest.raises(ValueError, match="37 token ids, got 36"):
        jd.generate(
            tiny.bag(),
            [[1]],
            0,
            max_new_tokens=4,
            stop=jd.Stops.of([], ["a"], PIECES[:-1]),
        )
