"""A model with its tokenizer: text in, text out.

Everything about drawing tokens is `decode`'s; here texts become prompts and tokens become
texts. Text is checked before anything compiles.
"""

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from jaxdecode import decode as decoding
from jaxdecode.core.protocol import Model
from jaxdecode.core.status import Status
from jaxdecode.text.beams import TextHypothesis, search_texts
from jaxdecode.text.chat_template import ChatTemplate, Message
from jaxdecode.text.errors import TokenizerError
from jaxdecode.text.prompting import encode_conversation, encode_prompts, wrong_kind
from jaxdecode.text.stopping import StoppedText, Stopping, as_stopping
from jaxdecode.text.tokenizer import Tokenizer


class LanguageModel:
    """A language model that reads and writes text.

    Made by `jaxdecode.load`. Its attributes are not meant to be changed.

    Args:
      model: what satisfies the `Model` protocol.
      config: the model's sizes and switches.
      tokenizer: its tokenizer, or None.
      eos_ids: ids that end a text.
      bos_id: the id that begins one, or None.
      pad_id: what stands behind the end of a row of tokens.
      chat_template: how conversations are written, or None.
      name: what to call it.
    """

    def __init__(
        self,
        model: Model,
        *,
        config: Any = None,
        tokenizer: Tokenizer | None = None,
        eos_ids: Sequence[int] = (),
        bos_id: int | None = None,
        pad_id: int = 0,
        chat_template: ChatTemplate | None = None,
        name: str = "",
    ):
        self.model, self.config, self.tokenizer = model, config, tokenizer
        self.eos_ids, self.bos_id, self.pad_id = tuple(eos_ids), bos_id, pad_id
        self.chat_template, self.name = chat_template, name

    def encode(self, text: str, *, parse_special: bool = False) -> list[int]:
        """Return the token ids of a text; arguments as in `Tokenizer.encode`."""
        return self._tokenizer("encode").encode(text, parse_special=parse_special)

    def decode(self, ids: Any, *, skip_special: bool = True) -> str:
        """Return the text of token ids; arguments as in `Tokenizer.decode`."""
        return self._tokenizer("decode").decode(ids, skip_special=skip_special)

    def generate(
        self,
        prompt: str | Sequence[str],
        *,
        key: Any,
        sampler: Any = None,
        max_new_tokens: Any = 64,
        num_samples: int = 1,
        eos_ids: Any = None,
        stop: Any = None,
        stop_strings: Any = None,
        keep_stop: bool = False,
        parse_special: bool = False,
    ) -> Any:
        """Go on with a text, or with several.

        The tokens are those of `jaxdecode.generate` on the encoded prompts; what makes
        that recompile does so here: another bucket of prompt length or budget, number
        of prompts, links or `num_samples`, never other values.

        Args:
          prompt: a text, or a list of them.
          key: one key (prompt b takes `fold_in(key, b)`), one per prompt, or a seed or
            seeds; consumed. There is no default: a text is named by its seed.
          sampler: a chain or a link; None draws from the model's own distribution.
          max_new_tokens: >= 1, a number or one per prompt.
          num_samples: texts per prompt.
          eos_ids: ids that end a text; None: the model's own; () never ends early.
          stop: lists of token ids that end a text where one is complete.
          stop_strings: a str or several, such as `["\n\n", "User:"]`, that end a text
            however tokens cut them. The prompt does not count.
          keep_stop: whether the stop stays at the end of the text.
          parse_special: whether control tokens written in a prompt are control tokens.

        Returns:
          What comes after the prompt, without control tokens: a str; a list of
          `num_samples` str if that is more than 1. For a list of prompts, a list of
          these. A row whose logits were invalid has the text up to there, and a warning.

        Raises:
          TypeError: for arguments of the wrong kind.
          ValueError: for values out of range, an empty prompt, or prompt and new tokens
            beyond the model's length.
          TokenizerError: if the model came without a tokenizer.
        """
        single = isinstance(prompt, str)
        prompts = self._prompts("generate", prompt, parse_special)
        ends, stopping = self._ends("generate", eos_ids, stop, stop_strings, keep_stop)
        out = decoding.generate(
            self.model,
            prompts,
            key,
            sampler=sampler,
            max_new_tokens=max_new_tokens,
            num_samples=num_samples,
            **ends,
        )
        texts = self._texts("generate", out, stopping, continues=True)
        if num_samples > 1:
            texts = [
                texts[i : i + num_samples] for i in range(0, len(texts), num_samples)
            ]
        return texts[0] if single else texts

    def stream(
        self,
        prompt: str,
        *,
        key: Any,
        sampler: Any = None,
        max_new_tokens: Any = 64,
        eos_ids: Any = None,
        stop: Any = None,
        stop_strings: Any = None,
        keep_stop: bool = False,
        parse_special: bool = False,
    ) -> Iterator[str]:
        """Go on with a text, and hand it out while it is written.

        The pieces, joined, are what `generate` returns for the same arguments.

        Args:
          prompt: a text.
          key: as in `generate`.
          sampler: as in `generate`.
          max_new_tokens: as in `generate`.
          eos_ids: as in `generate`.
          stop: as in `generate`.
          stop_strings: as in `generate`.
          keep_stop: as in `generate`.
          parse_special: as in `generate`.

        Returns:
          An iterator over pieces of text, none empty, none with half a character.
          Arguments are checked at the call.

        Raises:
          TypeError: as `generate`, and for a list of prompts.
          ValueError: as `generate`.
        """
        if not isinstance(prompt, str):
            raise wrong_kind("LanguageModel.stream", "prompt", "a str", prompt)
        prompts = self._prompts("stream", prompt, parse_special)
        ends, stopping = self._ends("stream", eos_ids, stop, stop_strings, keep_stop)
        return self._pieces(
            "stream",
            prompts,
            key,
            stopping,
            continues=True,
            sampler=sampler,
            max_new_tokens=max_new_tokens,
            **ends,
        )

    def chat(
        self,
        messages: Sequence[Message],
        *,
        key: Any,
        sampler: Any = None,
        max_new_tokens: Any = 256,
        eos_ids: Any = None,
        stop: Any = None,
        stop_strings: Any = None,
        keep_stop: bool = False,
    ) -> str:
        """Answer the last message of a conversation.

        Control tokens typed in a message stay text; only the template's own act.

        Args:
          messages: dicts with "role" and "content", such as
            `[{"role": "user", "content": "Hello!"}]`.
          key: as in `generate`.
          sampler: as in `generate`.
          max_new_tokens: as in `generate`.
          eos_ids: as in `generate`.
          stop: as in `generate`.
          stop_strings: as in `generate`.
          keep_stop: as in `generate`.

        Returns:
          The answer.

        Raises:
          TypeError: as `generate`, and for messages of the wrong kind.
          ValueError: as `generate`, and for no messages or an odd role.
          ChatTemplateError: if the model has no chat template, or it fails.
        """
        ends, stopping = self._ends("chat", eos_ids, stop, stop_strings, keep_stop)
        out = decoding.generate(
            self.model,
            [self._conversation("chat", messages)],
            key,
            sampler=sampler,
            max_new_tokens=max_new_tokens,
            **ends,
        )
        return self._texts("chat", out, stopping, continues=False)[0]

    def stream_chat(
        self,
        messages: Sequence[Message],
        *,
        key: Any,
        sampler: Any = None,
        max_new_tokens: Any = 256,
        eos_ids: Any = None,
        stop: Any = None,
        stop_strings: Any = None,
        keep_stop: bool = False,
    ) -> Iterator[str]:
        """Answer like `chat`, and hand the answer out while it is written.

        Args:
          messages: as in `chat`.
          key: as in `generate`.
          sampler: as in `generate`.
          max_new_tokens: as in `generate`.
          eos_ids: as in `generate`.
          stop: as in `generate`.
          stop_strings: as in `generate`.
          keep_stop: as in `generate`.

        Returns:
          An iterator over pieces of text. Arguments are checked at the call.
        """
        ends, stopping = self._ends(
            "stream_chat", eos_ids, stop, stop_strings, keep_stop
        )
        return self._pieces(
            "stream_chat",
            [self._conversation("stream_chat", messages)],
            key,
            stopping,
            continues=False,
            sampler=sampler,
            max_new_tokens=max_new_tokens,
            **ends,
        )

    def beam_search(
        self,
        prompt: str,
        *,
        eos_ids: Any = None,
        parse_special: bool = False,
        **options,
    ) -> list[TextHypothesis]:
        """Search for the continuations of a text with the best scores.

        Args:
          prompt: a text.
          eos_ids: as in `generate`.
          parse_special: as in `generate`.
          **options: as in `jaxdecode.beam_search`: num_beams, max_new_tokens,
            length_penalty, num_return and the rest.

        Returns:
          `TextHypothesis` values with text, score, status and tokens, best first.

        Raises:
          TypeError: as `generate`, and for a list of prompts.
          ValueError: as `generate` and `jaxdecode.beam_search`.
        """
        if not isinstance(prompt, str):
            raise wrong_kind("LanguageModel.beam_search", "prompt", "a str", prompt)
        prompts = self._prompts("beam_search", prompt, parse_special)
        options["eos_ids"] = self.eos_ids if eos_ids is None else eos_ids
        options["pad_id"] = self.pad_id
        return search_texts(
            self.model, self._tokenizer("beam_search"), prompts, **options
        )[0]

    def __repr__(self) -> str:
        parts = [f"vocab_size={self.model.vocab_size}"]
        parts.append(f"max_length={self.model.max_length}")
        parts += ["no tokenizer"] * (self.tokenizer is None)
        parts += ["no chat template"] * (self.chat_template is None)
        return f"LanguageModel({', '.join([repr(self.name), *parts])})"

    def _ends(self, method: str, eos_ids: Any, stop, stop_strings, keep_stop):
        """Return what ends a row for the loop, and for the text."""
        stopping = as_stopping(
            f"LanguageModel.{method}",
            self._tokenizer(method),
            self.model.vocab_size,
            stop=stop,
            stop_strings=stop_strings,
            keep_stop=keep_stop,
        )
        ends = {
            "eos_ids": self.eos_ids if eos_ids is None else eos_ids,
            "pad_id": self.pad_id,
            "stop": stopping.stops,
        }
        return ends, stopping

    def _tokenizer(self, method: str) -> Tokenizer:
        if self.tokenizer is None:
            raise TokenizerError(
                f"LanguageModel.{method}: the model must come with a tokenizer, got "
                "none; use jaxdecode.generate with token ids."
            )
        return self.tokenizer

    def _prompts(self, method: str, prompt: Any, parse_special: bool):
        tokenizer = self._tokenizer(method)
        return encode_prompts(
            f"LanguageModel.{method}", tokenizer, prompt, parse_special
        )

    def _conversation(self, method: str, messages: Sequence[Message]) -> list[int]:
        tokenizer = self._tokenizer(method)
        return encode_conversation(
            f"LanguageModel.{method}", tokenizer, self.chat_template, messages
        )

    def _texts(
        self,
        method: str,
        out: decoding.Generation,
        stopping: Stopping,
        *,
        continues: bool,
    ):
        tokens, lengths = np.asarray(out.tokens), np.asarray(out.lengths)
        _warn_invalid(method, out.status)
        tokenizer = self._tokenizer(method)
        rows = [row[:length] for row, length in zip(tokens, lengths, strict=True)]
        if stopping.stops is None:
            return [tokenizer.decode(row, continues=continues) for row in rows]
        texts = []
        for row, status in zip(rows, np.asarray(out.status), strict=True):
            text = StoppedText(stopping, continues=continues)
            shown = text.push(row, stopped=status == Status.STOP)
            texts.append(shown + text.finish())
        return texts

    def _pieces(
        self,
        method: str,
        prompts: list[list[int]],
        key: Any,
        stopping: Stopping,
        *,
        continues: bool,
        **options: Any,
    ) -> Iterator[str]:
        drawn = decoding.stream(self.model, prompts, key, **options)
        text = StoppedText(stopping, continues=continues)

        def pieces() -> Iterator[str]:
            for new in drawn:
                ids = new.tokens[0, : new.lengths[0]]
                piece = text.push(ids, stopped=new.status[0] == Status.STOP)
                if piece:
                    yield piece
                _warn_invalid(method, new.status)
            rest = text.finish()
            if rest:
                yield rest

        return pieces()


def _warn_invalid(method: str, status: Any) -> None:
    rows = np.flatnonzero(np.asarray(status) == Status.INVALID)
    if rows.size:
        warnings.warn(
            f"LanguageModel.{method}: row {rows[0]} ended early: its logits held NaN or "
            "+inf, or every token was banned.",
            RuntimeWarning,
            stacklevel=3,
        )
