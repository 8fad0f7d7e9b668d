/* Rows on their way into a product: normalised, then rounded to the matrix's partner.

Loops run over LANES partial results, so that compilers vectorise them and the order of
every sum is fixed. */

#pragma once

#include <math.h>
#include <string.h>

#include "simd.h"

#define INT14_MAX 8191.0f

/* Divides by the root mean square, times a weight: Zhang and Sennrich, 2019. */
static void normalise(const float* row, const float* weight, float eps, int64_t size,
                      float* out) {
  float part[LANES] = {0}, sum = 0.0f;
  int64_t i = 0;
  for (; i + LANES <= size; i += LANES)
    for (int l = 0; l < LANES; l++) part[l] += row[i + l] * row[i + l];
  for (; i < size; i++) part[0] += row[i] * row[i];
  for (int l = 0; l < LANES; l++) sum += part[l];
  const float scale = 1.0f / sqrtf(sum / (float)size + eps);
  for (i = 0; i < size; i++) out[i] = row[i] * scale * weight[i];
}

/* Rounds to bfloat16, ties to even; a zero behind an odd row. */
static void to_bfloat16(const float* row, int64_t size, int64_t steps, uint16_t* out) {
  for (int64_t i = 0; i < size; i++) {
    uint32_t bits;
    memcpy(&bits, row + i, 4);
    const uint32_t rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
    out[i] = (uint16_t)((bits & 0x7fffffffu) > 0x7f800000u ? 0x7fc0u : rounded);
  }
  if (size < 2 * steps) out[size] = 0;
}

/* Rounds to 14 bits, a zero behind an odd row, and returns the row's scale. A row with a
   NaN or an infinity has the scale NaN, and so have all its results. */
static float to_int14(const float* row, int64_t size, int64_t steps, int16_t* out) {
  float top[LANES] = {0}, broken[LANES] = {0}, most = 1e-30f, sound = 0.0f;
  int64_t i = 0;
  for (; i + LANES <= size; i += LANES)
    for (int l = 0; l < LANES; l++) {
      const float magnitude = fabsf(row[i + l]);
      top[l] = magnitude > top[l] ? magnitude : top[l];
      broken[l] += magnitude * 0.0f;
    }
  for (; i < size; i++) {
    const float magnitude = fabsf(row[i]);
    top[0] = magnitude > top[0] ? magnitude : top[0];
    broken[0] += magnitude * 0.0f;
  }
  for (int l = 0; l < LANES; l++) {
    most = top[l] > most ? top[l] : most;
    sound += broken[l];
  }
  const float inverse = INT14_MAX / most;
  for (i = 0; i < size; i++) out[i] = (int16_t)(int32_t)nearbyintf(row[i] * inverse);
  if (size < 2 * steps) out[size] = 0;
  return most / INT14_MAX + sound;
}
