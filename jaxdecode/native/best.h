/* The k best entries of a row, value descending, then index ascending.

Only chunks whose maximum reaches the k-th best maximum are looked at: each of the k
best entries lies in one of them. A heap with the worst entry on top holds the best so
far, so that ties and flat rows cost no memory. */

#pragma once

#include <math.h>
#include <stdint.h>

typedef struct {
  float value;
  int32_t index;
} entry;

/* Whether `a` stands behind `b`. Entries come in ascending order of index. */
static inline int is_worse(entry a, entry b) {
  return a.value < b.value || (a.value == b.value && a.index > b.index);
}

/* Puts `new` on top of a heap of `size` entries and lets it sink to its place. */
static void sink(entry* heap, int64_t size, entry new) {
  int64_t at = 0;
  for (int64_t child = 1; child < size; at = child, child = 2 * at + 1) {
    if (child + 1 < size && is_worse(heap[child + 1], heap[child])) child++;
    if (is_worse(new, heap[child])) break;
    heap[at] = heap[child];
  }
  heap[at] = new;
}

/* Fills a heap of `k` with the best of `values`; NaN is left out. `from` is the index of
   the first value. */
static void offer(entry* heap, int64_t k, const float* values, int64_t count,
                  int64_t from) {
  for (int64_t i = 0; i < count; i++) {
    const entry new = {values[i], (int32_t)(from + i)};
    if (values[i] >= heap[0].value && is_worse(heap[0], new)) sink(heap, k, new);
  }
}

/* Makes a heap of places that any entry takes whose value is at least `least`. */
static void empty(entry* heap, int64_t k, float least) {
  for (int64_t i = 0; i < k; i++) heap[i] = (entry){least, INT32_MAX};
}

/* Writes the indices of the k best of `row` [size], best first, to `out`.

   `maxima` holds the maximum of each chunk of `chunk` entries. `heap` has room for k.
   Places that no entry takes, in a row with NaN, get index 0. */
static void best(const float* row, int64_t size, const float* maxima, int64_t chunk,
                 int64_t k, entry* heap, int32_t* out) {
  const int64_t chunks = (size + chunk - 1) / chunk;
  float floor = -INFINITY;
  if (chunks > k) { /* the k-th best maximum: k entries reach it */
    empty(heap, k, -INFINITY);
    offer(heap, k, maxima, chunks, 0);
    floor = heap[0].value;
  }
  empty(heap, k, floor);
  for (int64_t c = 0; c < chunks; c++)
    if (maxima[c] >= floor) {
      const int64_t first = c * chunk, left = size - first;
      offer(heap, k, row + first, left < chunk ? left : chunk, first);
    }
  for (int64_t left = k; left > 0; left--) { /* the worst first, to the end */
    out[left - 1] = heap[0].index == INT32_MAX ? 0 : heap[0].index;
    sink(heap, left - 1, heap[left - 1]);
  }
}
