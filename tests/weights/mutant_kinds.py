"""What is damaged, how it is read, and which errors its readers document."""

import json
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jaxdecode as jd
from jaxdecode import weights
from jaxdecode.text.chat_template import ChatTemplate, chat_pieces
from jaxdecode.text.errors import ChatTemplateError, TokenizerError
from jaxdecode.text.gguf_tokenizer import from_gguf
from jaxdecode.text.json_tokenizer import from_json
from jaxdecode.text.stopping import as_stopping
from jaxdecode.weights import CheckpointError, open_checkpoint
from jaxdecode.weights.opening import open_file
from tests.text import vocabularies
from tests.weights import makers
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
        data = self.whole
        if rng.random() < 0.5:
            size = int.from_bytes(data[:8], "little")
            header = damaged_json_text(rng, json.loads(data[8 : 8 + size]))
            data = len(header).to_bytes(8, "little") + header + data[8 + size :]
        else:
            data = damaged_bytes(rng, data)
        self.path.write_bytes(data)

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
        self.wholes = [json.loads(self.path.read_text()), *_other_tokenizers()]

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
    "template": Template,
}


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


def _other_tokenizers():
    words = {"[UNK]": 0, "hello": 1, "world": 2, "a": 3, "##a": 4, "\u2581": 5}
    spaces = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "first"}
    spaces |= {"split": True}
    added = [vocabularies.added(0, "[UNK]"), vocabularies.added(6, "<|end|>")]
    base = {"version": "1.0", "added_tokens": added, "decoder": spaces}
    base |= {"pre_tokenizer": spaces, "normalizer": {"type": "NFKC"}}
    base |= {"truncation": None, "padding": None}
    pieces = [["[UNK]", 0.0], ["hello", -2.0], ["world", -3.0], ["a", -4.0]]
    unigram = {
        "type": "Unigram",
        "unk_id": 0,
        "vocab": [*pieces, ["l", -5.0], ["\u2581", -1.0]],
    }
    level = {"type": "WordLevel", "vocab": words, "unk_token": "[UNK]"}
    piece = {"type": "WordPiece", "vocab": words, "unk_token": "[UNK]"}
    piece |= {"continuing_subword_prefix": "##", "max_input_chars_per_word": 100}
    around = {"type": "TemplateProcessing", "pair": []}
    around["single"] = [
        {"SpecialToken": {"id": "<|end|>", "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
    ]
    around["special_tokens"] = {
        "<|end|>": {"id": "<|end|>", "ids": [6], "tokens": ["<|end|>"]}
    }
    split = {"type": "Split", "pattern": {"Regex": "\\s+|\\w+"}, "invert": False}
    digits = {"type": "Digits", "individual_digits": True}
    sequence = [split | {"behavior": "Isolated"}, digits, spaces]
    return [
        base | {"model": unigram, "post_processor": around},
        base | {"model": level},
        base | {"model": piece, "normalizer": BERT},
        base
        | {
            "model": unigram,
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": sequence},
        },
        base
        | {
            "model": unigram,
            "normalizer": REPLACE,
            "padding": PADDING,
            "truncation": TRUNCATION,
        },
    ]


BERT = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True}
BERT |= {"strip_accents": None, "lowercase": True}
REPLACE = {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}
PADDING = {"strategy": {"Fixed": 8}, "direction": "Right", "pad_to_multiple_of": None}
PADDING |= {"pad_id": 0, "pad_type_id": 0, "pad_token": "[UNK]"}
TRUNCATION = {
    "direction": "Right",
    "max_length": 4,
    "strategy": "LongestFirst",
    "stride": 0,
}
MISTRAL = makers.LLAMA_JSON | {"architectures": ["MistralForCausalLM"]}
TOKENIZER_CONFIG = {
    "bos_token": "<s>",
    "eos_token": {"content": "</s>", "lstrip": False},
    "pad_token": None,
    "chat_template": [
        {"name": "default", "template": "{{ messages[0]['content'] }}"},
        {"name": "tool_use", "template": "{{ tools }}"},
    ],
}
TEMPLATES = (
    "{% for message in messages %}{{ '<|start|>' + message['role'] + '\n' + "
    "message['content'] + '<|end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start|>assistant\n' }}{% endif %}",
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set system = "
    "messages[0]['content'] | trim %}{% set rest = messages[1:] %}{% else %}{% set "
    "system = '' %}{% set rest = messages %}{% endif %}{{ system }}{% for m in rest %}"
    "{% if loop.index0 % 2 == 0 and m.role != 'user' %}{{ raise_exception('no') }}"
    "{% endif %}{{ '[' ~ m.role ~ '] ' ~ m.content ~ eos_token }}{% endfor %}",
    "{% macro show(x, n=2) %}{% for i in range(n) %}{{ x | tojson }}{% endfor %}"
    "{% endmacro %}{% set ns = namespace(count=0) %}{% for m in messages | reverse %}"
    "{% set ns.count = ns.count + m.content | length %}{{ show(m) }}{% endfor %}"
    "{{ ns.count }}{{ strftime_now('%d %b %Y') if strftime_now is defined }}",
)
SNIPPETS = (
    *("{{", "}}", "{%", "%}", "{#", "#}", "-%}", "{%-", "|", "(", ")", "[", "]", "'"),
    *("{% for i in range(10**9) %}{{ i }}{% endfor %}", "{% for m in messages %}"),
    *(
        "{% endfor %}",
        "{% if x %}",
        "{% endif %}",
        "{% else %}",
        "{% set x = messages %}",
    ),
    *(
        "{{ messages }}",
        "{{ '%999999999d' % 1 }}",
        "{{ 'a' * 10**9 }}",
        "{{ 9**9**9 }}",
    ),
    *(
        "{{ messages | map('upper') | list }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ x.y.z }}",
    ),
    *(
        "{{ 1 / 0 }}",
        "{{ 'a' | center(10**8) }}",
        "{{ range(10**8) | list }}",
        "| tojson",
    ),
    *("{% include 'x' %}", "{% import 'x' as y %}", "{% extends 'x' %}", "{{ self }}"),
    *(
        "{% macro f(a) %}",
        "{% endmacro %}",
        "{{ f(f) }}",
        "| join('a')",
        "| sort",
        "loop",
    ),
    *("{{ dict(a=1) }}", "{{ [[1]] * 9 }}", "~", "+ 1", "- 'a'", "** 2", "is defined"),
    *(
        "message",
        "messages",
        "'role'",
        "content",
        "<|end|>",
        "\ue000",
        "\0",
        "{{ none.a }}",
    ),
    *(
        "{% set ns.x = 1 %}",
        "{{ namespace(a=namespace()) }}",
        "{% filter upper %}",
        "é",
    ),
    *(
        "{% endfilter %}",
        "{% raw %}",
        "{% endraw %}",
        "{% call f() %}",
        "{{ caller() }}",
    ),
    *(
        "{% break %}",
        "{% continue %}",
        "{% generation %}",
        "[::-1]",
        "[10**20:]",
        "{{ 1e999 }}",
    ),
    *("{{ 'a'.format(*messages) }}", "{{ '{0[a]}'.format(1) }}", "{{ x | attr('y') }}"),
)
