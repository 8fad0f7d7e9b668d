"""A small vocabulary with everything that is awkward, and masks of links over it."""

import functools

import jax
import numpy as np

from jaxdecode.sampling import init_rows, process
from jaxdecode.transforms import Context, chain
from tests.tiny import VOCAB

EOS, CONTROL = 36, 35
TOKENS = [
    *(bytes([b]) for b in b'ab019-.@ \n"'),
    *(bytes([b]) for b in (0xC3, 0xA9, 0xE6, 0x97, 0xA5, 0xF0, 0x9F, 0xFF)),
    *("é".encode(), "日".encode(), "日本".encode()[:4], "é日".encode(), b"\xa5a"),
    *(b"ab", b"aba", b"ba", b"10", b"19-", b"2020-01-01", b"a" * 9, b"a.b@", b"b b"),
    *(b"A", b""),
    *(None, None),
]
assert len(TOKENS) == VOCAB
ROWS, COLUMNS = 200, 12
PATTERNS = [
    r"\d{4}-\d\d-\d\d",
    r"[ab]+",
    r"(a|b)*abb",
    r"a{3,20}",
    r"(ab|ba){2,5}",
    r"(aba)*b?",
    r"é+|日",
    r"[^a]*",
    r".{1,4}",
    r"(.|\n){0,3}",
    r"\w+@\w+\.\w{2,3}",
    r"[ab.]+@[ab]+",
    r"\S+\s\S+",
    r"[^\W\d]{2,9}",
    r"\D{3}",
    r"(a|é)(b|日)*",
    r"[é日a]{2}",
    r"[^é]b",
    r"[À-ÿ]+",
    r"日[^日]",
    r"a*b*0*",
    r"(a*b)*",
    r"((a|b)(0|1))+",
    r"(a?b?)*0",
    r"a|ab|aba|abab",
    r"(19-)?10?",
    r"\"[^\"\n]*\"",
    r"-?(0|[1-9]\d*)(\.\d+)?",
    r"(0|1)(-(0|1)){3}",
    r"a.b@.*",
    r"(b b|ab)+",
    r"[\w.]+( [\w.]+)*",
    r"a{9}b",
    r"(a{2}){3}",
    r"(a|aa|aaa){5}",
    r"b?a??b+?",
    r"()a()",
    r"(a|)(b|)",
    r"[\s\S]",
    r"[0-9a-f]{2}(-[0-9a-f]{2})*",
    r"\x61\u00e9[\n]?",
    r"(?:ab){1,2}(?P<x>0|1)",
]


@jax.jit
def _fitting(links, contexts):
    rows = np.zeros((ROWS, VOCAB), np.float32)
    return process(links, rows, contexts, init_rows(links, contexts)) == 0.0


def fitting(link, texts, budgets):
    """Return which tokens fit after each text, bool [len(texts), V].

    Args:
      link: the link.
      texts: at most 199 lists of tokens.
      budgets: the tokens that each text may have in all.
    """
    tokens = np.zeros((ROWS, COLUMNS), np.int32)
    for row, text in zip(tokens, texts, strict=False):
        row[: len(text)] = text
    lengths = np.zeros(ROWS, np.int32)
    lengths[: len(texts)] = list(map(len, texts))
    budget = np.full(ROWS, 1, np.int32)
    budget[: len(texts)] = budgets
    contexts = Context(
        tokens=tokens,
        length=lengths,
        prompt_length=np.zeros(ROWS, np.int32),
        key=None,
        vocab_size=VOCAB,
        budget=budget,
        ends=np.full((ROWS, 1), EOS, np.int32),
    )
    return np.asarray(_fitting(chain(link).per_row(ROWS), contexts))[: len(texts)]


@functools.cache
def links():
    """Return a link for each pattern, all of them with tables of equal sizes."""
    from jaxdecode.transforms import Regex
    from jaxdecode.transforms.matching import same_sizes

    made = [Regex(pattern, TOKENS, eos_ids=EOS) for pattern in PATTERNS]
    return dict(zip(PATTERNS, same_sizes(made), strict=True))
