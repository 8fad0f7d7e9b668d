"""The options that several methods of `LanguageModel` share, described once."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Required, TypedDict

from jaxdecode.core.shapes import PerRow, PhraseLists, TokenIds
from jaxdecode.text.chat_template import ChatTemplate
from jaxdecode.transforms import Chain, Link

if TYPE_CHECKING:
    from jaxdecode.decode.beam import Scoring
    from jaxdecode.decode.beam.scoring import ScoreOfLength

NEW_TOKENS = 64  # the default budget of a continuation
ANSWER_TOKENS = 256  # the default budget of an answer in a conversation


class TextOptions(TypedDict, total=False):
    """What `generate`, `stream`, `chat` and `stream_chat` have in common.

    Each key is a keyword argument of these methods.

    Attributes:
      sampler: a chain or a link; None draws from the model's own distribution.
      max_new_tokens: >= 1, a number or one per prompt. Default: 64, in a chat 256.
      eos_ids: ids that end a text; None: the model's own; () never ends early.
      stop: lists of token ids; a text ends where one of them is complete.
      stop_strings: a str or several, such as `["\\n\\n", "User:"]`; a text ends where one
        of them is complete, however it is cut into tokens. Control tokens count as
        their texts, such as `"<|im_end|>"`; the prompt does not count.
      keep_stop: whether the stop stays at the end of the text. Default: False.
      regex: a regular expression that the text matches as a whole, as in `Regex`.
      schema: a JSON schema that the text is valid under, as in `JsonSchema`.
      choices: texts of which it is one, as in `Choice`. At most one of the three.
    """

    sampler: Link | Chain | None
    max_new_tokens: PerRow
    eos_ids: TokenIds | None
    stop: Sequence[Sequence[int]] | None
    stop_strings: str | Sequence[str] | None
    keep_stop: bool
    regex: str | None
    schema: Any
    choices: Sequence[str] | None


class ChatOptions(TypedDict, total=False):
    """What `chat` and `stream_chat` take besides `TextOptions`.

    Attributes:
      tools: JSON schemas of functions that the model may call, a list of dicts.
      documents: texts to answer from, a list of dicts.
      enable_thinking: whether the model thinks before it answers, where its template
        has such a switch; None leaves it to the template.
      add_generation_prompt: whether the conversation ends with the head of the answer.
        Default: True, except with `continue_final_message`.
      continue_final_message: whether the model continues the last message in place of
        answering it. Default: False.
      chat_template: a Jinja text, or the path of a file with one, in place of the
        model's own.
    """

    tools: Sequence[Mapping[str, Any]] | None
    documents: Sequence[Mapping[str, Any]] | None
    enable_thinking: bool | None
    add_generation_prompt: bool | None
    continue_final_message: bool
    chat_template: str | Path | ChatTemplate | None


class BeamOptions(TypedDict, total=False):
    """The options of `LanguageModel.beam_search`, as in `jaxdecode.beam_search`.

    Attributes:
      num_beams: hypotheses that run side by side, in [1, vocabulary size]. Required.
      max_new_tokens: >= 1. Default: 64.
      length_penalty: finite; 0 ranks by the sum of log-probs, 1 by the mean, more favours
        long hypotheses. Default: 1.
      early_stopping: True, False or "never": when a search with `num_beams` finished
        hypotheses ends. Default: False.
      num_return: hypotheses returned, in [1, num_beams]. Default: 1.
      edits: an `Edit` or a chain of them, applied to the log-probs.
      eos_ids: ids that end a hypothesis; None: the model's own; () never ends early.
      scoring: a `LengthPenalty`, `GNMT`, or a function of (logprob, length), in place of
        `length_penalty`.
      groups: groups of beams that search one after the other. Default: 1.
      diversity: what a group pays for a token that an earlier group took. Default: 0.
      required: phrases (token lists) that every hypothesis must contain.
      renormalize: whether log-probs are normalised again after the edits.
      memory: "auto", "shared" or "whole": how the prompt is stored.
      new_tokens_max: columns of the output.
      wide: whether there may be more beams than tokens.
      regex: as in `generate`.
      schema: as in `generate`.
      choices: as in `generate`.
    """

    num_beams: Required[int]
    max_new_tokens: PerRow
    length_penalty: PerRow
    early_stopping: bool | str
    num_return: int
    edits: Link | Chain | None
    eos_ids: TokenIds | None
    scoring: "Scoring | ScoreOfLength | None"
    groups: int
    diversity: PerRow
    required: PhraseLists | None
    renormalize: bool
    memory: str
    new_tokens_max: int | None
    wide: bool
    regex: str | None
    schema: Any
    choices: Sequence[str] | None
