"""A model folder in Hugging Face form: config.json, safetensors shards, tokenizer.

Only JSON, safetensors and jinja text are read, and only inside the folder: the shard
names of an index come from the file and must not lead out of it.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from jaxdecode.core.check import short
from jaxdecode.core.refusing import refusing
from jaxdecode.models.config import ModelConfig
from jaxdecode.models.families import Naming
from jaxdecode.weights import adapter as adapters
from jaxdecode.weights import vocabulary
from jaxdecode.weights.checkpoint import (
    Checkpoint,
    SpecialIds,
    Tensors,
    TokenizerSource,
    special_ids,
)
from jaxdecode.weights.config_json import find_format, read_config
from jaxdecode.weights.errors import PICKLES, CheckpointError, listing
from jaxdecode.weights.names import account, layout_of, require_plausible
from jaxdecode.weights.safetensors_file import SafetensorsFile
from jaxdecode.weights.special import all_ids, named_texts, sampling_settings
from jaxdecode.weights.table import TensorFile
from jaxdecode.weights.wrapped import without_wrappers

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
FLOATS = ("F32", "F16", "BF16")
JSON_MAX = 64 * 2**20
OPTIONS_MAX = 4 * 2**20  # of a file of options, whose lists are not checked by weights
TEMPLATE_MAX = 2**20
FILE_NAME_MAX = 255  # bytes, on all file systems in use


def open_folder(folder: str | Path, adapter: str | Path | None = None) -> Checkpoint:
    """Open a model folder (see `opening.open_checkpoint`)."""
    folder = Path(folder)
    try:
        with refusing(CheckpointError, "the model cannot be read"):
            return _open(folder, None if adapter is None else Path(adapter))
    except CheckpointError as error:
        if str(error).startswith(str(folder)):
            raise
        raise CheckpointError(f"{folder}: {error}") from error


def _open(folder: Path, adapter: Path | None) -> Checkpoint:
    raw = read_json(folder, "config.json", OPTIONS_MAX)
    if raw is None:
        raise CheckpointError(_no_config(folder))
    config = read_config(raw)
    generation = read_json(folder, "generation_config.json", OPTIONS_MAX) or {}
    eos_ids, bos_id, pad_id = _ids(generation, raw, config.vocab_size)
    return Checkpoint(
        config=config,
        tensors=_tensors(folder, adapter, config, find_format(raw)[1].tensors),
        tokenizer=_tokenizer(folder, raw),
        eos_ids=eos_ids,
        bos_id=bos_id,
        pad_id=pad_id,
        chat_template=_chat_template(folder),
        special_texts=named_texts(
            read_json(folder, "tokenizer_config.json"),
            read_json(folder, "special_tokens_map.json"),
        ),
        sampling=sampling_settings(generation),
        name=_name(folder),
    )


def member(folder: Path, name: str) -> Path | None:
    """Return the path of a file of the folder, or None if it has none of that name.

    Raises:
      CheckpointError: if the name, or the link it is, leads out of the folder, or to
        something that is not a file.
    """
    if Path(name).name != name or "\\" in name or name in ("", ".", ".."):
        raise CheckpointError(f"file name must stay in the folder, got {short(name)}.")
    if "\0" in name or len(name.encode("utf-8", "replace")) > FILE_NAME_MAX:
        raise CheckpointError(f"there can be no file of the name {short(name)}.")
    path = folder / name
    if not path.exists():
        return None
    root = folder.resolve()
    allowed = [root]
    if root.parent.name == "snapshots":  # a hub cache: files are links to its blobs
        allowed.append(root.parent.parent / "blobs")
    if not any(path.resolve().is_relative_to(place) for place in allowed):
        raise CheckpointError(
            f"{name} is a link out of the folder; put the file itself there."
        )
    if not path.is_file():
        raise CheckpointError(f"{name} is not a file.")
    return path


def read_json(
    folder: Path, name: str, bytes_max: int = JSON_MAX
) -> dict[str, Any] | None:
    """Return the object in a JSON file of the folder, or None if there is no file.

    Args:
      folder: the folder.
      name: the file.
      bytes_max: how large it may be.

    Raises:
      CheckpointError: if the file is too large, not JSON, or not an object.
    """
    path = member(folder, name)
    if path is None:
        return None
    if path.stat().st_size > bytes_max:
        raise CheckpointError(f"{name} must have at most {bytes_max} bytes.")
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{name} is not JSON: {error}.") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{name} must hold an object.")
    return value


def _tensors(
    folder: Path, adapter: Path | None, config: ModelConfig, naming: Naming
) -> Tensors:
    """Open the weights and account for every one of them."""
    files = without_wrappers(_weights(folder))
    if adapter is not None:
        files = _adapted(files, adapter, naming.prefix)
    stored = {name: file.tensors[name] for name, file in files.items()}
    require_plausible(config, stored)
    layout = layout_of(config, naming, stored)
    head = f"{naming.names['head']}.weight"
    if config.tied_output and head in stored:
        _require_equal(files, layout["embedding.weight"].names[0], head)
        del stored[head]
    if not config.tied_output and head not in stored:
        raise CheckpointError(
            f"{head} is missing, and `tie_word_embeddings` is false in config.json or by "
            "default; set it to true if the embedding is the output map, too."
        )
    account(layout, stored, naming.ignored)
    used = {name for source in layout.values() for name in source.names}
    wrong = [f"{n} is {stored[n].dtype}" for n in used if stored[n].dtype not in FLOATS]
    if wrong:
        kinds = ", ".join(FLOATS)
        raise CheckpointError(f"weights must be {kinds}: {listing(sorted(wrong))}.")
    return Tensors(layout, files)


def _ids(
    generation: dict[str, Any], raw: dict[str, Any], vocab_size: int
) -> SpecialIds:
    """Return eos ids, bos id, pad id; generation_config.json comes first.

    Either file may be the one that knows how a turn ends: their eos ids are taken
    together.
    """

    def named(key: str) -> Any:
        value = generation.get(key)
        return raw.get(key) if value is None else value

    return special_ids(
        vocab_size,
        eos=all_ids(generation, raw),
        bos=named("bos_token_id"),
        pad=named("pad_token_id"),
    )


def _weights(folder: Path) -> dict[str, SafetensorsFile]:
    """Return which file has each tensor."""
    single = member(folder, WEIGHTS)
    if single is not None:
        file = SafetensorsFile(single)
        return dict.fromkeys(file.tensors, file)
    index = read_json(folder, INDEX)
    if index is None:
        raise CheckpointError(_no_weights(folder))
    return _shards(folder, index.get("weight_map"))


def _shards(folder: Path, places: Any) -> dict[str, SafetensorsFile]:
    if not isinstance(places, dict) or not all(
        isinstance(shard, str) for shard in places.values()
    ):
        raise CheckpointError(f"{INDEX} must map tensor names to files (weight_map).")
    opened: dict[str, SafetensorsFile] = {}
    for shard in sorted(set(places.values())):
        path = member(folder, shard)
        if path is None:
            raise CheckpointError(f"{INDEX} names {short(shard)}, which is missing.")
        opened[shard] = SafetensorsFile(path)
    problems = [
        f"{name} is not in {shard}"
        for name, shard in places.items()
        if name not in opened[shard].tensors
    ]
    problems += [
        f"{name} in {shard} is not in the index"
        for shard, file in opened.items()
        for name in file.tensors
        if places.get(name) != shard
    ]
    if problems:
        raise CheckpointError(f"{INDEX} and the files disagree: {listing(problems)}.")
    return {name: opened[shard] for name, shard in places.items()}


def _adapted(
    files: dict[str, TensorFile], folder: Path, prefix: str
) -> dict[str, TensorFile]:
    """Return the base's tensors with the changes of the adapter in a folder."""
    try:
        options = read_json(folder, adapters.CONFIG, OPTIONS_MAX)
        if options is None:
            raise CheckpointError(f"there is no {adapters.CONFIG}.")
        tensors = adapters.open_tensors(member(folder, adapters.WEIGHTS), folder)
        return adapters.merged(files, options, tensors, prefix)
    except CheckpointError as error:
        if str(error).startswith(str(folder)):
            raise
        raise CheckpointError(f"adapter {folder}: {error}") from error


def _require_equal(files: dict[str, TensorFile], a: str, b: str) -> None:
    if a in files and not np.array_equal(files[a].read(a), files[b].read(b)):
        raise CheckpointError(
            f"tie_word_embeddings is true, but {b} differs from {a}; one of them would "
            "have to be ignored."
        )


def _chat_template(folder: Path) -> str | None:
    path = member(folder, "chat_template.jinja")
    if path is not None:
        # What is wrong with it matters to conversations only: they will say it.
        with path.open("rb") as file:
            return file.read(TEMPLATE_MAX).decode("utf-8-sig", "surrogateescape")
    template = (read_json(folder, "tokenizer_config.json") or {}).get("chat_template")
    if template is None:
        template = (read_json(folder, "chat_template.json") or {}).get("chat_template")
    if isinstance(template, list):  # several, each with a name
        named = [t for t in template if isinstance(t, dict)]
        named = [t.get("template") for t in named if t.get("name") == "default"]
        template = named[-1] if named else None
    return template if isinstance(template, str) else None


def _tokenizer(folder: Path, raw: dict[str, Any]) -> TokenizerSource | None:
    """Return where the tokenizer comes from: the newest form that the folder has."""
    path = member(folder, "tokenizer.json")
    if path is not None:
        return TokenizerSource("json", path)
    settings = read_json(folder, "tokenizer_config.json") or {}
    try:
        model = member(folder, "tokenizer.model")
        if model is not None:
            found = vocabulary.from_sentencepiece(model, settings)
            return TokenizerSource("gguf", metadata=found)
        vocab, merges = read_json(folder, "vocab.json"), member(folder, "merges.txt")
        if vocab is not None and merges is not None:
            found = vocabulary.from_merges(vocab, merges, settings, raw)
            return TokenizerSource("gguf", metadata=found)
    except vocabulary.Unknown as error:
        return TokenizerSource("unsupported", reason=str(error))
    if member(folder, "tekken.json") is not None:
        reason = "tekken.json is not supported; a tokenizer.json of the same model is"
        return TokenizerSource("unsupported", reason=reason)
    return None


def _name(folder: Path) -> str:
    root = folder.resolve()
    if root.parent.name == "snapshots":  # hub cache: models--org--name/snapshots/commit
        return "/".join(root.parent.parent.name.split("--")[1:])
    return root.name


def _no_config(folder: Path) -> str:
    options = read_json(folder, adapters.CONFIG)
    if options is not None:
        return adapters.said_of(options)
    ggufs = sorted(path.name for path in folder.glob("*.gguf"))
    hint = f" Give the file itself: {ggufs[0]}." if ggufs else ""
    return f"there is no config.json.{hint}"


def _no_weights(folder: Path) -> str:
    options = read_json(folder, adapters.CONFIG)
    if options is not None:
        return adapters.said_of(options)
    pickles = sorted(p.name for p in folder.iterdir() if p.suffix in PICKLES)
    if pickles:
        return (
            f"the weights are pickle files ({listing(pickles)}), which can run code when "
            "read and are never opened; convert the model to safetensors."
        )
    return f"there is neither {WEIGHTS} nor {INDEX}."
