/* Rows times a matrix that is stored in panels.

A panel holds 32 outputs side by side, a word for each, and one line of such words per
step along the inputs: a float32, two bfloat16, or two int8. A step loads a line, repeats
one word of a row over all lanes, multiplies and adds; a tile of a few rows shares the
line. Each output is one sum in the order of the inputs, however many rows there are, so
a row's result does not depend on its neighbours. */

#pragma once

#include <string.h>

#include "simd.h"


typedef enum { FLOAT32, BFLOAT16, INT8 } kind;

/* int8 times 14-bit rows: so many steps of two products fit into an int32. */
enum { INT8_STEPS = 1024 };

typedef struct {
  const uint32_t* rows;     /* [count, steps] words */
  const char* panels;       /* [panel, steps, PANEL] words of word_bytes */
  const float* row_scale;   /* [count], int8 only */
  const float* scale;       /* [outputs], int8 only */
  float* out;               /* [count, outputs] */
  int64_t count, steps, outputs;
} product;

INLINE void put(float* to, const floats* values, int64_t left) {
  float all_of_them[PANEL];
  float* whole = left >= PANEL ? to : all_of_them;
  for (int v = 0; v < VECTORS; v++) store(whole + v * LANES, values[v]);
  if (left < PANEL) memcpy(to, all_of_them, (size_t)left * sizeof(float));
}

INLINE void scale_and_put(const product* p, float* to, const words* sums, int64_t row,
                          int64_t output, int add) {
  int64_t left = p->outputs - output < PANEL ? p->outputs - output : PANEL;
  float values[PANEL];
  for (int v = 0; v < VECTORS; v++) store(values + v * LANES, to_floats(sums[v]));
  for (int64_t i = 0; i < left; i++) {
    float scaled = values[i] * p->row_scale[row] * p->scale[output + i];
    to[i] = add ? to[i] + scaled : scaled;
  }
}

/* `rows` rows from `first` on, times one panel; `k` and `rows` are known here. */
INLINE void tile(const product* p, int64_t panel, int64_t first, kind k, int rows) {
  const int word_bytes = k == INT8 ? 2 : 4;
  const char* line = p->panels + panel * p->steps * PANEL * word_bytes;
  const uint32_t* row = p->rows + first * p->steps;
  const int64_t output = panel * PANEL, most = k == INT8 ? INT8_STEPS : p->steps;
  for (int64_t from = 0; from < p->steps; from += most) {
    const int64_t to = p->steps - from < most ? p->steps : from + most;
    words sum[ROWS_MAX][VECTORS];
    for (int r = 0; r < rows; r++)
      for (int v = 0; v < VECTORS; v++) sum[r][v] = zero();
    for (int64_t i = from; i < to; i++, line += PANEL * word_bytes) {
      words b[VECTORS];
      for (int v = 0; v < VECTORS; v++) {
        const char* at = line + v * LANES * word_bytes;
        b[v] = k == INT8 ? widen(at) : load(at);
      }
      for (int r = 0; r < rows; r++) {
        const words a = repeat(row[r * p->steps + i]);
        for (int v = 0; v < VECTORS; v++)
          sum[r][v] = k == FLOAT32    ? (words)multiply_add(a, b[v], sum[r][v])
                      : k == BFLOAT16 ? dot_bfloat16(a, b[v], sum[r][v])
                                      : dot_int16(a, b[v], sum[r][v]);
      }
    }
    for (int r = 0; r < rows; r++) {
      float* at = p->out + (first + r) * p->outputs + output;
      if (k == INT8)
        scale_and_put(p, at, sum[r], first + r, output, from > 0);
      else
        put(at, (const floats*)sum[r], p->outputs - output);
    }
  }
}

/* Rows `first` to `end` times one panel, in tiles of about equal height. */
INLINE void strip(const product* p, int64_t panel, int64_t first, int64_t end, kind k) {
  const int64_t tiles = (end - first + ROWS_MAX - 1) / ROWS_MAX;
  const int64_t height = (end - first + tiles - 1) / tiles;
  for (; first < end; first += height) {
    switch (end - first < height ? end - first : height) {
      case 1: tile(p, panel, first, k, 1); break;
      case 2: tile(p, panel, first, k, 2); break;
#if ROWS_MAX > 2
      case 3: tile(p, panel, first, k, 3); break;
      case 4: tile(p, panel, first, k, 4); break;
      case 5: tile(p, panel, first, k, 5); break;
      case 6: tile(p, panel, first, k, 6); break;
      case 7: tile(p, panel, first, k, 7); break;
      case 8: tile(p, panel, first, k, 8); break;
#endif
    }
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
