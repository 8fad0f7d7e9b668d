"""The flags that several commands share, and what they mean to the library.

The dataclasses are read by tyro: field docstrings are the help. Nothing here imports
JAX when it is loaded. Values are checked by the library, where they are used.
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
    """Which model writes."""

    name: Annotated[str, arg(name="model", metavar="NAME|PATH")] = DEFAULT_MODEL
    """A known name (see jaxdecode models), a folder, a .gguf file, or org/name."""

    dtype: Literal["auto", "float32", "bfloat16", "int8"] = "auto"
    """Number type of the weights; auto is float32 on CPU, bfloat16 elsewhere."""


@dataclass(frozen=True, kw_only=True)
class SamplingOptions:
    """How a token is chosen: bias and bans, then penalties, top-k, top-p, min-p,
    temperature, draw. The defaults are meant for readable text."""

    temperature: float = 0.8
    """Below 1 safer, above 1 wilder; 0 always takes the most likely token."""

    top_k: int = 50
    """Keep the k most likely tokens; 0 is off."""

    top_p: float = 0.95
    """Keep the most likely tokens that together hold this probability; 1 is off."""

    min_p: float = 0.0
    """Keep tokens this fraction as likely as the most likely one; 0 is off."""

    repetition_penalty: float = 1.0
    """Weaken tokens already seen, prompt included; 1 is off, usual 1.05 to 1.3."""

    frequency_penalty: float = 0.0
    """Logits taken off per occurrence in the output; 0 is off, usual 0.1 to 1."""

    presence_penalty: float = 0.0
    """Logits taken off for having occurred in the output; 0 is off, usual 0.1 to 1."""

    ban_tokens: Annotated[
        tuple[int, ...], arg(metavar="ID ...", help_behavior_hint=NO_IDS)
    ] = ()
    """Token ids that are never drawn."""

    logit_bias: Annotated[
        tuple[str, ...], arg(metavar="ID=VALUE ...", help_behavior_hint=NO_IDS)
    ] = ()
    """Logits added to chosen token ids, such as 42=-2.5."""

    min_new_tokens: int = 0
    """Tokens to write before the text may end."""


@dataclass(frozen=True, kw_only=True)
class LengthOptions:
    """How much is written, and from which seed."""

    max_new_tokens: int = 128
    """Write at most so many tokens."""

    ignore_eos: bool = False
    """Write on when the model says that the text has ended."""

    seed: Annotated[
        DisallowNone[int | None],
        arg(metavar="INT", help_behavior_hint="(default: a new one, told on stderr)"),
    ] = None
    """Names the text: equal seeds give equal texts."""


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """Everything that decides which text comes out, apart from the prompt."""

    model: OmitArgPrefixes[ModelOptions] = field(default_factory=ModelOptions)
    sampling: OmitArgPrefixes[SamplingOptions] = field(default_factory=SamplingOptions)
    length: OmitArgPrefixes[LengthOptions] = field(default_factory=LengthOptions)

    stats: bool = False
    """Print times and the number of tokens on standard error."""


def check(decoding: Decoding) -> None:
    """Refuse values out of range; what depends on the model is checked with it.

    Raises:
      ValueError: naming who refuses, which value and why.
    """
    from jaxdecode.core import check as checks

    build_sampler(decoding.sampling)
    if decoding.length.max_new_tokens < 1:
        got = decoding.length.max_new_tokens
        raise ValueError(f"--max-new-tokens must be >= 1, got {got}.")
    if decoding.length.seed is not None:
        checks.seed("--seed", decoding.length.seed)


def build_sampler(options: SamplingOptions, eos_ids: tuple[int, ...] = ()) -> "Chain":
    """Return the chain that the flags describe.

    The links of `joint` are always there, so that another value is the same compiled
    program; links that hold token ids join only when they were asked for.

    Raises:
      ValueError: if a value is out of range, in the words of the link it belongs to.
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
        left, equals, right = item.partition("=")
        try:
            token, value = int(left), float(right)
        except ValueError:
            equals = ""
        if not equals:
            raise ValueError(f"--logit-bias must be ID=VALUE, got {item!r}.")
        biases[token] = biases.get(token, 0.0) + value
    return biases
