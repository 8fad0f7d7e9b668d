"""A language model of a few letters, and what the tests of texts share."""

import functools

import numpy as np

import jaxdecode as jd
from jaxdecode.text import ChatTemplate, LanguageModel
from jaxdecode.text.gguf_tokenizer import from_gguf
from tests import tiny
from tests.text.vocabularies import byte_level, sentence_piece

STEPS = 7
MESSAGES = [{"role": "user", "content": "hello <|end|>"}]
TEMPLATE = ChatTemplate(
    "{% for m in messages %}<|start|>{{ m.content }}{% endfor %}<|start|>"
)
END, START = 0, 1


def small_vocabulary(**more):
    """A byte-level vocabulary of the size of the shared tiny models, 37."""
    tokens = ["<|end|>", "<|start|>", *"abcdefghijklmnopqrstuvwxyz", "Ġ", *"<|>Ã©æĹ¥"]
    metadata = byte_level("smollm", merges=[])
    types = [3, 3] + [1] * 35
    return from_gguf(metadata | {"tokens": tokens, "token_type": types} | more)


def small_scored_vocabulary():
    """A SentencePiece vocabulary of the same size."""
    words = [f"w{i}" for i in range(14)]
    return from_gguf(sentence_piece(bytes_too=False, words=words))


@functools.cache
def language_model(style="bytes"):
    tokenizer = small_vocabulary() if style == "bytes" else small_scored_vocabulary()
    assert tokenizer.vocab_size == tiny.VOCAB
    return LanguageModel(
        tiny.bag(),
        tokenizer=tokenizer,
        eos_ids=(END,),
        chat_template=TEMPLATE,
        name="tiny",
    )


def sampler(bias=(), temperature=1.3):
    """One structure for all tests, so that they share their compiled programs."""
    values = np.zeros(tiny.VOCAB, np.float32)
    for token in bias:
        values[token] = 1e9
    return jd.chain(jd.LogitBias(values), jd.Temperature(temperature))


def tokens_of(lm, prompts, key, **options):
    options = {
        "sampler": sampler(),
        "max_new_tokens": STEPS,
        "eos_ids": (END,),
    } | options
    out = jd.generate(lm.model, prompts, key, **options)
    tokens, lengths = np.asarray(out.tokens), np.asarray(out.lengths)
    return [row[:n].tolist() for row, n in zip(tokens, lengths, strict=True)]
