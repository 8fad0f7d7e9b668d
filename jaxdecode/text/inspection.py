"""A text with all that decided it: to be looked at as a page, or taken as numbers.

`inspect_text` draws a text, reads it again with every link taken apart, and keeps what a
report shows. `Inspection.html` is that report: one file, without a network.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxdecode import decode, report
from jaxdecode.core import check
from jaxdecode.core.status import Status
from jaxdecode.decode.beam.exploring import Explored, explore
from jaxdecode.decode.dissecting import Detail, dissect
from jaxdecode.text.inspection_data import Findings, Variant, describe
from jaxdecode.text.playground import (
    base_of,
    is_off,
    settings_of,
    temperatures_of,
)
from jaxdecode.text.writing import TextRequest
from jaxdecode.transforms import Chain, Edit, Link, as_chain, chain

FOLLOWED = 6  # best tokens of model and of sampler whose way through the chain is kept
BYTES_MAX = 1_500_000  # of a page, for what is kept of the steps
STORED = (24, 256)  # best logits of a step: at least, at most


@dataclass(frozen=True, repr=False)
class Inspection(Findings):
    """A text and what every link did at every step of it; made by `lm.inspect`.

    In a notebook it shows itself; what it holds is said in `Findings`.
    """

    def html(self) -> str:
        """Return the report as one HTML page."""
        return report.render(describe(self))

    def save(self, path: str | os.PathLike) -> Path:
        """Write the report to a file, and return its path.

        Raises:
          OSError: if the file cannot be written.
        """
        Path(path).write_text(self.html(), encoding="utf-8")
        return Path(path)

    def pieces(self) -> list[str]:
        """Return what each token adds to the text; joined they are `text`."""
        stream = self.tokenizer.stream(continues=True)
        pieces = [stream.push(token) for token in self.tokens]
        pieces[-1] += stream.finish()
        return pieces

    def _repr_html_(self) -> str:
        return report.frame(self.html())

    def __repr__(self) -> str:
        return (
            f"Inspection({len(self.tokens)} tokens, {self.status.name}, "
            f"text={check.short(self.text)})"
        )


def inspect_text(
    request: TextRequest, *, name: str, what_if: Any = (), beams: int = 0
) -> Inspection:
    """Draw the text of a request, and return it with what decided each token.

    Raises:
      TypeError: if `what_if` is not a sampler, several, or a mapping of them.
      ValueError: if not one token could be drawn.
    """
    settings = dict(request.settings)
    sampler = as_chain(settings.pop("sampler"))
    others = _others(request.who, what_if)
    tokens, _, status = _draw(request, sampler, settings)
    if not tokens:
        raise ValueError(
            f"{request.who}: the first row of logits must allow a token, got NaN, +inf "
            "or every token banned."
        )
    (prompt,) = request.prompts
    values, _, _ = settings_of(sampler)
    detail = _detail(sampler, prompt, tokens)
    steps = dissect(
        request.model,
        prompt,
        tokens,
        request.key,
        sampler,
        detail=detail,
        temperatures=temperatures_of(values["temperature"]),
    )
    eos_ids = settings["eos_ids"]
    return Inspection(
        model=name,
        text=request.tokenizer.decode(tokens, continues=request.continues),
        prompt=tuple(prompt),
        tokens=tuple(tokens),
        status=status,
        sampler=sampler,
        seed=str(request.key),
        steps=steps,
        detail=detail,
        variants=tuple(
            Variant(label, *_draw(request, other, settings)[:2])
            for label, other in others.items()
        ),
        beams=_search(request, sampler, settings, beams) if beams else None,
        eos_ids=tuple(int(i) for i in np.ravel([] if eos_ids is None else eos_ids)),
        tokenizer=request.tokenizer,
    )


def _draw(request: TextRequest, sampler: Chain, settings: dict[str, Any]):
    """Return the tokens, their log-probs under the model, and why the text ended."""
    out = decode.generate(
        request.model, request.prompts, request.key, sampler=sampler, **settings
    )
    length = int(out.lengths[0])
    logprobs = np.asarray(out.model_logprobs)[0, :length]
    tokens = np.asarray(out.tokens)[0, :length].tolist()
    return tokens, logprobs, Status(int(out.status[0]))


def _others(who: str, what_if: Any) -> dict[str, Chain]:
    """Return labelled samplers."""
    if isinstance(what_if, (Chain, Link)):
        what_if = [what_if]
    if isinstance(what_if, Sequence) and not isinstance(what_if, str):
        what_if = {repr(as_chain(one)): one for one in what_if}
    if not isinstance(what_if, Mapping):
        raise TypeError(
            f"{who}: `what_if` must be a sampler, a list of them, or a mapping from a "
            f"label to each, got {check.short(what_if)}."
        )
    return {str(label): as_chain(other) for label, other in what_if.items()}


def _detail(sampler: Chain, prompt: list[int], tokens: list[int]) -> Detail:
    """Return how much is kept of each step, so that a long text makes no large page.

    Every number is 4 bytes, or 5.4 as base64. A stored token is a logit, an id of half
    the size, and its share of the words.
    """
    links = sum(not is_off(link) for link in sampler.links)
    followed = 2 * FOLLOWED + 1
    known = [len({*prompt, *tokens[:step]}) for step in range(len(tokens))]
    fixed = 100 + 5 * links + followed * (links + 3) + sum(known) / len(tokens)
    room = (BYTES_MAX / len(tokens) - 5.4 * fixed) / (5.4 + 2.7 + 4)
    stored = int(np.clip(room, *STORED)) // 8 * 8  # few sizes: each is a program
    return Detail(FOLLOWED, stored, base_of(sampler))


def _search(request, sampler, settings, beams: int) -> Explored:
    edits = [link for link in sampler.links if isinstance(link, Edit)]
    (prompt,) = request.prompts
    found = explore(
        request.model,
        prompt,
        num_beams=beams,
        num_return=beams,
        edits=chain(*edits),
        max_new_tokens=settings["max_new_tokens"],
        eos_ids=settings["eos_ids"],
        pad_id=settings["pad_id"],
    )
    return jax.tree.map(np.asarray, found)
