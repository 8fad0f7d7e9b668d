"""A model of jaxdecode for lm-evaluation-harness: `python -m jaxdecode.lm_eval ...`.

    python -m jaxdecode.lm_eval --model_args pretrained=smollm2-135m --tasks arc_easy

takes the harness's own options; `--model jaxdecode` is added. Scores come from
`jaxdecode.score`, texts from the compiled loop. Needs the extra `lm-eval`.
"""

import sys
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

from jaxdecode.core import check
from jaxdecode.core.extras import needs
from jaxdecode.decode import score
from jaxdecode.text import LanguageModel, load
from jaxdecode.text.options import TextOptions
from jaxdecode.text.writing import TextRequest, generate_texts
from jaxdecode.transforms import Chain, joint

with needs("jaxdecode.lm_eval"):
    from lm_eval.api.model import TemplateLM  # pyright: ignore[reportMissingImports]
    from lm_eval.api.registry import register_model  # pyright: ignore
    from lm_eval.models.utils import normalize_gen_kwargs  # pyright: ignore
    from lm_eval.utils import (  # pyright: ignore
        get_rolling_token_windows,
        make_disjoint_window,
    )

WHO = "jaxdecode.lm_eval"
SAMPLING = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")
CHUNK = 64  # columns whose logits are in memory at once
Pair = tuple[list[int], list[int]]


@register_model("jaxdecode")
class Evaluated(TemplateLM):
    """A language model as the harness wants it.

    Control tokens written in a task's text are control tokens, as chat templates need.

    Args:
      pretrained: a known name, a folder, a .gguf file or org/name, or a `LanguageModel`.
      dtype: as in `jaxdecode.load`; "int8" quantizes.
      batch_size: how many rows are computed together, >= 1.
      max_length: positions that are used, at most the model's; None is all.
      seed: of the texts of tasks that sample.
      **ignored: what the harness passes to every model, such as `device`.
    """

    def __init__(
        self,
        pretrained: str | LanguageModel = "smollm2-135m",
        dtype: str | None = None,
        batch_size: int | str = 8,
        max_length: int | None = None,
        seed: int = 0,
        **ignored: Any,
    ):
        super().__init__()
        del ignored
        kinds = {"int8": {"quantize": "int8"}, "auto": {}, None: {}}
        if isinstance(pretrained, str):
            pretrained = load(pretrained, **kinds.get(dtype, {"dtype": dtype}))
        self.lm = pretrained
        rows = int(batch_size) if str(batch_size).isdecimal() else 8  # "auto"
        self.rows = int(check.whole(WHO, "batch_size", rows, low=1))
        self.seed = check.seed(WHO, int(seed))
        most = self.lm.model.max_length
        length = most if max_length is None else int(max_length)
        self.max_length = int(check.whole(WHO, "max_length", length, low=2, high=most))

    @property
    def eot_token_id(self) -> int:
        """The token that ends a text."""
        return self.lm.eos_ids[0] if self.lm.eos_ids else self.lm.pad_id

    @property
    def prefix_token_id(self) -> int:
        """What an empty context is read as."""
        return self.eot_token_id if self.lm.bos_id is None else self.lm.bos_id

    @property
    def tokenizer_name(self) -> str:
        """The model's name, under which the harness keeps answers."""
        return self.lm.name.replace("/", "__")

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **ignored: Any
    ) -> list[int]:
        """Return the tokens of a text."""
        del ignored
        assert self.lm.tokenizer is not None
        return self.lm.tokenizer.encode(
            string, parse_special=True, add_special=add_special_tokens
        )

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """Return a conversation as the model's template writes it."""
        if self.lm.chat_template is None:
            raise ValueError(f"{WHO}: the model must come with a chat template.")
        return self.lm.chat_template.render(
            chat_history, add_generation_prompt=add_generation_prompt
        )

    def _loglikelihood_tokens(
        self, requests: Sequence[Any], **ignored: Any
    ) -> list[tuple[float, bool]]:
        """Return the log-probability of each continuation, and whether it is greedy."""
        del ignored
        pairs = [self._fitted(context, given) for _, context, given in requests]
        found = self._scores(pairs)
        for (words, _, _), answer in zip(requests, found, strict=True):
            if words is not None:
                self.cache_hook.add_partial("loglikelihood", words, answer)
        return found

    def loglikelihood_rolling(
        self, requests: Sequence[Any], disable_tqdm: bool = False
    ) -> list[float]:
        """Return the log-probability of whole texts, read window by window."""
        del disable_tqdm
        windows: list[Pair] = []
        owner: list[int] = []
        for place, request in enumerate(requests):
            (text,) = request.args
            for window in get_rolling_token_windows(
                token_list=self.tok_encode(text, add_special_tokens=False),
                prefix_token=self.prefix_token_id,
                max_seq_len=self.max_length - 1,
                context_len=1,
            ):
                windows.append(make_disjoint_window(window))
                owner.append(place)
        totals = [0.0] * len(requests)
        for place, (value, _) in zip(owner, self._scores(windows), strict=True):
            totals[place] += value
        return totals

    def generate_until(
        self, requests: Sequence[Any], disable_tqdm: bool = False
    ) -> list[str]:
        """Return a text for each request, cut before the first of its stops."""
        del disable_tqdm
        answers = [""] * len(requests)
        groups: dict[str, list[int]] = {}
        for place, request in enumerate(requests):
            groups.setdefault(repr(request.args[1]), []).append(place)
        for places in groups.values():
            asked = dict(requests[places[0]].args[1])
            options: dict[str, Any] = {**normalize_gen_kwargs(asked)}
            prompts = [self.tok_encode(requests[place].args[0]) for place in places]
            for place, text in zip(
                places, self._texts(prompts, places, options), strict=True
            ):
                answers[place] = text
                self.cache_hook.add_partial(
                    "generate_until", requests[place].args, text
                )
        return answers

    def _fitted(self, context: list[int], given: list[int]) -> Pair:
        """Cut a context on the left, so that it fits with its continuation."""
        given = given[-(self.max_length - 1) :]
        return context[-(self.max_length - len(given)) :], given

    def _scores(self, pairs: Sequence[Pair]) -> list[tuple[float, bool]]:
        found: list[Any] = [None] * len(pairs)
        lengths = [len(context) + len(given) for context, given in pairs]
        for part in self._batches(lengths):
            scored = score(
                self.lm.model,
                [pairs[place][0] for place in part],
                [pairs[place][1] for place in part],
                observe=("rank",),
                chunk=CHUNK,
            )
            logprobs = np.asarray(scored.model_logprobs, np.float64).sum(axis=1)
            ranks = np.asarray(scored.observations["rank"])
            for row, place in enumerate(part):
                greedy = bool((ranks[row, : len(pairs[place][1])] == 1).all())
                found[place] = (float(logprobs[row]), greedy)
        return found

    def _texts(
        self, prompts: list[list[int]], places: list[int], options: dict[str, Any]
    ) -> list[str]:
        assert self.lm.tokenizer is not None
        budget = min(int(options.pop("max_gen_toks")), self.max_length - 1)
        settings = TextOptions(
            sampler=_sampler(options),
            max_new_tokens=budget,
            eos_ids=self.lm.eos_ids,
            stop_strings=[stop for stop in options.pop("until") if stop] or None,
        )
        fitted = [prompt[-(self.max_length - budget) :] for prompt in prompts]
        texts = [""] * len(prompts)
        key = jax.random.key(self.seed)
        for part in self._batches([len(prompt) for prompt in fitted]):
            request = TextRequest.of(
                WHO,
                self.lm.model,
                self.lm.tokenizer,
                [fitted[row] for row in part],
                [jax.random.fold_in(key, places[row]) for row in part],
                settings,
                pad_id=self.lm.pad_id,
                continues=True,
            )
            for row, text in zip(part, generate_texts(request), strict=True):
                texts[row] = text
        return texts

    def _batches(self, lengths: Sequence[int]) -> Iterator[list[int]]:
        """Yield the places of rows of like length, always as many: one program each.

        The last batch is filled up with one of its own rows, which is computed again.
        """
        order = sorted(range(len(lengths)), key=lambda place: -lengths[place])
        for start in range(0, len(order), self.rows):
            part = order[start : start + self.rows]
            yield part + part[-1:] * (self.rows - len(part))


def _sampler(options: dict[str, Any]) -> Chain:
    """Return the chain of a task's settings; greedy unless the task samples."""
    known = {*SAMPLING, "do_sample", "until"}
    unknown = sorted(set(options) - known)
    if unknown:
        raise ValueError(
            f"{WHO}: generation settings must be among {', '.join(sorted(known))}, got "
            f"{unknown[0]!r}."
        )
    values = {name: options[name] for name in SAMPLING if name in options}
    if not options.get("do_sample") and not values.get("temperature"):
        values["temperature"] = 0.0
    return joint(**values)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the harness on a model of jaxdecode; arguments are the harness's own."""
    with needs(WHO):
        from lm_eval.__main__ import cli_evaluate  # pyright: ignore

    given = list(sys.argv[1:] if argv is None else argv)
    if not any(one.split("=")[0] in ("--model", "-M") for one in given):
        given += ["--model", "jaxdecode"]
    sys.argv[1:] = given
    cli_evaluate()


if __name__ == "__main__":
    main()
