"""What has to stand before a model can run: quiet logs, kept programs, the model.

The one place in the command line where JAX is first imported.
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

from jaxdecode.cli import errors, interrupt, options, output
from jaxdecode.cli.clock import since_start
from jaxdecode.cli.tally import Tally

if TYPE_CHECKING:
    from jaxdecode.text import LanguageModel

_DAMAGED = re.compile(r"persistent compilation cache entry for '([^']+)'")


@dataclass(frozen=True)
class Seat:
    """A model, the arguments with which it is asked for text, and who counts."""

    model: "LanguageModel"
    settings: dict[str, Any]
    tally: Tally | None

    def begin(self) -> None:
        """Count from here on; without it, from the start of the process."""
        if self.tally is not None:
            self.tally.begin(since_start())

    def report(self) -> None:
        """Print what was counted, if anyone counts."""
        if self.tally is not None:
            ends = self.settings.get("eos_ids", self.model.eos_ids)
            output.note(self.tally.report(ends, self.settings["max_new_tokens"]))


def take_seat(decoding: options.Decoding) -> Seat:
    """Check what was asked for, then load the model: a typo must not cost a download.

    Raises:
      ValueError: for a value out of range, an unknown name or a broken checkpoint.
      OSError: if the model is not here and cannot be fetched.
    """
    start_jax()
    options.check(decoding)
    length = decoding.length
    model = load_model(decoding.model)
    seed = length.seed
    if seed is None:
        seed = secrets.randbits(32)
        output.note(f"seed: {seed}")
    settings: dict[str, Any] = {
        "key": seed,
        "sampler": options.build_sampler(decoding.sampling, model.eos_ids),
        "max_new_tokens": length.max_new_tokens,
    }
    if length.ignore_eos:
        settings["eos_ids"] = ()
    model, tally = _counted(model) if decoding.stats else (model, None)
    return Seat(model, settings, tally)


def load_model(wanted: options.ModelOptions) -> "LanguageModel":
    """Load a model in the number type that was asked for.

    Raises:
      ValueError: for an unknown name or a broken checkpoint.
      OSError: if the model is not here and cannot be fetched.
    """
    from jaxdecode import text

    kinds = {"auto": {"dtype": None}, "int8": {"quantize": "int8"}}
    return text.load(wanted.name, **kinds.get(wanted.dtype, {"dtype": wanted.dtype}))


def _counted(model: "LanguageModel") -> "tuple[LanguageModel, Tally | None]":
    if model.tokenizer is None:
        return model, None  # it will say so itself when it is asked for text
    model = copy.copy(model)
    tally = Tally(model.tokenizer)
    model.tokenizer = tally  # type: ignore[assignment]
    return model, tally


def start_jax() -> None:
    """Import JAX without its chatter and take compiled programs from the cache.

    XLA logs an error for each program it loads on processors whose tuning hints it
    takes for missing instructions, and goes on; real failures reach Python anyway.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with interrupt.leave_at_once():
        import jaxdecode.text  # noqa: F401
        from jaxdecode.core import compile_cache

    try:
        folder = compile_cache.enable_compilation_cache()
    except OSError:
        folder = None  # a cache that cannot be had is no reason not to work
    _silence_warnings(folder)


def _silence_warnings(folder: Path | None) -> None:
    """Keep warnings for developers off the screen, and mend a cache they speak of."""
    if sys.warnoptions:
        return
    from jaxdecode.core import compile_cache

    def heard(message, *_args, **_kwargs):
        damaged = _DAMAGED.search(str(message))
        if damaged and folder is not None:
            compile_cache.forget_program(folder, damaged.group(1))
        elif str(message).startswith("LanguageModel."):  # about the text itself
            errors.tell(f"jaxdecode: warning: {message}")

    warnings.simplefilter("always")
    warnings.showwarning = heard
