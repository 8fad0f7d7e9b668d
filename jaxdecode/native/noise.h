/* What a row's entries plus their Gumbel noise do not exceed, chunk by chunk.

The noise is that of JAX's default keys: entry i hashes the counter (0, i) by
threefry-2x32 (Salmon et al., 2011). Its bound is the one of `sampling/noise.py`, which
says why it holds. */

#pragma once

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "simd.h"

typedef uint32_t counters __attribute__((vector_size(LANES * 4)));
typedef int32_t whole __attribute__((vector_size(LANES * 4)));

INLINE counters rotate(counters x, int distance) {
  return x << distance | x >> (32 - distance);
}

/* The xor of both halves of the hash of (0, count) with the key (k0, k1). */
INLINE counters threefry(uint32_t k0, uint32_t k1, counters count) {
  static const int rotations[2][4] = {{13, 15, 26, 6}, {17, 29, 16, 24}};
  const uint32_t keys[3] = {k0, k1, k0 ^ k1 ^ 0x1bd11bdau};
  counters x0 = (counters){0} + k0, x1 = count + k1;
#pragma GCC unroll 5
  for (int group = 0; group < 5; group++) {
#pragma GCC unroll 4
    for (int round = 0; round < 4; round++) {
      x0 += x1;
      x1 = x0 ^ rotate(x1, rotations[group % 2][round]);
    }
    x0 += keys[(group + 1) % 3];
    x1 += keys[(group + 2) % 3] + (uint32_t)(group + 1);
  }
  return x0 ^ x1;
}

/* slack - log(2) log2'(1 - u), log2' being what the bits say, as an integer. */
INLINE floats noise_bound(counters bits) {
  const floats u = (floats)(bits >> 9 | 0x3f800000u); /* and 1 */
  const whole words = (whole)subtract(all(2.0f), u);
  const floats log2 = __builtin_convertvector(words, floats);
  return subtract_product(all(1e-4f + 127.0f * 0.69314718f), log2,
                          all(0.69314718f / 8388608.0f));
}

/* The largest of `count` values, a multiple of LANES. */
static float largest_value(const float* values, int64_t count) {
  floats most = all(-INFINITY);
  for (int64_t i = 0; i < count; i += LANES) most = larger((floats)load(values + i), most);
  return largest(most);
}

/* The largest bound of `count` entries, the first of which has the index `from`. */
static float largest_bound(const float* values, int64_t count, uint32_t from,
                           const uint32_t* key) {
  counters index;
  for (int l = 0; l < LANES; l++) index[l] = from + (uint32_t)l;
  floats most = all(-INFINITY);
  for (int64_t i = 0; i < count; i += LANES, index += LANES) {
    const floats bound = noise_bound(threefry(key[0], key[1], index));
    most = larger(add((floats)load(values + i), bound), most);
  }
  return largest(most);
}

enum { CHUNK_MAX = 1024 };
#define NOISE_MAX 16.0f /* -log(-log(1 - 2^-23)) is 15.94 */

/* The same for `count` entries of a chunk of `chunk`; those missing are -inf. A chunk
   that cannot reach the score `reached` costs no hash, and gives -inf. */
static float chunk_bound(const float* values, int64_t count, int64_t chunk, uint32_t from,
                         const uint32_t* key, float reached) {
  float filled[CHUNK_MAX];
  if (count < chunk) {
    memcpy(filled, values, (size_t)count * sizeof(float));
    for (int64_t i = count; i < chunk; i++) filled[i] = -INFINITY;
    values = filled;
  }
  if (largest_value(values, chunk) + NOISE_MAX < reached) return -INFINITY;
  return largest_bound(values, chunk, from, key);
}
