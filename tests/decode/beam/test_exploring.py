"""A search with its tree: the same hypotheses, each a path whose sums add up."""

import numpy as np
import pytest

import jaxdecode as jd
from jaxdecode.decode.beam.exploring import FINISHED, KEPT, PRUNED, explore, tree
from tests import tiny

PROMPT = [1, 2, 3]


@pytest.mark.parametrize(
    "eos_ids", [pytest.param(None, marks=pytest.mark.slow), [4, 9, 11]]
)
def test_every_hypothesis_is_a_path_of_the_tree(eos_ids):
    options = {"num_beams": 4, "max_new_tokens": 11, "num_return": 4}
    options["eos_ids"] = eos_ids
    beams = jd.beam_search(tiny.bag(), [PROMPT], **options)
    nodes, last = tree(explore(tiny.bag(), PROMPT, **options), eos_ids)
    assert len(last) == 4
    for place, node in enumerate(last):
        total, path = nodes[node].total, []
        while node >= 0:
            assert nodes[node].fate == (KEPT if path else FINISHED)
            path.append(nodes[node])
            node = nodes[node].parent
        tokens = [node.token for node in reversed(path)]
        length = int(beams.lengths[0, place])
        assert tokens == beams.tokens[0, place, :length].tolist()
        assert [node.step for node in reversed(path)] == list(range(length))
        score = float(beams.scores[0, place])
        assert total / length == pytest.approx(score, abs=1e-5)


def test_no_two_tokens_stand_in_one_place_and_pruned_ones_lead_nowhere_kept():
    found = explore(tiny.bag(), PROMPT, num_beams=4, max_new_tokens=11, num_return=4)
    nodes, _ = tree(found, None)
    places = [(node.step, node.lane) for node in nodes]
    assert len(set(places)) == len(places)
    kept = {node.parent for node in nodes if node.fate != PRUNED}
    assert all(nodes[i].fate == KEPT for i in kept if i >= 0)
    assert any(node.fate == PRUNED for node in nodes)
    sums = [nodes[n.parent].total + n.logprob for n in nodes if n.parent >= 0]
    totals = [node.total for node in nodes if node.parent >= 0]
    np.testing.assert_allclose(sums, totals, atol=1e-5)
