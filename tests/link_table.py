"""The table of links in jaxdecode/transforms/README.md, made from the docstrings.

python -m tests.link_table        # writes it anew
"""

import inspect
import pathlib
import re

import jaxdecode
from jaxdecode.transforms.catalog import LINKS

PAGE = pathlib.Path(jaxdecode.__file__).parent / "transforms" / "README.md"
BEGIN, END = "<!-- links: begin -->\n", "<!-- links: end -->"
HIDDEN = ("min_keep", "self")  # every truncation has it
# Where the same rule can be had, by the name that people know it under.
ELSEWHERE = {
    "Temperature": "everywhere",
    "DynamicTemperature": "llama.cpp, text-generation-webui",
    "Quadratic": "text-generation-webui",
    "TopK": "everywhere",
    "TopP": "everywhere",
    "MinP": "everywhere",
    "Typical": "Hugging Face, llama.cpp",
    "TopH": "Hugging Face",
    "EpsilonCutoff": "Hugging Face",
    "EtaCutoff": "Hugging Face",
    "TopA": "KoboldCpp",
    "TopNSigma": "llama.cpp",
    "TailFree": "KoboldCpp",
    "XTC": "llama.cpp, text-generation-webui",
    "Mirostat": "llama.cpp",
    "AdaptiveP": "llama.cpp",
    "RepetitionPenalty": "everywhere",
    "FrequencyPenalty": "vLLM, llama.cpp",
    "PresencePenalty": "vLLM, llama.cpp",
    "EncoderRepetition": "Hugging Face",
    "DRY": "llama.cpp",
    "NoRepeatNGram": "Hugging Face",
    "LogitBias": "everywhere",
    "AllowTokens": "vLLM",
    "BanTokens": "Hugging Face",
    "SequenceBias": "Hugging Face",
    "BanSequences": "Hugging Face, vLLM",
    "MinNewTokens": "Hugging Face, vLLM",
    "SuppressAtBegin": "Hugging Face",
    "ForcedTokens": "Hugging Face",
    "ExponentialDecayLength": "Hugging Face",
    "Watermark": "Hugging Face, with another hash",
}


def table():
    """Return the table of every link, in Markdown."""
    head = ["link", "what it does", "parameters", "reference", "who else has it"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for name, kind in LINKS.items():
        arguments = _arguments(kind)
        cells = [
            f"`{name}({', '.join(arguments)})`",
            kind.__doc__.split("\n")[0],
            "<br>".join(f"`{arg}`: {text}" for arg, text in arguments.items()),
            _section(kind, "Reference"),
            ELSEWHERE.get(name, ""),
        ]
        lines.append("| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |")
    return "\n".join(lines) + "\n"


def shown():
    """Return the table that the page shows."""
    return PAGE.read_text().split(BEGIN)[1].split(END)[0]


def _arguments(kind):
    """Return what the docstring says of each argument, by its name."""
    section = re.search(r"Args:\n(.*?)(\n\n|\Z)", inspect.getdoc(kind), re.DOTALL)
    found = re.findall(
        r"^  (\w+): (.*?)(?=^  \w+: |\Z)", section[1] if section else "", re.M | re.S
    )
    return {name: _line(text) for name, text in found if name not in HIDDEN}


def _section(kind, title):
    found = re.search(rf"^{title}: (.*?)(\n\n|\Z)", inspect.getdoc(kind), re.M | re.S)
    return _line(found[1]) if found else ""


def _line(text):
    return " ".join(text.split())


if __name__ == "__main__":
    before, rest = PAGE.read_text().split(BEGIN)
    PAGE.write_text(before + BEGIN + table() + END + rest.split(END)[1])
