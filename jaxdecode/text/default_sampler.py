"""The sampler that a model's makers recommend, from its generation_config.json."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from jaxdecode.transforms import Chain, presets

# What only drawing does; a greedy choice has no use for it.
_DRAWS = (
    *("temperature", "top_h", "top_k", "top_p", "min_p", "typical_p"),
    *("epsilon_cutoff", "eta_cutoff"),
)
# Settings whose value 0, or nothing, means that they are off.
_OFF_AT_ZERO = ("top_k", "min_p", "no_repeat_ngram_size", "min_new_tokens")
_OFF_AT_ZERO += ("bad_words_ids", "suppress_tokens", "begin_suppress_tokens")
_NEED_EOS = ("min_new_tokens", "exponential_decay_length_penalty", "bad_words_ids")


def default_sampler(
    settings: Mapping[str, Any], eos_ids: Sequence[int]
) -> Chain | None:
    """Return the chain that a model's own settings describe.

    It is `presets.transformers` of them: its order and its rules. A temperature of 0 is
    greedy, as `do_sample: false` is; without `do_sample` a text is drawn if a setting
    for drawing is there.

    Args:
      settings: as in generation_config.json, without nulls.
      eos_ids: ids that end a text.

    Returns:
      The chain; None if there are no settings, or, with a warning, if they are wrong.
    """
    if not settings:
        return None
    try:
        return presets.transformers(**_arguments(settings, eos_ids))
    except (TypeError, ValueError) as error:
        warnings.warn(
            f"LanguageModel.default_sampler: generation_config.json is not used: {error}",
            RuntimeWarning,
            stacklevel=2,
        )
        return None


def _arguments(settings: Mapping[str, Any], eos_ids: Sequence[int]) -> dict[str, Any]:
    given = {
        name: value
        for name, value in settings.items()
        if not (name in _OFF_AT_ZERO and _is_off(value))
    }
    draws = given.pop("do_sample", any(name in given for name in _DRAWS))
    if given.get("temperature") == 0:
        draws = False
    if draws is False:
        given = {name: v for name, v in given.items() if name not in _DRAWS}
    if eos_ids and any(name in given for name in _NEED_EOS):
        given["eos_token_id"] = list(eos_ids)
    return given | {"do_sample": draws}


def _is_off(value: Any) -> bool:
    if isinstance(value, (int, float)):
        return value <= 0
    return isinstance(value, (list, dict)) and not value
