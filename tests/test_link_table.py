"""The table of links says what the docstrings say, and of every link."""

import inspect

import pytest

import jaxdecode as jd
from jaxdecode.transforms.catalog import LINKS
from tests import link_table


def test_the_page_shows_what_the_docstrings_say():
    assert link_table.shown() == link_table.table(), "run python -m tests.link_table"


def test_every_public_link_has_a_row():
    public = {
        name
        for name in jd.__all__
        if inspect.isclass(getattr(jd, name)) and issubclass(getattr(jd, name), jd.Link)
    }
    bases = {"Link", "Edit", "Scale", "Truncation"}
    assert public - bases - {"Matches"} == set(
        LINKS
    )  # patterns have a page of their own


@pytest.mark.parametrize("name", LINKS)
def test_a_row_names_the_arguments_that_the_class_takes(name):
    described = link_table._arguments(LINKS[name])
    taken = set(inspect.signature(LINKS[name]).parameters)
    assert set(described) <= taken
    required = {
        p.name
        for p in inspect.signature(LINKS[name]).parameters.values()
        if p.default is p.empty
    }
    assert required <= set(described)


@pytest.mark.parametrize("name", LINKS)
def test_a_row_says_where_the_rule_comes_from(name):
    assert link_table._section(LINKS[name], "Reference")
