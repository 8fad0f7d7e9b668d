"""Inspections of a tiny model whose vocabulary holds hostile words."""

import functools

import jaxdecode as jd
from jaxdecode.text import LanguageModel, inspection
from jaxdecode.text.detokenizer import byte_alphabet
from jaxdecode.text.gguf_tokenizer import from_gguf
from tests import tiny
from tests.text.vocabularies import byte_level

HACK = "<script>window.hacked = 1</script>"
HOSTILE = (
    HACK,
    "</script><img src=x onerror='window.hacked = 1'>",
    "--><b>bold</b>",
    "%%data%%",
    "&lt;i&gt;",
    "\x00\x1b[31m",
    "\u202ertl\u2066",
    "\u0645\u0631\u062d\u0628\u0627",
    "\u2028\n",
    "\u65e5",
)
END = 0
PROMPT = "<a b>"


def letters(word):
    signs = {byte: sign for sign, byte in byte_alphabet().items()}
    return "".join(signs[byte] for byte in word.encode())


@functools.cache
def language_model():
    """A model of 37 tokens: two control tokens, letters, and the hostile words."""
    plain = [*"abcdefghijklmnopqrstu", letters(" "), *"<>", letters("\xc3")[:1]]
    tokens = ["<|end|>", "<|start|>", *plain, *map(letters, HOSTILE)]
    assert len(tokens) == tiny.VOCAB
    types = [3, 3] + [1] * (len(tokens) - 2)
    metadata = byte_level("smollm", merges=[])
    return LanguageModel(
        tiny.bag(),
        tokenizer=from_gguf(metadata | {"tokens": tokens, "token_type": types}),
        eos_ids=(END,),
        name=f"tiny {HACK}",
    )


def inspect(sampler=None, *, stored=None, monkeypatch=None, **options):
    """Inspect a text of 11 tokens; `stored` is how many logits a step keeps."""
    if stored is not None:
        monkeypatch.setattr(inspection, "STORED", (stored, stored))
    given = {"key": 3, "max_new_tokens": 11, "eos_ids": ()} | options
    sampler = jd.joint(temperature=1.5) if sampler is None else sampler
    return language_model().inspect(PROMPT, sampler=sampler, **given)
