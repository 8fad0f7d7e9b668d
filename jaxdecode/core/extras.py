"""What is installed only on request: the packages of each extra, named when missing."""

import contextlib
from collections.abc import Iterator

EXTRAS = {
    "text": (
        *("safetensors", "gguf", "tokenizers", "huggingface_hub", "jinja2"),
        *("sentencepiece", "google"),
    ),
    "cli": ("tyro", "rich", "zstandard"),
    "ray": ("ray",),
    "server": ("starlette", "uvicorn"),
    "lm-eval": ("lm_eval",),
    "export": ("flatbuffers",),
}


@contextlib.contextmanager
def needs(what: str) -> Iterator[None]:
    """Name the extra that brings a package which an import inside cannot find.

    Args:
      what: who needs it, for the message.

    Raises:
      ImportError: in place of the `ModuleNotFoundError` of a package of an extra.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        extra = next((e for e, names in EXTRAS.items() if package in names), None)
        if extra is None:
            raise
        raise ImportError(
            f"{what} needs the package {package!r}, which is not installed; "
            f'pip install "jaxdecode[{extra}]" brings it.',
            name=package,
        ) from error
