"""Regular expressions mean what Python's `re.fullmatch` says, or are refused by name."""

import random
import re
import time

import numpy as np
import pytest

import jaxdecode as jd
from jaxdecode.transforms.patterns.building import build
from jaxdecode.transforms.patterns.regex import parse
from tests.transforms.patterns.samples import EOS, TOKENS

LETTERS = list('abcABC01.-_ \n\té日xy"\u00a0')
SAME = [
    r"(?i:aB)c",
    r"(?i)[a-b]é?",
    r"(?s).{2}",
    r"(?s:.).",
    r"(?x) a  b # a comment",
    r"^ab$",
    r"\Aa|b\Z",
    r"(^a|b)+",
    r"(a$|b)*",
    r"a$\n",
    r"(a|b$)\n?",
    r"x*$\n*",
    r"[^\W\d_]+",
    r"[\w-]+",
    r"[^a\n]?",
    r"\S+\s\S+",
    r"\D\d\D",
    r"(?P<n>a)(?:b|)",
    r"a{2}|a{,1}|a{3,}",
    r"[]a]|[^]a]b",
    r"\.\x61\u65e5",
    r"a??b*?c+?",
    r"",
    r"|a",
    r"(?i:[^a])",
    r"(?-i:a)",
    r"(?i)(?-i:a)b",
]


@pytest.mark.parametrize("pattern", SAME)
def test_it_matches_what_python_matches(pattern):
    rng = random.Random(pattern)
    automaton = build(parse(pattern))
    texts = {"", "a", "ab", "aB", "abc", "a\n", "b\n", "aa", "aaa", "aaaa", "1", ".a日"}
    texts |= {"".join(rng.choices(LETTERS, k=rng.randint(1, 4))) for _ in range(3000)}
    for text in texts:
        wanted = re.fullmatch(pattern, text, re.ASCII) is not None
        assert automaton.matches(text.encode()) == wanted, text


def test_only_whole_characters_of_utf_8_match():
    automaton = build(parse(r"[\s\S]"))
    for code in (
        0,
        0x7F,
        0x80,
        0x7FF,
        0x800,
        0xD7FF,
        0xE000,
        0xFFFF,
        0x10000,
        0x10FFFF,
    ):
        assert automaton.matches(chr(code).encode())
    bad = [b"\x80", b"\xc0\x80", b"\xc1\xbf", b"\xe0\x80\x80", b"\xed\xa0\x80", b"\xff"]
    bad += [b"\xf0\x80\x80\x80", b"\xf4\x90\x80\x80", b"\xc3", b"\xe6\x97", b"\xf5"]
    assert not any(map(automaton.matches, bad))


@pytest.mark.parametrize("seed", range(20))
def test_a_range_of_characters_is_exactly_that_range(seed):
    rng = random.Random(seed)
    ends = sorted(rng.choice([0x7F, 0x7FF, 0xFFFF, 0x10FFFF]) for _ in range(2))
    low, high = sorted(rng.randint(0, end) for end in ends)
    low, high = (c if not 0xD800 <= c < 0xE000 else 0xE001 for c in (low, high))
    low, high = sorted((low, high))
    automaton = build(parse(rf"[\U{low:08x}-\U{high:08x}]"))
    tried = {low - 1, low, low + 1, high - 1, high, high + 1, (low + high) // 2}
    tried |= {rng.randint(0, 0x10FFFF) for _ in range(300)}
    for code in tried:
        if 0 <= code <= 0x10FFFF and not 0xD800 <= code < 0xE000:
            assert automaton.matches(chr(code).encode()) == (low <= code <= high)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(?=a)b", "look-ahead and look-behind"),
        ("(?<=a)b", "look-ahead and look-behind"),
        ("(?!a)b", "negative look-around"),
        (r"(a)\1", "a back-reference"),
        ("(a)?(?(1)b|c)", "a conditional group"),
        ("(?>a)b", "an atomic group"),
        ("a*+b", "a possessive quantifier"),
        (r"\ba", r"a word boundary, \\b"),
        (r"a\B", r"a word boundary, \\B"),
        ("(?m)^a$", r"an anchor of lines.*\(\?m\)"),
        ("(?m:^a)", r"an anchor of lines.*\(\?m\)"),
        ("(?u)a", "not supported"),
        ("(?u:a)", r"the flag \(\?u\)"),
        ("(?L)a", "must be a regular expression"),
        ("(", "must be a regular expression.*position 0"),
        ("[b-a]", "must be a regular expression.*position 1"),
        ("a(?i)b", "must be a regular expression.*position 1"),
        (r"\p{L}", "must be a regular expression: bad escape"),
        ("a$b", "matches none"),
        ("a^b", "matches none"),
        ("[^\\s\\S]", "matches none"),
        ("x+", "no tokens do"),
        ("\udc80", "matches none"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(pattern, message):
    with pytest.raises(ValueError, match=f"^Regex: .*{message}"):
        jd.Regex(pattern, TOKENS, eos_ids=EOS)


HARD = [
    "(a|b)*a(a|b){18}",
    ".{5000}",
    "a{5000}",
    "(a{1000}){1000}",
    "(a{1,100}){1,100}",
    "(a?){300}a{300}",
    "(.*a.{9}){4}",
    r"(\w{1,50} ){50}",
    "(" * 3000 + "a" + ")" * 3000,
    "|".join(f"a{n:04d}{'ab' * (n % 7)}" for n in range(1000)),
]


FIRST = {"(.*a.{9}){4}": "abz0 ", r"(\w{1,50} ){50}": "abz0"}


@pytest.mark.parametrize("pattern", HARD, ids=range(len(HARD)))
def test_a_hard_pattern_is_right_or_refused_soon(pattern):
    tokens = [*(bytes([b]) for b in range(256)), None]
    begin = time.process_time()
    try:
        link = jd.Regex(pattern, tokens, eos_ids=256)
    except ValueError as error:
        refused, link = str(error), None
    assert time.process_time() - begin < 4.0  # 2 s on a quiet machine
    if link is None:
        assert re.match("Regex: the pattern (is too large|must be nested)", refused)
        return
    row = np.asarray(jd.apply(link, np.zeros((1, 257), np.float32)))[0]
    for letter in "abz0 \n":
        assert (row[ord(letter)] == 0) == (letter in FIRST.get(pattern, "a")), letter


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda: jd.Regex(3, TOKENS), TypeError, "Regex: `pattern` must be a str"),
        (lambda: jd.Regex("a", "abc"), TypeError, "Regex: `tokens` must be"),
        (
            lambda: jd.Regex("a", ["a"]),
            TypeError,
            "`tokens` must be bytes.*'a' for tok",
        ),
        (lambda: jd.Regex("a", []), ValueError, "`tokens` must hold at least one"),
        (lambda: jd.Regex("a", [b"a"], eos_ids=1), ValueError, "`eos_ids`.*got 1"),
        (lambda: jd.Regex("a", [b"a"], finish=1), TypeError, "`finish` must be True"),
        (lambda: jd.Choice("ab", TOKENS), TypeError, "Choice: `texts` must be a list"),
        (lambda: jd.Choice([], TOKENS), ValueError, "Choice: `texts` must hold"),
        (lambda: jd.Choice(["\ud800"], TOKENS), ValueError, "lone surrogates"),
        (lambda: jd.Choice(["xyz"], TOKENS), ValueError, "Choice: .*no tokens do"),
        (lambda: jd.JsonSchema(3, TOKENS), TypeError, "JsonSchema: `schema` must be"),
        (
            lambda: jd.JsonSchema({"type": "null"}, TOKENS, depth=-1),
            ValueError,
            "JsonSchema: `depth` must be >= 0",
        ),
        (
            lambda: jd.Matches([jd.Regex("a", TOKENS), jd.Regex("a", TOKENS[:9])]),
            ValueError,
            "Matches: `patterns` must have the same tokens",
        ),
    ],
)
def test_bad_arguments_are_refused_by_name(make, kind, message):
    with pytest.raises(kind, match=message):
        make()
