"""How the recipes cut text into words, on strings where they differ."""

import pytest

from jaxdecode.text.errors import TokenizerError
from jaxdecode.text.gguf_tokenizer import WORD_RULES, pre_tokenizer

# Expected words are separated by "|" (no string here holds one). Written by hand from
# the published regular expressions of GPT-2, Llama 3 and Qwen 2.
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


@pytest.mark.parametrize("pre", ["default", "deepseek-llm", "", None])
def test_an_unknown_recipe_is_refused_with_the_known_ones(pre):
    with pytest.raises(TokenizerError, match="gpt-2, llama-bpe, qwen2, smollm, got"):
        pre_tokenizer(pre)
