"""What is damaged, how it is read, and which errors its readers document."""

import json
import random
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jaxdecode as jd
from jaxdecode import weights
from jaxdecode.models.rope import frequencies
from jaxdecode.text.chat_template import ChatTemplate, chat_pieces
from jaxdecode.text.errors import ChatTemplateError, TokenizerError
from jaxdecode.text.gguf_tokenizer import from_gguf
from jaxdecode.text.json_tokenizer import from_json
from jaxdecode.text.stopping import as_stopping
from jaxdecode.weights import CheckpointError, open_checkpoint
from jaxdecode.weights.opening import open_file
from tests.families import checkpoints
from tests.text import vocabularies
from tests.weights import makers
from tests.weights.mutant_seeds import (
    MISTRAL,
    SNIPPETS,
    TEMPLATES,
    TOKENIZER_CONFIG,
    other_tokenizers,
)
from tests.weights.mutations import (
    damaged_bytes,
    damaged_json,
    damaged_json_text,
    damaged_text,
)

TEXTS = ("hello world", "", " <|end|>12 日本\n\ud7ff", "a" * 300)
MESSAGES = [
    {"role": "system", "content": "Be <|end|> brief."},
    {"role": "user", "content": "hello {{ world }}", "extra": {"a": [1, None]}},
]


class Case:
    """One file in one folder.

    Attributes:
      documented: the errors with which a reader may refuse it.
    """

    documented: tuple[type[Exception], ...] = (CheckpointError,)

    def __init__(self, folder: Path):
        self.folder = folder

    def damage(self, rng: random.Random) -> None:
        """Write the file anew, damaged."""
        raise NotImplementedError

    def read(self) -> None:
        """Read all of it, as a user would."""
        raise NotImplementedError

    def read_whole(self) -> None:
        """Read every file that is damaged later, without any damage."""
        self.read()


class Safetensors(Case):
    """The weights of a folder: damaged bytes, or a damaged header."""

    def __init__(self, folder):
        super().__init__(makers.write_folder(folder / "model"))
        self.path = self.folder / "model.safetensors"
        self.whole = self.path.read_bytes()

    def damage(self, rng):
        self.path.write_bytes(_damaged_tensors(rng, self.whole))

    def read(self):
        try:
            file = open_file(self.path)
            for name in file.tensors:
                file.read(name)
        except CheckpointError:
            pass
        dict(open_checkpoint(self.folder).tensors)


class GGUF(Case):
    """A GGUF file: damaged bytes, or damaged metadata."""

    documented = (CheckpointError, TokenizerError, ChatTemplateError)

    def __init__(self, folder):
        super().__init__(folder)
        self.path = folder / "x.gguf"
        spoken = {
            f"tokenizer.ggml.{key}": value
            for key, value in vocabularies.sentence_piece().items()
        }
        short = {"tokens": 0, "token_type": 0, "scores": 0}
        for key in short:
            spoken[f"tokenizer.ggml.{key}"] = spoken[f"tokenizer.ggml.{key}"][-13:]
        spoken |= {"tokenizer.ggml.token_type": [2, 3, 3, *[1] * 10]}
        letters = ["h", "e", "l", "o", "he", "ll", "hell", "hello", "1", "<|end|>"]
        plain = {
            "tokenizer.ggml.tokens": [*letters, "Ġ", "w", "<|start|>"],
            "tokenizer.ggml.token_type": [*[1] * 9, 3, 1, 1, 3],
            "tokenizer.ggml.merges": ["h e", "l l", "he ll", "hell o"],
        }
        both = (plain, spoken)
        self.wholes = []
        for metadata in both:
            path = makers.write_gguf(self.path, **metadata)
            self.wholes.append(path.read_bytes())
        self.parts = [gguf_parts(self.path, data) for data in self.wholes]

    def damage(self, rng):
        pick = rng.randrange(2)
        if rng.random() < 0.5:
            metadata, rest, count = self.parts[pick]
            self.path.write_bytes(gguf_bytes(damaged_json(rng, metadata), rest, count))
        else:
            self.path.write_bytes(damaged_bytes(rng, self.wholes[pick]))

    def read_whole(self):
        for data, parts in zip(self.wholes, self.parts, strict=True):
            for written in (data, gguf_bytes(*parts)):
                self.path.write_bytes(written)
                self.read()

    def read(self):
        for _ in range(2):  # the second time from the converted copy, if there is one
            checkpoint = weights.load_model(self.path)
        if checkpoint.tokenizer is not None:
            _speak(from_gguf(checkpoint.tokenizer.metadata), refuse=TokenizerError)
        if checkpoint.chat_template is not None:
            ChatTemplate(checkpoint.chat_template)


class TokenizerJson(Case):
    """A tokenizer.json with a BPE, Unigram, WordLevel or WordPiece model."""

    documented = (TokenizerError,)

    def __init__(self, folder):
        super().__init__(folder)
        self.path = folder / "tokenizer.json"
        vocabularies.byte_level_json(self.path)
        self.wholes = [json.loads(self.path.read_text()), *other_tokenizers()]

    def damage(self, rng):
        self.path.write_bytes(damaged_json_text(rng, rng.choice(self.wholes)))

    def read_whole(self):
        for whole in self.wholes:
            self.path.write_text(json.dumps(whole))
            self.read()

    def read(self):
        _speak(from_json(self.path), refuse=TokenizerError)


class ConfigJson(Case):
    """A JSON file of a folder: config, generation config, tokenizer config or index."""

    documented = (CheckpointError, TokenizerError, ChatTemplateError)

    def __init__(self, folder):
        super().__init__(makers.write_shards(folder / "model", {}))
        vocabularies.byte_level_json(self.folder / "tokenizer.json")
        rope = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0}
        rope |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 16}
        types = ["sliding_attention", "full_attention"]
        index = "model.safetensors.index.json"
        self.files: list[tuple[str, Any]] = [
            ("config.json", makers.LLAMA_JSON),
            ("config.json", makers.LLAMA_JSON | {"rope_scaling": rope}),
            ("config.json", makers.LLAMA_JSON | {"rope_parameters": rope}),
            ("config.json", MISTRAL | {"layer_types": types, "sliding_window": 4}),
            ("generation_config.json", {"eos_token_id": [3, 4], "bos_token_id": 2}),
            ("tokenizer_config.json", TOKENIZER_CONFIG),
            (index, json.loads((self.folder / index).read_text())),
        ]
        self.restore: Callable[[], Any] = lambda: None

    def damage(self, rng):
        self.restore()
        name, whole = rng.choice(self.files)
        path = self.folder / name
        before = path.read_bytes() if path.exists() else None

        def restore():
            return path.unlink() if before is None else path.write_bytes(before)

        self.restore = restore
        path.write_bytes(damaged_json_text(rng, whole))

    def read_whole(self):
        for name, whole in self.files:
            (self.folder / name).write_text(json.dumps(whole))
            self.read()

    def read(self):
        jd.load(self.folder)


class Families(Case):
    """The config.json of a model of any family or with any rotary scaling."""

    def __init__(self, folder):
        super().__init__(folder)
        self.wholes = {
            checkpoints.write(folder / name, name): golden["config"]
            for name, golden in checkpoints.TABLE.items()
        }
        self.place = next(iter(self.wholes))

    def damage(self, rng):
        self.place = rng.choice(list(self.wholes))
        damaged = damaged_json_text(rng, self.wholes[self.place])
        (self.place / "config.json").write_bytes(damaged)

    def read_whole(self):
        for place in self.wholes:
            self.place = place
            self.read()

    def read(self):
        config = jd.load(self.place).config
        for kind in dict.fromkeys(config.layer_kinds):
            if kind.rope_theta is not None:
                frequencies(kind, config.head_size)


class Adapter(Case):
    """The options or the matrices of a LoRA adapter, with the base that it changes."""

    def __init__(self, folder):
        super().__init__(folder / "adapter")
        self.base = checkpoints.write(folder / "base", "granite")
        shutil.copytree(makers.GOLDEN / "adapter", self.folder)
        self.config = self.folder / "adapter_config.json"
        self.tensors = self.folder / "adapter_model.safetensors"
        self.wholes = {p: p.read_bytes() for p in (self.config, self.tensors)}

    def damage(self, rng):
        for path, whole in self.wholes.items():
            path.write_bytes(whole)
        if rng.random() < 0.5:
            whole = json.loads(self.wholes[self.config])
            self.config.write_bytes(damaged_json_text(rng, whole))
        else:
            whole = self.wholes[self.tensors]
            self.tensors.write_bytes(_damaged_tensors(rng, whole))

    def read(self):
        jd.load(self.base, adapter=self.folder)


class Template(Case):
    """A chat template, rendered for prompts."""

    documented = (ChatTemplateError,)

    def __init__(self, folder):
        super().__init__(folder)
        self.text = TEMPLATES[0]
        self.tokenizer = from_gguf(vocabularies.byte_level())

    def damage(self, rng):
        self.text = damaged_text(rng, rng.choice(TEMPLATES), SNIPPETS)

    def read_whole(self):
        for self.text in TEMPLATES:
            self.read()

    def read(self):
        template = ChatTemplate(self.text, "<|start|>", "<|end|>")
        template.render(MESSAGES)
        chat_pieces(template, MESSAGES, self.tokenizer)


KINDS: dict[str, Callable[[Path], Case]] = {
    "safetensors": Safetensors,
    "gguf": GGUF,
    "tokenizer": TokenizerJson,
    "config": ConfigJson,
    "families": Families,
    "adapter": Adapter,
    "template": Template,
}


def _damaged_tensors(rng, data):
    """Return a safetensors file with damaged bytes, or with a damaged header."""
    if rng.random() < 0.5:
        return damaged_bytes(rng, data)
    size = int.from_bytes(data[:8], "little")
    header = damaged_json_text(rng, json.loads(data[8 : 8 + size]))
    return len(header).to_bytes(8, "little") + header + data[8 + size :]


def _speak(tokenizer, *, refuse):
    """Use a tokenizer; a text that it cannot express may be refused."""
    for text in TEXTS:
        for parse in (False, True):
            try:
                ids = tokenizer.encode(text, parse_special=parse)
            except ValueError as error:
                if not isinstance(error, refuse) and "no token for" not in str(error):
                    raise
                continue
            tokenizer.decode(ids)
            stream = tokenizer.stream()
            "".join([*map(stream.push, ids), stream.finish()])
    stops = {"stop": None, "stop_strings": ["lo w", "\n"], "keep_stop": False}
    as_stopping("mutants", tokenizer, 37, **stops)


def gguf_parts(path, data):
    """Return a file's metadata, what follows it, and its number of tensors."""
    from jaxdecode.weights.gguf_file import GGUFFile

    path.write_bytes(data)
    metadata = GGUFFile(path).metadata
    tensors = struct.unpack("<Q", data[8:16])[0]
    size = len(gguf_bytes(metadata, b"", tensors))
    return metadata, data[size:], tensors


def gguf_bytes(metadata, rest, tensors):
    """Write metadata of any kind, as the format can or nearly."""
    pairs = b"".join(_text(k) + _value(v) for k, v in metadata.items())
    head = b"GGUF" + struct.pack("<IQQ", 3, tensors, len(metadata))
    return head + pairs + rest


def _text(value):
    data = value.encode("utf-8", "surrogatepass")
    return struct.pack("<Q", len(data)) + data


def _value(value):
    code, body = _typed(value)
    return struct.pack("<I", code) + body


def _typed(value):
    if isinstance(value, bool):
        return 7, struct.pack("<B", value)
    if isinstance(value, int):
        if 0 <= value < 2**32:
            return 4, struct.pack("<I", value)
        return (
            (11, struct.pack("<q", value)) if abs(value) < 2**63 else (10, b"\xff" * 8)
        )
    if isinstance(value, float):
        if value != value or abs(value) < 1e38 or value == float("inf"):
            return 6, struct.pack("<f", value)
        return 12, struct.pack("<d", value)
    if isinstance(value, list):
        typed = [_typed(item) for item in value]
        code = typed[0][0] if typed else 4
        body = b"".join(part for _, part in typed)
        return 9, struct.pack("<IQ", code, len(value)) + body
    return 8, _text(value if isinstance(value, str) else json.dumps(value))
