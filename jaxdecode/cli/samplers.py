"""From the options of sampling to a chain: flags, a preset, a file, the model's own."""

import json
from typing import TYPE_CHECKING, Any

from jaxdecode.cli.options import (
    DefaultFloat,
    DefaultInt,
    SamplingOptions,
    read_biases,
)

if TYPE_CHECKING:
    from jaxdecode.transforms import Chain

FLAGS = (
    *("temperature", "top_k", "top_p", "min_p"),
    *("repetition_penalty", "frequency_penalty", "presence_penalty"),
)
PRESETS = ("joint", "llama_cpp", "transformers", "vllm")
FILE_MAX = 2**24  # bytes


def choose_sampler(
    options: SamplingOptions,
    eos_ids: tuple[int, ...] = (),
    default: "Chain | None" = None,
) -> "tuple[Chain, bool]":
    """Return the chain that the options ask for.

    The links of `joint` are always there, so that another value uses the same compiled
    program. Links that hold token ids are added, before the others, only when they are
    asked for.

    Args:
      options: the options.
      eos_ids: ids that end a text.
      default: the sampler that comes with the model, or None.

    Returns:
      The chain, and whether it is the model's own.

    Raises:
      ValueError: if a value is out of range or options exclude each other.
      OSError: if a file cannot be read.
    """
    from jaxdecode import transforms

    given = given_flags(options)
    _check_together(options, given)
    if options.sampler is not None:
        chosen = read_chain(options.sampler)
    elif options.preset is not None:
        chosen = _of_preset(options.preset, given, options.set)
    elif default is not None and not given:
        return transforms.chain(*_extra(options, eos_ids), default), True
    else:
        chosen = transforms.joint(**{name: getattr(options, name) for name in FLAGS})
    return transforms.chain(*_extra(options, eos_ids), chosen), False


def build_sampler(options: SamplingOptions, eos_ids: tuple[int, ...] = ()) -> "Chain":
    """Return the chain that the options describe, whatever the model's own is.

    Raises:
      ValueError: as `choose_sampler`.
      OSError: as `choose_sampler`.
    """
    return choose_sampler(options, eos_ids)[0]


def given_flags(options: SamplingOptions) -> dict[str, Any]:
    """Return the numbers that a person typed, by name."""
    values = {name: getattr(options, name) for name in FLAGS}
    kinds = (DefaultFloat, DefaultInt)
    return {n: value for n, value in values.items() if not isinstance(value, kinds)}


def read_chain(file: str) -> "Chain":
    """Return the chain in a JSON file, as `Chain.to_dict` writes it.

    Raises:
      OSError: if the file cannot be read.
      ValueError: if it is not such a chain; the message says what is wrong.
    """
    from jaxdecode.transforms import Chain

    with open(file, "rb") as opened:
        data = opened.read(FILE_MAX + 1)
    try:
        if len(data) > FILE_MAX:
            raise ValueError(f"must have at most {FILE_MAX} bytes.")
        return Chain.from_dict(json.loads(data.decode("utf-8-sig")))
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"--sampler {file}: {error}") from error


def _extra(options: SamplingOptions, eos_ids: tuple[int, ...]) -> list[Any]:
    from jaxdecode import transforms

    extra: list[Any] = []
    if options.logit_bias:
        extra.append(transforms.LogitBias(read_biases(options.logit_bias)))
    if options.ban_tokens:
        extra.append(transforms.BanTokens(options.ban_tokens))
    if options.min_new_tokens:
        extra.append(transforms.MinNewTokens(options.min_new_tokens, eos_ids))
    return extra


def _of_preset(name: str, given: dict[str, Any], further: tuple[str, ...]) -> "Chain":
    from jaxdecode.transforms import presets

    if name == "llama_cpp" and "repetition_penalty" in given:
        given["repeat_penalty"] = given.pop("repetition_penalty")
    for item in further:
        argument, sign, value = item.partition("=")
        if not (argument and sign):
            raise ValueError(f"--set must be NAME=VALUE, got {item!r}.")
        given[argument.replace("-", "_")] = _read_value(value)
    try:
        return getattr(presets, name)(**given)
    except TypeError as error:
        raise ValueError(f"--preset {name}: {error}") from error


def _read_value(text: str) -> Any:
    """Return a JSON value; what is not JSON is a text."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _check_together(options: SamplingOptions, given: dict[str, Any]) -> None:
    if options.sampler is not None and (given or options.preset):
        other = "preset" if options.preset else next(iter(given)).replace("_", "-")
        raise ValueError(
            f"--sampler holds the whole chain: --{other} must not be given beside it."
        )
    if options.preset is not None and options.preset not in PRESETS:
        raise ValueError(
            f"--preset must be one of {', '.join(PRESETS)}, got {options.preset!r}."
        )
    if options.set and options.preset is None:
        raise ValueError("--set must come with --preset, whose argument it is.")
