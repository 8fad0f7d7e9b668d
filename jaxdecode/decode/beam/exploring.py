"""A beam search with all it considered: what was kept, what was finished, what given up.

The search is that of `searching.py`; here its back-pointers are returned, too.
"""

import dataclasses
import itertools
from typing import Any

import jax
import numpy as np

from jaxdecode.core.processes import in_every_process
from jaxdecode.core.protocol import Model
from jaxdecode.core.pytree import pytree, static
from jaxdecode.core.shapes import Array
from jaxdecode.decode.beam.request import Options, as_edits, prepare_search
from jaxdecode.decode.beam.result import Beams, collect
from jaxdecode.decode.beam.running import search_through
from jaxdecode.decode.beam.state import BackPointers, Finished, Search
from jaxdecode.decode.model_check import check_model
from jaxdecode.decode.programs import compiled
from jaxdecode.decode.prompts import Prompts
from jaxdecode.transforms import Chain, Link

KEPT, FINISHED, PRUNED = "kept", "finished", "pruned"


@pytree
class Explored:
    """A search of one prompt; K beams, T steps.

    Attributes:
      beams: what `beam_search` returns.
      pointers: what each beam appended at each step, [T, K].
      finished: where the finished hypotheses end, [K], best first.
      steps: int32, how many steps there were.
      budget: the most tokens a hypothesis could have.
    """

    beams: Beams
    pointers: BackPointers
    finished: Finished
    steps: Array
    budget: int = static()


@dataclasses.dataclass(frozen=True)
class Node:
    """A token that a beam took.

    Attributes:
      step: its step, from 0.
      lane: the beam it went on as; a finished one has the first that is free.
      parent: the number of the node it was appended to, -1 for the prompt.
      token: the token.
      logprob: its log-prob, after the edits.
      total: the sum of log-probs up to it.
      fate: "kept" if a hypothesis that was kept goes through it, "finished" if one ends
        in it, otherwise "pruned".
    """

    step: int
    lane: int
    parent: int
    token: int
    logprob: float
    total: float
    fate: str


def explore(
    model: Model,
    prompt: list[int],
    *,
    num_beams: int,
    edits: Link | Chain | None = None,
    **options: Any,
) -> Explored:
    """Search as `beam_search` does for one prompt, and return all it considered.

    Args:
      model: anything that satisfies the `Model` protocol.
      prompt: a token list.
      num_beams: as in `beam_search`.
      edits: as in `beam_search`.
      **options: as in `beam_search`, without groups and phrases.
    """
    check_model("explore", model)
    given = Options(**options)
    edits = as_edits("explore", edits)
    request = prepare_search("explore", model, [prompt], num_beams, edits, given)
    found = _run(model, request.prompts, request.search, request.pad_id)
    beams, pointers, finished, count = _first(found)
    return Explored(beams, pointers, finished, count, request.width)


@compiled()
def _run(model: Model, prompts: Prompts, search: Search, pad_id: Any):
    search = search_through(model, prompts, search)
    return collect(search, pad_id), search.pointers, search.finished, search.step


def tree(found: Explored, eos_ids: Any) -> tuple[list[Node], list[int]]:
    """Return every node of a search, and the nodes in which hypotheses end, best first.

    Where fewer than K hypotheses could go on, the other beams hold nothing and point at
    a token that ended one; so do all beams after the last token of the budget.
    """
    ends = [int(i) for i in np.ravel([] if eos_ids is None else eos_ids)]
    pointers, finished = found.pointers, found.finished
    running = min(int(found.steps), found.budget - 1)
    nodes: list[Node] = []
    at: dict[tuple[int, int], int] = {}

    def add(step, lane, parent, token, logprob, fate):
        if step > 0 and (step - 1, int(parent)) not in at:
            return None
        above = at[step - 1, int(parent)] if step > 0 else -1
        total = float(logprob) + (nodes[above].total if step > 0 else 0.0)
        nodes.append(Node(step, lane, above, int(token), float(logprob), total, fate))
        return len(nodes) - 1

    for step, lane in np.ndindex(running, pointers.tokens.shape[1]):
        token, logprob = pointers.tokens[step, lane], pointers.logprobs[step, lane]
        if token in ends or logprob == -np.inf:
            continue
        number = add(step, lane, pointers.parents[step, lane], token, logprob, PRUNED)
        if number is not None:
            at[step, lane] = number
    last = []
    for place in np.flatnonzero(finished.scores > -np.inf):
        step, parent = int(finished.steps[place]), finished.parents[place]
        taken = {node.lane for node in nodes if node.step == step}
        lane = next(lane for lane in itertools.count() if lane not in taken)
        given = finished.tokens[place], finished.logprobs[place]
        number = add(step, lane, parent, *given, FINISHED)
        if number is not None:
            last.append(number)
    return _with_kept(nodes, last), last


def _with_kept(nodes: list[Node], last: list[int]) -> list[Node]:
    """Mark what finished hypotheses go through."""
    kept = set()
    for number in last:
        while number >= 0:
            kept.add(number)
            number = nodes[number].parent
    return [
        dataclasses.replace(node, fate=KEPT)
        if number in kept and node.fate == PRUNED
        else node
        for number, node in enumerate(nodes)
    ]


def _first(part: Any) -> Any:
    return jax.tree.map(lambda leaf: np.asarray(leaf)[0], in_every_process(part))
