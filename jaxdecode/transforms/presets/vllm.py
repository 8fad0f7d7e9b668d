"""The chain of vLLM's `SamplingParams`."""

from collections.abc import Sequence
from typing import Any

from jaxdecode.core import check
from jaxdecode.core.shapes import Biases, PerRow, TokenIds
from jaxdecode.transforms.chain import Chain
from jaxdecode.transforms.forcing import AllowTokens
from jaxdecode.transforms.penalties import (
    FrequencyPenalty,
    PresencePenalty,
    RepetitionPenalty,
)
from jaxdecode.transforms.presets.given import chain_of, given, together, where
from jaxdecode.transforms.scale import Temperature
from jaxdecode.transforms.sequences import BanSequences
from jaxdecode.transforms.truncation import MinP, TopK, TopP
from jaxdecode.transforms.vocabulary import LogitBias, MinNewTokens

WHO = "presets.vllm"
COLDEST = 0.01  # what a smaller temperature above 0 is raised to


def vllm(
    *,
    allowed_token_ids: TokenIds | None = None,
    bad_words_token_ids: Sequence[Sequence[int]] | None = None,
    min_tokens: PerRow | None = None,
    stop_token_ids: TokenIds | None = None,
    logit_bias: Biases | None = None,
    repetition_penalty: PerRow | None = None,
    frequency_penalty: PerRow | None = None,
    presence_penalty: PerRow | None = None,
    temperature: PerRow | None = None,
    min_p: PerRow | None = None,
    top_k: PerRow | None = None,
    top_p: PerRow | None = None,
) -> Chain:
    """Return the chain of vLLM's `SamplingParams`.

    Allowed ids, bad words, minimum length, bias, penalties, temperature, min-p, top-k
    (every token as large as the k-th stays), top-p. What is left out is off.

    Args:
      allowed_token_ids: draw from these only.
      bad_words_token_ids: sequences never to complete.
      min_tokens: >= 0; needs `stop_token_ids`.
      stop_token_ids: the ids that `min_tokens` bans until then: the model's eos, and all
        that end a text. (What ends it is `eos_ids` of `generate`.)
      logit_bias: {token id: bias}.
      repetition_penalty: > 0, on prompt and output.
      frequency_penalty: in [-2, 2], on the output.
      presence_penalty: in [-2, 2], on the output.
      temperature: >= 0; 0 is greedy, anything between 0 and 0.01 is raised to 0.01.
      min_p: in [0, 1].
      top_k: >= -1; 0 and -1 are off.
      top_p: in (0, 1].

    Returns:
      The chain; each parameter a number or one per row.

    Raises:
      TypeError: for an unknown argument, or one without meaning beside the others.
      ValueError: for a value out of range.
    """
    together(WHO, min_tokens=min_tokens, stop_token_ids=stop_token_ids)
    if frequency_penalty is not None:
        check.real(WHO, "frequency_penalty", frequency_penalty, low=-2.0, high=2.0)
    if presence_penalty is not None:
        check.real(WHO, "presence_penalty", presence_penalty, low=-2.0, high=2.0)
    if top_p is not None:
        check.real(WHO, "top_p", top_p, low=0.0, high=1.0, low_open=True)
    if top_k is not None:
        check.whole(WHO, "top_k", top_k, low=-1)
    return chain_of(
        given(allowed_token_ids, AllowTokens),
        given(bad_words_token_ids, BanSequences),
        given(min_tokens, lambda n: MinNewTokens(n, stop_token_ids)),
        given(logit_bias, LogitBias),
        given(repetition_penalty, RepetitionPenalty),
        given(frequency_penalty, FrequencyPenalty),
        given(presence_penalty, PresencePenalty),
        given(temperature, lambda t: Temperature(where(t, _is_cold, COLDEST))),
        given(min_p, MinP),
        given(top_k, lambda k: TopK(where(k, lambda k: k < 0, 0), ties="keep")),
        given(top_p, TopP),
    )


def _is_cold(t: Any) -> Any:
    return (t > 0) & (t < COLDEST)
