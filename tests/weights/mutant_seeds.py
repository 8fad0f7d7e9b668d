"""What the mutants are made of: small valid files, and pieces of templates."""

from typing import Any

from tests.text import vocabularies
from tests.weights import makers


def other_tokenizers() -> list[dict[str, Any]]:
    """Return tokenizer.json contents with models other than byte-level BPE."""
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
