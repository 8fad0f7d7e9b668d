"""The chain of Hugging Face transformers' `generate`."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from jaxdecode.core import check
from jaxdecode.core.shapes import PerRow, TokenIds
from jaxdecode.transforms.base import Link
from jaxdecode.transforms.chain import Chain
from jaxdecode.transforms.cutoffs import EpsilonCutoff, EtaCutoff
from jaxdecode.transforms.forcing import (
    ExponentialDecayLength,
    ForcedTokens,
    SuppressAtBegin,
)
from jaxdecode.transforms.ngrams import NoRepeatNGram
from jaxdecode.transforms.penalties import EncoderRepetition, RepetitionPenalty
from jaxdecode.transforms.presets.given import (
    chain_of,
    given,
    refuse,
    together,
    where,
)
from jaxdecode.transforms.scale import Temperature
from jaxdecode.transforms.sequences import BanSequences, SequenceBias
from jaxdecode.transforms.truncation import MinP, TopK, TopP
from jaxdecode.transforms.typicality import TopH, Typical
from jaxdecode.transforms.vocabulary import BanTokens, MinNewTokens

WHO = "presets.transformers"
SequenceBiases: TypeAlias = (
    Mapping[tuple[int, ...], float] | Sequence[tuple[Sequence[int], float]]
)


def transformers(
    *,
    do_sample: bool = True,
    sequence_bias: SequenceBiases | None = None,
    encoder_repetition_penalty: PerRow | None = None,
    repetition_penalty: PerRow | None = None,
    no_repeat_ngram_size: PerRow | None = None,
    bad_words_ids: Sequence[Sequence[int]] | None = None,
    min_new_tokens: PerRow | None = None,
    forced_bos_token_id: int | None = None,
    forced_eos_token_id: TokenIds | None = None,
    max_length: int | None = None,
    exponential_decay_length_penalty: tuple[int, float] | None = None,
    suppress_tokens: TokenIds | None = None,
    begin_suppress_tokens: TokenIds | None = None,
    eos_token_id: TokenIds | None = None,
    temperature: PerRow | None = None,
    top_h: PerRow | None = None,
    top_k: PerRow | None = None,
    top_p: PerRow | None = None,
    min_p: PerRow | None = None,
    typical_p: PerRow | None = None,
    epsilon_cutoff: PerRow | None = None,
    eta_cutoff: PerRow | None = None,
) -> Chain:
    """Return the chain of Hugging Face transformers' `generate`.

    The processors; then, if it samples, temperature, top-h, top-k (every token as large
    as the k-th stays), top-p, min-p, typical, epsilon, eta. What is left out is off; its
    default of `top_k=50` is not assumed.

    Args:
      do_sample: False is greedy: the processors, then the first maximum. Static.
      sequence_bias: {token ids: bias}, or pairs.
      encoder_repetition_penalty: > 0, on the prompt's tokens.
      repetition_penalty: > 0, on prompt and output.
      no_repeat_ngram_size: >= 0.
      bad_words_ids: sequences never to complete; a lone eos id among them is ignored.
      min_new_tokens: >= 0; needs `eos_token_id`.
      forced_bos_token_id: the token at position 1.
      forced_eos_token_id: the token, or tokens, at position `max_length - 1`.
      max_length: prompt and output together; only for `forced_eos_token_id`.
      exponential_decay_length_penalty: (start, factor); needs `eos_token_id`.
      suppress_tokens: ids never drawn.
      begin_suppress_tokens: ids never drawn first.
      eos_token_id: the ids that end a text. (What ends it is `eos_ids` of `generate`.)
      temperature: > 0, as it insists; its greedy is `do_sample=False`.
      top_h: in (0, 1].
      top_k: >= 0; 0 is off.
      top_p: in [0, 1]; 1 is off.
      min_p: in [0, 1].
      typical_p: in (0, 1]; 1 is off.
      epsilon_cutoff: in [0, 1]; 0 and 1 are off.
      eta_cutoff: in [0, 1]; 0 and 1 are off.

    Returns:
      The chain; each parameter a number or one per row.

    Raises:
      TypeError: for an unknown argument, or one without meaning beside the others.
      ValueError: for a value out of range.
    """
    late = exponential_decay_length_penalty
    eos = check.token_ids(WHO, "eos_token_id", eos_token_id)
    if not eos.size:
        needs_eos = {"min_new_tokens": min_new_tokens}
        needs_eos |= {"exponential_decay_length_penalty": late}
        refuse(WHO, needs_eos, "without `eos_token_id`")
    together(WHO, forced_eos_token_id=forced_eos_token_id, max_length=max_length)
    samplers = {
        "temperature": temperature,
        "top_h": top_h,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
        "typical_p": typical_p,
        "epsilon_cutoff": epsilon_cutoff,
        "eta_cutoff": eta_cutoff,
    }
    return chain_of(
        given(sequence_bias, SequenceBias),
        given(encoder_repetition_penalty, EncoderRepetition),
        given(repetition_penalty, RepetitionPenalty),
        given(no_repeat_ngram_size, NoRepeatNGram),
        given(bad_words_ids, lambda words: BanSequences(_without_lone(words, eos))),
        given(min_new_tokens, lambda n: MinNewTokens(n, eos)),
        given(forced_bos_token_id, lambda token: _forced(1, token)),
        given(forced_eos_token_id, lambda ids: _forced(_last(max_length), ids)),
        given(late, lambda pair: ExponentialDecayLength(*_pair(pair), eos)),
        given(suppress_tokens, BanTokens),
        given(begin_suppress_tokens, SuppressAtBegin),
        *_warpers(do_sample, samplers),
    )


def _warpers(do_sample: Any, values: dict[str, Any]) -> list[Link | None]:
    """Return what only sampling does, or the greedy choice."""
    if not isinstance(do_sample, bool):
        raise TypeError(f"{WHO}: `do_sample` must be True or False, got {do_sample!r}.")
    if not do_sample:
        refuse(WHO, values, "with do_sample=False")
        return [Temperature(0.0)]
    for name in ("temperature", "typical_p"):
        if values[name] is not None:
            check.real(WHO, name, values[name], low=0.0, low_open=True)

    def off_at_1(eps):
        return where(eps, lambda eps: eps == 1, 0)

    return [
        given(values["temperature"], Temperature),
        given(values["top_h"], TopH),
        given(values["top_k"], lambda k: TopK(k, ties="keep")),
        given(values["top_p"], TopP),
        given(values["min_p"], MinP),
        given(values["typical_p"], Typical),
        given(values["epsilon_cutoff"], lambda eps: EpsilonCutoff(off_at_1(eps))),
        given(values["eta_cutoff"], lambda eps: EtaCutoff(off_at_1(eps))),
    ]


def _forced(place: int, ids: Any) -> ForcedTokens:
    return ForcedTokens({place: ids}, count_prompt=True)


def _last(max_length: Any) -> int:
    return int(check.whole(WHO, "max_length", max_length, low=1)) - 1


def _pair(value: Any) -> tuple[Any, Any]:
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise TypeError(
            f"{WHO}: `exponential_decay_length_penalty` must be (start, factor), "
            f"got {check.short(value)}."
        )
    return value[0], value[1]


def _without_lone(words: Any, eos: Any) -> Any:
    if not isinstance(words, (list, tuple)):
        return words  # for the link to refuse
    lone = [[int(i)] for i in eos]
    return [w for w in words if not isinstance(w, (list, tuple)) or list(w) not in lone]
