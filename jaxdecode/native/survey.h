/* What a draw asks of a whole row, in one pass: the maximum of each chunk, and the
logarithm of the row's total weight.

A chunk's weights are taken relative to its own maximum, so that no second pass is needed
for the row's, and so that a chunk can be replaced later. A row with NaN or +inf, or with
nothing but -inf, has a logarithm that is not finite. */

#pragma once

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "exponential.h"
#include "simd.h"

enum { CHUNK_MAX = 1024 };

/* The chunk that begins at `first`: in the row itself, or in `filled` with -inf behind the
   row's end. */
static const float* chunk_at(const float* row, int64_t size, int64_t first, int64_t chunk,
                             float* filled) {
  const int64_t left = size - first;
  if (left >= chunk) return row + first;
  memcpy(filled, row + first, (size_t)left * sizeof(float));
  for (int64_t i = left; i < chunk; i++) filled[i] = -INFINITY;
  return filled;
}

/* The largest of `count` values, a multiple of LANES; NaN is passed over. */
static float largest_value(const float* values, int64_t count) {
  floats most = all(-INFINITY);
  for (int64_t i = 0; i < count; i += LANES) most = larger((floats)load(values + i), most);
  return largest(most);
}

/* The sum of exp(value - most), `most` being the largest of `count` values; NaN if that
   is +inf, as inf - inf is. */
static float weight_of(const float* values, int64_t count, float most) {
  const floats shift = all(most == -INFINITY ? 0.0f : most);
  floats sum = all(0.0f);
  for (int64_t i = 0; i < count; i += LANES)
    sum = add(sum, exp_below_zero(subtract((floats)load(values + i), shift)));
  return total(sum);
}

/* A row's chunks; the arrays hold a multiple of LANES, what is missing is -inf or 0. */
typedef struct {
  int64_t size, chunk, chunks;
  float *maxima, *weights;
  unsigned char* changed;
} survey;

static int64_t padded_chunks(const survey* s) {
  return (s->chunks + LANES - 1) / LANES * LANES;
}

static int make_survey(survey* s, int64_t size, int64_t chunk) {
  *s = (survey){.size = size, .chunk = chunk, .chunks = (size + chunk - 1) / chunk};
  const int64_t room = padded_chunks(s);
  s->maxima = malloc((size_t)room * (2 * sizeof(float) + 1));
  if (s->maxima == NULL) return 0;
  s->weights = s->maxima + room;
  s->changed = (unsigned char*)(s->weights + room);
  for (int64_t c = s->chunks; c < room; c++) s->maxima[c] = -INFINITY, s->weights[c] = 0.0f;
  memset(s->changed, 1, (size_t)room);
  return 1;
}

/* Looks at every chunk that has changed. */
static void look(survey* s, const float* row) {
  float filled[CHUNK_MAX];
  for (int64_t c = 0; c < s->chunks; c++)
    if (s->changed[c]) {
      const float* values = chunk_at(row, s->size, c * s->chunk, s->chunk, filled);
      s->maxima[c] = largest_value(values, s->chunk);
      s->weights[c] = weight_of(values, s->chunk, s->maxima[c]);
    }
}

/* Puts `values` at `ids`, and looks again where they are; ids outside are left out. */
static void put_values(survey* s, float* row, const int32_t* ids, const float* values,
                       int64_t count) {
  memset(s->changed, 0, (size_t)s->chunks);
  for (int64_t i = 0; i < count; i++)
    if (ids[i] >= 0 && ids[i] < s->size) {
      row[ids[i]] = values[i];
      s->changed[ids[i] / s->chunk] = 1;
    }
  look(s, row);
}

/* The logarithm of the sum of exp(value - best) over the row. */
static float log_weight(const survey* s, float* best) {
  *best = largest_value(s->maxima, padded_chunks(s));
  const floats shift = all(*best == -INFINITY ? 0.0f : *best);
  floats sum = all(0.0f);
  for (int64_t c = 0; c < s->chunks; c += LANES) {
    const floats share = exp_below_zero(subtract((floats)load(s->maxima + c), shift));
    sum = add(sum, multiply((floats)load(s->weights + c), share));
  }
  return logf(total(sum));
}
