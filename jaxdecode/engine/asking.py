"""From what a person asks of the engine to a checked job, before anything compiles.

Stops are looked for by the host (`engine.writing`), so that they are no part of the
compiled program: requests with any stops share one.
"""

import dataclasses
from collections.abc import Hashable, Sequence
from typing import Any, TypedDict

import jax
import numpy as np

from jaxdecode.core import check
from jaxdecode.core.keys import no_key, prompt_keys
from jaxdecode.core.shapes import Array, KeyLike, TokenIds
from jaxdecode.decode.request import count_of, prepare
from jaxdecode.decode.rows import Rows
from jaxdecode.text import LanguageModel
from jaxdecode.text.chat_template import Message
from jaxdecode.text.conversation import Conversation
from jaxdecode.text.errors import TokenizerError
from jaxdecode.text.options import ANSWER_TOKENS, NEW_TOKENS
from jaxdecode.text.patterns import has_pattern, with_pattern
from jaxdecode.text.prompting import encode_prompts
from jaxdecode.text.stopping import Stopping, as_stopping
from jaxdecode.transforms import Chain, Link, as_chain
from jaxdecode.transforms.sequence_table import checked_sequences

WHO = "Engine.submit"
Prompt = str | Sequence[int] | Array | Sequence[Message]


class PromptTooLong(ValueError):
    """A prompt and its new tokens do not fit into a slot."""


class RequestOptions(TypedDict, total=False):
    """What a request may ask for beyond its prompt and its key.

    Attributes:
      sampler: a chain or a link, its parameters numbers; None draws from the model's own
        distribution. Requests whose links are of other classes run in rows of their own.
      max_new_tokens: >= 1. Default: 64, for a conversation 256.
      num_samples: texts, >= 1; the prompt is read once. Default: 1.
      eos_ids: ids that end a text; None: the model's own; () never ends early.
      stop: lists of token ids; a text ends where one of them is complete.
      stop_strings: a str or several; a text ends where one of them is complete.
      keep_stop: whether the stop stays at the end of the text. Default: False.
      parse_special: whether control tokens written in a prompt are control tokens.
      regex: a regular expression that the text matches as a whole, as in `Regex`.
      schema: a JSON schema that the text is valid under, as in `JsonSchema`.
      choices: texts of which it is one, as in `Choice`. At most one of the three.
      observe: what to report of each token, such as ("entropy", "top_logprobs:5"), as in
        `jaxdecode.generate`. Requests that ask for other names run in rows of their own.
    """

    sampler: Link | Chain | None
    max_new_tokens: int
    num_samples: int
    eos_ids: TokenIds | None
    stop: Sequence[Sequence[int]] | None
    stop_strings: str | Sequence[str] | None
    keep_stop: bool
    parse_special: bool
    regex: str | None
    schema: Any
    choices: Sequence[str] | None
    observe: Sequence[str]


@dataclasses.dataclass(frozen=True, eq=False)
class Asked:
    """A checked request.

    Attributes:
      tokens: its prompt.
      rows: one row, not started, without a key.
      key: that of the prompt, [1].
      structure: what of `rows` is compiled into a program; requests with equal ones
        share a pool.
      samples: how many texts are wanted.
      budget: most tokens of each.
      stopping: what ends a text besides an eos id; None where there is no tokenizer and
        no stop.
      continues: whether a text continues its prompt (see `text.writing.TextRequest`).
    """

    tokens: np.ndarray
    rows: Rows
    key: jax.Array
    structure: Hashable
    samples: int
    budget: int
    stopping: Stopping | None
    continues: bool


def as_asked(
    lm: LanguageModel,
    prompt: Prompt,
    key: KeyLike,
    options: RequestOptions,
    *,
    length: int,
) -> Asked:
    """Check a request.

    Args:
      lm: the language model; without a tokenizer prompts are token ids.
      prompt: a text, token ids, or the messages of a conversation.
      key: a seed, or one key.
      options: see `RequestOptions`.
      length: columns of a slot.

    Raises:
      TypeError: for an argument of the wrong kind.
      ValueError: for a value out of range; `PromptTooLong` if it needs a longer slot.
    """
    check.names(WHO, options, RequestOptions.__annotations__)
    if key is None:
        raise no_key(WHO)
    conversation = _is_conversation(prompt)
    tokens = _tokens_of(lm, prompt, conversation, options)
    budget = options.get(
        "max_new_tokens", ANSWER_TOKENS if conversation else NEW_TOKENS
    )
    budget = count_of(WHO, "max_new_tokens", budget)
    if len(tokens) + budget > length:
        raise PromptTooLong(
            f"{WHO}: prompt + `max_new_tokens` must be <= {length}, the engine's "
            f"`length`, got {len(tokens)} + {budget}."
        )
    ends, sampler = options.get("eos_ids"), with_pattern(WHO, options, lm)
    request = prepare(
        WHO,
        lm.model,
        [tokens],
        None,
        {
            # All links of `joint`, neutral or not: requests with and without a sampler
            # share a pool.
            "sampler": as_chain(sampler),
            "max_new_tokens": budget,
            "eos_ids": lm.eos_ids if ends is None else ends,
            "observe": options.get("observe", ()),
        },
    )
    keys = _keys_of(key)
    return Asked(
        tokens=request.prompts.tokens[0, : len(tokens)],
        rows=request.rows,
        key=keys,
        structure=(structure_of(request.rows), str(keys.dtype)),
        samples=count_of(WHO, "num_samples", options.get("num_samples", 1)),
        budget=budget,
        stopping=_stopping(lm, options),
        # A space at the start of an answer belongs to the match of a pattern.
        continues=not conversation or has_pattern(sampler),
    )


def structure_of(rows: Rows) -> Hashable:
    """Return what makes a program of its own: the structure, shapes and types."""
    leaves, treedef = jax.tree.flatten(rows)
    return treedef, tuple((np.shape(leaf), str(leaf.dtype)) for leaf in leaves)


def _keys_of(key: Any) -> jax.Array:
    """Return the key of a prompt, [1]."""
    if isinstance(key, (int, np.integer)) and not isinstance(key, bool):
        return _seeded(np.uint32(check.seed(WHO, key)))
    return prompt_keys(WHO, [key], 1)


@jax.jit
def _seeded(seed: jax.Array) -> jax.Array:
    """Return `jax.random.key(seed)`, [1]; compiled, as each request needs it."""
    return jax.random.key(seed)[None]


def _is_conversation(prompt: Any) -> bool:
    return isinstance(prompt, (list, tuple)) and any(
        isinstance(message, dict) for message in prompt[:1]
    )


def _tokens_of(
    lm: LanguageModel, prompt: Any, conversation: bool, options: RequestOptions
) -> Any:
    if not conversation and not isinstance(prompt, str):
        return prompt  # token ids; `prepare` checks them
    if lm.tokenizer is None:
        raise TokenizerError(
            f"{WHO}: the model must come with a tokenizer, got none; give token ids."
        )
    if isinstance(prompt, str):
        parse_special = options.get("parse_special", False)
        return encode_prompts(WHO, lm.tokenizer, prompt, parse_special)[0]
    said = Conversation(who=WHO, messages=prompt, template=lm.chat_template)
    return said.encode(lm.tokenizer)


def _stopping(lm: LanguageModel, options: RequestOptions) -> Stopping | None:
    sequences = checked_sequences(WHO, "stop", options.get("stop") or ())
    for sequence in sequences:
        ids = np.asarray(sequence, np.int64)
        check.in_vocabulary(WHO, "stop", ids, lm.model.vocab_size)
    if lm.tokenizer is None:
        if sequences or options.get("stop_strings"):
            raise TokenizerError(
                f"{WHO}: the model must come with a tokenizer where there are stops, "
                "got none."
            )
        return None
    return as_stopping(
        WHO,
        lm.tokenizer,
        lm.model.vocab_size,
        stop=options.get("stop"),
        stop_strings=options.get("stop_strings"),
        keep_stop=options.get("keep_stop", False),
        on_device=False,
    )
