"""`beam_sample`: a beam search whose candidates are drawn, not the best."""

from typing import Unpack

from jaxdecode.core.keys import no_key
from jaxdecode.core.protocol import Model
from jaxdecode.core.shapes import KeyLike, TokenLists
from jaxdecode.decode.beam.request import DEFAULTS, Options, prepare_search
from jaxdecode.decode.beam.result import Beams
from jaxdecode.decode.beam.searching import find
from jaxdecode.decode.model_check import check_model
from jaxdecode.transforms import Chain, Link, chain


def beam_sample(
    model: Model,
    prompts: TokenLists,
    key: KeyLike,
    *,
    num_beams: int,
    sampler: Link | Chain | None = None,
    return_parents: bool = False,
    **options: Unpack[Options],
) -> Beams:
    """Search as `beam_search` does among candidates drawn without replacement.

    In each step the C candidates of a row are drawn without replacement in proportion
    to exp(sum of log-probs), over all its beams and tokens: the C largest of
    `sum + gumbel(step_key, (K * V,))` at index k * V + v. Finished ones among the first
    `num_beams` drawn are kept; the best unfinished ones go on. `step_key` is
    `fold_in(fold_in(keys[b], 0), position)`, so a row's draws do not depend on the batch.

    Args:
      model: as in `beam_search`.
      prompts: as in `beam_search`.
      key: one key (row b takes `fold_in(key, b)`), keys [B], or seeds; consumed.
      num_beams: as in `beam_search`.
      sampler: a chain or a link that acts on the log-probs before the draw, truncations
        included (they sort whole rows here); None changes nothing. Its parameters are a
        number or one per prompt.
      return_parents: as in `beam_search`.
      **options: as in `beam_search`: max_new_tokens, length_penalty, early_stopping,
        num_return, eos_ids, pad_id, scoring, renormalize (here after the sampler),
        memory, new_tokens_max, wide.

    Returns:
      `Beams`; scores and token log-probs are those after the sampler.

    Raises:
      TypeError: for arguments of the wrong kind, no key among them.
      ValueError: for values out of range. All before anything compiles.

    Reference: Hugging Face transformers 5.23, `generate` with `num_beams` and
    `do_sample`.
    """
    check_model("beam_sample", model)
    if key is None:
        raise no_key("beam_sample")
    links = chain() if sampler is None else chain(sampler)
    allowed = tuple(n for n in DEFAULTS if n not in ("groups", "diversity", "required"))
    given = (model, prompts, num_beams, links, options)
    request = prepare_search("beam_sample", *given, key=key, allowed=allowed)
    return find(model, request, with_parents=return_parents)
