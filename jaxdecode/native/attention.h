/* A token attends to the columns that it sees; no others are read.

Scores and sums are float32 over a float32 or bfloat16 cache. A result depends on nothing
but the token's own columns: not on the batch, nor on how long the cache is. Words
of bfloat16 hold an even and an odd number; queries and sums are kept apart likewise. */

#pragma once

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "simd.h"

enum { GROUP_MAX = 4 }; /* query heads that share a pass over the columns */

typedef struct {
  const float *queries;        /* [heads, size], scaled; of one token */
  const char *keys, *values;   /* [kv_heads, columns, size] of float32 or bfloat16 */
  float* out;                  /* [heads, size] */
  int64_t heads, kv_heads, columns, size, from, to; /* columns `from` to `to` are seen */
} attention;

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

/* Even and odd numbers of a head, or (float32) its first and second vectors. */
INLINE void load_pair(const char* at, int wide, floats* even, floats* odd) {
  if (wide) {
    *even = (floats)load(at);
    *odd = (floats)load(at + LANES * 4);
  } else {
    const words both = load(at);
    *even = (floats)low_half(both);
    *odd = (floats)high_half(both);
  }
}

/* Arranges `size` numbers as `load_pair` yields them, or back. */
static void arrange(const float* from, float* to, int64_t size, int wide, int back) {
  for (int64_t i = 0; i < size; i++) {
    const int64_t block = i / (2 * LANES) * (2 * LANES), inside = i % (2 * LANES);
    const int64_t at = wide ? i : block + inside % 2 * LANES + inside / 2;
    if (back)
      to[i] = from[at];
    else
      to[at] = from[i];
  }
}

INLINE void scores_of(const attention* a, const char* keys, const float* q, float* scores,
                      int64_t stride, int group, int wide) {
  const int64_t block = 2 * LANES * (wide ? 4 : 2), pairs = a->size / (2 * LANES);
  const int64_t line = pairs * block;
  for (int64_t t = a->from; t < a->to; t++) {
    floats sum[GROUP_MAX];
    for (int g = 0; g < group; g++) sum[g] = all(0.0f);
    for (int64_t p = 0; p < pairs; p++) {
      floats even, odd;
      load_pair(keys + t * line + p * block, wide, &even, &odd);
      for (int g = 0; g < group; g++) {
        const float* at = q + g * a->size + p * 2 * LANES;
        sum[g] = add_product(sum[g], even, (floats)load(at));
        sum[g] = add_product(sum[g], odd, (floats)load(at + LANES));
      }
    }
    for (int g = 0; g < group; g++) scores[g * stride + t - a->from] = total(sum[g]);
  }
}

/* Turns scores into weights that sum to what is returned; beyond `count` they are 0. */
static float weights_of(float* scores, int64_t count, int64_t padded) {
  for (int64_t t = count; t < padded; t++) scores[t] = -INFINITY;
  floats top = (floats)load(scores);
  for (int64_t t = LANES; t < padded; t += LANES) top = larger(top, (floats)load(scores + t));
  const floats best = all(largest(top));
  floats sum = all(0.0f);
  for (int64_t t = 0; t < padded; t += LANES) {
    const floats w = exp_below_zero(subtract((floats)load(scores + t), best));
    store(scores + t, w);
    sum = add(sum, w);
  }
  return total(sum);
}

INLINE void mix(const attention* a, const char* values, const float* weights,
                int64_t stride, float* mixed, int group, int wide) {
  const int64_t block = 2 * LANES * (wide ? 4 : 2), pairs = a->size / (2 * LANES);
  const int64_t line = pairs * block;
  for (int64_t p = 0; p < pairs; p++) {
    floats sum[GROUP_MAX][2];
    for (int g = 0; g < group; g++) sum[g][0] = sum[g][1] = all(0.0f);
    for (int64_t t = a->from; t < a->to; t++) {
      floats even, odd;
      load_pair(values + t * line + p * block, wide, &even, &odd);
      for (int g = 0; g < group; g++) {
        const floats w = all(weights[g * stride + t - a->from]);
        sum[g][0] = add_product(sum[g][0], even, w);
        sum[g][1] = add_product(sum[g][1], odd, w);
      }
    }
    for (int g = 0; g < group; g++) {
      store(mixed + g * a->size + p * 2 * LANES, sum[g][0]);
      store(mixed + g * a->size + p * 2 * LANES + LANES, sum[g][1]);
    }
  }
}

/* Query heads `head` to `head + group`, which share one key head. */
INLINE void attend_group(const attention* a, int64_t head, int group, int wide,
                         float* scratch) {
  const int64_t count = a->to - a->from, size = a->size;
  const int64_t stride = (count + LANES - 1) / LANES * LANES;
  float *q = scratch, *mixed = q + GROUP_MAX * size, *scores = mixed + GROUP_MAX * size;
  const int64_t plane = a->columns * size * (wide ? 4 : 2);
  const int64_t kv = head / (a->heads / a->kv_heads);
  for (int g = 0; g < group; g++)
    arrange(a->queries + (head + g) * size, q + g * size, size, wide, 0);
  scores_of(a, a->keys + kv * plane, q, scores, stride, group, wide);
  float sums[GROUP_MAX];
  for (int g = 0; g < group; g++) sums[g] = weights_of(scores + g * stride, count, stride);
  mix(a, a->values + kv * plane, scores, stride, mixed, group, wide);
  for (int g = 0; g < group; g++) {
    float* to = a->out + (head + g) * size;
    arrange(mixed + g * size, to, size, wide, 1);
    for (int64_t i = 0; i < size; i++) to[i] /= sums[g];
  }
}

INLINE void attend_groups(const attention* a, int64_t kv, int wide, float* scratch) {
  const int64_t group = a->heads / a->kv_heads, end = (kv + 1) * group;
  for (int64_t head = kv * group; head < end; head += GROUP_MAX) {
    switch (end - head) {
      case 1: attend_group(a, head, 1, wide, scratch); break;
      case 2: attend_group(a, head, 2, wide, scratch); break;
      case 3: attend_group(a, head, 3, wide, scratch); break;
      default: attend_group(a, head, 4, wide, scratch);
    }
  }
}

/* One key head of one row. Returns 0 if there is no memory for the scores. */
static int attend(const attention* a, int64_t kv, int wide) {
  if (a->to <= a->from) { /* sees nothing: a row that was never written */
    const int64_t per_head = a->heads / a->kv_heads * a->size;
    memset(a->out + kv * per_head, 0, (size_t)per_head * sizeof(float));
    return 1;
  }
  const int64_t stride = (a->to - a->from + LANES) / LANES * LANES;
  float* scratch = malloc((size_t)(GROUP_MAX * (2 * a->size + stride)) * sizeof(float));
  if (scratch == NULL) return 0;
  if (wide)
    attend_groups(a, kv, 1, scratch);
  else
    attend_groups(a, kv, 0, scratch);
  free(scratch);
  return 1;
}
