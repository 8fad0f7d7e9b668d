"""Group relative policy optimisation of a small llama, in one compiled step.

Each step writes several texts for every prompt with `jd.generate`, rewards them, compares
each with its group's mean (Shao et al., DeepSeekMath, 2024, arXiv 2402.03300), and goes
along the gradient of a clipped objective with a penalty on the divergence from the first
model. `jd.score` gives importance ratios and divergence in one call. Learning is by plain
gradient steps, so that nothing but jaxdecode and jax is needed.

    python scripts/examples/grpo.py --steps 30
"""

import argparse

import jax
import jax.numpy as jnp

import jaxdecode as jd
from jaxdecode.models import ModelConfig, build, random_params
from jaxdecode.testing import count_compiles

CONFIG = ModelConfig(
    family="llama",
    vocab_size=32,
    width=32,
    num_layers=2,
    num_heads=2,
    num_kv_heads=1,
    mlp_width=64,
    max_length=32,
)
PROMPTS = [[1, 2], [3, 4, 5], [6], [7, 8, 9, 10]]
SAMPLES, NEW_TOKENS = 16, 12
LIKED = 11  # the reward is the share of this token
CLIP, PENALTY = 0.2, 0.02


def start():
    """Return a model in plain arrays, whose gradients cost least, with random weights."""
    return build(CONFIG, random_params(CONFIG, 0), native=False)


def advantages(rewards):
    """Return each text's reward beside its group's mean, in standard deviations."""
    groups = rewards.reshape(-1, SAMPLES)
    centred = groups - groups.mean(axis=1, keepdims=True)
    spread = groups.std(axis=1, keepdims=True)
    return (centred / (spread + 1e-4)).reshape(-1)


@jax.jit
def train_step(model, first, key, temperature, rate):
    """Return the model after one step, and what a person would look at."""
    sampler = jd.chain(jd.Temperature(temperature))
    asked = {"sampler": sampler, "max_new_tokens": NEW_TOKENS, "num_samples": SAMPLES}
    out = jd.generate(model, PROMPTS, key, **asked)
    reward = jnp.mean(out.tokens == LIKED, axis=1)
    weight = advantages(reward)[:, None]

    def loss(model):
        texts = (out.tokens, out.lengths)
        scored = jd.score(model, PROMPTS, texts, sampler=sampler, reference=first)
        ratio = jnp.exp(scored.sampling_logprobs - out.sampling_logprobs)
        clipped = jnp.clip(ratio, 1 - CLIP, 1 + CLIP)
        gain = jnp.minimum(ratio * weight, clipped * weight) - PENALTY * scored.kl
        return -jnp.sum(gain * out.mask) / jnp.sum(out.mask), (ratio, scored.kl)

    slope, (ratio, kl) = jax.grad(loss, has_aux=True, allow_int=True)(model)
    model = jax.tree.map(lambda leaf, by: moved(leaf, by, rate), model, slope)
    seen = {
        "reward": jnp.mean(reward),
        "kl": jnp.sum(kl * out.mask) / jnp.sum(out.mask),
        "ratio error": jnp.max(jnp.abs(ratio - 1) * out.mask),
    }
    return model, seen


def moved(leaf, slope, rate):
    """Return an array after a step against its slope; whole numbers stay."""
    is_real = jnp.issubdtype(leaf.dtype, jnp.floating)
    return leaf - rate * slope if is_real else leaf


def main(argv=None):
    """Train, print what happens, and return (what was seen, compilations)."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=30, help="training steps, >= 2")
    parser.add_argument("--rate", type=float, default=0.1, help="length of a step")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    if options.steps < 2:
        parser.error(f"--steps must be at least 2, got {options.steps}")
    first = start()
    rate = jnp.float32(options.rate)
    keys = jax.random.split(jax.random.key(options.seed), options.steps)
    temperatures = jnp.linspace(1.2, 0.9, options.steps)
    model, seen = train_step(first, first, keys[0], temperatures[0], rate)
    history = [seen]
    later = list(zip(keys[1:], temperatures[1:], strict=True))
    with count_compiles() as compiles:
        for key, temperature in later:
            model, seen = train_step(model, first, key, temperature, rate)
            history.append(seen)
    history = [{name: float(x) for name, x in seen.items()} for seen in history]
    for step in range(0, options.steps, max(1, options.steps // 10)):
        shown = "  ".join(f"{name} {x:.2g}" for name, x in history[step].items())
        print(f"step {step:3d}  {shown}")
    print(f"compilations after the first step: {compiles.count}")
    return history, compiles.count


if __name__ == "__main__":
    main()
