"""`beam_search`: prompts in, the best hypotheses out, in one compiled program."""

from typing import Any

from jaxdecode.core.protocol import Model
from jaxdecode.core.pytree import replace
from jaxdecode.core.shapes import PerRow, PhraseLists, TokenIds, TokenLists
from jaxdecode.decode.beam.request import BeamRequest, Options, as_edits, prepare_search
from jaxdecode.decode.beam.result import Beams, collect
from jaxdecode.decode.beam.running import search_through
from jaxdecode.decode.beam.scoring import ScoreOfLength, Scoring
from jaxdecode.decode.beam.state import Search
from jaxdecode.decode.model_check import check_model
from jaxdecode.decode.programs import compiled
from jaxdecode.decode.prompts import Prompts
from jaxdecode.decode.request import cut_columns
from jaxdecode.transforms import Chain, Link


def beam_search(
    model: Model,
    prompts: TokenLists,
    *,
    num_beams: int,
    max_new_tokens: PerRow = 64,
    length_penalty: PerRow = 1.0,
    early_stopping: bool | str = False,
    num_return: int = 1,
    edits: Link | Chain | None = None,
    eos_ids: TokenIds | None = None,
    pad_id: int = 0,
    scoring: Scoring | ScoreOfLength | None = None,
    groups: int = 1,
    diversity: PerRow = 0.0,
    required: PhraseLists | None = None,
    renormalize: bool = False,
    return_parents: bool = False,
    memory: str = "auto",
    new_tokens_max: int | None = None,
    wide: bool = False,
) -> Beams:
    """Search for the continuations with the best scores, in one compiled program.

    A hypothesis's log-probability is the sum of its tokens' log-probs, after the edits;
    its score divides that by `length ** length_penalty`, the eos counted and the prompt
    not. The rule is Hugging Face's: of the C = max(2, 1 + number of eos ids) * num_beams
    best extensions, finished ones among the first `num_beams` are kept, and the best
    unfinished ones go on. `steps.py` has it as ten lines of Python.

    Recompiles for another model structure, number of rows, bucket of prompt length or of
    `max_new_tokens`, links, kind of scoring, number of eos ids, and for `num_beams`,
    `groups`, `renormalize`, `memory` and the sizes of `required`; never
    for other values. Works inside the caller's `jit`, with prompts as a pair of arrays.

    Args:
      model: anything that satisfies the `Model` protocol. One that also shares prompts
        (`jaxdecode.models` do) stores each prompt once for all its beams.
      prompts: token lists, or (int32 [B, P] padded on the right, lengths int32 [B]).
      num_beams: hypotheses that run side by side, in [1, vocabulary size]; 1 is greedy.
        Usual values: 2 to 10.
      max_new_tokens: >= 1, a number or one per prompt.
      length_penalty: finite, any sign, a number or one per prompt; 0 ranks by the sum,
        1 by the mean, more favours long hypotheses.
      early_stopping: when a row ends that has `num_beams` finished hypotheses. True: at
        once. False: when the best running one, scored at its present length, is no
        better than the worst finished one; for a positive penalty a longer, better
        one may be missed. "never": when none can become better at any length.
      num_return: hypotheses returned per prompt, in [1, num_beams].
      edits: an `Edit` or a chain of them; they act on log-probs, as in Hugging Face, so
        a repetition penalty always multiplies.
      eos_ids: ids that end a hypothesis: one, several or None.
      pad_id: what fills the columns after a hypothesis's end.
      scoring: a `LengthPenalty`, `GNMT`, or a function of (logprob, length), in place
        of `length_penalty`.
      groups: groups that search one after the other in each step, dividing `num_beams`.
      diversity: >= 0, what a group pays, in log-prob, for each beam of an earlier group
        that took the same token in the same step. Usual values: 0.2 to 1.
      required: phrases (token lists) that every hypothesis must contain, for all
        prompts, or one list of phrases per prompt; they must fit `max_new_tokens`.
      renormalize: whether log-probs are normalised again after the edits.
      return_parents: whether the result has the back-pointers.
      memory: "shared" keeps each prompt once, "whole" gathers a cache per beam, "auto"
        shares where the model can. The results are equal.
      new_tokens_max: columns of the output; only needed where `max_new_tokens` is
        traced.
      wide: whether there may be more beams than tokens; the first steps cannot fill
        them.

    Returns:
      `Beams` with R = num_return and T = max(max_new_tokens), or `new_tokens_max`.

    Raises:
      TypeError: for arguments of the wrong kind.
      ValueError: for values out of range. All before anything compiles.

    Reference: Hugging Face transformers 5.23, `generate` with `num_beams`. Vijayakumar
    et al., Diverse Beam Search, 2016, arXiv 1610.02424. Post and Vilar, Fast Lexically
    Constrained Decoding, 2018, arXiv 1804.06609.
    """
    check_model("beam_search", model)
    options = Options(
        max_new_tokens=max_new_tokens,
        length_penalty=length_penalty,
        early_stopping=early_stopping,
        num_return=num_return,
        eos_ids=eos_ids,
        pad_id=pad_id,
        scoring=scoring,
        groups=groups,
        diversity=diversity,
        required=required,
        renormalize=renormalize,
        memory=memory,
        new_tokens_max=new_tokens_max,
        wide=wide,
    )
    request = prepare_search(
        "beam_search",
        model,
        prompts,
        num_beams,
        as_edits("beam_search", edits),
        options,
    )
    return find(model, request, with_parents=return_parents)


def find(model: Model, request: BeamRequest, *, with_parents: bool) -> Beams:
    """Run a checked request and cut the result to the columns asked for."""
    found = run(model, request.prompts, request.search, request.pad_id)
    found = cut_columns(found, width=request.width, rows=request.num_return)
    return found if with_parents else replace(found, parents=None)


@compiled()
def run(model: Model, prompts: Prompts, search: Search, pad_id: Any) -> Beams:
    """Search, compiled: the model's arrays, the prompts and what was asked are data."""
    return collect(search_through(model, prompts, search), pad_id)
