/* exp, and the activations that are made of it. */

#pragma once

#include "simd.h"

/* exp(x) for x <= 0, relative error below 2e-7; 0 below -87, NaN for NaN.

   Reduction by ln 2 in two parts and a polynomial, after Moshier's Cephes library. */
INLINE floats exp_below_zero(floats x) {
  const floats turns = round_to_whole(multiply(x, all(1.44269504f)));
  floats rest = subtract_product(x, turns, all(0.693359375f));
  rest = subtract_product(rest, turns, all(-2.12194440e-4f));
  floats y = all(1.9875691500e-4f);
  y = add_product(all(1.3981999507e-3f), y, rest);
  y = add_product(all(8.3334519073e-3f), y, rest);
  y = add_product(all(4.1665795894e-2f), y, rest);
  y = add_product(all(1.6666665459e-1f), y, rest);
  y = add_product(all(5.0000001201e-1f), y, rest);
  y = add_product(add(rest, all(1.0f)), y, multiply(rest, rest));
  return zero_below(times_power_of_two(y, turns), x, -87.0f);
}

/* 1 / (1 + exp(-x)), of exp(-|x|), which cannot overflow. */
INLINE floats sigmoid(floats x) {
  const floats fading = exp_below_zero(subtract(all(0.0f), larger(x, -x)));
  const floats positive = zero_below(all(1.0f), x, 0.0f); /* 1 where x >= 0, else 0 */
  const floats negative = subtract(fading, zero_below(fading, x, 0.0f));
  return divide(add(positive, negative), add(all(1.0f), fading));
}

/* What `models.layers.activation` calls so; the numbers are those of `product.py`. */
typedef enum { NO_GATE, SILU, GELU_TANH } gate;

/* x * sigmoid(x), or gelu with a tanh, which is x * sigmoid(2 sqrt(2 / pi) (x + a x^3)). */
INLINE floats activated(floats x, gate g) {
  if (g == SILU) return multiply(x, sigmoid(x));
  const floats cube = multiply(multiply(x, x), x);
  const floats bent = add_product(x, all(0.044715f), cube);
  return multiply(x, sigmoid(multiply(all(1.59576912f), bent)));
}
