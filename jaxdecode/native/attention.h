/* A token attends to the columns that it sees; no others are read.

Scores and sums are float32 over a float32 or bfloat16 cache. A result depends on nothing
but the token's own columns: not on the batch, nor on how long the cache is. Words
of bfloat16 hold an even and an odd number; queries and sums are kept apart likewise. */

#pragma once

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "exponential.h"
#include "simd.h"

enum { GROUP_MAX = 4 }; /* query heads that share a pass over the columns */

/* Starts to read `bytes` that will be needed soon. */
INLINE void fetch(const char* from, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(from + i);
}

typedef struct {
  const float *queries;        /* [heads, size], scaled; of one token */
  const char *keys, *values;   /* [columns, size] of float32 or bfloat16; of a key head */
  const char *next_keys, *next_values; /* of the key head to be read after this one */
  float* out;                  /* [heads, size] */
  int64_t heads, kv_heads, size, from, to; /* columns `from` to `to` are seen */
} attention;

/* A register of a head's numbers. */
INLINE floats numbers_at(const char* stored, int64_t index, int wide) {
  const char* at = stored + index * (wide ? 4 : 2);
  return (floats)(wide ? load(at) : widen_bfloat16(at));
}

/* Scores of four columns for each head of a group. The sum of a score is the same in each
   of the four places. */
INLINE void score_four(const attention* a, const char* const columns[4], const float* q,
                       float* scores, int64_t stride, int group, int wide) {
  floats sum[GROUP_MAX][4];
  for (int g = 0; g < group; g++)
    for (int c = 0; c < 4; c++) sum[g][c] = all(0.0f);
  for (int64_t i = 0; i < a->size; i += LANES)
    for (int c = 0; c < 4; c++) {
      const floats key = numbers_at(columns[c], i, wide);
      for (int g = 0; g < group; g++)
        sum[g][c] = add_product(sum[g][c], key, (floats)load(q + g * a->size + i));
    }
  for (int g = 0; g < group; g++) store_totals(scores + g * stride, sum[g]);
}

INLINE void scores_of(const attention* a, const char* keys, const float* q, float* scores,
                      int64_t stride, int group, int wide) {
  const int64_t line = a->size * (wide ? 4 : 2);
  for (int64_t t = a->from; t < a->to; t += 4) {
    const char* columns[4];
    for (int c = 0; c < 4; c++) { /* the last one again where there is no other */
      const int64_t at = t + c < a->to ? t + c : a->to - 1;
      columns[c] = keys + at * line;
      fetch(a->next_keys + at * line, line);
    }
    score_four(a, columns, q, scores + t - a->from, stride, group, wide);
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
  const int64_t line = a->size * (wide ? 4 : 2);
  for (int64_t i = 0; i < a->size; i += 2 * LANES) {
    floats sum[GROUP_MAX][2];
    for (int g = 0; g < group; g++) sum[g][0] = sum[g][1] = all(0.0f);
    for (int64_t t = a->from; t < a->to; t++) {
      const floats first = numbers_at(values + t * line, i, wide);
      const floats second = numbers_at(values + t * line, i + LANES, wide);
      if (i == 0) fetch(a->next_values + t * line, line);
      for (int g = 0; g < group; g++) {
        const floats w = all(weights[g * stride + t - a->from]);
        sum[g][0] = add_product(sum[g][0], first, w);
        sum[g][1] = add_product(sum[g][1], second, w);
      }
    }
    for (int g = 0; g < group; g++) {
      store(mixed + g * a->size + i, sum[g][0]);
      store(mixed + g * a->size + i + LANES, sum[g][1]);
    }
  }
}

/* Query heads `head` to `head + group`, which share one key head. */
INLINE void attend_group(const attention* a, int64_t head, int group, int wide,
                         float* scratch) {
  const int64_t count = a->to - a->from, size = a->size;
  const int64_t stride = (count + LANES - 1) / LANES * LANES;
  const float* q = a->queries + head * size;
  float *out = a->out + head * size, *scores = scratch;
  scores_of(a, a->keys, q, scores, stride, group, wide);
  float sums[GROUP_MAX];
  for (int g = 0; g < group; g++) sums[g] = weights_of(scores + g * stride, count, stride);
  mix(a, a->values, scores, stride, out, group, wide);
  for (int g = 0; g < group; g++)
    for (int64_t i = 0; i < size; i++) out[g * size + i] /= sums[g];
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
  float* scratch = malloc((size_t)(GROUP_MAX * stride) * sizeof(float));
  if (scratch == NULL) return 0;
  if (wide)
    attend_groups(a, kv, 1, scratch);
  else
    attend_groups(a, kv, 0, scratch);
  free(scratch);
  return 1;
}
