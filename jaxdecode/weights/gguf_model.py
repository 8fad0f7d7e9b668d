"""A GGUF file as a model: a config, a tokenizer source and tensors.

The metadata is read by the record of the file's architecture. A key that changes the
numbers and is not implemented is refused by its name.
"""

from pathlib import Path
from typing import Any

from jaxdecode.core.check import short
from jaxdecode.core.refusing import refusing
from jaxdecode.models.config import ModelConfig
from jaxdecode.models.families import CheckpointError, Family, Format, GGUFKeys, Naming
from jaxdecode.models.families.catalog import architectures
from jaxdecode.weights.checkpoint import (
    Checkpoint,
    SpecialIds,
    Tensors,
    TokenizerSource,
    special_ids,
)
from jaxdecode.weights.errors import listing
from jaxdecode.weights.gguf_file import GGUFFile, is_decodable
from jaxdecode.weights.gguf_parts import GGUFParts, open_parts
from jaxdecode.weights.names import account, layout_of, require_plausible
from jaxdecode.weights.special import gguf_sampling, spelled_ends, texts_of_ids

TOKENIZER = "tokenizer.ggml."
# Keys that change the numbers, with the values that do not. A family may read one of
# them (`Format.reads`).
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "expert_count": (0,),
    "attention.causal": (True,),
    "attention.scale": (0.0,),
    "logit_scale": (0.0, 1.0),
    "embedding_scale": (0.0, 1.0),
    "residual_scale": (0.0, 1.0),
}


def open_gguf(path: str | Path) -> Checkpoint:
    """Open a GGUF file (see `opening.open_checkpoint`)."""
    file = open_parts(path)
    try:
        with refusing(CheckpointError, "the model cannot be read"):
            return _open(file)
    except CheckpointError as error:
        if str(error).startswith(str(file.path)):
            raise
        raise CheckpointError(f"{file.path}: {error}") from error


def _open(file: GGUFFile | GGUFParts) -> Checkpoint:
    config, naming = read_config(file)
    layout = layout_of(config, naming, file.tensors)
    account(layout, file.tensors, naming.ignored)
    wrong = [
        f"{name} is {entry.dtype}"
        for name, entry in file.tensors.items()
        if not is_decodable(entry.dtype)
    ]
    if wrong:
        raise CheckpointError(f"types that cannot be decoded: {listing(wrong)}.")
    tokenizer, ids = _tokenizer(file.metadata, config.vocab_size)
    return Checkpoint(
        config=config,
        tensors=Tensors(layout, dict.fromkeys(file.tensors, file)),
        tokenizer=tokenizer,
        eos_ids=ids[0],
        bos_id=ids[1],
        pad_id=ids[2],
        chat_template=tokenizer.metadata.get("chat_template") if tokenizer else None,
        special_texts=texts_of_ids(tokenizer.metadata) if tokenizer else None,
        name=_name(file),
        sampling=gguf_sampling(file.metadata),
    )


def _name(file: GGUFFile | GGUFParts) -> str:
    name = file.metadata.get("general.name")
    return name if isinstance(name, str) and name else file.path.stem


def find_format(file: GGUFFile | GGUFParts) -> tuple[Family, Format[GGUFKeys]]:
    """Return the family of a model and how GGUF files of its architecture are read.

    Args:
      file: the opened file.

    Raises:
      CheckpointError: for an architecture that is not supported.
    """
    arch = file.metadata.get("general.architecture")
    known = [(family, a.gguf) for family, a in architectures() if a.gguf]
    found = [(family, form) for family, form in known if arch == form.label]
    for family, form in found:
        if form.applies is not None and form.applies(file):
            return family, form
    for family, form in found:
        if form.applies is None:
            return family, form
    labels = ", ".join(dict.fromkeys(form.label for _, form in known))
    raise CheckpointError(
        f"general.architecture must be one of {labels}, got {short(arch)}."
    )


def read_config(file: GGUFFile | GGUFParts) -> tuple[ModelConfig, Naming]:
    """Map the metadata of a GGUF file onto a config.

    Args:
      file: the opened file; its tensors tell which biases there are and whether the
        output is tied.

    Returns:
      The config, and how the tensors are named and stored.

    Raises:
      CheckpointError: for an unknown architecture, an option that is not supported, a
        missing key or a value out of range.
    """
    family, form = find_format(file)
    keys = GGUFKeys(file, form.label)
    for name, neutral in NEUTRAL.items():
        if name not in form.reads:
            keys.must_be(name, neutral)
    with refusing(CheckpointError, f"metadata of {form.label}"):
        config = family.config(family=family.name, **form.read(keys))
        require_plausible(config, file.tensors)
    return config, form.tensors


def _tokenizer(
    metadata: dict[str, Any], vocab_size: int
) -> tuple[TokenizerSource | None, SpecialIds]:
    found = {
        key.removeprefix(TOKENIZER): value
        for key, value in metadata.items()
        if key.startswith(TOKENIZER)
    }
    tokens = found.get("tokens")
    if tokens is not None and (
        not isinstance(tokens, list) or len(tokens) > vocab_size
    ):
        raise CheckpointError(
            f"the tokenizer must have at most {vocab_size} tokens, as the embedding."
        )
    eos = [found.get(f"{name}_token_id") for name in ("eos", "eot", "eom")]
    ids = special_ids(
        vocab_size,
        eos=[*eos, *spelled_ends(found)],
        bos=found.get("bos_token_id"),
        pad=found.get("padding_token_id"),
    )
    if tokens is None:
        return None, ids
    template = metadata.get("tokenizer.chat_template")
    if isinstance(template, str):
        found["chat_template"] = template
    return TokenizerSource("gguf", metadata=found), ids
