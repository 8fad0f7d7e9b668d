"""Llama-family and GPT-2 forward passes of one row in float64, with no cache.

`config` is a plain dict of sizes and switches, `params` arrays [outputs, inputs] by
name; both use the names of the project, and nothing else of it.
"""

import math

import numpy as np

from tests.reference.attention import attention, rotate


def llama_logits(config, params, tokens):
    """Logits [S, V] of a list of token ids."""
    p = {name: np.asarray(value, np.float64) for name, value in params.items()}
    eps = config["norm_eps"]
    x = np.stack([p["embedding.weight"][token] for token in tokens])
    for i in range(config["num_layers"]):
        at = f"layers.{i}."
        h = rms_norm(x, p[at + "attention_norm.weight"], eps)
        x = x + _llama_attention(config, p, i, h)
        h = rms_norm(x, p[at + "mlp_norm.weight"], eps)
        gate, up = linear(p, at + "mlp.gate", h), linear(p, at + "mlp.up", h)
        x = x + linear(p, at + "mlp.down", gate / (1 + np.exp(-gate)) * up)
    return _logits(config, p, rms_norm(x, p["norm.weight"], eps))


def gpt2_logits(config, params, tokens):
    """Logits [S, V] of a list of token ids; the activation is gelu_new."""
    p = {name: np.asarray(value, np.float64) for name, value in params.items()}
    x = np.stack([p["embedding.weight"][token] for token in tokens])
    x = x + p["positions.weight"][: len(tokens)]
    for i in range(config["num_layers"]):
        at = f"layers.{i}."
        h = layer_norm(x, p, at + "attention_norm", config["norm_eps"])
        scale = config["head_dim"] ** -0.5 if config["scale_attention"] else 1.0
        scale /= i + 1 if config["scale_by_layer"] else 1
        q, k, v = (_heads(config, linear(p, at + f"attention.{n}", h)) for n in "qkv")
        mixed = attention(q, k, v, scale=scale).reshape(len(tokens), -1)
        x = x + linear(p, at + "attention.o", mixed)
        h = layer_norm(x, p, at + "mlp_norm", config["norm_eps"])
        x = x + linear(p, at + "mlp.down", gelu_new(linear(p, at + "mlp.up", h)))
    return _logits(config, p, layer_norm(x, p, "norm", config["norm_eps"]))


def _llama_attention(config, p, i, h):
    at = f"layers.{i}.attention."
    q, k, v = (_heads(config, linear(p, at + n, h)) for n in "qkv")
    if config["qk_norm"]:
        q = rms_norm(q, p[at + "q_norm.weight"], config["norm_eps"])
        k = rms_norm(k, p[at + "k_norm.weight"], config["norm_eps"])
    layers = config["sliding_layers"]
    window = config["sliding_window"] if layers is None or i in layers else None
    theta, scaling = config["rope_theta"], config["rope_scaling"]
    if window is not None and config["sliding_rope_theta"] is not None:
        theta, scaling = config["sliding_rope_theta"], None
    for heads in (q, k):
        for s in range(heads.shape[0]):
            for j in range(heads.shape[1]):
                heads[s, j] = rotate(heads[s, j], s, theta, scaling)
    scale = 1 / math.sqrt(config["head_dim"])
    mixed = attention(q, k, v, scale=scale, window=window)
    return linear(p, at + "o", mixed.reshape(len(h), -1))


def _heads(config, flat):
    return flat.reshape(len(flat), -1, config["head_dim"])


def _logits(config, p, x):
    return x @ p["embedding.weight" if config["tied_output"] else "head.weight"].T


def linear(p, name, x):
    """Apply an affine map; no bias if there is none by that name."""
    y = x @ p[name + ".weight"].T
    return y + p[name + ".bias"] if name + ".bias" in p else y


def rms_norm(x, weight, eps):
    """Divide by the root mean square over the last axis."""
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + eps) * weight


def layer_norm(x, p, name, eps):
    """Subtract the mean and divide by the deviation over the last axis."""
    centred = x - x.mean(-1, keepdims=True)
    unit = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + eps)
    return unit * p[name + ".weight"] + p[name + ".bias"]


def gelu_new(x):
    """The tanh form of the Gaussian error linear unit."""
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
