"""Masks are those of llguidance, step by step, where it forces no tokens."""

import random

import numpy as np
import pytest

import jaxdecode as jd
from jaxdecode.transforms.patterns.lifting import START
from tests.transforms.patterns.kinds import EOS, TOKENS

llguidance = pytest.importorskip("llguidance")
from llguidance.numpy import (  # noqa: E402
    allocate_token_bitmask,
    fill_next_token_bitmask,
)

STEPS = 150
PATTERNS = [
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}",
    r"(ab|ba)+(é|日本?)?",
    r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?",
    r"SELECT [a-z_]+(, [a-z_]+)* FROM [a-z]+",
    r"[a-z.]+@[a-z]+(\.[a-z]+)+",
    r"[^\n]{3,40}",
    r'\{"name": "[^"\\]*", "value": (null|true|false|[0-9]+)\}',
    r"([A-Z][a-z]{1,9} ){2,5}the end",
    r"(the |a )?(left|right)( and (left|right))*",
    r"(.|\n)*ing",
]


class Vocabulary:
    """The tokens as llguidance wants them: those without text have names of their own."""

    def __init__(self):
        self.eos_token_id, self.bos_token_id = EOS, None
        self.tokens = [
            token or f"\xff<{i}>".encode("latin-1") for i, token in enumerate(TOKENS)
        ]
        self.special_token_ids = [EOS - 1, EOS]

    def __call__(self, text):
        return list(text.encode() if isinstance(text, str) else text)


def vocabulary():
    wrapper = llguidance.TokenizerWrapper(Vocabulary())
    return llguidance.LLTokenizer(wrapper, n_vocab=len(TOKENS), eos_token=EOS)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_masks_are_those_of_llguidance(pattern):
    link = jd.Regex(pattern, TOKENS, eos_ids=EOS)
    slashed = pattern.replace("/", r"\/").replace("\n", r"\n")
    grammar = llguidance.LLMatcher.grammar_from_lark(
        f'%llguidance {{"no_forcing": true}}\nstart: /{slashed}/\n'
    )
    peer, rng = llguidance.LLMatcher(vocabulary(), grammar), random.Random(pattern)
    assert not peer.get_error(), peer.get_error()
    bits = allocate_token_bitmask(1, len(TOKENS))
    tables, state, steps = link.patterns, START, 0
    ids = np.arange(len(TOKENS))
    while steps < STEPS:
        fill_next_token_bitmask(peer, bits)
        theirs = (
            bits[0][ids // 32].view(np.uint32) >> (ids % 32).astype(np.uint32)
        ) & 1
        first, _, span, accepts = tables.states[state]
        words = tables.masks[tables.chosen[first + span]]
        width = words.shape[0]
        ours = (words[ids % width] >> (ids // width).astype(np.uint32)) & 1
        ours[EOS] = accepts
        assert set(np.flatnonzero(ours)) == set(np.flatnonzero(theirs)), steps
        choice = rng.choice(np.flatnonzero(ours).tolist())
        if choice == EOS:
            peer.reset()
            state = START
        else:
            assert peer.consume_token(choice)
            state = int(tables.after(state, choice))
        steps += 1
