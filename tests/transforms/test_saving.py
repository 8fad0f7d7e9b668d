"""A chain written down as data, through JSON, is the same chain when it is read."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdecode as jd
from jaxdecode.core.pytree import pytree
from jaxdecode.transforms.catalog import LINKS
from tests.link_cases import CASES, MATCHING

INF = float("inf")
CHAINS = {
    **{name: case.link for name, case in CASES.items()},
    "joint": jd.joint(top_k=50, top_p=0.9, temperature=[0.5, 1.0]),
    "empty": jd.chain(),
    "per row": jd.FrequencyPenalty([0.1, 0.2], window=[5, 2**31 - 1]),
    "flags per row": jd.PresencePenalty(0.5, count_prompt=[True, False]),
    "no window": jd.RepetitionPenalty(1.2, window=None),
    "bans by bias": jd.LogitBias({3: -INF, 1: 0.1}),
    "no bias": jd.LogitBias({}),
    "bias vector": jd.LogitBias(np.asarray([0.1, -INF, 2.0])),
    "sequence bias": jd.SequenceBias([((5,), 1.5), ((7, 8), -INF)]),
    "bans": jd.chain(jd.BanTokens([9, 2]), jd.BanSequences([[5], [7, 8, 9]])),
    "no bans": jd.chain(jd.BanTokens([]), jd.BanSequences([])),
    "places": jd.ForcedTokens({0: 5, 3: [1, 2]}, count_prompt=True),
    "eos": jd.MinNewTokens([1, 2], [7]),
    "jax values": jd.chain(jd.TopK(jnp.int32(3)), jd.TopP(jnp.float32(0.1))),
    "ids beyond the bucket": jd.BanTokens(range(20)),
}


@pytest.mark.parametrize("name", CHAINS)
def test_a_chain_comes_back_through_json(name):
    sampler = jd.chain(CHAINS[name])
    text = json.dumps(jd.to_dict(sampler), allow_nan=False)
    back = jd.from_dict(json.loads(text))
    assert back == sampler
    assert jax.tree.structure(back) == jax.tree.structure(sampler)
    assert jd.from_dict(jd.to_dict(sampler)) == sampler
    assert jd.Chain.from_dict(sampler.to_dict()) == sampler


def test_the_data_is_what_a_person_would_write():
    sampler = jd.chain(jd.BanTokens([2, 1]), jd.TopK(50), jd.TopP(0.9))
    assert jd.to_dict(sampler) == {
        "version": 1,
        "links": [
            {"link": "BanTokens", "ids": [1, 2]},
            {"link": "TopK", "k": 50, "ties": "exact", "min_keep": 1},
            {"link": "TopP", "p": 0.9, "min_keep": 1},
        ],
    }


def test_every_link_there_is_can_be_saved():
    tried = {type(link).__name__ for c in CHAINS.values() for link in jd.chain(c).links}
    assert set(LINKS) <= tried


def test_every_public_link_is_in_the_catalog():
    kinds = (jd.Edit, jd.Scale, jd.Truncation)
    public = [getattr(jd, n) for n in jd.__all__ if isinstance(getattr(jd, n), type)]
    links = {x.__name__ for x in public if issubclass(x, kinds) and x not in kinds}
    assert links - {"Matches"} == set(LINKS)  # whose tables belong to a vocabulary


def test_a_pattern_is_not_saved_with_its_tables():
    sampler = jd.chain(MATCHING["Matches"].link, jd.TopK(5))
    with pytest.raises(TypeError, match="to_dict: .*must be without patterns"):
        jd.to_dict(sampler)


@pytest.mark.parametrize("name", CHAINS)
def test_a_chain_with_an_entry_per_row_is_saved_with_its_table(name):
    rows = jd.chain(CHAINS[name]).per_row(2)
    back = jd.from_dict(jd.to_dict(rows))
    assert jax.tree.all(jax.tree.map(np.array_equal, back.per_row(2), rows))


@pytest.mark.parametrize("seed", range(3))
def test_every_float32_comes_back_bit_for_bit(seed):
    bits = np.random.default_rng(seed).integers(0, 2**31 - 2**24, 500, np.int64)
    values = bits.astype(np.int32).view(np.float32)
    values = values[np.isfinite(values)]
    back = jd.from_dict(json.loads(json.dumps(jd.to_dict(jd.Temperature(values)))))
    np.testing.assert_array_equal(back.links[0].t, values)


def test_arguments_left_out_have_their_defaults():
    data = {"version": 1, "links": [{"link": "TopK", "k": 5}, {"link": "MinP"}]}
    assert jd.from_dict(data) == jd.chain(jd.TopK(5), jd.MinP())


@pytree
class Louder(jd.Scale):
    """Multiply the logits."""

    by: float = np.float32(2.0)

    def scale(self, values, row):
        return values * self.by


def test_a_link_of_ones_own_comes_back_if_its_class_is_named():
    data = jd.to_dict(Louder(np.float32(3.0)))
    with pytest.raises(ValueError, match="no link 'Louder'"):
        jd.from_dict(data)
    assert float(jd.from_dict(data, links=[Louder]).links[0].by) == 3.0


def test_values_inside_a_jit_cannot_be_saved():
    with pytest.raises(TypeError, match="TopP must have concrete values"):
        jax.jit(lambda p: jd.to_dict(jd.TopP(p)) and p)(0.5)


def one(**item):
    return {"version": 1, "links": [item]}


BAD = [
    ([], TypeError, "must be .*links"),
    ({}, TypeError, "must be .*links"),
    ({"version": 1, "links": "TopK"}, TypeError, "must be .*links"),
    ({"links": []}, ValueError, "`version` must be 1, got None"),
    ({"version": 2, "links": []}, ValueError, "`version` must be 1, got 2"),
    ({"version": 1, "links": [], "seed": 3}, ValueError, "no field seed"),
    (one(k=3), TypeError, "every link must be"),
    ({"version": 1, "links": ["TopK"]}, TypeError, "every link must be"),
    (one(link="TopQ"), ValueError, "no link 'TopQ'"),
    (one(link="Chain"), ValueError, "no link 'Chain'"),
    (one(link="Truncation"), ValueError, "no link 'Truncation'"),
    (one(link="TopK", n=3), ValueError, "TopK has no argument 'n'"),
    (one(link="TopH"), ValueError, "TopH needs the argument 'h'"),
    (one(link="TopK", k="3"), TypeError, "TopK: `k`"),
    (one(link="TopP", p=1.5), ValueError, r"TopP: `p` must be in \[0, 1\], got 1.5"),
    (one(link="TopP", p="nan"), TypeError, "TopP: `p`"),
    (one(link="LogitBias", bias=[[3]]), TypeError, "pair"),
    (one(link="ForcedTokens", ids=[3]), TypeError, "pair"),
    (one(link="ForcedTokens", ids=[], places=[3]), TypeError, "places"),
]


@pytest.mark.parametrize(("data", "kind", "message"), BAD)
def test_bad_data_is_refused_by_name(data, kind, message):
    with pytest.raises(kind, match=message):
        jd.from_dict(data)
