"""A model with its tokenizer: text in, text out.

Every method turns its arguments into token ids and leaves the rest to `text.writing` and
`text.beams`. Texts and the names of options are checked before anything compiles.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Unpack

from jaxdecode.core import check
from jaxdecode.core.protocol import Model
from jaxdecode.core.shapes import Array, KeyLike, PerRow, TokenIds
from jaxdecode.text.chat_template import ChatTemplate
from jaxdecode.text.conversation import Conversation, as_template
from jaxdecode.text.errors import TokenizerError
from jaxdecode.text.messages import Message
from jaxdecode.text.options import (
    ANSWER_TOKENS,
    NEW_TOKENS,
    BeamOptions,
    ChatOptions,
    TextOptions,
)
from jaxdecode.text.patterns import (
    has_pattern,
    pattern_link,
    with_pattern,
    without_pattern,
)
from jaxdecode.text.prompting import encode_prompts, wrong_kind
from jaxdecode.text.tokenizer import Tokenizer
from jaxdecode.text.writing import TextRequest, generate_texts, stream_text
from jaxdecode.transforms import Chain, Link, chain

if TYPE_CHECKING:  # few programs search or inspect, and all of them start
    from jaxdecode.text.beams import TextHypothesis
    from jaxdecode.text.inspection import Inspection


class LanguageModel:
    """A language model that reads and writes text.

    Made by `jaxdecode.load`. Its attributes are not meant to be changed.

    Args:
      model: anything that satisfies the `Model` protocol.
      config: the model's sizes and switches.
      tokenizer: its tokenizer, or None.
      eos_ids: ids that end a text.
      bos_id: the id that begins a text, or None.
      pad_id: the id that fills a row of tokens after its end.
      chat_template: how conversations are written, or None.
      name: the model's name.
      special_texts: texts of special tokens for chat templates, such as
        {"bos_token": "<s>"}.
      default_sampler: the sampler that the model's makers recommend, or None. It is
        offered: `generate` and the like use the one that they are given.
      no_tokenizer: why there is no tokenizer, where a reason is known.
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
        special_texts: Mapping[str, str] | None = None,
        default_sampler: Chain | None = None,
        no_tokenizer: str = "",
    ):
        self.model, self.config, self.tokenizer = model, config, tokenizer
        self.eos_ids, self.bos_id, self.pad_id = tuple(eos_ids), bos_id, pad_id
        self.chat_template, self.name = chat_template, name
        self.special_texts = dict(special_texts or {})
        self.default_sampler = default_sampler
        self._no_tokenizer = no_tokenizer

    def encode(self, text: str, *, parse_special: bool = False) -> list[int]:
        """Return the token ids of a text; arguments as in `Tokenizer.encode`."""
        tokenizer = self._tokenizer("LanguageModel.encode")
        return tokenizer.encode(text, parse_special=parse_special)

    def decode(self, ids: Sequence[int] | Array, *, skip_special: bool = True) -> str:
        """Return the text of token ids; arguments as in `Tokenizer.decode`."""
        tokenizer = self._tokenizer("LanguageModel.decode")
        return tokenizer.decode(ids, skip_special=skip_special)

    def generate(
        self,
        prompt: str | Sequence[str],
        *,
        key: KeyLike,
        sampler: Link | Chain | None = None,
        max_new_tokens: PerRow = NEW_TOKENS,
        num_samples: int = 1,
        eos_ids: TokenIds | None = None,
        stop: Sequence[Sequence[int]] | None = None,
        stop_strings: str | Sequence[str] | None = None,
        keep_stop: bool = False,
        regex: str | None = None,
        schema: Any = None,
        choices: Sequence[str] | None = None,
        parse_special: bool = False,
    ) -> Any:
        """Continue a text, or several.

        The tokens are those of `jaxdecode.generate` on the encoded prompts, and it
        recompiles for the same reasons: another bucket of prompt length or budget, number
        of prompts, links or `num_samples`, never for other values.

        Args:
          prompt: a text, or a list of them.
          key: one key (prompt b takes `fold_in(key, b)`), one per prompt, or a seed or
            seeds; consumed. There is no default: a seed names a text.
          sampler: a chain or a link; None draws from the model's own distribution.
          max_new_tokens: >= 1, a number or one per prompt.
          num_samples: texts per prompt, >= 1.
          eos_ids: ids that end a text; None: the model's own; () never ends early.
          stop: lists of token ids; a text ends where one of them is complete.
          stop_strings: a str or several, such as `["\\n\\n", "User:"]`; a text ends where
            one of them is complete, however it is cut into tokens. Control tokens count
            as their texts, such as `"<|im_end|>"`; the prompt does not count.
          keep_stop: whether the stop stays at the end of the text.
          regex: a regular expression that the text matches as a whole, whatever the
            model would write and however few tokens it may have, as in `Regex`.
          schema: a JSON schema that the text is valid under, as in `JsonSchema`.
          choices: texts of which it is one, as in `Choice`. At most one of the three.
          parse_special: whether control tokens written in a prompt are control tokens;
            otherwise they are ordinary text.

        Returns:
          The continuation without the prompt and without control tokens: a str; a list of
          `num_samples` str if that is more than 1. For a list of prompts, a list of
          these. A row whose logits were invalid gives the text so far, and a warning.

        Raises:
          TypeError: for arguments of the wrong kind.
          ValueError: for values out of range, an empty prompt, prompt and new tokens
            beyond the model's length, or a pattern that is not supported or that no text
            of `max_new_tokens` fits.
          TokenizerError: if the model has no tokenizer.
        """
        options = TextOptions(
            sampler=sampler,
            max_new_tokens=max_new_tokens,
            eos_ids=eos_ids,
            stop=stop,
            stop_strings=stop_strings,
            keep_stop=keep_stop,
            regex=regex,
            schema=schema,
            choices=choices,
        )
        request = self._continuation("generate", prompt, parse_special, key, options)
        texts = generate_texts(request, num_samples)
        if num_samples > 1:
            starts = range(0, len(texts), num_samples)
            texts = [texts[start : start + num_samples] for start in starts]
        return texts[0] if isinstance(prompt, str) else texts

    def stream(
        self,
        prompt: str,
        *,
        key: KeyLike,
        parse_special: bool = False,
        **options: Unpack[TextOptions],
    ) -> Iterator[str]:
        """Continue a text, and yield it while it is written.

        The pieces, joined, are what `generate` returns for the same arguments.

        Args:
          prompt: a text.
          key: as in `generate`.
          parse_special: as in `generate`.
          **options: sampler, max_new_tokens, eos_ids, stop, stop_strings, keep_stop,
            regex, schema, choices, as in `generate`.

        Returns:
          An iterator over pieces of text. No piece is empty or ends inside a character.
          Arguments are checked at the call.

        Raises:
          TypeError: as `generate`, and for a list of prompts.
          ValueError: as `generate`.
        """
        if not isinstance(prompt, str):
            raise wrong_kind("LanguageModel.stream", "prompt", "a str", prompt)
        return stream_text(
            self._continuation("stream", prompt, parse_special, key, options)
        )

    def chat(self, messages: Sequence[Message], *, key: KeyLike, **options: Any) -> str:
        """Answer the last message of a conversation.

        The answer is what `generate` writes after the conversation as the model's chat
        template renders it. Control tokens written in a message are ordinary text.

        Args:
          messages: dicts with "role" and "content", such as
            `[{"role": "user", "content": "Hello!"}]`. A content may be a list of parts
            `{"type": "text", "text": ...}`; an answer may have "tool_calls".
          key: as in `generate`.
          **options: sampler, max_new_tokens (default 256), eos_ids, stop, stop_strings,
            keep_stop, regex, schema, choices, as in `generate`; those of `ChatOptions`:
            tools, documents, enable_thinking, add_generation_prompt,
            continue_final_message, chat_template; and any other variable that the
            template looks up.

        Returns:
          The answer; with `continue_final_message` the rest of the last message.

        Raises:
          TypeError: as `generate`, and for messages of the wrong kind, or an option
            that neither the method nor the template knows.
          ValueError: as `generate`, and for no messages or an invalid role.
          ChatTemplateError: if there is no chat template, or it does not compile or
            fails.
        """
        return generate_texts(self._answer("chat", messages, key, options))[0]

    def stream_chat(
        self, messages: Sequence[Message], *, key: KeyLike, **options: Any
    ) -> Iterator[str]:
        """Answer as `chat` does, and yield the answer while it is written.

        Args:
          messages: as in `chat`.
          key: as in `generate`.
          **options: as in `chat`.

        Returns:
          An iterator over pieces of text. Arguments are checked at the call.

        Raises:
          TypeError: as `chat`.
          ValueError: as `chat`.
          ChatTemplateError: as `chat`.
        """
        return stream_text(self._answer("stream_chat", messages, key, options))

    def beam_search(
        self,
        prompt: str,
        *,
        parse_special: bool = False,
        **options: Unpack[BeamOptions],
    ) -> "list[TextHypothesis]":
        """Search for the continuations of a text with the best scores.

        Args:
          prompt: a text.
          parse_special: as in `generate`.
          **options: as in `jaxdecode.beam_search`: num_beams (required), max_new_tokens,
            length_penalty, early_stopping, num_return, edits, eos_ids, scoring, groups,
            diversity, required, renormalize, memory, new_tokens_max, wide; and regex,
            schema, choices, as in `generate`.

        Returns:
          `TextHypothesis` values with text, score, status and tokens, best first.

        Raises:
          TypeError: as `generate`, for a list of prompts, and without `num_beams`.
          ValueError: as `generate` and `jaxdecode.beam_search`.
        """
        from jaxdecode.text.beams import search_texts

        who = "LanguageModel.beam_search"
        check.names(who, options, ["parse_special", *BeamOptions.__annotations__])
        if not isinstance(prompt, str):
            raise wrong_kind(who, "prompt", "a str", prompt)
        tokenizer = self._tokenizer(who)
        prompts = encode_prompts(who, tokenizer, prompt, parse_special)
        settings = without_pattern(options)
        settings |= {"eos_ids": self._ends(options), "pad_id": self.pad_id}
        if (link := pattern_link(who, options, self)) is not None:
            settings["edits"] = chain(link, options.get("edits") or chain())
        return search_texts(self.model, tokenizer, prompts, **settings)[0]

    def inspect(
        self,
        prompt: str,
        *,
        key: KeyLike,
        what_if: Any = (),
        beams: int = 0,
        parse_special: bool = False,
        **options: Unpack[TextOptions],
    ) -> "Inspection":
        """Continue a text, and return it with what every link did at every step.

        The text is that of `generate`. The result shows itself in a notebook, and
        `.save("report.html")` writes one page that needs no network: the text coloured
        by probability, what each link removed, a playground of other settings, the same
        noise under the settings of `what_if`, the tree of a beam search.

        Args:
          prompt: a text.
          key: as in `generate`.
          what_if: samplers to compare: one, a list, or a mapping from labels.
          beams: >= 0; beams of a search from the same prompt, under the sampler's edits.
          parse_special: as in `generate`.
          **options: sampler, max_new_tokens, eos_ids, stop, stop_strings, keep_stop, as
            in `generate`. A stop stays in the report.

        Returns:
          An `Inspection`. Its page stays below 2 MB for 512 tokens after a prompt of
          some hundred: the longer the text, the fewer logits are kept of each step.

        Raises:
          TypeError: as `generate`, for a list of prompts, and for `what_if`.
          ValueError: as `generate`, and if the first row of logits is invalid.
        """
        from jaxdecode.text.inspection import inspect_text

        if not isinstance(prompt, str):
            raise wrong_kind("LanguageModel.inspect", "prompt", "a str", prompt)
        beams = int(check.whole("LanguageModel.inspect", "beams", beams, low=0))
        return inspect_text(
            self._continuation("inspect", prompt, parse_special, key, options),
            name=self.name,
            what_if=what_if,
            beams=beams,
        )

    def __repr__(self) -> str:
        parts = [f"vocab_size={self.model.vocab_size}"]
        parts.append(f"max_length={self.model.max_length}")
        parts += ["no tokenizer"] * (self.tokenizer is None)
        parts += ["no chat template"] * (self.chat_template is None)
        return f"LanguageModel({', '.join([repr(self.name), *parts])})"

    def _continuation(self, method, prompt, parse_special, key, options) -> TextRequest:
        """Return the request to continue texts."""
        who = f"LanguageModel.{method}"
        check.names(
            who, options, ["key", "parse_special", *TextOptions.__annotations__]
        )
        prompts = encode_prompts(who, self._tokenizer(who), prompt, parse_special)
        return self._request(who, prompts, key, options, continues=True)

    def _answer(self, method, messages, key, options) -> TextRequest:
        """Return the request to answer a conversation."""
        who = f"LanguageModel.{method}"
        template = self.chat_template
        if options.get("chat_template") is not None:
            template = as_template(who, options["chat_template"], self.special_texts)
        known = [*TextOptions.__annotations__, *ChatOptions.__annotations__]
        if not options.keys() <= set(known):
            read = sorted(template.variables) if template else []
            check.names(who, options, ["key", *known, *read])
        tokenizer = self._tokenizer(who)
        about = ("add_generation_prompt", "continue_final_message")
        named = (*TextOptions.__annotations__, *about, "chat_template")
        conversation = Conversation(
            who=who,
            messages=messages,
            template=template,
            **{name: options[name] for name in about if name in options},
            variables={k: v for k, v in options.items() if k not in named},
        )
        prompt = conversation.encode(tokenizer)
        writing = {k: v for k, v in options.items() if k in TextOptions.__annotations__}
        options = TextOptions(max_new_tokens=ANSWER_TOKENS) | writing
        continues = conversation.continue_final_message
        return self._request(who, [prompt], key, options, continues=continues)

    def _request(self, who, prompts, key, options, *, continues) -> TextRequest:
        sampler = with_pattern(who, options, self)
        return TextRequest.of(
            who,
            self.model,
            self._tokenizer(who),
            prompts,
            key,
            options | {"sampler": sampler, "eos_ids": self._ends(options)},
            pad_id=self.pad_id,
            continues=continues or has_pattern(sampler),
        )

    def _ends(self, options: TextOptions | BeamOptions) -> TokenIds:
        given = options.get("eos_ids")
        return self.eos_ids if given is None else given

    def _tokenizer(self, who: str) -> Tokenizer:
        if self.tokenizer is None:
            reason = (
                f" ({self._no_tokenizer.rstrip('.')})" if self._no_tokenizer else ""
            )
            raise TokenizerError(
                f"{who}: the model must come with a tokenizer, got none{reason}; use "
                "jaxdecode.generate with token ids."
            )
        return self.tokenizer
