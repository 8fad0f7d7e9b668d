"""Models of one row in any layout, recurrent ones, encoders with decoders, collections.

Each writes the greedy text of its plain form, and passes `check_model`.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdecode as jd
from jaxdecode.core.protocol import ModelError
from jaxdecode.testing import check_model
from tests.models.toys import (
    LENGTH,
    PROMPTS,
    SIZES,
    VOCAB,
    WIDTH,
    batched,
    embed,
    make_cache,
    make_params,
    mix,
    whole,
    with_cache,
)

PARAMS = make_params()
GREEDY, PLAIN = jd.Temperature(0), jd.Temperature(1)  # of one program


def greedy(logits_of_row, prompt, count):
    """What a loop in plain Python writes; the row is padded, for it is causal."""
    tokens = list(prompt)
    for _ in range(count):
        row = np.asarray([*tokens, *[0] * (LENGTH - len(tokens))], np.int32)
        tokens.append(int(np.argmax(logits_of_row(row)[len(tokens) - 1])))
    return tokens[len(prompt) :]


# ---- one row, any layout ----


def scalar_index(params, tokens, positions, cache):
    """Two equal layers first, one index for all, the row axis of one in the middle."""
    start = positions[0, 0]
    x = embed(params, tokens[0], positions[0])
    kept = jax.lax.dynamic_update_slice(
        cache["layers"], jnp.stack([x, x])[:, None], (0, 0, start, 0)
    )
    columns = jnp.arange(kept.shape[2], dtype=jnp.int32)
    logits = mix(
        params | {"kept": kept[1, 0]}, x, columns[None] <= positions[0][:, None]
    )
    return logits[None], {"layers": kept, "index": start + tokens.shape[1]}


def layers_first(length):
    return {
        "layers": jnp.zeros((2, 1, length, WIDTH), jnp.float32),
        "index": jnp.int32(0),
    }


def ring(params, tokens, positions, cache):
    """A ring of `LENGTH` columns, each with its position; logits without a row axis."""
    x = embed(params, tokens[0], positions[0])
    slots = positions[0] % cache["kept"].shape[0]
    kept = cache["kept"].at[slots].set(x)
    place = cache["place"].at[slots].set(positions[0])
    seen = (place[None] >= 0) & (place[None] <= positions[0][:, None])
    return mix(params | {"kept": kept}, x, seen), {"kept": kept, "place": place}


def make_ring(rows, length):
    assert rows == 1
    return {
        "kept": jnp.zeros((length, WIDTH), jnp.float32),
        "place": jnp.full((length,), -1, jnp.int32),
    }


SINGLE = {
    "scalar index, layers first": (scalar_index, layers_first),
    "ring": (ring, make_ring),
}


@jax.jit
def whole_row(tokens):
    return whole(PARAMS, tokens)


@pytest.mark.parametrize(
    "layout",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name == "ring" else [])
        for name in SINGLE
    ],
)
def test_a_function_of_one_row_writes_every_row_of_a_ragged_batch(layout):
    function, init_cache = SINGLE[layout]
    model = jd.from_single(function, PARAMS, init_cache=init_cache, **SIZES)
    check_model(model)
    out = jd.generate(model, PROMPTS, 0, sampler=GREEDY, max_new_tokens=6)
    for prompt, row in zip(PROMPTS, out.tokens, strict=True):
        assert row.tolist() == greedy(whole_row, prompt, 6)
    beams = jd.beam_search(model, PROMPTS[:2], num_beams=3, max_new_tokens=4)
    plain = jd.from_logits_function(batched, PARAMS, **SIZES)
    wanted = jd.beam_search(plain, PROMPTS[:2], num_beams=3, max_new_tokens=4)
    np.testing.assert_array_equal(beams.tokens, wanted.tokens)


def test_equal_functions_share_a_program():
    def model(seed):
        params = make_params(seed)
        return jd.from_single(ring, params, init_cache=make_ring, **SIZES)

    jd.generate(model(0), PROMPTS, 0, max_new_tokens=2, sampler=PLAIN)
    with jd.testing.count_compiles() as compiles:
        jd.generate(model(1), PROMPTS, 1, max_new_tokens=2, sampler=PLAIN)
    assert compiles.count == 0, compiles.names


def test_a_wrong_shape_of_a_row_is_named():
    def flat(params, tokens, positions, cache):
        return jnp.zeros((VOCAB,)), cache

    model = jd.from_single(flat, PARAMS, init_cache=make_ring, **SIZES)
    with pytest.raises(ModelError, match=r"generate: `model`: from_single: a row's"):
        jd.generate(model, PROMPTS, 0)


# ---- linen modules with a collection ----


class Attending(nn.Module):
    """Flax's own cached attention, one token a call."""

    decode: bool = True

    @nn.compact
    def __call__(self, tokens, mask=None):
        x = nn.Embed(VOCAB, 8)(tokens)
        x = x + nn.MultiHeadDotProductAttention(num_heads=2, decode=self.decode)(
            x, mask=mask
        )
        return nn.Dense(VOCAB)(x)


class Stacked(nn.Module):
    """The same twice by `nn.scan`: one collection with a layer axis, indices too."""

    decode: bool = True

    @nn.compact
    def __call__(self, tokens, mask=None):
        class Layer(nn.Module):
            decode: bool

            @nn.compact
            def __call__(self, x, mask):
                attention = nn.MultiHeadDotProductAttention(2, decode=self.decode)
                return x + attention(x, mask=mask), None

        layers = nn.scan(
            Layer,
            variable_axes={"params": 0, "cache": 0},
            split_rngs={"params": True},
            in_axes=nn.broadcast,
            length=2,
        )
        x, _ = layers(self.decode)(nn.Embed(VOCAB, 8)(tokens), mask)
        return nn.Dense(VOCAB)(x)


@pytest.fixture
def _linen_promotes():
    jax.config.update("jax_numpy_dtype_promotion", "standard")
    jax.config.update("jax_numpy_rank_promotion", "allow")
    yield
    jax.config.update("jax_numpy_dtype_promotion", "strict")
    jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.mark.usefixtures("_linen_promotes")
@pytest.mark.parametrize(
    "kind", [pytest.param(Attending, marks=pytest.mark.slow), Stacked]
)
def test_flax_attention_with_a_collection_writes_what_it_writes_without(kind):
    params = kind(decode=False).init(jax.random.key(0), jnp.zeros((1, 3), jnp.int32))
    model = jd.from_linen(kind(), params, cache="cache", token_by_token=True, **SIZES)

    @jax.jit
    def plain(tokens):
        mask = nn.make_causal_mask(tokens[None])
        return kind(decode=False).apply(params, tokens[None], mask)[0]

    out = jd.generate(model, PROMPTS, 0, sampler=GREEDY, max_new_tokens=4)
    for prompt, row in zip(PROMPTS, out.tokens, strict=True):
        assert row.tolist() == greedy(plain, prompt, 4)


@pytest.mark.usefixtures("_linen_promotes")
def test_what_does_not_go_together_is_refused():
    params = Attending().init(jax.random.key(0), jnp.zeros((1, 1), jnp.int32))
    with pytest.raises(ValueError, match="`token_by_token` must come with `cache`"):
        jd.from_linen(Attending(), params, token_by_token=True, **SIZES)
    with pytest.raises(ValueError, match="`init_cache` must be None with `cache`"):
        jd.from_linen(Attending(), params, cache="cache", init_cache=make_ring, **SIZES)
    other = jd.from_linen(Attending(), params, cache="memory", **SIZES)
    with pytest.raises(ValueError, match=r"\['cache', 'params'\], got 'memory'"):
        jd.generate(other, PROMPTS, 0)


# ---- recurrent ----


def decay(params, tokens, state):
    """A leaky sum of embeddings: a state that knows no positions."""
    state = 0.7 * state + params["table"][tokens]
    return jnp.tanh(state) @ params["head"], state


def decayed(tokens):
    """The same in numpy, for one row: logits [T, V]."""
    table, head = np.asarray(PARAMS["table"]), np.asarray(PARAMS["head"])
    state, logits = np.zeros((WIDTH,), np.float32), []
    for token in tokens:
        state = np.float32(0.7) * state + table[token]
        logits.append(np.tanh(state) @ head)
    return np.asarray(logits)


def recurrent_model():
    return jd.from_recurrent(
        decay,
        PARAMS,
        init_state=lambda rows: jnp.zeros((rows, WIDTH), jnp.float32),
        **SIZES,
    )


def test_a_recurrent_model_writes_samples_searches_and_scores():
    model = recurrent_model()
    check_model(model)
    options = {"num_samples": 2, "max_new_tokens": 5}
    out = jd.generate(model, PROMPTS, 0, sampler=GREEDY, **options)
    for prompt, row in zip(PROMPTS, out.tokens[::2], strict=True):
        assert row.tolist() == greedy(decayed, prompt, 5)
    drawn = jd.generate(model, PROMPTS, 3, sampler=PLAIN, **options)
    given = [row.tolist() for row in drawn.tokens[::2]]
    score = jd.score(model, PROMPTS, given)
    np.testing.assert_allclose(
        score.model_logprobs, drawn.model_logprobs[::2], atol=1e-5
    )
    beams = jd.beam_search(model, PROMPTS[:1], num_beams=VOCAB, max_new_tokens=2)
    best = max(
        (_sum(decayed([*PROMPTS[0], a, b])[len(PROMPTS[0]) - 1 :], (a, b)), (a, b))
        for a in range(VOCAB)
        for b in range(VOCAB)
    )
    assert beams.tokens[0, 0].tolist() == list(best[1])


def test_a_state_cannot_go_back_further_than_a_token():
    model = recurrent_model()
    tokens = jnp.asarray([[3, 1, 4]], jnp.int32)
    places = jnp.arange(3, dtype=jnp.int32)[None]
    first, cache = model(tokens, places, model.init_cache(1, 8))
    again, _ = model(tokens[:, 2:], places[:, 2:], cache)
    np.testing.assert_array_equal(again[:, 0], first[:, 2])
    anew, _ = model(tokens, places, cache)
    np.testing.assert_array_equal(anew, first)
    lost, _ = model(tokens[:, 1:2], places[:, 1:2], cache)
    assert np.isnan(lost).all()


# ---- encoder and decoder ----


def encode(params, tokens, mask):
    """The mean of the prompt is added to each of its vectors."""
    x = jnp.where(mask[..., None], params["table"][tokens], 0.0)
    count = jnp.sum(mask, axis=1, dtype=jnp.float32)[:, None, None]
    return {
        "vectors": jnp.where(mask[..., None], x + x.sum(1, keepdims=True) / count, 0.0)
    }


def decode(params, tokens, positions, cache, states, mask):
    """Attention over what was written, and over the encoder's vectors."""
    own, cache = with_cache(params, tokens, positions, cache)
    x = embed(params, tokens, positions)
    scores = jnp.einsum("bsw,btw->bst", x, states["vectors"])
    scores = jnp.where(mask[:, None], scores, -1e30)
    read = jnp.einsum("bst,btw->bsw", jax.nn.softmax(scores), states["vectors"])
    return own + read @ params["head"], cache


def seq2seq():
    return jd.from_encoder_decoder(
        encode, decode, PARAMS, init_cache=make_cache, start_id=0, **SIZES
    )


def decoded(prompt, output):
    """Logits [1 + len(output), V] of start and output, read at once for one prompt."""
    source = np.zeros((1, 9), np.int32)
    source[0, : len(prompt)] = prompt
    tokens = np.zeros((1, 6), np.int32)
    tokens[0, 1 : 1 + len(output)] = output
    return _decoded(source, len(prompt), tokens)[: 1 + len(output)]


@jax.jit
def _decoded(source, length, tokens):
    mask = jnp.arange(source.shape[1])[None] < length
    places = jnp.arange(tokens.shape[1], dtype=jnp.int32)[None]
    states = encode(PARAMS, source, mask)
    return decode(PARAMS, tokens, places, make_cache(1, 12), states, mask)[0][0]


def test_an_encoder_with_a_decoder_writes_searches_and_scores():
    model = seq2seq()
    check_model(model)
    options = {"num_samples": 2, "max_new_tokens": 5}
    out = jd.generate(model, PROMPTS, 0, sampler=GREEDY, **options)
    for prompt, row in zip(PROMPTS, out.tokens[::2], strict=True):
        output = []
        for _ in range(5):
            output.append(int(np.argmax(decoded(prompt, output)[-1])))
        assert row.tolist() == output
    drawn = jd.generate(model, PROMPTS, 3, sampler=PLAIN, **options)
    score = jd.score(model, PROMPTS, [row.tolist() for row in drawn.tokens[1::2]])
    np.testing.assert_allclose(
        score.model_logprobs, drawn.model_logprobs[1::2], atol=1e-5
    )
    beams = jd.beam_search(model, PROMPTS[1:2], num_beams=VOCAB, max_new_tokens=2)
    best = max(
        (_sum(decoded(PROMPTS[1], [a, b]), (a, b)), (a, b))
        for a in range(VOCAB)
        for b in range(VOCAB)
    )
    assert beams.tokens[0, 0].tolist() == list(best[1])


def _sum(logits, output):
    logprobs = np.asarray(logits) - np.log(np.exp(logits).sum(-1, keepdims=True))
    return sum(float(logprobs[i, token]) for i, token in enumerate(output))


def test_the_encoder_runs_once_for_each_prompt():
    seen = []

    def counted(params, tokens, mask):
        jax.debug.callback(lambda rows: seen.append(rows), tokens.shape[0])
        return encode(params, tokens, mask)

    model = jd.from_encoder_decoder(
        counted, decode, PARAMS, init_cache=make_cache, start_id=0, **SIZES
    )
    jax.block_until_ready(
        jd.generate(
            model, PROMPTS, 3, sampler=PLAIN, num_samples=4, max_new_tokens=6
        ).tokens
    )
    jax.effects_barrier()
    assert seen == [len(PROMPTS)]


def test_room_is_for_prompt_and_output_together():
    with pytest.raises(ValueError, match=rf"must be <= {LENGTH}"):
        jd.generate(seq2seq(), PROMPTS, 0, max_new_tokens=LENGTH)
