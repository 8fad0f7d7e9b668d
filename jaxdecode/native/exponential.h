/* The exponential function, for a register of numbers at once. */

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
