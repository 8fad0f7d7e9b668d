"""What a command needs before a model can run: quiet logs, compiled programs, the model.

The only file of the command line that imports JAX first.
"""

import copy
import os
import re
import secrets
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxdecode.cli import errors, interrupt, options, output, samplers
from jaxdecode.cli.clock import since_start
from jaxdecode.cli.stats import TokenCounter
from jaxdecode.core import garbage

if TYPE_CHECKING:
    from jaxdecode.text import LanguageModel

_DAMAGED = re.compile(r"persistent compilation cache entry for '([^']+)'")


@dataclass(frozen=True)
class Session:
    """A loaded model and the settings of one command.

    Attributes:
      model: the model.
      settings: arguments of `LanguageModel.stream` and the like.
      counter: counts tokens for `--stats`; None without it.
      uses_own_sampler: whether the sampler is the one that comes with the model.
    """

    model: "LanguageModel"
    settings: dict[str, Any]
    counter: TokenCounter | None
    uses_own_sampler: bool = False

    def restart_clock(self) -> None:
        """Measure times from now on; before, they start with the process."""
        if self.counter is not None:
            self.counter.reset(since_start())

    def report(self) -> None:
        """Print the statistics, if they were asked for."""
        if self.counter is not None:
            ends = self.settings.get("eos_ids", self.model.eos_ids)
            budget, stops = self.settings["max_new_tokens"], "stop_strings"
            output.note(self.counter.report(ends, budget, stops in self.settings))
            if self.uses_own_sampler:
                output.note(f"the model's own sampler: {self.settings['sampler']}")


def open_session(given: options.DecodingOptions, *, draws: bool = True) -> Session:
    """Check the options, then load the model: a typing mistake must not cost a download.

    Args:
      given: the options of the command.
      draws: whether tokens are drawn; a new seed is then printed.

    Raises:
      ValueError: for a value out of range, an unknown name or a broken checkpoint.
      OSError: if the model is not on this machine and cannot be fetched.
    """
    start_jax()
    _check_values(given)
    model = load_model(given.model)
    seed = given.length.seed
    if seed is None:
        seed = secrets.randbits(32)
        if draws:
            output.note(f"seed: {seed}")
    sampler, is_own = samplers.choose_sampler(
        given.sampling, model.eos_ids, model.default_sampler
    )
    settings: dict[str, Any] = {
        "key": seed,
        "sampler": sampler,
        "max_new_tokens": given.length.max_new_tokens,
    }
    settings |= options.read_pattern(given.patterns)
    if given.length.stop:
        settings["stop_strings"] = list(given.length.stop)
    if given.length.ignore_eos:
        settings["eos_ids"] = ()
    model, counter = _counted(model) if given.stats else (model, None)
    return Session(model, settings, counter, is_own)


def _check_values(given: options.DecodingOptions) -> None:
    """Refuse values out of range, apart from those that depend on the model.

    Raises:
      ValueError: naming who refuses, which value and why.
    """
    from jaxdecode.core import check

    samplers.choose_sampler(given.sampling)
    options.read_pattern(given.patterns)
    if "" in given.length.stop:
        raise ValueError("--stop must not be empty.")
    if given.length.max_new_tokens < 1:
        got = given.length.max_new_tokens
        raise ValueError(f"--max-new-tokens must be >= 1, got {got}.")
    if given.length.seed is not None:
        check.seed("--seed", given.length.seed)


def load_model(given: options.ModelOptions) -> "LanguageModel":
    """Load a model in the number type that was asked for, with its adapter.

    Raises:
      ValueError: for an unknown name or a broken checkpoint.
      OSError: if the model is not on this machine and cannot be fetched.
    """
    with garbage.not_collected():
        return _loaded(given)


def _loaded(given: options.ModelOptions) -> "LanguageModel":
    from jaxdecode import text

    kinds = {"auto": {"dtype": None}, "int8": {"quantize": "int8"}}
    asked: dict[str, Any] = dict(kinds.get(given.dtype, {"dtype": given.dtype}))
    if given.adapter is not None:
        if not Path(given.adapter).expanduser().is_dir():
            raise FileNotFoundError(
                f"--adapter must be a folder, got {given.adapter!r}, and there is none."
            )
        asked["adapter"] = given.adapter
    return text.load(given.name, **asked)


def _counted(model: "LanguageModel") -> "tuple[LanguageModel, TokenCounter | None]":
    if model.tokenizer is None:
        return model, None  # the model itself says so when it is asked for text
    counter = TokenCounter(model.tokenizer)
    model = copy.copy(model)
    model.tokenizer = counter  # type: ignore[assignment]
    return model, counter


def start_jax() -> None:
    """Import JAX without its log messages, and use the compilation cache.

    On some processors XLA logs an error for every program that it loads, because it
    takes tuning hints for missing instructions. It is harmless; real failures reach
    Python as exceptions.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with interrupt.exit_at_once(), garbage.not_collected():
        import jaxdecode.text  # noqa: F401
        from jaxdecode.core import compile_cache

    try:
        folder = compile_cache.enable_compilation_cache()
    except OSError:
        folder = None  # everything works without a cache, only slower
    _silence_warnings(folder)


def _silence_warnings(folder: Path | None) -> None:
    """Hide warnings for developers; delete the damaged cache files that they name."""
    if sys.warnoptions:
        return
    from jaxdecode.core import compile_cache

    def show(message, *_args, **_kwargs):
        damaged = _DAMAGED.search(str(message))
        if damaged and folder is not None:
            compile_cache.forget_program(folder, damaged.group(1))
        elif str(message).startswith("LanguageModel."):  # about the text itself
            errors.print_line(f"jaxdecode: warning: {message}")

    warnings.simplefilter("always")
    warnings.showwarning = show
