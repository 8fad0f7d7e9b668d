"""An outline on disk is that of the module, and is found only where that is the same."""

import importlib.metadata
import sys

import jax
import pytest

from jaxdecode.models import Frozen, build, kept_outlines
from jaxdecode.models.decoder import Decoder
from jaxdecode.models.definition import Definition, Plan
from jaxdecode.models.families.catalog import FAMILIES, family_named
from tests.weights.scaled_llama import SCALED

BUILDING = sys.modules[build.__module__]
SIZES = {
    "vocab_size": 13,
    "max_length": 29,
    "width": 12,
    "mlp_width": 17,
    "num_layers": 11,  # names beyond the tenth are in no alphabetical order
    "num_heads": 2,
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return where outlines are kept; there are none yet."""
    place = tmp_path / "outlines"
    monkeypatch.setattr(kept_outlines, "outlines_folder", lambda: place)
    return place


@pytest.fixture
def made(monkeypatch):
    """Return a list that grows with every module that is made."""
    found, make = [], Plan.make
    monkeypatch.setattr(Plan, "make", lambda plan: found.append(1) or make(plan))
    return found


def plan_of(name, dtype="float32"):
    family = family_named(name)
    return Plan(family.module, family.config(family=name, **SIZES), dtype)


def outline_of(plan):
    """Return the outline and the definition, as a new process does."""
    return BUILDING._outline.__wrapped__(plan.config, plan.dtype)


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
@pytest.mark.parametrize("name", FAMILIES)
def test_it_is_that_of_the_module_in_every_family(name, dtype, folder, made):
    plan = plan_of(name, dtype)
    first, definition = outline_of(plan)
    assert len(made) == len(list(folder.iterdir())) == 1
    second, kept = outline_of(plan)
    assert list(second.items()) == list(first.items())
    assert (kept, hash(kept)) == (definition, hash(definition))
    for ability in ("vocab_size", "max_length", "names", "identity"):
        assert getattr(kept, ability) == getattr(definition, ability)
    assert len(made) == 1
    assert (kept.graphdef, kept.treedef) == (definition.graphdef, definition.treedef)
    assert len(made) == 2


@pytest.mark.parametrize("name", FAMILIES)
def test_what_is_said_of_a_model_of_ours_without_its_module_is_true(name):
    plan = plan_of(name)
    module, (_, definition) = plan.make(), outline_of(plan)
    assert isinstance(module, Decoder)
    assert module.keeps_protocol
    for ability in ("share_prompts", "layer_logits"):
        assert definition.has(ability) is hasattr(module, ability) is True
    assert (definition.vocab_size, definition.max_length) == (13, 29)
    assert (module.vocab_size, module.max_length) == (13, 29)


def test_another_model_other_sources_and_another_flax_have_their_own(
    folder, made, monkeypatch
):
    plans = plan_of("llama"), plan_of("llama", "int8"), plan_of("gpt2")
    definitions = [outline_of(plan)[1] for plan in plans]
    assert len(set(definitions)) == 3
    monkeypatch.setattr(kept_outlines, "sources", lambda: b"edited")
    outline_of(plan_of("llama"))
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "99")
    outline_of(plan_of("llama"))
    assert len(made) == len(list(folder.iterdir())) == 5


@pytest.mark.parametrize("place", [3, 30, -3], ids=["kind", "hash", "body"])
def test_a_damaged_one_is_made_again(folder, made, place):
    expected, _ = outline_of(plan_of("llama"))
    (file,) = folder.iterdir()
    good = file.read_bytes()
    bad = bytearray(good)
    bad[place] ^= 1
    file.write_bytes(bad)
    assert outline_of(plan_of("llama"))[0] == expected
    assert len(made) == 2
    assert file.read_bytes() == good


def test_one_that_another_user_may_have_written_is_made_again(folder, made):
    outline_of(plan_of("llama"))
    (file,) = folder.iterdir()
    file.chmod(0o666)
    outline_of(plan_of("llama"))
    assert len(made) == 2


def test_a_family_of_the_users_whose_code_may_change_is_not_kept(folder):
    plan = Plan(SCALED.module, SCALED.config(**SIZES), "float32")
    kept_outlines.keep(plan, {"x": jax.ShapeDtypeStruct((1,), "float32")})
    assert kept_outlines.load(plan) is None
    assert not folder.exists()


def test_a_folder_that_cannot_be_written_is_no_error(folder, made):
    folder.write_text("a file")
    assert outline_of(plan_of("llama"))[0]
    assert made == [1]


def test_without_a_folder_for_programs_nothing_is_kept(made):
    for _ in range(2):
        outline_of(plan_of("llama"))
    assert len(made) == 2


def test_a_module_that_does_not_fit_the_names_is_refused():
    definition = Definition(("x",), vocab_size=1, max_length=1, plan=plan_of("llama"))
    with pytest.raises(RuntimeError, match="the names of the arrays are others"):
        _ = definition.graphdef


def test_a_module_that_is_made_within_a_trace_leaves_nothing_in_the_program(folder):
    def program(definition, leaves):
        model = Frozen(leaves=tuple(leaves.values()), definition=definition)
        tokens = jax.ShapeDtypeStruct((1, 3), "int32")

        def read(model, tokens):
            return model(tokens, tokens, model.init_cache(1, 5))

        return str(jax.make_jaxpr(read)(model, tokens))

    leaves, made = outline_of(plan_of("llama"))
    _, kept = outline_of(plan_of("llama"))
    assert program(kept, leaves) == program(made, leaves)
