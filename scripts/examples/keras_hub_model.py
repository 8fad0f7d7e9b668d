"""A model of keras-hub, decoded: keras with the JAX backend, its own cache and all.

A tiny untrained GPT-2 of `keras_hub.models`; any of its causal language models whose
`call_with_cache` takes tokens, a cache and an index is wrapped the same way. The texts
are compared with those of keras-hub's own `generate`.

    pip install keras-hub
    KERAS_BACKEND=jax python scripts/examples/keras_hub_model.py

keras-hub brings TensorFlow for its tokenizers; without them it runs on keras alone:
`pip install keras` and then `pip install --no-deps keras-hub regex kagglehub kagglesdk`.
"""

import argparse
import os

import jax.numpy as jnp
import numpy as np

import jaxdecode as jd
from jaxdecode.testing import check_model

VOCAB, WIDTH, HEADS, LAYERS, LENGTH = 32, 16, 2, 2, 32


def from_keras_hub(lm, **sizes):
    """Wrap a causal language model of keras-hub: the eight lines below the import."""
    import keras

    def read(weights, tokens, positions, cache):
        with keras.StatelessScope(zip(lm.variables, weights, strict=True)):
            logits, _, cache = lm.call_with_cache(tokens, cache, positions[0, 0])
        return logits, cache

    def init_cache(length):
        return jnp.zeros((1, LAYERS, 2, length, HEADS, WIDTH // HEADS))

    weights = [variable.value for variable in lm.variables]
    return jd.from_single(read, weights, init_cache=init_cache, **sizes)


def tiny_gpt2(seed=0):
    """Return an untrained model."""
    import keras
    from keras_hub.models import GPT2Backbone, GPT2CausalLM

    keras.utils.set_random_seed(seed)
    backbone = GPT2Backbone(
        vocabulary_size=VOCAB,
        num_layers=LAYERS,
        num_heads=HEADS,
        hidden_dim=WIDTH,
        intermediate_dim=2 * WIDTH,
        max_sequence_length=LENGTH,
    )
    for (
        variable
    ) in backbone.variables:  # so that texts are not one token again and again
        if variable.ndim > 1:
            variable.assign(12.0 * variable)
    return GPT2CausalLM(backbone=backbone)


def theirs(lm, prompt, new_tokens):
    """Return what keras-hub's own greedy `generate` writes after one prompt."""
    ids = np.zeros((1, len(prompt) + new_tokens), np.int32)
    ids[0, : len(prompt)] = prompt
    known = np.arange(ids.shape[1])[None] < len(prompt)
    lm.compile(sampler="greedy")
    lm.preprocessor = None
    out = lm.generate({"token_ids": ids, "padding_mask": known}, stop_token_ids=None)
    return np.asarray(out["token_ids"])[0, len(prompt) :].tolist()


def main(argv=None):
    """Check the model, and return its greedy texts and those of keras-hub."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--new-tokens", type=int, default=8)
    options = parser.parse_args(argv)
    os.environ["KERAS_BACKEND"] = "jax"  # read when keras is imported first
    try:
        import keras
        import keras_hub  # noqa: F401
    except ImportError as error:
        parser.exit(2, f"keras-hub is not installed ({error}): pip install keras-hub\n")
    if keras.backend.backend() != "jax":
        parser.exit(
            2, "keras was imported with another backend; set KERAS_BACKEND=jax\n"
        )
    lm, prompts = tiny_gpt2(), [[3, 1, 4], [1, 5, 9, 2, 6]]
    model = from_keras_hub(lm, vocab_size=VOCAB, max_length=LENGTH)
    check_model(model)
    greedy = jd.joint(temperature=0)
    wanted = {"sampler": greedy, "max_new_tokens": options.new_tokens}
    ours = jd.generate(model, prompts, 0, **wanted).tokens.tolist()
    others = [theirs(lm, prompt, options.new_tokens) for prompt in prompts]
    for prompt, one, other in zip(prompts, ours, others, strict=True):
        print(f"{prompt} -> {one}", "as keras-hub writes" if one == other else other)
    return ours, others


if __name__ == "__main__":
    main()
