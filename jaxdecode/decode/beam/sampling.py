"""`beam_sample`: a beam search whose candidates are drawn, not the best."""

from typing import Any

from jaxdecode.decode.beam.request import Options, prepare_search
from jaxdecode.decode.beam.result import Beams
from jaxdecode.decode.beam.scoring import Scoring
from jaxdecode.decode.beam.search import finish
from jaxdecode.decode.partition import partition
from jaxdecode.transforms import Chain, Link, chain


def beam_sample(
    model: Any,
    prompts: Any,
    key: Any,
    *,
    num_beams: int,
    max_new_tokens: Any = 64,
    sampler: Link | Chain | None = None,
    length_penalty: Any = 1.0,
    early_stopping: bool | str = False,
    num_return: int = 1,
    eos_ids: Any = None,
    pad_id: Any = 0,
    scoring: Scoring | Any = None,
    renormalize: bool = False,
    return_parents: bool = False,
    memory: str = "auto",
    new_tokens_max: int | None = None,
    wide: bool = False,
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
      max_new_tokens: as in `beam_search`.
      sampler: a chain or a link that acts on the log-probs before the draw, truncations
        included (they sort whole rows here); None is none. Its parameters are a number
        or one per prompt.
      length_penalty: as in `beam_search`.
      early_stopping: as in `beam_search`.
      num_return: as in `beam_search`.
      eos_ids: as in `beam_search`.
      pad_id: as in `beam_search`.
      scoring: as in `beam_search`.
      renormalize: whether log-probs are normalised again after the sampler.
      return_parents: as in `beam_search`.
      memory: as in `beam_search`.
      new_tokens_max: as in `beam_search`.
      wide: as in `beam_search`.

    Returns:
      `Beams`; scores and token log-probs are those after the sampler.

    Raises:
      TypeError: for arguments of the wrong kind, no key among them.
      ValueError: for values out of range. All before anything compiles.

    Reference: Hugging Face transformers 5.23, `generate` with `num_beams` and
    `do_sample`.
    """
    arrays, fixed = partition(model)
    options = Options(
        max_new_tokens=max_new_tokens,
        length_penalty=length_penalty,
        early_stopping=early_stopping,
        num_return=num_return,
        eos_ids=eos_ids,
        pad_id=pad_id,
        scoring=scoring,
        renormalize=renormalize,
        memory=memory,
        new_tokens_max=new_tokens_max,
        wide=wide,
    )
    check_key("beam_sample", key)
    request = prepare_search(
        "beam_sample",
        model,
        prompts,
        num_beams=num_beams,
        links=chain() if sampler is None else chain(sampler),
        options=options,
        key=key,
    )
    return finish(arrays, fixed, request, with_parents=return_parents)


def check_key(who: str, key: Any) -> None:
    """Refuse None, which a search without draws takes for no key."""
    if key is None:
        raise TypeError(
            f"{who}: `key` must be a jax.random.key, one per prompt, or seeds, got None."
        )
