"""What the README shows runs."""

import pathlib
import re

import pytest

README = (pathlib.Path(__file__).parent.parent / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def mark(block):
    return pytest.param(block, marks=[pytest.mark.model] if "jd.load" in block else [])


@pytest.mark.parametrize("block", [mark(block) for block in BLOCKS])
def test_the_examples_run(block, capsys):
    exec(compile(block, "README.md", "exec"), {"__name__": "readme"})
    assert capsys.readouterr().out.strip()


def test_the_two_commands_exist():
    root = pathlib.Path(__file__).parent.parent
    for command in re.findall(r"^(scripts/\w+)", README, re.MULTILINE):
        assert (root / command).stat().st_mode & 0o111, f"{command} cannot be run"
