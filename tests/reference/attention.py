"""Attention and rotary positions of one row, one head and one token at a time."""

import math

import numpy as np


def attention(q, k, v, *, scale, window=None):
    """Causal attention of a row: q [S, H, D], k and v [S, K, D] -> [S, H, D]."""
    length, heads, _ = q.shape
    group = heads // k.shape[1]
    out = np.zeros_like(q)
    for s in range(length):
        first = 0 if window is None else max(0, s - window + 1)
        for h in range(heads):
            scores = [scale * q[s, h] @ k[t, h // group] for t in range(first, s + 1)]
            top = max(scores)
            weights = [math.exp(score - top) for score in scores]
            total = sum(weights)
            for t, weight in zip(range(first, s + 1), weights, strict=True):
                out[s, h] += weight / total * v[t, h // group]
    return out


def rotate(x, position, theta, scaling=None):
    """Turn each plane (i, i + D/2) of a head `x` [D] by its angle at `position`."""
    half = len(x) // 2
    out = np.empty_like(x)
    for i in range(half):
        angle = position * scaled_speed(theta ** (-i / half), scaling)
        a, b = x[i], x[i + half]
        out[i] = a * math.cos(angle) - b * math.sin(angle)
        out[i + half] = b * math.cos(angle) + a * math.sin(angle)
    return out


def scaled_speed(speed, scaling):
    """Radians per position after rope scaling; llama3 is told by wavelengths."""
    if scaling is None:
        return speed
    factor = scaling["factor"]
    if scaling["kind"] == "linear":
        return speed / factor
    wavelength = 2 * math.pi / speed
    original = scaling["original_max_length"]
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    if wavelength > original / low:
        return speed / factor
    if wavelength < original / high:
        return speed
    smooth = (original / wavelength - low) / (high - low)
    return (1 - smooth) * speed / factor + smooth * speed
