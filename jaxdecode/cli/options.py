"""The options that several commands share, and the library's values for them.

tyro reads the dataclasses: a field's docstring is its help. Importing this file does not
import JAX. The library checks the values where it uses them.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import DisallowNone, OmitArgPrefixes, arg

if TYPE_CHECKING:
    from jaxdecode.transforms import Chain

DEFAULT_MODEL = "smollm2-135m"
NO_IDS = "(default: none)"


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """The model."""

    name: Annotated[str, arg(name="model", metavar="NAME|PATH")] = DEFAULT_MODEL
    """A known name (see jaxdecode models), a folder, a .gguf file, or org/name."""

    dtype: Literal["auto", "float32", "bfloat16", "int8"] = "auto"
    """Number type of the weights; auto is float32 on CPU, bfloat16 elsewhere."""


@dataclass(frozen=True, kw_only=True)
class JointOptions:
    """How a token is chosen, in this order: penalties, top-k, top-p, min-p, temperature,
    draw. The defaults give readable text."""

    temperature: float = 0.8
    """Below 1 less random, above 1 more; 0 always takes the most likely token."""

    top_k: int = 50
    """Keep the k most likely tokens; 0 is off."""

    top_p: float = 0.95
    """Keep the most likely tokens whose probabilities add up to this; 1 is off."""

    min_p: float = 0.0
    """Keep tokens with this fraction of the highest probability or more; 0 is off."""

    repetition_penalty: float = 1.0
    """Make tokens of prompt and output less likely; 1 is off, usual 1.05 to 1.3."""

    frequency_penalty: float = 0.0
    """Lowers a token's logit per occurrence in the output; 0 is off, usual 0.1 to 1."""

    presence_penalty: float = 0.0
    """Lowers a token's logit once if it is in the output; 0 is off, usual 0.1 to 1."""


@dataclass(frozen=True, kw_only=True)
class SamplingOptions(JointOptions):
    """How a token is chosen, in this order: biases and bans, penalties, top-k, top-p,
    min-p, temperature, draw. The defaults give readable text."""

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


@dataclass(frozen=True, kw_only=True)
class LengthOptions:
    """The length of the text, and its seed."""

    max_new_tokens: int = 128
    """Write at most this many tokens."""

    ignore_eos: bool = False
    """Continue after the model ends the text."""

    seed: Annotated[
        DisallowNone[int | None],
        arg(
            metavar="INT", help_behavior_hint="(default: a new one, printed on stderr)"
        ),
    ] = None
    """Equal seeds give equal texts."""


@dataclass(frozen=True, kw_only=True)
class DecodingOptions:
    """Everything but the prompt that decides which text is written."""

    model: OmitArgPrefixes[ModelOptions] = field(default_factory=ModelOptions)
    sampling: OmitArgPrefixes[SamplingOptions] = field(default_factory=SamplingOptions)
    length: OmitArgPrefixes[LengthOptions] = field(default_factory=LengthOptions)

    stats: bool = False
    """Print times and the number of tokens on standard error."""


def check_values(options: DecodingOptions) -> None:
    """Refuse values out of range, apart from those that depend on the model.

    Raises:
      ValueError: naming who refuses, which value and why.
    """
    from jaxdecode.core import check

    build_sampler(options.sampling)
    if options.length.max_new_tokens < 1:
        got = options.length.max_new_tokens
        raise ValueError(f"--max-new-tokens must be >= 1, got {got}.")
    if options.length.seed is not None:
        check.seed("--seed", options.length.seed)


def build_sampler(options: SamplingOptions, eos_ids: tuple[int, ...] = ()) -> "Chain":
    """Return the chain that the options describe.

    The links of `joint` are always there, so that another value uses the same compiled
    program. Links that hold token ids are added only when they are asked for.

    Raises:
      ValueError: if a value is out of range; the link that uses it says so.
    """
    from jaxdecode import transforms

    extra = []
    if options.logit_bias:
        extra.append(transforms.LogitBias(read_biases(options.logit_bias)))
    if options.ban_tokens:
        extra.append(transforms.BanTokens(options.ban_tokens))
    if options.min_new_tokens:
        extra.append(transforms.MinNewTokens(options.min_new_tokens, eos_ids))
    joint = transforms.joint(
        top_k=options.top_k,
        top_p=options.top_p,
        min_p=options.min_p,
        temperature=options.temperature,
        repetition_penalty=options.repetition_penalty,
        frequency_penalty=options.frequency_penalty,
        presence_penalty=options.presence_penalty,
    )
    return transforms.chain(*extra, joint)


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
