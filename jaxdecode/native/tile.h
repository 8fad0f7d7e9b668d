/* A few rows times a block of a panel's lines, with all their sums in registers.

Loops over rows and registers are unrolled by hand: compilers keep sums in registers only
if every index is known before they look for such. */

#pragma once

#include "simd.h"

typedef enum { FLOAT32, BFLOAT16, INT8 } kind;

enum {
#ifdef DOTS_BFLOAT16
  BFLOAT16_WORDS = 1, /* of a row, for each step */
#else
  BFLOAT16_WORDS = 2, /* the even number and the odd one, each as float32 */
#endif
  INT8_STEPS = 1024, /* of int8 times 14-bit rows, which fit into an int32 */
  ROWS_LISTED = 12, /* as far as the lists below go */
  VECTORS_LISTED = 8,
};

#define FOR_ROWS(at) \
  at(0) at(1) at(2) at(3) at(4) at(5) at(6) at(7) at(8) at(9) at(10) at(11)
#define FOR_VECTORS(at) at(0) at(1) at(2) at(3) at(4) at(5) at(6) at(7)
_Static_assert(ROWS_MAX <= ROWS_LISTED && VECTORS <= VECTORS_LISTED, "lists too short");

INLINE int words_of(kind k) { return k == BFLOAT16 ? BFLOAT16_WORDS : 1; }
INLINE int word_bytes(kind k) { return k == INT8 ? 2 : 4; }
INLINE int line_bytes(kind k) { return PANEL * word_bytes(k); }

/* A block of lines, and what to fetch meanwhile for the next one: `stride` bytes each
   step, from `ahead` on. Without it a block waits for memory when it begins. */
typedef struct {
  const char *first, *ahead;
  int64_t steps, stride;
} block;

INLINE words times(words a, words b, words sum, kind k) {
#ifdef DOTS_BFLOAT16
  if (k == BFLOAT16) return dot_bfloat16(a, b, sum);
#endif
  return k == INT8 ? dot_int16(a, b, sum) : multiply_add(a, b, sum);
}

/* A register of a line: its words, or one of the two bfloat16 in each as float32. */
INLINE words part_of_line(const char* at, kind k, int half) {
  if (k == INT8) return widen(at);
  if (k == FLOAT32 || words_of(k) == 1) return load(at);
  return half == 0 ? low_half(load(at)) : high_half(load(at));
}

/* Adds the products of one step; or of half a step, where a word is two numbers. Rows are
   `stride` words apart. */
INLINE void add_half(const uint32_t* row, int64_t stride, const char* line,
                     words sum[ROWS_LISTED][VECTORS_LISTED], kind k, int rows, int width,
                     int half) {
  words b[VECTORS_LISTED];
#define READ(v) \
  if (v < width) b[v] = part_of_line(line + v * LANES * word_bytes(k), k, half);
  FOR_VECTORS(READ)
#undef READ
#define ADD(v) \
  if (v < width) of_row[v] = times(a, b[v], of_row[v], k);
#define ADD_ROW(r)                            \
  if (r < rows) {                             \
    const words a = repeat(row[r * stride]);  \
    words* of_row = sum[r];                   \
    FOR_VECTORS(ADD)                          \
  }
  FOR_ROWS(ADD_ROW)
#undef ADD_ROW
#undef ADD
}

/* Adds the products of one step, and fetches what lies `ahead`; `two` lines of memory, if
   the next step fetches beyond them. */
INLINE void step(const uint32_t* row, const char* line, const char* ahead, int two,
                 words sum[ROWS_LISTED][VECTORS_LISTED], kind k, int rows, int width) {
  fetch_line(ahead);
  if (width * LANES * word_bytes(k) > 64 && two) fetch_line(ahead + 64);
  const int64_t stride = BLOCK * words_of(k);
  add_half(row, stride, line, sum, k, rows, width, 0);
  if (words_of(k) == 2) add_half(row + 1, stride, line, sum, k, rows, width, 1);
}

/* Adds `rows` rows times `width` registers of a block to `sums` [rows, VECTORS], which
   wait in memory. `k`, `rows` and `width` are known where this is compiled. */
INLINE void tile(const uint32_t* row, const block* b, words* sums, kind k, int rows,
                 int width) {
  words sum[ROWS_LISTED][VECTORS_LISTED];
#define COPY(v) \
  if (v < width) to[v] = from[v];
#define TAKE_ROW(r)                          \
  if (r < rows) {                            \
    const words* from = sums + r * VECTORS;  \
    words* to = sum[r];                      \
    FOR_VECTORS(COPY)                        \
  }
#define LEAVE_ROW(r)                         \
  if (r < rows) {                            \
    const words* from = sum[r];              \
    words* to = sums + r * VECTORS;          \
    FOR_VECTORS(COPY)                        \
  }
  FOR_ROWS(TAKE_ROW)
  const char *line = b->first, *ahead = b->ahead;
  const int two = b->stride > 64;
#define STEP(i) \
  step(row + (i) * words_of(k), line + (i) * line_bytes(k), ahead + (i) * b->stride, two, \
       sum, k, rows, width);
#define ADVANCE(steps)               \
  row += (steps) * words_of(k);      \
  line += (steps) * line_bytes(k);   \
  ahead += (steps) * b->stride;
  int64_t left = b->steps;
  for (; UNROLLS && words_of(k) == 1 && left >= 4; left -= 4) {
    STEP(0) STEP(1) STEP(2) STEP(3)
    ADVANCE(4)
  }
  for (; left > 0; left--) {
    STEP(0)
    ADVANCE(1)
  }
#undef ADVANCE
#undef STEP
  FOR_ROWS(LEAVE_ROW)
#undef LEAVE_ROW
#undef TAKE_ROW
#undef COPY
}
