"""Scale the inputs of every matrix, exactly, so that rounding to int8 hurts less.

A few channels of a language model carry most of the energy, and a row of a matrix has
one scale for all its columns. Column i may be multiplied by s[i] if whatever produces
input i is divided by it: the weight of the norm in front, the rows of `up` before
`down`, the rows of `v` before `o`. The function stays the same; the errors do not.

Knows our dotted names of the llama family; int8 itself is `quantize`'s business.

References: Nagel et al., Data-Free Quantization through Weight Equalization and Bias
Correction, 2019, arXiv 1906.04721 (scaling across layers); Lin et al., AWQ, 2023,
arXiv 2306.00978 (channels weighed by their activations).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxdecode.models.config import ModelConfig
from jaxdecode.models.moments import input_moments
from jaxdecode.models.quantize import Inputs, QuantizedParams

SHARPNESS = 16  # of the p-norm that stands for the maximum of a row; a power of two
SWEEPS = 8
ROWS = 1024  # of a matrix, evenly spread: their maxima speak for the others'
SPREAD = 20.0  # the largest factor, either way, from the median channel
QUIET = 1e-4  # energy of a silent channel, in units of the mean


def quantized(
    config: ModelConfig, params: Mapping[str, Any], tokens: np.ndarray | None = None
) -> Mapping[str, Any]:
    """Return the int8 parameters of a model, balanced if it is of the llama family.

    A GPT-2's matrices are rounded as they are: its norms have biases, and no activation
    of its MLP lets a factor through.

    Args:
      config: sizes and switches.
      params: floating-point arrays by name.
      tokens: a text the model reads first, int [B, S]; None for random tokens.

    Returns:
      Arrays by name, made when they are read; for a tied llama also `embedding.unit`,
      see `BalancedParams`.
    """
    if not config.can_balance:
        return QuantizedParams(params)
    even = BalancedParams(config, params, input_moments(config, params, tokens))
    return QuantizedParams(even, even.inputs)


class BalancedParams(Mapping[str, Any]):
    """The same model with its channels scaled; each array when it is read.

    A tied table becomes the head's, and `embedding.unit` [W] is what a vector that is
    looked up in it must be multiplied by.

    Args:
      config: sizes and switches, of family "llama".
      params: floating-point arrays by name.
      moments: what the matrices are given, see `input_moments`.
    """

    def __init__(
        self,
        config: ModelConfig,
        params: Mapping[str, Any],
        moments: Mapping[str, Inputs],
    ):
        self._params = params
        self._factors = _factors(config, params, moments)
        self._unit = None
        if config.tied_output:
            columns = self._factors["embedding.weight"].columns
            assert columns is not None
            self._unit = 1 / columns

    def inputs(self, name: str) -> Inputs | None:
        """Return what a matrix is given after the scaling, None if that is unknown."""
        factor = self._factors.get(name)
        if factor is None or factor.inputs is None or factor.columns is None:
            return None
        return factor.inputs.over(factor.columns)

    def __getitem__(self, name: str) -> Any:
        if name == "embedding.unit" and self._unit is not None:
            return self._unit
        value = self._params[name]
        if name not in self._factors:
            return value
        return self._factors[name].apply(np.asarray(value, np.float32))

    def __iter__(self) -> Iterator[str]:
        yield from self._params
        if self._unit is not None:
            yield "embedding.unit"

    def __len__(self) -> int:
        return len(self._params) + (self._unit is not None)


def balance(matrices: Sequence[np.ndarray], energy: np.ndarray) -> np.ndarray:
    """Return the factors of the columns of matrices that read the same input.

    Rounding adds noise of the size of a row's maximum to each of its entries, so with
    columns scaled by s the error at the output is in proportion to

        sum_r (max_i |W[r, i]| s[i])^2 * sum_i energy[i] / s[i]^2.

    Where this is least, each channel's share in the first sum is its share in the
    second one. The maximum is taken as a p-norm, which makes the shares smooth; then
    multiplying s by `(share of the error / share of the maxima)^(1 / (p + 2))` is a
    Newton step on the logarithm of s, channel by channel.

    Args:
      matrices: [O, I] each, O may differ; their rows weigh alike whatever their size.
      energy: mean square of each input channel, [I].

    Returns:
      float32 [I], positive, with median 1.
    """
    powers = np.concatenate([_powers(matrix) for matrix in matrices])
    energy = np.asarray(energy, np.float64)
    energy = energy / max(energy.mean(), 1e-30) + QUIET
    log_s = np.zeros(len(energy))
    for _ in range(SWEEPS):
        scaled = np.exp(SHARPNESS * log_s).astype(np.float32)
        norms = powers @ scaled  # of each row, to the power p
        maxima = scaled * (norms ** (2 / SHARPNESS - 1) @ powers)
        errors = energy * np.exp(-2 * log_s)
        maxima, errors = maxima / maxima.sum(), errors / errors.sum()
        log_s += np.log(errors / np.maximum(maxima, 1e-12)) / (SHARPNESS + 2)
        limit = np.log(SPREAD)
        log_s = np.clip(log_s - np.median(log_s), -limit, limit)
    return np.exp(log_s).astype(np.float32)


@dataclass(frozen=True)
class _Factor:
    """What the rows and columns of an array are multiplied by; None is 1."""

    rows: np.ndarray | None = None
    columns: np.ndarray | None = None
    inputs: Inputs | None = None

    def apply(self, value: np.ndarray) -> np.ndarray:
        if self.rows is not None:
            value = value * (self.rows if value.ndim == 1 else self.rows[:, None])
        return value if self.columns is None else value * self.columns


def _factors(
    config: ModelConfig, params: Mapping[str, Any], moments: Mapping[str, Inputs]
) -> dict[str, _Factor]:
    def sample(name: str) -> np.ndarray:
        value = params[name]
        return np.asarray(value[:: max(1, value.shape[0] // ROWS)], np.float32)

    factors: dict[str, _Factor] = {}
    for layer in range(config.num_layers):
        prefix = f"layers.{layer}."
        block = _block_factors(
            config,
            lambda name, prefix=prefix: sample(f"{prefix}{name}.weight"),
            lambda name, prefix=prefix: moments[prefix + name],
        )
        factors |= {prefix + name: factor for name, factor in block.items()}
    head = "embedding.weight" if config.tied_output else "head.weight"
    s = balance([sample(head)], moments["head"].square)
    return factors | {
        "norm.weight": _Factor(rows=1 / s),
        head: _Factor(columns=s, inputs=moments["head"]),
    }


def _block_factors(
    config: ModelConfig,
    matrix: Callable[[str], np.ndarray],
    moments: Callable[[str], Inputs],
) -> dict[str, _Factor]:
    x, mixed = moments("attention.q"), moments("attention.o")
    y, hidden = moments("mlp.gate"), moments("mlp.down")
    sx = balance([matrix(f"attention.{part}") for part in "qkv"], x.square)
    sy = balance([matrix("mlp.gate"), matrix("mlp.up")], y.square)
    s_hidden = balance([matrix("mlp.down")], hidden.square)
    s_value = _balance_values(config, matrix("attention.o"), mixed.square)
    s_mixed = _per_query_head(config, s_value)
    return {
        "attention_norm.weight": _Factor(rows=1 / sx),
        "attention.q.weight": _Factor(columns=sx, inputs=x),
        "attention.k.weight": _Factor(columns=sx, inputs=x),
        "attention.v.weight": _Factor(rows=1 / s_value, columns=sx, inputs=x),
        "attention.v.bias": _Factor(rows=1 / s_value),
        "attention.o.weight": _Factor(columns=s_mixed, inputs=mixed),
        "mlp_norm.weight": _Factor(rows=1 / sy),
        "mlp.gate.weight": _Factor(columns=sy, inputs=y),
        "mlp.up.weight": _Factor(rows=1 / s_hidden, columns=sy, inputs=y),
        "mlp.up.bias": _Factor(rows=1 / s_hidden),
        "mlp.down.weight": _Factor(columns=s_hidden, inputs=hidden),
    }


def _balance_values(
    config: ModelConfig, output: np.ndarray, energy: np.ndarray
) -> np.ndarray:
    """Return factors of value channels [K D]: the query heads of a group share them."""
    grouped = (-1, config.kv_heads, config.num_heads // config.kv_heads)
    largest = np.abs(output).reshape(*grouped, config.head_size).max(2)
    total = energy.reshape(*grouped, config.head_size).sum(2)
    return balance([largest.reshape(len(output), -1)], total.reshape(-1))


def _per_query_head(config: ModelConfig, values: np.ndarray) -> np.ndarray:
    heads = values.reshape(config.kv_heads, config.head_size)
    return np.repeat(heads, config.num_heads // config.kv_heads, axis=0).reshape(-1)


def _powers(matrix: np.ndarray) -> np.ndarray:
    """Return |W / its row's maximum| ** SHARPNESS, between 1e-27 and 1.

    Smaller ones have no say in a maximum, and float32 arithmetic below 1e-38 is slow.
    """
    size = np.abs(matrix)
    powers = size / np.maximum(size.max(1, keepdims=True), np.float32(1e-30))
    powers = np.maximum(powers, np.float32(0.02))
    for _ in range(SHARPNESS.bit_length() - 1):
        powers = powers * powers
    return powers
