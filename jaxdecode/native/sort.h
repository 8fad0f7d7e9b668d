/* All entries of a row, value descending, then index ascending.

Counting sort by one digit after another, the lowest first; each keeps the order of equal
digits, so ties stay in the order of their indices. */

#pragma once

#include <stdint.h>
#include <string.h>

enum { DIGIT_BITS = 11, DIGITS = 3, DIGIT_VALUES = 1 << DIGIT_BITS };

/* An entry on its way: what it is sorted by, and its index. */
typedef struct {
  uint32_t word;
  int32_t index;
} placed;

/* A word that ascends where the value descends; +0 and -0 have the same one. */
static inline uint32_t descending(float value) {
  uint32_t bits;
  memcpy(&bits, &value, 4);
  if (bits == 0x80000000u) bits = 0;
  return bits > 0x7fffffffu ? bits : bits ^ 0x7fffffffu;
}

static inline uint32_t digit_of(uint32_t word, int digit) {
  return word >> digit * DIGIT_BITS & (DIGIT_VALUES - 1);
}

/* Sets `starts` of each digit to the place of the first entry that has a value of it. */
static void find_starts(const float* row, int64_t size, uint32_t starts[DIGITS][DIGIT_VALUES]) {
  memset(starts, 0, sizeof(uint32_t) * DIGITS * DIGIT_VALUES);
  for (int64_t i = 0; i < size; i++) {
    const uint32_t word = descending(row[i]);
    for (int d = 0; d < DIGITS; d++) starts[d][digit_of(word, d)]++;
  }
  for (int d = 0; d < DIGITS; d++)
    for (uint32_t v = 0, before = 0; v < DIGIT_VALUES; v++) {
      const uint32_t count = starts[d][v];
      starts[d][v] = before;
      before += count;
    }
}

/* Writes the sorted `row` [size] and the indices; `room` is for 2 * size entries. */
static void sort_row(const float* row, int64_t size, placed* room, float* values,
                     int32_t* order) {
  uint32_t starts[DIGITS][DIGIT_VALUES];
  placed *first = room, *second = room + size;
  find_starts(row, size, starts);
  for (int64_t i = 0; i < size; i++) {
    const placed entry = {descending(row[i]), (int32_t)i};
    first[starts[0][digit_of(entry.word, 0)]++] = entry;
  }
  for (int64_t i = 0; i < size; i++)
    second[starts[1][digit_of(first[i].word, 1)]++] = first[i];
  for (int64_t i = 0; i < size; i++) {
    const uint32_t to = starts[2][digit_of(second[i].word, 2)]++;
    order[to] = second[i].index;
    values[to] = row[second[i].index];
  }
}
