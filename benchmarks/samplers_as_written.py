"""Samplers as they are usually written, for `sampler.py` to compare with.

Each takes logits [B, V] and keys [B] and returns tokens [B]. The order of the rules is
ours, top-k, top-p, temperature, so that the tokens can be compared.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

HALVINGS = 24


def categorical(logits, keys):
    """Draw from the whole distribution."""
    return jax.vmap(jax.random.categorical)(keys, logits)


def argmax(logits, keys):
    """Take the best token."""
    del keys
    return jnp.argmax(logits, axis=-1)


def two_sorts(logits, keys, *, k, p, t):
    """Sort, cut by rank and cumulative mass, sort back, draw over the vocabulary."""
    order = jnp.argsort(-logits, axis=-1)
    ranked = jnp.take_along_axis(logits, order, axis=-1)
    if k is not None:
        within = jnp.arange(logits.shape[-1]) < k
        ranked = jnp.where(within[None, :], ranked, -jnp.inf)
    ranked = jnp.where(_nucleus(ranked, p), ranked, -jnp.inf)
    back = jnp.argsort(order, axis=-1)
    return categorical(jnp.take_along_axis(ranked, back, axis=-1) / t, keys)


def lax_top_k(logits, keys, *, k, p, t):
    """Find the cut among the k best, mask by its value, draw over the vocabulary."""
    best, _ = jax.lax.top_k(logits, k)
    lowest = jnp.min(jnp.where(_nucleus(best, p), best, jnp.inf), axis=-1)
    kept = jnp.where(logits >= lowest[:, None], logits, -jnp.inf)
    return categorical(kept / t, keys)


def bisection(logits, keys, *, p):
    """Find the probability at which a nucleus ends by halving, without a sort."""
    probs = jax.nn.softmax(logits, axis=-1)

    def halve(_, bounds):
        low, high = bounds
        middle = (low + high) / 2
        mass = jnp.sum(jnp.where(probs >= middle[:, None], probs, 0.0), axis=-1)
        return jnp.where(mass >= p, middle, low), jnp.where(mass >= p, high, middle)

    bounds = jnp.zeros(probs.shape[:1]), jnp.max(probs, axis=-1)
    low, _ = jax.lax.fori_loop(0, HALVINGS, halve, bounds)
    return categorical(jnp.where(probs >= low[:, None], logits, -jnp.inf), keys)


def in_torch(logits: np.ndarray, k, p, t) -> Callable[[int], None]:
    """Return a function of a number of draws: sort, cut, scatter back, multinomial."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    held = torch.from_numpy(np.array(logits)).to(device)

    def draw():
        ranked, order = torch.sort(held, dim=-1, descending=True)
        if k is not None:
            ranked[:, k:] = -torch.inf
        probs = torch.softmax(ranked, dim=-1)
        ranked[torch.cumsum(probs, dim=-1) - probs >= p] = -torch.inf
        kept = torch.empty_like(held).scatter_(-1, order, ranked)
        return torch.multinomial(torch.softmax(kept / t, dim=-1), 1)

    @torch.inference_mode()
    def repeat(draws: int) -> None:
        for _ in range(draws):
            drawn = draw()
        drawn.cpu()  # waits for the device

    return repeat


def _nucleus(ranked, p):
    """Say which of the sorted tokens stand before a mass of p is reached."""
    probs = jax.nn.softmax(ranked, axis=-1)
    return jnp.cumsum(probs, axis=-1) - probs < p
