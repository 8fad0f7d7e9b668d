"""Sampling inside your own jitted training step: a small REINFORCE loop.

A policy of one table writes texts with `jd.generate`, is rewarded for a token that we
like, and learns by the gradient of `jd.score`. One compiled step does all of it; later
steps compile nothing, though temperature and key are new each time.

    python scripts/examples/training_step.py --steps 30
"""

import argparse

import jax
import jax.numpy as jnp

import jaxdecode as jd
from jaxdecode.models import from_logits_function
from jaxdecode.testing import count_compiles

VOCAB, LENGTH, ROWS, LIKED = 16, 8, 64, 3


def policy(table):
    """Return a bigram model: logits depend on the last token only."""
    sizes = {"vocab_size": VOCAB, "max_length": 2 * LENGTH}
    return from_logits_function(next_logits, table, **sizes)


def next_logits(table, tokens):
    """Return logits [B, T, V] of tokens [B, T]."""
    return table[tokens]


@jax.jit
def train_step(table, key, temperature, rate):
    """Return the table after one step, and the mean reward of its texts."""
    prompts = (jnp.ones((ROWS, 1), jnp.int32), jnp.ones((ROWS,), jnp.int32))
    sampler = jd.chain(jd.Temperature(temperature))
    out = jd.generate(
        policy(table), prompts, key, sampler=sampler, max_new_tokens=LENGTH
    )
    reward = jnp.mean(out.tokens == LIKED, axis=1)
    advantage = reward - jnp.mean(reward)

    def loss(table):
        texts = (out.tokens, out.lengths)
        scored = jd.score(policy(table), prompts, texts, sampler=sampler)
        return -jnp.mean(advantage * jnp.sum(scored.sampling_logprobs, axis=1))

    return table - rate * jax.grad(loss)(table), jnp.mean(reward)


def main(argv=None):
    """Train, print the reward, and return (first reward, last reward, compilations)."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=30, help="training steps, >= 2")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    if options.steps < 2:
        parser.error(f"--steps must be at least 2, got {options.steps}")
    table, rewards = jnp.zeros((VOCAB, VOCAB)), []
    keys = jax.random.split(jax.random.key(options.seed), options.steps)
    temperatures = jnp.linspace(1.2, 0.8, options.steps)
    rate = jnp.float32(20.0)
    table, reward = train_step(table, keys[0], temperatures[0], rate)
    rewards.append(float(reward))
    later = list(zip(keys[1:], temperatures[1:], strict=True))
    with count_compiles() as compiles:
        for key, temperature in later:
            table, reward = train_step(table, key, temperature, rate)
            rewards.append(float(reward))
    for step in range(0, options.steps, max(1, options.steps // 10)):
        print(f"step {step:3d}  reward {rewards[step]:.3f}")
    print(f"compilations after the first step: {compiles.count}")
    return rewards[0], rewards[-1], compiles.count


if __name__ == "__main__":
    main()
