"""Where each parameter of a model is stored, and what must be done to it.

A layout maps our names to `Source`s: the name of the stored tensor, the shape it must
have, and the function that turns it into ours. The names and rules are those of the
family's record.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from jaxdecode.models import parameter_shapes
from jaxdecode.models.config import ModelConfig
from jaxdecode.models.families import CheckpointError, Naming
from jaxdecode.models.families.storage import Convert
from jaxdecode.models.rope import require_finite
from jaxdecode.weights.errors import listing
from jaxdecode.weights.table import Entry

_LAYER = re.compile(r"layers\.(\d+)\.(.+)")


@dataclass(frozen=True)
class Source:
    """One parameter's origin.

    Attributes:
      names: the stored tensor, or one for each expert.
      shape: the shape each must have.
      convert: from a stored array to our parameter, or to an expert's part of it.
      is_stacked: whether the parts are put together along a new first axis.
    """

    names: tuple[str, ...]
    shape: tuple[int, ...]
    convert: Convert
    is_stacked: bool = False


def layout_of(
    config: ModelConfig, naming: Naming, stored: Collection[str]
) -> dict[str, Source]:
    """Return our names with their sources.

    Args:
      config: the model.
      naming: how the format names and stores tensors.
      stored: the names in the files; they tell whether there is a prefix.
    """
    shapes = parameter_shapes(config)
    _require_experts(shapes, naming, stored)
    has_prefix = any(name.startswith(naming.prefix) for name in stored)
    prefix = naming.prefix if has_prefix else ""
    layout = {}
    for ours, shape in shapes.items():
        name, _, suffix = ours.rpartition(".")
        in_layer = _LAYER.fullmatch(name)
        if in_layer:
            name = in_layer[2]
            place = f"{prefix}{naming.blocks}.{in_layer[1]}.{naming.names[name]}"
        else:
            before = "" if name in naming.unprefixed else prefix
            place = before + naming.names[name]
        place = f"{place}.{suffix}"
        if "{}" in place:
            stored_names = tuple(place.format(expert) for expert in range(shape[0]))
            rule = naming.rule(config, name, shape[1:])
            layout[ours] = Source(stored_names, *rule, is_stacked=True)
        else:
            layout[ours] = Source((place,), *naming.rule(config, name, shape))
    return layout


def require_plausible(config: ModelConfig, stored: Mapping[str, Entry]) -> None:
    """Check that the config's sizes are no larger than what the files hold.

    Sizes come from the file and cannot be trusted: the shapes of a model are computed
    only after this check, and so are its rotary frequencies, which must be numbers.

    Args:
      config: the model.
      stored: what there is.

    Raises:
      CheckpointError: naming the size that is too large.
    """
    total = sum(entry.elements for entry in stored.values())
    needs = {
        "vocab_size": config.vocab_size * config.width,
        "mlp_width": config.mlp_width * config.width,
        "num_heads": config.num_heads * config.head_size * config.width,
        "num_layers": config.num_layers * config.width,
    }
    if not config.is_rotary:
        needs["max_length"] = config.max_length * config.width
    for name, need in needs.items():
        if need > total:
            raise CheckpointError(
                f"`{name}` of the config needs {need} weights, the files hold {total}."
            )
    if config.num_layers > len(stored):
        raise CheckpointError(
            f"`num_layers` of the config is {config.num_layers}, the files hold "
            f"{len(stored)} tensors."
        )
    try:
        require_finite(config)
    except ValueError as error:
        raise CheckpointError(str(error)) from error


def _require_experts(
    shapes: Mapping[str, tuple[int, ...]], naming: Naming, stored: Collection[str]
) -> None:
    """Check that there can be a tensor for each expert, before they are named."""
    apart = tuple(ours for ours, theirs in naming.names.items() if "{}" in theirs)
    apart = tuple(f".{name}.weight" for name in apart)
    count = sum(s[0] for ours, s in shapes.items() if apart and ours.endswith(apart))
    if count > len(stored):
        raise CheckpointError(
            f"`num_experts` of the config needs {count} tensors, the files hold "
            f"{len(stored)}."
        )


def account(
    layout: Mapping[str, Source], stored: Mapping[str, Entry], ignored: re.Pattern[str]
) -> None:
    """Check that the files hold every tensor of the layout and nothing else.

    Args:
      layout: what the model needs.
      stored: what there is.
      ignored: the names that may be there all the same.

    Raises:
      CheckpointError: naming what is missing, unexpected or of another shape.
    """
    wanted = {name: source for source in layout.values() for name in source.names}
    problems = [f"{name} is missing" for name in wanted if name not in stored]
    for name, entry in stored.items():
        if name not in wanted:
            if not ignored.fullmatch(name):
                problems.append(f"{name} is unexpected")
        elif entry.shape != wanted[name].shape:
            shape = list(wanted[name].shape)
            problems.append(f"{name} must be {shape}, is {list(entry.shape)}")
    if problems:
        raise CheckpointError(f"tensors do not fit the config: {listing(problems)}.")
