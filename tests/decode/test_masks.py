"""Padded ids with a mask, as tokenizers give them, are the prompts of token lists."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdecode as jd
from tests import tiny
from tests.models.toys import SIZES, batched, make_params

MODEL = jd.from_logits_function(batched, make_params(), **SIZES)
LISTS = [[3, 1, 4, 1], [5], [9, 2, 6]]
LEFT = [[3, 1, 4, 1], [0, 0, 0, 5], [0, 9, 2, 6]]
RIGHT = [[3, 1, 4, 1], [5, 0, 0, 0], [9, 2, 6, 0]]
MASKS = {
    "left": (LEFT, [[1, 1, 1, 1], [0, 0, 0, 1], [0, 1, 1, 1]]),
    "right": (RIGHT, [[1, 1, 1, 1], [1, 0, 0, 0], [1, 1, 1, 0]]),
}
SIDES = pytest.mark.parametrize("side", MASKS)


PLAIN = {"sampler": tiny.PLAIN, "max_new_tokens": 3}


class Encoding(collections.UserDict):
    """What transformers' tokenizers return is a `UserDict`, too."""


def written(prompts):
    return np.asarray(
        jd.generate(MODEL, prompts, 0, sampler=tiny.PLAIN, max_new_tokens=3).tokens
    )


@SIDES
@pytest.mark.parametrize("kind", [np.asarray, jnp.asarray, list])
def test_a_mask_gives_the_texts_of_lists(side, kind):
    ids, mask = map(kind, MASKS[side])
    tokens, lengths = jd.prompts(ids, mask)
    assert lengths.tolist() == [4, 1, 3]
    assert [row[:n].tolist() for row, n in zip(tokens, lengths, strict=True)] == LISTS
    given = {"input_ids": ids, "attention_mask": mask}
    for prompts in ((tokens, lengths), given, Encoding(given)):
        np.testing.assert_array_equal(written(prompts), written(LISTS))


def test_torch_tensors_are_taken():
    torch = pytest.importorskip("torch")
    ids, mask = map(torch.tensor, MASKS["left"])
    given = {"input_ids": ids, "attention_mask": mask}
    np.testing.assert_array_equal(written(given), written(LISTS))


@SIDES
def test_inside_a_jit_the_same_rows_come_out(side):
    ids, mask = map(jnp.asarray, MASKS[side])

    @jax.jit
    def inside(ids, mask):
        return jd.generate(
            MODEL, jd.prompts(ids, mask), 0, sampler=tiny.PLAIN, max_new_tokens=3
        ).tokens

    np.testing.assert_array_equal(inside(ids, mask), written(LISTS))


def test_a_traced_mask_with_a_hole_ends_invalid():
    ids, mask = jnp.asarray([[1, 2, 3], [1, 2, 3]]), jnp.asarray([[1, 0, 1], [1, 1, 1]])
    run = jax.jit(lambda i, m: jd.generate(MODEL, jd.prompts(i, m), 0, **PLAIN).status)
    status = run(ids, mask)
    assert [jd.Status(int(s)).name for s in status] == ["INVALID", "LENGTH"]


def test_no_mask_is_all_of_them_and_lengths_may_be_a_list():
    given = np.asarray([[3, 1], [4, 1]])
    np.testing.assert_array_equal(
        written({"input_ids": given}), written(given.tolist())
    )
    pair = (np.asarray(RIGHT), [4, 1, 3])
    np.testing.assert_array_equal(written(pair), written(LISTS))


@pytest.mark.parametrize(
    ("mask", "shown"),
    [
        ([[1, 1, 1], [1, 0, 1]], "got 101 in row 1"),
        ([[0, 1, 0], [1, 1, 1]], "got 010 in row 0"),
        ([[1, 1, 1], [0, 0, 0]], "got 000 in row 1"),
    ],
)
def test_a_mask_that_is_padded_on_neither_side_is_refused(mask, shown):
    ids = np.ones((2, 3), np.int32)
    with pytest.raises(ValueError, match=f"prompts: `attention_mask` must.*{shown}"):
        jd.prompts(ids, mask)
    with pytest.raises(ValueError, match=f"generate: `attention_mask` must.*{shown}"):
        jd.generate(MODEL, {"input_ids": ids, "attention_mask": mask}, 0)


@pytest.mark.parametrize(
    ("arguments", "error", "rule"),
    [
        (([[1.5]],), TypeError, "must hold integers, got float64"),
        (([1, 2],), ValueError, r"must be \[B, P\], got shape \(2,\)"),
        (([[1, 2], [3]],), ValueError, "must be one rectangle"),
        (([[1, 2]], [[1]]), ValueError, r"shape of the ids, \(1, 2\), got \(1, 1\)"),
    ],
)
def test_other_things_are_refused(arguments, error, rule):
    with pytest.raises(error, match=rule):
        jd.prompts(*arguments)


def test_inputs_that_would_be_ignored_are_refused():
    with pytest.raises(TypeError, match=r"got \['inputs_embeds'\]"):
        jd.generate(MODEL, {"inputs_embeds": 1}, 0)
    other = {"input_ids": [[1]], "position_ids": [[4]]}
    with pytest.raises(TypeError, match=r"got \['input_ids', 'position_ids'\]"):
        jd.generate(MODEL, other, 0)
    with pytest.raises(ValueError, match=r"token ids in \[0, 12\], got 13"):
        jd.generate(MODEL, {"input_ids": np.asarray([[1, 13]])}, 0)
