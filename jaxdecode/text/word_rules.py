"""How byte-level vocabularies of GGUF files cut text into words before merging.

A file has only the name (`tokenizer.ggml.pre`) of its rule; several names may mean one
rule. The rules are those of the models' own tokenizers, as llama.cpp lists them. An
unknown name is refused: with a wrong rule the ids are nearly right, and the model nearly
works.
"""

from collections.abc import Callable
from typing import Any

from tokenizers import Regex, pre_tokenizers

from jaxdecode.core.check import short
from jaxdecode.text.errors import UnsupportedTokenizerError

# A contraction; a word with at most one sign before it; digits; signs, with one space
# before and line ends after; line ends; other space, but not the last one before a word.
_MODERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"
_LINES = r"[^\n]+|\n+"  # spaces merge like letters
# As the first, but a word is cut before a capital letter that follows a small one.
_UPPER, _LOWER = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}", r"\p{Ll}\p{Lm}\p{Lo}\p{M}"
_TEKKEN = (
    rf"[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}]*[{_LOWER}]+"
    rf"|[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}]+[{_LOWER}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# Letters with a case, in the Unicode version of DeepSeek's first tokenizer.
_CASED = """
    41-5a 61-7a b5 c0-d6 d8-f6 f8-1ba 1bc-1bf 1c4-293 295-2af 370-373 376 377
    37b-37d 37f 386 388-38a 38c 38e-3a1 3a3-3f5 3f7-481 48a-52f 531-556 10a0-10c5
    13a0-13f5 13f8-13fd 1c90-1cba 1cbd-1cbf 1d00-1d2b 1d6b-1d77 1d79-1d9a 1e00-1f15
    1f18-1f1d 1f20-1f45 1f48-1f4d 1f50-1f57 1f59 1f5b 1f5d 1f5f-1f7d 1f80-1fb4
    1fb6-1fbc 1fbe 1fc2-1fc4 1fc6-1fcc 1fd0-1fd3 1fd6-1fdb 1fe0-1fec 1ff2-1ff4
    1ff6-1ffc 2102 2107 210a-2113 2115 2119-211d 2124 2126 2128 212a-212d 212f-2134
    2139 213c-213f 2145-2149 214e 2183 2184 2c00-2c7b 2c7e-2ce4 2ceb-2cee 2cf2 2cf3
    a640-a66d a680-a69b a722-a76f a771-a787 a78b-a78e ab70-abbf fb00-fb06 fb13-fb17
    ff21-ff3a ff41-ff5a 10400-1044f 104b0-104d3 104d8-104fb 10c80-10cb2 10cc0-10cf2
    118a0-118df 1e900-1e943
"""
_CJK = r"[\x{4e00}-\x{9fa5}\x{800}-\x{4e00}\x{ac00}-\x{d7ff}]+"
_ASCII_SIGNS = r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~]"


def _class(ranges: str) -> str:
    """Return the inside of a character class for ranges in hexadecimal."""
    pairs = [part.split("-") for part in ranges.split()]
    return "".join("-".join(rf"\x{{{end}}}" for end in pair) for pair in pairs)


def _gpt2() -> Any:
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)


def _after(*patterns: str) -> Any:
    """Return the rule that cuts at each pattern in turn, then into bytes."""
    splits = [pre_tokenizers.Split(Regex(p), "isolated") for p in patterns]
    bytes_only = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return pre_tokenizers.Sequence([*splits, bytes_only])


def _smollm() -> Any:
    return pre_tokenizers.Sequence([pre_tokenizers.Digits(True), _gpt2()])


def _default() -> Any:
    return _after(r"[\p{P}$+<=>^~|]+", _GPT2, r"\p{N}+", r"[0-9][0-9][0-9]")


def _deepseek_llm() -> Any:
    return _after(
        r"[\r\n]",
        rf"\s?[{_class(_CASED)}]+",
        r"\s?[!-/:-~\x{ff01}-\x{ff0f}\x{ff1a}-\x{ff5e}"
        r"\x{2018}-\x{201f}\x{3000}-\x{3002}]+",
        r"\s+$",
        _CJK,
        r"\p{N}+",
    )


def _deepseek_coder() -> Any:
    return _after(r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", _CJK, r"\p{N}")


def _deepseek_v3() -> Any:
    return _after(
        r"\p{N}{1,3}",
        r"[\x{4e00}-\x{9fa5}\x{3040}-\x{309f}\x{30a0}-\x{30ff}]+",
        rf"{_ASCII_SIGNS}[A-Za-z]+|[^\r\n\p{{L}}\p{{P}}\p{{S}}]?[\p{{L}}\p{{M}}]+"
        r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    )


def _gemma() -> Any:
    return _after(_LINES)


def lines() -> Any:
    """Return the rule of Gemma where spaces are marks, and no letter is a byte."""
    return pre_tokenizers.Split(Regex(_LINES), "isolated")


_RULES: dict[Callable[[], Any], str] = {
    _smollm: "smollm starcoder refact command-r codeshell exaone minerva-7b",
    _gpt2: """gpt-2 phi-2 mpt olmo jais jina-es jina-de jina-v2-es jina-v2-de gigachat
        a.x-4.0 mellum exaone4 trillion granite-docling""",
    lambda: _after(_MODERN % ""): "qwen2 deepseek-r1-qwen kormo megrez stablelm2",
    lambda: _after(_MODERN % "{1,3}"): """llama-bpe llama3 llama-v3 falcon3 falcon-h1
        pixtral midm-2.0 lfm2 smaug-bpe dbrx glm4 chatglm-bpe""",
    lambda: _after(_TEKKEN): "tekken",
    _deepseek_llm: "deepseek-llm",
    _deepseek_coder: "deepseek-coder",
    _deepseek_v3: "deepseek-v3",
    _default: "default",
    _gemma: "gemma gemma4",
}
WORD_RULES: dict[str, Callable[[], Any]] = {
    name: rule for rule, names in _RULES.items() for name in names.split()
}
_LLAMA = ("llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral")
_LLAMA += ("midm-2.0", "lfm2")
# Llama 3 and Tekken look up a whole word before they merge, and begin every text with
# their bos.
WHOLE_WORDS = BEGINS_WITH_BOS = (*_LLAMA, "tekken")
# Their vocabularies may have plain characters and a mark for the space.
SPACED = ("gemma", "gemma4")


def pre_tokenizer(pre: Any) -> Any:
    """Return the rule that cuts text into words, by its name in `tokenizer.ggml.pre`.

    Raises:
      UnsupportedTokenizerError: for an unknown name.
    """
    if not isinstance(pre, str) or pre not in WORD_RULES:
        known = ", ".join(sorted(WORD_RULES))
        raise UnsupportedTokenizerError(
            f"tokenizer.ggml.pre: must be one of {known}, got {short(pre)}; another rule "
            "would cut the text differently from what the model was trained on."
        )
    return WORD_RULES[pre]()
