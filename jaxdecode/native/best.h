/* The k best entries of a row, value descending, then index ascending.

The k-th best maximum of the row's chunks, or of smaller groups where there are not so
many chunks, is what each of the k best entries reaches: only those that reach it are
looked at. A heap with the worst entry on top holds the best so far, so that ties and flat
rows cost no memory. An entry is one number, value before index, so that a step of the
heap needs no branch that cannot be foretold. */

#pragma once

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "simd.h"
#include "sort.h"

/* An entry: the better it is, the larger the number. */
static inline uint64_t entry_of(float value, uint32_t index) {
  return (uint64_t)~descending(value) << 32 | (uint32_t)~index;
}

static inline uint32_t index_of(uint64_t entry) { return ~(uint32_t)entry; }

/* The value of which `descending` made a word. */
static inline float value_of_word(uint32_t word) {
  const uint32_t bits = word > 0x7fffffffu ? word : word ^ 0x7fffffffu;
  float value;
  memcpy(&value, &bits, 4);
  return value;
}

static inline float value_of(uint64_t entry) { return value_of_word(~(uint32_t)(entry >> 32)); }

/* A place that any entry takes whose value is at least `least`. */
static inline uint64_t empty_place(float least) { return entry_of(least, UINT32_MAX); }

/* Puts `new` on top of a heap of `size` entries and lets it sink to its place. */
static void sink(uint64_t* heap, int64_t size, uint64_t new) {
  int64_t at = 0, child = 1;
  for (; child + 1 < size; at = child, child = 2 * at + 1) {
    child += heap[child + 1] < heap[child];
    if (new <= heap[child]) break;
    heap[at] = heap[child];
  }
  if (child + 1 == size && heap[child] < new) { /* an only child */
    heap[at] = heap[child];
    at = child;
  }
  heap[at] = new;
}

/* Fills a heap of `k` with the best of `values`; NaN is left out. `from` is the index of
   the first value. */
static void offer(uint64_t* heap, int64_t k, const float* values, int64_t count,
                  int64_t from) {
  float least = value_of(heap[0]);
  for (int64_t i = 0; i < count;) {
    const int64_t end = i + LANES < count ? i + LANES : count;
    if (end - i == LANES && !some_reach((floats)load(values + i), least)) i = end;
    for (; i < end; i++) {
      if (!(values[i] >= least)) continue;
      const uint64_t new = entry_of(values[i], (uint32_t)(from + i));
      if (new <= heap[0]) continue;
      sink(heap, k, new);
      least = value_of(heap[0]);
    }
  }
}

static void empty(uint64_t* heap, int64_t k, float least) {
  for (int64_t i = 0; i < k; i++) heap[i] = empty_place(least);
}

enum { GROUPS_OF_PLACE = 8, WORD_BITS = 32 };

/* How many groups of entries are told apart to find what the k best reach. */
static inline int64_t groups_for(int64_t k) {
  return (k * GROUPS_OF_PLACE + LANES - 1) / LANES * LANES;
}

/* Sets `groups` [count] to the largest entries of as many groups; some may be empty. */
static void find_group_maxima(const float* row, int64_t size, float* groups, int64_t count) {
  const int64_t vectors = size / LANES, sets = count / LANES;
  const int64_t each = (vectors + sets - 1) / sets;
  for (int64_t s = 0; s < sets; s++) {
    const int64_t first = s * each, end = first + each < vectors ? first + each : vectors;
    floats most = all(-INFINITY);
    for (int64_t v = first; v < end; v++) most = larger((floats)load(row + v * LANES), most);
    store(groups + s * LANES, most);
  }
}

/* A value that at least k of `values` reach, and few more: by their first 22 bits. */
static float reached_by(const float* values, int64_t count, int64_t k) {
  uint32_t counts[DIGIT_VALUES], prefix = 0;
  for (int level = 1; level <= 2; level++) {
    const int shift = WORD_BITS - level * DIGIT_BITS;
    memset(counts, 0, sizeof counts);
    for (int64_t i = 0; i < count; i++) {
      const uint32_t word = descending(values[i]) >> shift;
      if (level == 1 || word >> DIGIT_BITS == prefix) counts[word & (DIGIT_VALUES - 1)]++;
    }
    uint32_t digit = 0;
    for (; digit < DIGIT_VALUES - 1 && counts[digit] < k; digit++) k -= counts[digit];
    prefix = prefix << DIGIT_BITS | digit;
  }
  const int rest = WORD_BITS - 2 * DIGIT_BITS;
  const float value = value_of_word(prefix << rest | ((1u << rest) - 1));
  return value > -INFINITY ? value : -INFINITY; /* beside -inf lies NaN */
}

/* Writes the indices of the k best of `row` [size], best first, to `out`.

   `maxima` holds the maximum of each chunk of `chunk` entries. `heap` has room for k,
   `groups` for `groups_for(k)`.
   Places that no entry takes, in a row with NaN, get index 0. */
static void best(const float* row, int64_t size, const float* maxima, int64_t chunk,
                 int64_t k, uint64_t* heap, float* groups, int32_t* out) {
  const int64_t chunks = (size + chunk - 1) / chunk;
  const int64_t count = chunks > k ? chunks : groups_for(k);
  if (chunks <= k) find_group_maxima(row, size, groups, count);
  const float floor = reached_by(chunks > k ? maxima : groups, count, k);
  empty(heap, k, floor);
  for (int64_t c = 0; c < chunks; c++)
    if (maxima[c] >= floor) {
      const int64_t first = c * chunk, left = size - first;
      offer(heap, k, row + first, left < chunk ? left : chunk, first);
    }
  for (int64_t left = k; left > 0; left--) { /* the worst first, to the end */
    const uint32_t index = index_of(heap[0]);
    out[left - 1] = index == UINT32_MAX ? 0 : (int32_t)index;
    sink(heap, left - 1, heap[left - 1]);
  }
}
