"""What the documents show runs."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parent.parent
PAGES = (
    "README.md",
    "jaxdecode/engine/README.md",
    "jaxdecode/server/README.md",
    "jaxdecode/transforms/README.md",
    "jaxdecode/ARCHITECTURE.md",
)
README = (ROOT / "README.md").read_text()
LINES_MAX = 130  # a first page, not the reference
BLOCKS = [
    (page, block)
    for page in PAGES
    for block in re.findall(
        r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL
    )
]


def mark(page, block):
    needs = [pytest.mark.model] if "jd.load" in block else []
    return pytest.param(page, block, marks=needs)


@pytest.mark.parametrize(("page", "block"), [mark(*found) for found in BLOCKS])
def test_the_examples_run(page, block, capsys):
    exec(compile(block, page, "exec"), {"__name__": "readme"})
    assert capsys.readouterr().out.strip()


def test_the_readme_is_a_first_page():
    assert README.count("\n") <= LINES_MAX


@pytest.mark.parametrize("page", [*PAGES, "benchmarks/README.md"])
def test_the_pages_link_to_what_is_there(page):
    for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / page).read_text()):
        assert ((ROOT / page).parent / target).exists(), target


def test_the_two_commands_exist():
    for command in re.findall(r"^(scripts/\w+)", README, re.MULTILINE):
        assert (ROOT / command).stat().st_mode & 0o111, f"{command} cannot be run"
