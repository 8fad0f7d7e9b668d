/* Tokens of a row that attend together: keys and values are read once for many queries.

Each result has the bits of `attention.h`, where a token attends alone: a score is the sum
of the same products in the same order, and values are added column after column. There a
register holds LANES numbers of one key; here it holds one number of LANES keys, so what
is one lane there is a sum for itself here, and such shares are added up in the order of
`store_totals`. */

#pragma once

#include <stdlib.h>
#include <string.h>

#include "attention.h"
#include "simd.h"
#include "softmax.h"
#include "tile.h"

enum {
  HEIGHT = ROWS_MAX,      /* queries of a tile, which share a register of keys or values */
  WIDTH = TILE_VECTORS,   /* such registers side by side */
  STRIP = WIDTH * LANES,  /* numbers in them */
  PASS = 24,              /* queries that meet a span together: some tiles */
  QUERIES_MAX = 8 * PASS, /* that the keys of a span are laid out for */
};
_Static_assert(PASS % HEIGHT == 0, "a pass is some tiles");

/* Tokens that follow each other, and the query heads that share one key head. A query is
   one head of one token. */
typedef struct {
  const float* queries;      /* [tokens, heads, size], scaled */
  const char *keys, *values; /* [columns, size] of float32 or bfloat16 */
  float* out;                /* [tokens, heads, size] */
  int64_t tokens, heads, first_head, group, size; /* group * tokens <= QUERIES_MAX */
  const int64_t *from, *to;  /* [tokens], the columns that each sees */
} query_block;

typedef floats shares[HEIGHT][WIDTH];

typedef struct {
  shares waiting[4]; /* for the other half of what they are added to, see `score_tile` */
  float* queries; /* [query / HEIGHT, lane, size / LANES, HEIGHT] */
  float* keys;    /* of a span: [column / STRIP, lane, size / LANES, STRIP] */
  float* numbers; /* of a span: keys, then values, [SPAN, size] */
  float* nowhere; /* [size], results of queries that fill up a tile */
  int64_t from[QUERIES_MAX], to[QUERIES_MAX];
  float* mixed[QUERIES_MAX];
  running so_far[QUERIES_MAX];
} workspace;

/* Room for blocks of heads of `size` numbers; NULL if there is none. To be freed. */
static workspace* new_workspace(int64_t size) {
  const int64_t before = (sizeof(workspace) + 63) / 64 * 64;
  const int64_t floats = (QUERIES_MAX + 2 * SPAN + 1) * size;
  char* memory = aligned_alloc(64, (size_t)(before + floats * 4));
  if (memory == NULL) return NULL;
  workspace* w = (workspace*)memory;
  w->queries = (float*)(memory + before);
  w->keys = w->queries + QUERIES_MAX * size;
  w->numbers = w->keys + SPAN * size;
  w->nowhere = w->numbers + SPAN * size;
  return w;
}

/* ---- tiles ---- */

typedef words sums[ROWS_LISTED][VECTORS_LISTED];

/* Does something with each sum [r][v] of a tile of `rows` queries. */
#define EACH_SUM(rows, what)            \
  for (int r = 0; r < ROWS_LISTED; r++) \
    if (r < rows)                       \
      for (int v = 0; v < WIDTH; v++) what

/* Adds the registers of a line, times one number of each row; these are `stride` apart. */
INLINE void add_line(const float* numbers, int64_t stride, const float* line, sums sum,
                     int rows) {
  add_half((const uint32_t*)numbers, stride, (const char*)line, sum, FLOAT32, rows, WIDTH, 0);
}

/* One lane's share of the scores of a tile's queries and STRIP columns. */
INLINE void score_lane(const float* q, const float* keys, int64_t steps, sums sum) {
  EACH_SUM(HEIGHT, sum[r][v] = zero();)
#define STEP(i) add_line(q + (i) * HEIGHT, 1, keys + (i) * STRIP, sum, HEIGHT);
  for (; steps >= 4; steps -= 4) { /* a loop of four steps is often foretold wrongly */
    STEP(0) STEP(1) STEP(2) STEP(3)
    q += 4 * HEIGHT;
    keys += 4 * STRIP;
  }
  for (; steps > 0; steps--) {
    STEP(0)
    q += HEIGHT;
    keys += STRIP;
  }
#undef STEP
}

/* Scores [HEIGHT, SPAN] of STRIP columns. Lanes come in the order in which they are added
   up, by twos; a share `waiting` [4] for its other half is in memory. */
INLINE void score_tile(const float* q, const float* keys, int64_t steps, float* scores,
                       shares* waiting) {
  for (int lane = 0; lane < LANES; lane++, q += steps * HEIGHT, keys += steps * STRIP) {
    sums sum;
    score_lane(q, keys, steps, sum);
#define HALVES(n)                                                                  \
  if (LANES >> n > 1) {                                                            \
    if ((lane >> n & 1) == 0) {                                                    \
      EACH_SUM(HEIGHT, waiting[n][r][v] = (floats)sum[r][v];)                      \
      continue;                                                                    \
    }                                                                              \
    EACH_SUM(HEIGHT, sum[r][v] = (words)add(waiting[n][r][v], (floats)sum[r][v]);) \
  }
    HALVES(0)
    HALVES(1)
    HALVES(2)
    HALVES(3)
#undef HALVES
    EACH_SUM(HEIGHT, store(scores + r * SPAN + v * LANES, (floats)sum[r][v]);)
  }
}

/* Adds the values of a part's columns to what `rows` queries have mixed. */
INLINE void mix_tile(const float* values, int64_t size, const float* weights, part p,
                     float* const* mixed, int rows) {
  if (p.from >= p.to) return;
  for (int64_t i = 0; i < size; i += STRIP) {
    sums sum;
    EACH_SUM(rows, sum[r][v] = load(mixed[r] + i + v * LANES);)
    for (int64_t t = p.from; t < p.to; t++)
      add_line(weights + t, SPAN, values + t * size + i, sum, rows);
    EACH_SUM(rows, store(mixed[r] + i + v * LANES, (floats)sum[r][v]);)
  }
}

/* One query's tile; called from several places, it is compiled once. */
static void mix_alone(const float* values, int64_t size, const float* weights, part p,
                      float* const* mixed) {
  mix_tile(values, size, weights, p, mixed, 1);
}

/* The same for a tile whose queries see different parts: what all see is added to all at
   once, what is before and behind it to one after the other. */
INLINE void mix_parts(const float* values, int64_t size, const float* weights,
                      const part* seen, float* const* mixed) {
  part common = {0, SPAN};
  for (int r = 0; r < HEIGHT; r++) {
    if (seen[r].from > common.from) common.from = seen[r].from;
    if (seen[r].to < common.to) common.to = seen[r].to;
  }
  if (common.from >= common.to) common = (part){SPAN, SPAN};
  for (int r = 0; r < HEIGHT; r++) {
    const int64_t end = seen[r].to < common.from ? seen[r].to : common.from;
    mix_alone(values, size, weights + r * SPAN, (part){seen[r].from, end}, mixed + r);
  }
  mix_tile(values, size, weights, common, mixed, HEIGHT);
  for (int r = 0; r < HEIGHT; r++)
    mix_alone(values, size, weights + r * SPAN, (part){common.to, seen[r].to}, mixed + r);
}

/* ---- what is laid out ---- */

/* Where query `q` of a block is. */
INLINE int64_t query_at(const query_block* b, int64_t q) {
  return (q / b->group * b->heads + b->first_head + q % b->group) * b->size;
}

/* Fills the workspace with a block's queries; the last one fills up a pass. Returns how
   many there are then. */
static int64_t lay_out_queries(const query_block* b, workspace* w) {
  const int64_t count = b->tokens * b->group, steps = b->size / LANES;
  const int64_t filled = (count + HEIGHT - 1) / HEIGHT * HEIGHT;
  for (int64_t q = 0; q < filled; q++) {
    const int64_t own = q < count ? q : count - 1, at = query_at(b, own);
    w->from[q] = b->from[own / b->group], w->to[q] = b->to[own / b->group];
    w->mixed[q] = q < count ? b->out + at : w->nowhere;
    w->so_far[q] = NOTHING_YET;
    memset(w->mixed[q], 0, (size_t)b->size * sizeof(float));
    float* tile = w->queries + q / HEIGHT * HEIGHT * b->size + q % HEIGHT;
    for (int64_t i = 0; i < b->size; i++)
      tile[(PLACE_OF_LANE[i % LANES] * steps + i / LANES) * HEIGHT] = b->queries[at + i];
  }
  return filled;
}

/* Some stored numbers as float32: where they are, or made from bfloat16. */
INLINE const float* as_float32(const char* stored, int64_t count, float* made, int wide) {
  if (wide) return (const float*)stored;
  for (int64_t i = 0; i < count; i += LANES) store(made + i, numbers_at(stored, i, 0));
  return made;
}

/* Lays out `count` keys so that a register holds one number of many. What is behind them,
   up to the next register, is scored and not used. */
static void lay_out_keys(const float* keys, int64_t count, int64_t size, float* to) {
  const int64_t steps = size / LANES;
  for (int64_t t = 0; t < count; t += 4) {
    const float* columns[4];
    for (int c = 0; c < 4; c++)
      columns[c] = keys + (t + c < count ? t + c : count - 1) * size;
    float* first = to + t / STRIP * STRIP * size + t % STRIP;
    for (int64_t i = 0; i < size; i += 4) {
      float* lines[4];
      for (int n = 0; n < 4; n++)
        lines[n] = first + (PLACE_OF_LANE[i % LANES + n] * steps + i / LANES) * STRIP;
      transpose_four(columns, i, lines);
    }
  }
}

/* ---- spans ---- */

/* Scores [queries, SPAN] of the first columns of a span. */
INLINE void score_pass(workspace* w, int64_t at, int64_t queries, int64_t columns,
                       int64_t size, float* scores) {
  for (int64_t t = 0; t < columns; t += STRIP)
    for (int64_t r = 0; r < queries; r += HEIGHT) {
      const float *q = w->queries + (at + r) * size, *keys = w->keys + t * size;
      float* to = scores + r * SPAN + t;
      if (size == 64) /* a usual size, with its steps written out */
        score_tile(q, keys, 64 / LANES, to, w->waiting);
      else
        score_tile(q, keys, size / LANES, to, w->waiting);
    }
}

/* Queries `at` and following, as many as a pass takes, meet the span from `first` on. */
static void meet_span(const query_block* b, workspace* w, int64_t at, int64_t queries,
                      int64_t first, const float* values) {
  _Alignas(64) float scores[PASS * SPAN];
  float tops[PASS];
  part seen[PASS];
  int64_t columns = 0;
  for (int64_t r = 0; r < queries; r++) {
    seen[r] = part_of_span(first, w->from[at + r], w->to[at + r]);
    if (seen[r].to > columns) columns = seen[r].to;
  }
  score_pass(w, at, queries, columns, b->size, scores);
  for (int64_t r = 0; r < queries; r++)
    tops[r] = new_top(scores + r * SPAN, seen[r], w->so_far[at + r].top);
  for (int64_t r = 0; r < queries; r++)
    weigh(scores + r * SPAN, seen[r], tops[r], &w->so_far[at + r], w->mixed[at + r],
          b->size);
  for (int64_t r = 0; r < queries; r += HEIGHT)
    mix_parts(values, b->size, scores + r * SPAN, seen + r, w->mixed + at + r);
}

INLINE void attend_block_of(const query_block* b, workspace* w, int wide) {
  const int64_t queries = lay_out_queries(b, w), line = b->size * (wide ? 4 : 2);
  int64_t lowest = b->from[0], highest = 0;
  for (int64_t s = 0; s < b->tokens; s++) {
    if (b->from[s] < lowest) lowest = b->from[s];
    if (b->to[s] > highest) highest = b->to[s];
  }
  for (int64_t first = lowest / SPAN * SPAN; first < highest; first += SPAN) {
    const int64_t columns = highest - first < SPAN ? highest - first : SPAN;
    const int64_t at = first * line, count = columns * b->size;
    const float* keys = as_float32(b->keys + at, count, w->numbers, wide);
    lay_out_keys(keys, columns, b->size, w->keys);
    const float* values = as_float32(b->values + at, count, w->numbers, wide);
    for (int64_t q = 0; q < queries; q += PASS) {
      const int64_t left = queries - q;
      meet_span(b, w, q, left < PASS ? left : PASS, first, values);
    }
  }
  for (int64_t q = 0; q < b->tokens * b->group; q++)
    divide_by_total(w->mixed[q], b->size, w->so_far[q].total);
}

static void attend_block(const query_block* b, workspace* w, int wide) {
  if (wide)
    attend_block_of(b, w, 1);
  else
    attend_block_of(b, w, 0);
}
