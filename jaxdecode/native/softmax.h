/* The softmax of scores that come in spans of columns and are then forgotten.

A span holds the columns from a multiple of SPAN on, so a token's spans do not depend on
how many columns or tokens are read at once. After Milakov and Gimelshein, Online
normalizer calculation for softmax, 2018, arXiv 1805.02867. */

#pragma once

#include <math.h>

#include "exponential.h"
#include "simd.h"

enum { SPAN = 128 };

/* What is done once a span is called, not inlined: eight kernels would be slow to compile. */

/* What is known of a query head so far: its largest score, and the sum of the weights. */
typedef struct {
  float top, total;
} running;

#define NOTHING_YET ((running){-INFINITY, 0.0f})

/* The part of a span that a token sees, counted from the span's first column. */
typedef struct {
  int64_t from, to;
} part;

/* The part of the span from `first` on of a token that sees columns `from` to `to`. */
INLINE part part_of_span(int64_t first, int64_t from, int64_t to) {
  const part p = {from > first ? from - first : 0, to < first + SPAN ? to - first : SPAN};
  return p.from < p.to ? p : (part){0, 0};
}

/* Registers are filled up in pairs. */
INLINE int64_t first_of(part p) { return p.from / (2 * LANES) * (2 * LANES); }
INLINE int64_t end_of(part p) {
  return (p.to + 2 * LANES - 1) / (2 * LANES) * (2 * LANES);
}

/* The largest score so far, with those of a part, beside which -inf is put. */
static float new_top(float* scores, part p, float top) {
  const int64_t first = first_of(p), end = end_of(p);
  for (int64_t t = first; t < p.from; t++) scores[t] = -INFINITY;
  for (int64_t t = p.to; t < end; t++) scores[t] = -INFINITY;
  floats even = all(top), odd = even;
  for (int64_t t = first; t < end; t += 2 * LANES) {
    even = larger(even, (floats)load(scores + t));
    odd = larger(odd, (floats)load(scores + t + LANES));
  }
  return largest(larger(even, odd));
}

/* Turns the scores of a part into weights, given the new top; beside them they are 0. What
   was `mixed` so far, [size], is brought to the same scale. */
static void weigh(float* scores, part p, float new_top, running* so_far, float* mixed,
                  int64_t size) {
  if (p.from == p.to) return; /* there may be no top yet */
  const floats best = all(new_top);
  const floats kept = exp_below_zero(subtract(all(so_far->top), best));
  floats even = all(0.0f), odd = even;
  for (int64_t t = first_of(p); t < end_of(p); t += 2 * LANES) {
    const floats one = exp_below_zero(subtract((floats)load(scores + t), best));
    const floats two = exp_below_zero(subtract((floats)load(scores + t + LANES), best));
    store(scores + t, one);
    store(scores + t + LANES, two);
    even = add(even, one);
    odd = add(odd, two);
  }
  for (int64_t i = 0; i < size; i += LANES)
    store(mixed + i, multiply((floats)load(mixed + i), kept));
  float sum[LANES];
  store(sum, add_product(all(total(add(even, odd))), all(so_far->total), kept));
  *so_far = (running){new_top, sum[0]};
}

/* Ends a mix [size]; one of no columns stays 0. */
static void divide_by_total(float* mixed, int64_t size, float total) {
  if (total == 0.0f) return;
  for (int64_t i = 0; i < size; i += LANES)
    store(mixed + i, divide((floats)load(mixed + i), all(total)));
}
