/* Which entries of a row can have the best score, an entry plus its Gumbel noise.

The noise is that of JAX's default keys: entry i hashes the counter (0, i) by
threefry-2x32 (Salmon et al., 2011). A bound of it needs no logarithm; it is the one of
`sampling/noise.py`, which says why it holds. Only entries whose bound comes up to what is
reached get their noise, in float64: what XLA makes of it in float32 lies within
NOISE_SLACK, and adding it to the entry keeps that order. So the entries that are left,
nearly always one, hold the best score for certain; XLA takes it from them. */

#pragma once

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "simd.h"
#include "survey.h"

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

/* Writes that of each of `count` ids to `bits`. */
static void hash(const uint32_t* key, const int32_t* ids, int64_t count, uint32_t* bits) {
  for (int64_t i = 0; i < count; i += LANES) {
    const int64_t left = count - i;
    const size_t bytes = (size_t)(left < LANES ? left : LANES) * 4;
    counters index = {0};
    memcpy(&index, ids + i, bytes);
    const counters found = threefry(key[0], key[1], index);
    memcpy(bits + i, &found, bytes);
  }
}

/* slack - log(2) log2'(1 - u), log2' being what the bits say, as an integer. */
INLINE floats noise_bound(counters bits) {
  const floats u = (floats)(bits >> 9 | 0x3f800000u); /* and 1 */
  const whole words = (whole)subtract(all(2.0f), u);
  const floats log2 = __builtin_convertvector(words, floats);
  return subtract_product(all(1e-4f + 127.0f * 0.69314718f), log2,
                          all(0.69314718f / 8388608.0f));
}

/* The noise that these bits stand for. */
static double noise_of(uint32_t bits) {
  const double u = (bits >> 9) * 0x1p-23;
  return -log(-log(u > 0 ? u : 0x1p-126));
}

#define NOISE_MAX 16.0f   /* -log(-log(1 - 2^-23)) is 15.94 */
#define NOISE_SLACK 5e-5 /* above what float32 loses on the way to noise */

typedef struct {
  const float *row, *maxima; /* the maxima of its chunks */
  int64_t size, chunk;
  const uint32_t* key;
  int64_t from;  /* entries before this one were searched, */
  float before;  /* and they, or entries found before the next, reach this score; */
  float reached; /* some entry of the row does this */
  int32_t* ids;  /* what was found, with room for `room`, in ascending order, */
  uint32_t* bits; /* what their noise is made of, */
  float* most;   /* and what their scores do not exceed */
  int64_t room, count;
} search;

static void reach(float* score, float least) {
  if (least > *score) *score = least;
}

/* Forgets what cannot have the best score, and says whether there is room again. */
static int make_way(search* s) {
  int64_t kept = 0;
  for (int64_t i = 0; i < s->count; i++)
    if (s->most[i] >= s->reached) {
      s->ids[kept] = s->ids[i];
      s->bits[kept] = s->bits[i];
      s->most[kept++] = s->most[i];
    }
  s->count = kept;
  return kept < s->room;
}

/* Takes entry `id` if it can have the best score; returns 0 if there is no room for it.
   With equal scores the first entry wins. */
static int consider(search* s, int64_t id, uint32_t bits) {
  const double noise = noise_of(bits);
  const float least = s->row[id] + (float)(noise - NOISE_SLACK);
  const float most = s->row[id] + (float)(noise + NOISE_SLACK);
  if (!(most > s->before && most >= s->reached)) return 1;
  if (s->count == s->room && !make_way(s)) return 0;
  s->ids[s->count] = (int32_t)id;
  s->bits[s->count] = bits;
  s->most[s->count++] = most;
  reach(&s->before, least);
  reach(&s->reached, least);
  return 1;
}

/* Searches LANES entries, at `values`, the first of which is `first`. Returns the entry
   for which there was no room, or -1. With `peek` it only notes what is reached. */
INLINE int64_t search_lanes(search* s, const float* values, int64_t first, int peek) {
  const floats x = (floats)load(values);
  if (!some_reach(add(x, all(NOISE_MAX)), s->reached)) return -1;
  counters index;
  for (int l = 0; l < LANES; l++) index[l] = (uint32_t)first + (uint32_t)l;
  const counters bits = threefry(s->key[0], s->key[1], index);
  const floats bound = add(x, noise_bound(bits));
  if (!some_reach(bound, s->reached)) return -1;
  float bounds[LANES];
  store(bounds, bound);
  for (int64_t l = 0; l < LANES; l++) {
    if (!(bounds[l] >= s->reached && values[l] > -INFINITY)) continue;
    if (peek)
      reach(&s->reached, values[l] + (float)(noise_of(bits[l]) - NOISE_SLACK));
    else if (first + l >= s->from && !consider(s, first + l, bits[l]))
      return first + l;
  }
  return -1;
}

static int64_t search_chunk(search* s, int64_t first, int peek) {
  float filled[CHUNK_MAX];
  const float* values = chunk_at(s->row, s->size, first, s->chunk, filled);
  for (int64_t i = 0; i < s->chunk; i += LANES) {
    const int64_t stopped = search_lanes(s, values + i, first + i, peek);
    if (stopped >= 0) return stopped;
  }
  return -1;
}

/* Searches a row from `from` on; returns where it stopped, `size` at the end. The chunk
   with the largest entry comes first: what it reaches spares most others. */
static int64_t search_row(search* s) {
  const int64_t chunks = (s->size + s->chunk - 1) / s->chunk;
  int64_t near = 0;
  for (int64_t c = 1; c < chunks; c++)
    if (s->maxima[c] > s->maxima[near]) near = c;
  reach(&s->reached, s->before);
  search_chunk(s, near * s->chunk, 1);
  for (int64_t c = s->from / s->chunk; c < chunks; c++) {
    if (s->maxima[c] + NOISE_MAX < s->reached) continue;
    const int64_t stopped = search_chunk(s, c * s->chunk, 0);
    if (stopped >= 0) return stopped;
  }
  make_way(s);
  return s->size;
}
