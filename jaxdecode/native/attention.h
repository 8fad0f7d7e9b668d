/* A token attends to the columns that it sees; no others are read.

Scores and sums are float32 over a float32 or bfloat16 cache. A result depends on nothing
but the token's own columns: not on the batch, nor on how long the cache is. */

#pragma once

#include <string.h>

#include "simd.h"
#include "softmax.h"

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
                       float* scores, int group, int wide) {
  floats sum[GROUP_MAX][4];
  for (int g = 0; g < group; g++)
    for (int c = 0; c < 4; c++) sum[g][c] = all(0.0f);
  for (int64_t i = 0; i < a->size; i += LANES)
    for (int c = 0; c < 4; c++) {
      const floats key = numbers_at(columns[c], i, wide);
      for (int g = 0; g < group; g++)
        sum[g][c] = add_product(sum[g][c], key, (floats)load(q + g * a->size + i));
    }
  for (int g = 0; g < group; g++) store_totals(scores + g * SPAN, sum[g]);
}

/* Scores of a part of the span from `first` on; of up to three columns before it, too. */
INLINE void score(const attention* a, int64_t first, part p, const float* q, float* scores,
                  int group, int wide) {
  const int64_t line = a->size * (wide ? 4 : 2);
  const char *keys = a->keys + first * line, *next = a->next_keys + first * line;
  for (int64_t t = p.from / 4 * 4; t < p.to; t += 4) {
    const char* columns[4];
    for (int c = 0; c < 4; c++) { /* the last one again where there is no other */
      const int64_t at = t + c < p.to ? t + c : p.to - 1;
      columns[c] = keys + at * line;
      fetch(next + at * line, line);
    }
    score_four(a, columns, q, scores + t, group, wide);
  }
}

/* Adds the values of a part to what is mixed, by their weights. */
INLINE void mix(const attention* a, int64_t first, part p, const float* weights,
                float* mixed, int group, int wide) {
  const int64_t line = a->size * (wide ? 4 : 2);
  const char *values = a->values + first * line, *next = a->next_values + first * line;
  for (int64_t i = 0; i < a->size; i += 2 * LANES) {
    floats sum[GROUP_MAX][2];
    for (int g = 0; g < group; g++)
      for (int v = 0; v < 2; v++)
        sum[g][v] = (floats)load(mixed + g * a->size + i + v * LANES);
    for (int64_t t = p.from; t < p.to; t++) {
      const floats one = numbers_at(values + t * line, i, wide);
      const floats two = numbers_at(values + t * line, i + LANES, wide);
      if (i == 0) fetch(next + t * line, line);
      for (int g = 0; g < group; g++) {
        const floats w = all(weights[g * SPAN + t]);
        sum[g][0] = add_product(sum[g][0], one, w);
        sum[g][1] = add_product(sum[g][1], two, w);
      }
    }
    for (int g = 0; g < group; g++)
      for (int v = 0; v < 2; v++) store(mixed + g * a->size + i + v * LANES, sum[g][v]);
  }
}

/* Query heads `head` to `head + group`, which share one key head. */
INLINE void attend_group(const attention* a, int64_t head, int group, int wide) {
  const int64_t size = a->size;
  const float* q = a->queries + head * size;
  float *out = a->out + head * size, tops[GROUP_MAX];
  _Alignas(64) float scores[GROUP_MAX * SPAN];
  running so_far[GROUP_MAX];
  memset(out, 0, (size_t)(group * size) * sizeof(float));
  for (int g = 0; g < group; g++) so_far[g] = NOTHING_YET;
  for (int64_t first = a->from / SPAN * SPAN; first < a->to; first += SPAN) {
    const part p = part_of_span(first, a->from, a->to);
    score(a, first, p, q, scores, group, wide);
    for (int g = 0; g < group; g++)
      tops[g] = new_top(scores + g * SPAN, p, so_far[g].top);
    for (int g = 0; g < group; g++)
      weigh(scores + g * SPAN, p, tops[g], &so_far[g], out + g * size, size);
    mix(a, first, p, scores, out, group, wide);
  }
  for (int g = 0; g < group; g++) divide_by_total(out + g * size, size, so_far[g].total);
}

INLINE void attend_groups(const attention* a, int64_t kv, int wide) {
  const int64_t group = a->heads / a->kv_heads, end = (kv + 1) * group;
  for (int64_t head = kv * group; head < end; head += GROUP_MAX) {
    switch (end - head) {
      case 1: attend_group(a, head, 1, wide); break;
      case 2: attend_group(a, head, 2, wide); break;
      case 3: attend_group(a, head, 3, wide); break;
      default: attend_group(a, head, 4, wide);
    }
  }
}

/* One key head of one token, which attends alone. */
static void attend(const attention* a, int64_t kv, int wide) {
  if (wide)
    attend_groups(a, kv, 1);
  else
    attend_groups(a, kv, 0);
}
