"""How the recipes cut text into words, on strings where they differ."""

import pytest

from jaxdecode.text.errors import TokenizerError
from jaxdecode.text.gguf_tokenizer import WORD_RULES, pre_tokenizer

# Expected words are separated by "|" (no string here holds one). Written by hand from
# the published regular expressions of GPT-2, Llama 3, Qwen 2, Mistral's Tekken and
# DeepSeek, and of llama.cpp's default.
CASES = {
    "gpt-2": [
        ("Hello, world!", "Hello|,| world|!"),
        ("don't I'LL we've", "don|'t| I|'|LL| we|'ve"),
        ("123456 7890", "123456| 7890"),
        ("a  b", "a| | b"),
        ("end  ", "end|  "),
        ("a\n\nb", "a|\n|\n|b"),
        ("x \n y", "x| \n| y"),
        ("你好\uff0c世界", "你好|\uff0c|世界"),
        ("hi🙂🙃 ok", "hi|🙂🙃| ok"),
        ("f(x)=1;\n", "f|(|x|)=|1|;|\n"),
        ("½ x²", "½| x|²"),
        ("e\u0301a", "e|\u0301|a"),
    ],
    "smollm": [
        ("Hello, world!", "Hello|,| world|!"),
        ("123456 78", "1|2|3|4|5|6| |7|8"),
        ("a1b22", "a|1|b|2|2"),
        ("don't", "don|'t"),
        ("a  1", "a|  |1"),
        ("½ x²", "½| x|²"),
        ("٣٤", "٣|٤"),
        ("你好\uff0c世界", "你好|\uff0c|世界"),
        ("end  ", "end|  "),
    ],
    "llama-bpe": [
        ("Hello, world!", "Hello|,| world|!"),
        ("don't I'LL We'Ve", "don|'t| I|'LL| We|'Ve"),
        ("1234567 89", "123|456|7| |89"),
        ("a  b", "a| | b"),
        ("end  ", "end|  "),
        ("a\n\nb", "a|\n\n|b"),
        ("x \n y", "x| \n| y"),
        ("x  \n\n  y", "x|  \n\n| | y"),
        ("你好\uff0c世界", "你好|\uff0c世界"),
        ("hi🙂🙃 ok", "hi|🙂🙃| ok"),
        ("f(x)=1;\n\ng", "f|(x|)=|1|;\n\n|g"),
        ("\tif", "\tif"),
        ("a_b.c", "a|_b|.c"),
        (" 'quoted'", " '|quoted|'"),
        ("٣٤٥٦", "٣٤٥|٦"),
    ],
    "qwen2": [
        ("Hello, world!", "Hello|,| world|!"),
        ("1234 5", "1|2|3|4| |5"),
        ("don't I'LL", "don|'t| I|'LL"),
        ("a\r\n\r\nb", "a|\r\n\r\n|b"),
        ("end  ", "end|  "),
        ("你好\uff0c世界", "你好|\uff0c世界"),
        ("hi🙂", "hi|🙂"),
        ("x+=1;\n", "x|+=|1|;\n"),
        ("½²", "½|²"),
    ],
    "tekken": [
        ("Hello, world!", "Hello|,| world|!"),
        ("HelloWorld", "Hello|World"),
        ("HTTPServer ABC def", "HTTPServer| ABC| def"),
        ("1234 5", "1|2|3|4| |5"),
        ("don't", "don|'t"),
        ("a/b\n", "a|/b|\n"),
        ("x//\ny", "x|//\n|y"),
        ("ÄrgerÖl", "Ärger|Öl"),
        ("你好\uff0c世界", "你好|\uff0c世界"),
        ("end  ", "end|  "),
    ],
    "deepseek-llm": [
        ("Hello, world!", "Hello|,| world|!"),
        ("123456 7", "123456| |7"),
        ("a1!b", "a|1|!|b"),
        ("x\n\ny", "x|\n|\n|y"),
        ("你好 abc", "你好| abc"),
        ("αβγ δ", "αβγ| δ"),
        ("a سلام", "a| سلام"),
        ("a\u3001b\uff01", "a|\u3001|b|\uff01"),
        ("end  ", "end|  "),
    ],
    "deepseek-coder": [
        ("Hello, world!", "Hello|,| world|!"),
        ("a1b22", "a|1|b|2|2"),
        ("a  b", "a| | b"),
        ("x=1\n", "x|=|1|\n"),
        ("f(x)", "f|(|x|)"),
        ("a\n\nb", "a|\n|\n|b"),
        ("a \uff0cb", "a| \uff0c|b"),
    ],
    "deepseek-v3": [
        ("Hello, world!", "Hello|,| world|!"),
        ("1234567", "123|456|7"),
        ("a_b don't", "a|_b| don|'t"),
        ("x += 1;\n", "x| +=| |1|;\n"),
        ("あア一a", "あア一|a"),
    ],
    "default": [
        ("Hello, world!", "Hello|,| world|!"),
        ("1234567", "123|456|7"),
        (" 12", " |12"),
        ("don't", "don|'|t"),
        ("a  b", "a| | b"),
        ("x=1;", "x|=|1|;"),
        ("٣٤٥٦", "٣٤٥٦"),
    ],
    "smaug-bpe": [("1234567 89", "123|456|7| |89"), ("don't", "don|'t")],
    "dbrx": [("1234567 89", "123|456|7| |89"), ("f(x)", "f|(x|)")],
    "gemma": [("a b\n\nc", "a b|\n\n|c"), ("12 x", "12 x"), ("\r\n", "\r|\n")],
}


@pytest.mark.parametrize(
    ("pre", "text", "words"),
    [(pre, text, words) for pre, cases in CASES.items() for text, words in cases],
)
def test_a_recipe_cuts_text_where_its_regular_expression_does(pre, text, words):
    cut = pre_tokenizer(pre).pre_tokenize_str(text)
    assert [text[begin:end] for _, (begin, end) in cut] == words.split("|")


@pytest.mark.parametrize("pre", sorted(WORD_RULES))
def test_no_character_is_lost_between_words(pre):
    text = "a\u00a0b\u3000c \r\n\t\x00 1½ 🙂\u200d — 'S 'x\u2028"
    cut = pre_tokenizer(pre).pre_tokenize_str(text)
    ends = [0, *(end for _, (_, end) in cut)]
    assert [begin for _, (begin, _) in cut] == ends[:-1]
    assert ends[-1] == len(text)


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("deepseek-r1-qwen", "qwen2"),
        ("llama3", "llama-bpe"),
        ("llama-v3", "llama-bpe"),
        ("falcon3", "llama-bpe"),
        ("pixtral", "llama-bpe"),
        ("phi-2", "gpt-2"),
        ("starcoder", "smollm"),
        ("gemma4", "gemma"),
    ],
)
def test_other_names_of_a_recipe_are_known(name, other):
    assert WORD_RULES[name] is WORD_RULES[other]


@pytest.mark.parametrize("pre", ["nope", "Default", "llama", "", None, 3, ["gpt-2"]])
def test_an_unknown_recipe_is_refused_with_the_known_ones(pre):
    with pytest.raises(TokenizerError, match="gpt-2, .*llama-bpe, .*smollm, .*, got"):
        pre_tokenizer(pre)
