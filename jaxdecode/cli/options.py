"""The options that several commands share, and the library's values for them.

tyro reads the dataclasses: a field's docstring is its help. Importing this file does not
import JAX. The library checks the values where it uses them.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import DisallowNone, OmitArgPrefixes, UseAppendAction, arg

DEFAULT_MODEL = "smollm2-135m"
NO_IDS = "(default: none)"


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """The model."""

    name: Annotated[str, arg(name="model", metavar="NAME|PATH")] = DEFAULT_MODEL
    """A known name (see jaxdecode models), a folder, a .gguf file, or org/name."""

    dtype: Literal["auto", "float32", "bfloat16", "int8"] = "auto"
    """Number type of the weights; auto is float32 on CPU, bfloat16 elsewhere."""

    adapter: Annotated[
        DisallowNone[str | None],
        arg(metavar="FOLDER", help_behavior_hint="(default: none)"),
    ] = None
    """A LoRA adapter that is merged into the model, which must then be a folder."""


class DefaultFloat(float):
    """A default: told apart from the same number typed by a person."""


class DefaultInt(int):
    """A default, likewise."""


@dataclass(frozen=True, kw_only=True)
class JointOptions:
    """How a token is chosen, in this order: penalties, top-k, top-p, min-p, temperature,
    draw. The defaults give readable text."""

    temperature: float = DefaultFloat(0.8)
    """Below 1 less random, above 1 more; 0 always takes the most likely token."""

    top_k: int = DefaultInt(50)
    """Keep the k most likely tokens; 0 is off."""

    top_p: float = DefaultFloat(0.95)
    """Keep the most likely tokens whose probabilities add up to this; 1 is off."""

    min_p: float = DefaultFloat(0.0)
    """Keep tokens with this fraction of the highest probability or more; 0 is off."""

    repetition_penalty: float = DefaultFloat(1.0)
    """Make tokens of prompt and output less likely; 1 is off, usual 1.05 to 1.3."""

    frequency_penalty: float = DefaultFloat(0.0)
    """Lowers a token's logit per occurrence in the output; 0 is off, usual 0.1 to 1."""

    presence_penalty: float = DefaultFloat(0.0)
    """Lowers a token's logit once if it is in the output; 0 is off, usual 0.1 to 1."""


@dataclass(frozen=True, kw_only=True)
class SamplingOptions(JointOptions):
    """How a token is chosen, in this order: biases and bans, penalties, top-k, top-p,
    min-p, temperature, draw. Without any of these the sampler is the one that comes with
    the model; where there is none, the defaults give readable text."""

    ban_tokens: Annotated[
        tuple[int, ...], arg(metavar="ID ...", help_behavior_hint=NO_IDS)
    ] = ()
    """Token ids that are never drawn."""

    logit_bias: Annotated[
        tuple[str, ...], arg(metavar="ID=VALUE ...", help_behavior_hint=NO_IDS)
    ] = ()
    """Added to the logits of chosen token ids, such as 42=-2.5."""

    min_new_tokens: int = 0
    """The text cannot end before this many tokens."""

    sampler: Annotated[
        DisallowNone[str | None],
        arg(metavar="FILE.json", help_behavior_hint="(default: none)"),
    ] = None
    """A whole chain in place of the above, as Chain.to_dict writes it: any sampler."""

    preset: Annotated[
        DisallowNone[str | None],
        arg(metavar="NAME", help_behavior_hint="(default: none)"),
    ] = None
    """The order and rules of another system (joint, llama_cpp, transformers or vllm);
    what is not given is then off."""

    set: Annotated[
        UseAppendAction[tuple[str, ...]],
        arg(metavar="NAME=VALUE", help_behavior_hint="(repeatable)"),
    ] = ()
    """With --preset: a further argument of it, such as typical_p=0.9."""


@dataclass(frozen=True, kw_only=True)
class LengthOptions:
    """The length of the text, and its seed."""

    max_new_tokens: int = 128
    """Write at most this many tokens."""

    ignore_eos: bool = False
    """Continue after the model ends the text."""

    stop: Annotated[
        UseAppendAction[tuple[str, ...]],
        arg(metavar="TEXT", help_behavior_hint="(repeatable)"),
    ] = ()
    """End the text where this one is complete, and leave it out."""

    seed: Annotated[
        DisallowNone[int | None],
        arg(
            metavar="INT", help_behavior_hint="(default: a new one, printed on stderr)"
        ),
    ] = None
    """Equal seeds give equal texts."""


@dataclass(frozen=True, kw_only=True)
class PatternOptions:
    """What the text has to fit: at most one of these. It then always ends in time."""

    regex: Annotated[
        DisallowNone[str | None],
        arg(metavar="PATTERN", help_behavior_hint="(default: none)"),
    ] = None
    """A regular expression that the whole text matches, in Python's syntax."""

    schema: Annotated[
        DisallowNone[Path | None],
        arg(metavar="FILE", help_behavior_hint="(default: none)"),
    ] = None
    """A file with a JSON schema that the text is valid under."""

    choices: Annotated[
        tuple[str, ...], arg(metavar="TEXT ...", help_behavior_hint="(default: none)")
    ] = ()
    """Texts of which it is one."""


@dataclass(frozen=True, kw_only=True)
class DecodingOptions:
    """Everything but the prompt that decides which text is written."""

    model: OmitArgPrefixes[ModelOptions] = field(default_factory=ModelOptions)
    sampling: OmitArgPrefixes[SamplingOptions] = field(default_factory=SamplingOptions)
    length: OmitArgPrefixes[LengthOptions] = field(default_factory=LengthOptions)

    patterns: OmitArgPrefixes[PatternOptions] = field(default_factory=PatternOptions)

    stats: bool = False
    """Print times and the number of tokens on standard error."""


def read_pattern(options: PatternOptions) -> dict[str, Any]:
    """Return the pattern as an argument of `LanguageModel.generate`, or no argument.

    Raises:
      ValueError: for more than one, or one that is malformed or not supported.
      OSError: if the file with the schema cannot be read.
    """
    from jaxdecode.transforms.patterns.compiling import check_pattern

    found: dict[str, Any] = {}
    if options.regex is not None:
        found["regex"] = options.regex
    if options.schema is not None:
        found["schema"] = options.schema.read_text(encoding="utf-8")
    if options.choices:
        found["choices"] = list(options.choices)
    if len(found) > 1:
        names = " and ".join(f"--{name}" for name in found)
        raise ValueError(f"{names} must not be given together.")
    for name, value in found.items():
        check_pattern(f"--{name}", name, value)
    return found


def read_biases(items: tuple[str, ...]) -> dict[int, float]:
    """Return {token id: bias} for items such as "42=-2.5"; biases of one id add up."""
    biases: dict[int, float] = {}
    for item in items:
        token, _, value = item.partition("=")
        try:
            bias = float(value)
            biases[int(token)] = biases.get(int(token), 0.0) + bias
        except ValueError:
            raise ValueError(f"--logit-bias must be ID=VALUE, got {item!r}.") from None
    return biases
