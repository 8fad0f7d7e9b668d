/* Rows times a matrix that is stored in panels.

A panel holds 32 outputs side by side, a word for each, and one line of such words per
step along the inputs: a float32, two bfloat16, or two int8. A step loads a line, repeats
one word of a row over all lanes, multiplies and adds; a tile of a few rows shares the
line. All rows pass a block of lines before the next one: it stays in the first-level
cache, and sums wait in memory meanwhile. Each output is one sum in the order of the
inputs, however many rows there are, so a row's result does not depend on its
neighbours. */

#pragma once

#include <string.h>

#include "amx.h"
#include "simd.h"
#include "tile.h"

enum { ROWS_AT_ONCE = 128 };

typedef struct {
  const uint32_t* rows;     /* [block, count, BLOCK] steps of words, see rows.h */
  const char* panels;       /* [panel, steps, PANEL] words */
  const float* row_scale;   /* [count], int8 only */
  const float* scale;       /* [outputs], int8 only */
  const float* onto;        /* [count, outputs], what results are added to, or NULL */
  float* out;               /* [count, outputs] */
  int64_t count, steps, outputs;
} product;

/* All outputs of a panel for `rows` rows; few rows leave registers for wide tiles. */
INLINE void tiles_across(const uint32_t* row, block b, words* sums, kind k, int rows) {
  const int fitting = ROWS_MAX * TILE_VECTORS / rows;
  const int width = fitting >= VECTORS ? VECTORS : TILE_VECTORS;
  for (int v = 0; v < VECTORS; v += width) {
    tile(row, &b, sums + v, k, rows, width);
    b.first += width * LANES * word_bytes(k);
    b.ahead += width * LANES * word_bytes(k);
  }
}

/* `count` rows times a block, in tiles of about equal height, each of which fetches its
   share of the block that follows. */
INLINE void pass(const uint32_t* row, const char* first, int64_t steps, words* sums,
                 kind k, int64_t count) {
  int64_t tiles = (count + ROWS_MAX - 1) / ROWS_MAX;
  const int64_t stride = line_bytes(k) / tiles;
  block b = {first, first + BLOCK * line_bytes(k), steps, stride};
  if (FAR_AHEAD > 0) b.ahead -= BLOCK / 2 * stride;
  for (; tiles > 0; tiles--) {
    const int64_t rows = (count + tiles - 1) / tiles;
    switch (rows) {
      case 1: tiles_across(row, b, sums, k, 1); break;
      case 2: tiles_across(row, b, sums, k, 2); break;
      case 3: tiles_across(row, b, sums, k, 3); break;
      case 4: tiles_across(row, b, sums, k, 4); break;
      case 5: tiles_across(row, b, sums, k, 5); break;
      case 6: tiles_across(row, b, sums, k, 6); break;
#if ROWS_MAX > 6
      case 7: tiles_across(row, b, sums, k, 7); break;
      case 8: tiles_across(row, b, sums, k, 8); break;
      case 9: tiles_across(row, b, sums, k, 9); break;
      case 10: tiles_across(row, b, sums, k, 10); break;
      case 11: tiles_across(row, b, sums, k, 11); break;
      case 12: tiles_across(row, b, sums, k, 12); break;
#endif
    }
    row += rows * BLOCK * words_of(k);
    sums += rows * VECTORS;
    count -= rows;
    b.ahead += b.stride * steps;
  }
}

/* Where a panel's results of one row go, and what they become. */
typedef struct {
  float* out;          /* [PANEL], like the next two */
  const float* before; /* what they are added to, or NULL */
  const float* scale;  /* int8 only, with the row's own */
  float row_scale;
} place;

INLINE void put_panel(place to, const words* sums, kind k) {
  for (int v = 0; v < VECTORS; v++) {
    const int at = v * LANES;
    floats values = (floats)sums[v];
    if (k == INT8)
      values = multiply(to_floats(sums[v]),
                        multiply(all(to.row_scale), (floats)load(to.scale + at)));
    if (to.before != NULL) values = add(values, (floats)load(to.before + at));
    store(to.out + at, values);
  }
}

/* The same for a last panel, of which only `left` outputs exist. */
INLINE void put_some(place to, const words* sums, kind k, int64_t left) {
  float out[PANEL], before[PANEL] = {0}, scale[PANEL] = {0};
  const size_t bytes = (size_t)left * sizeof(float);
  place beside = {out, to.before == NULL ? NULL : before, scale, to.row_scale};
  if (to.before != NULL) memcpy(before, to.before, bytes);
  if (k == INT8) memcpy(scale, to.scale, bytes);
  put_panel(beside, sums, k);
  memcpy(to.out, out, bytes);
}

/* Writes the sums of one row; those of int8 are scaled, and added if `more`. */
INLINE void put(const product* p, int64_t row, int64_t output, const words* sums, kind k,
                int more) {
  const int64_t left = p->outputs - output, at = row * p->outputs + output;
  place to = {.out = p->out + at};
  to.before = more ? p->out + at : p->onto != NULL ? p->onto + at : NULL;
  if (k == INT8) to.scale = p->scale + output, to.row_scale = p->row_scale[row];
  if (left >= PANEL)
    put_panel(to, sums, k);
  else
    put_some(to, sums, k, left);
}

/* Row `first` in the block that begins with step `at`. */
INLINE const uint32_t* rows_of_block(const product* p, int64_t at, int64_t first, kind k) {
  return p->rows + (at / BLOCK * p->count + first) * BLOCK * words_of(k);
}

/* Rows `first` to `end`, at most ROWS_AT_ONCE, times one panel. */
INLINE void strip(const product* p, int64_t panel, int64_t first, int64_t end, kind k) {
  const char* lines = p->panels + panel * p->steps * line_bytes(k);
  const int64_t most = k == INT8 ? INT8_STEPS : p->steps, count = end - first;
  words sums[ROWS_AT_ONCE * VECTORS];
  for (int64_t from = 0; from < p->steps; from += most) {
    const int64_t to = p->steps - from < most ? p->steps : from + most;
    if (takes_tiles(k, p->count)) {
      multiply_by_tiles(rows_of_block(p, from, first, k), p->count,
                        lines + from * line_bytes(k), to - from, (char*)sums, k, count);
    } else {
      memset(sums, 0, (size_t)(count * VECTORS) * sizeof(words));
      for (int64_t at = from; at < to; at += BLOCK)
        pass(rows_of_block(p, at, first, k), lines + at * line_bytes(k),
             to - at < BLOCK ? to - at : BLOCK, sums, k, count);
    }
    for (int64_t r = 0; r < count; r++)
      put(p, first + r, panel * PANEL, sums + r * VECTORS, k, from > 0);
  }
}

static void strip_float32(const product* p, int64_t panel, int64_t first, int64_t end) {
  strip(p, panel, first, end, FLOAT32);
}
static void strip_bfloat16(const product* p, int64_t panel, int64_t first, int64_t end) {
  strip(p, panel, first, end, BFLOAT16);
}
static void strip_int8(const product* p, int64_t panel, int64_t first, int64_t end) {
  strip(p, panel, first, end, INT8);
}
