"""An inspection as plain data for a report: names, numbers, and the words of tokens."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxdecode.core.status import Status
from jaxdecode.decode.beam.exploring import Explored, tree
from jaxdecode.decode.dissecting import Detail, Dissection
from jaxdecode.report import pack
from jaxdecode.text.playground import PRESETS, describe_knobs, is_off, settings_of
from jaxdecode.text.tokenizer import Tokenizer
from jaxdecode.transforms import Chain, Link, chain


@dataclass(frozen=True)
class Variant:
    """A text under other settings and the same noise.

    Attributes:
      label: what is shown above it.
      tokens: its tokens.
      logprobs: float32, their log-probs under the model.
    """

    label: str
    tokens: list[int]
    logprobs: np.ndarray


@dataclass(frozen=True, repr=False)
class Findings:
    """What is known of a text.

    Attributes:
      model: the model's name.
      text: the text without control tokens.
      prompt: the prompt's tokens.
      tokens: the text's tokens.
      status: why the text ended.
      sampler: the chain that drew it.
      seed: the key, in words.
      steps: the numbers of each step.
      detail: how much of each step they hold.
      variants: the same noise under other settings.
      beams: a search from the same prompt, or None.
      eos_ids: ids that end a text.
      tokenizer: the tokenizer, for the words.
    """

    model: str
    text: str
    prompt: tuple[int, ...]
    tokens: tuple[int, ...]
    status: Status
    sampler: Chain
    seed: str
    steps: Dissection
    detail: Detail
    variants: tuple[Variant, ...]
    beams: Explored | None
    eos_ids: tuple[int, ...]
    tokenizer: Tokenizer


def describe(found: Findings) -> dict[str, Any]:
    """Return what `report.render` shows."""
    values, order, left_out = settings_of(found.sampler)
    links = found.sampler.links
    active = [i for i, link in enumerate(links) if not is_off(link)]
    beams = None if found.beams is None else _beams(found)
    return {
        "model": found.model,
        "sampler": repr(found.sampler),
        "seed": found.seed,
        "status": found.status.name.lower(),
        "prompt": list(found.prompt),
        "tokens": list(found.tokens),
        "links": [
            {"name": type(links[i]).__name__, "text": _written(links[i])}
            for i in active
        ],
        "off": [type(link).__name__ for link in links if is_off(link)],
        "followed": found.steps.ids.shape[1],
        "stored": found.steps.top_ids.shape[1],
        "steps": _steps(found, active),
        "knobs": describe_knobs(values),
        "order": order,
        "presets": PRESETS,
        "base": [_written(link) for link in links[: found.detail.base]],
        "left_out": [_written(link) for link in left_out],
        "variants": [
            {
                "label": one.label,
                "tokens": list(one.tokens),
                "logprobs": pack(np.asarray(one.logprobs, np.float32)),
            }
            for one in found.variants
        ],
        "beams": beams,
        "vocabulary": _vocabulary(found, beams),
    }


def _written(link: Link) -> str:
    return repr(chain(link)).removeprefix("chain(").removesuffix(")")


def _steps(found: Findings, active: list[int]) -> dict[str, Any]:
    """Return the arrays of the steps, without what links that are off would repeat."""
    steps, both = found.steps, [0, *(i + 1 for i in active)]
    arrays = {
        field.name: getattr(steps, field.name)
        for field in dataclasses.fields(Dissection)  # type: ignore[arg-type]
    }
    for name in ("logprob", "rank", "entropy", "logprobs"):
        arrays[name] = arrays[name][:, both]
    for name in ("removed_count", "removed_mass"):
        arrays[name] = arrays[name][:, active]
    arrays["extra_logits"] = _extras(found)
    del arrays["seen_logits"]
    return {name: pack(array) for name, array in arrays.items()}


def _extras(found: Findings) -> np.ndarray:
    """Return the logits of tokens seen before that are not among a step's best.

    Step after step, in the order in which they were first seen: the page finds their
    ids in the same way.
    """
    columns = np.asarray([*found.prompt, *found.tokens])
    parts = []
    for step, top in enumerate(found.steps.top_ids):
        past = columns[: len(found.prompt) + step]
        _, first = np.unique(past, return_index=True)
        first = np.sort(first)
        parts.append(found.steps.seen_logits[step, first[~np.isin(past[first], top)]])
    return np.concatenate(parts).astype(np.float32)


def _vocabulary(found: Findings, beams: dict[str, Any] | None) -> dict[str, Any]:
    """Return the words of every token that the page names."""
    ids = {*found.prompt, *found.tokens}
    ids |= {*found.steps.top_ids.ravel().tolist(), *found.steps.ids.ravel().tolist()}
    for one in found.variants:
        ids |= {*one.tokens}
    if beams is not None:
        ids |= {node["token"] for node in beams["nodes"]}
        ids |= {token for one in beams["hypotheses"] for token in one["tokens"]}
    words = [(i, *_word(found.tokenizer, i)) for i in sorted(ids)]
    return {
        "ids": [i for i, _, _ in words],
        "texts": [text for _, text, _ in words],
        "special": [i for i, _, special in words if special],
    }


def _word(tokenizer: Tokenizer, token: int) -> tuple[str, bool]:
    """Return the text of one token, and whether it is a control token.

    Bytes that are no character by themselves are written as hexadecimal numbers.
    """
    if token in tokenizer.special_ids:
        return tokenizer.token(token), True
    raw = tokenizer.bytes_of(token)
    return raw.decode("utf-8", "backslashreplace"), False


def _beams(found: Findings) -> dict[str, Any]:
    assert found.beams is not None
    nodes, last = tree(found.beams, found.eos_ids)
    beams = found.beams.beams
    hypotheses = []
    for place, node in enumerate(last):
        length = int(beams.lengths[place])
        hypotheses.append(
            {
                "node": node,
                "score": float(beams.scores[place]),
                "status": Status(int(beams.status[place])).name.lower(),
                "tokens": beams.tokens[place, :length].tolist(),
            }
        )
    return {
        "nodes": [
            {
                "step": node.step,
                "lane": node.lane,
                "parent": node.parent,
                "token": node.token,
                "logprob": node.logprob,
                "sum": node.total,
                "fate": node.fate,
            }
            for node in nodes
        ],
        "hypotheses": hypotheses,
    }
