/* Rows on their way into a product: normalised or gated, rounded to the matrix's partner,
and cut into blocks, so that the words of neighbouring rows in a block lie at fixed
distances.

Loops run over LANES partial results, so that compilers vectorise them and the order of
every sum is fixed. */

#pragma once

#include <math.h>
#include <string.h>

#include "exponential.h"
#include "product.h"
#include "simd.h"

#define INT14_MAX 8191.0f

/* A row before it is rounded: `values * scale * weight` with a weight, `activated(values)
   * factors` with a gate, or as it is. */
typedef struct {
  const float *values, *weight, *factors;
  float scale;
  int64_t size;
  gate gate;
} source;

/* Divides by the root mean square, times a weight: Zhang and Sennrich, 2019. */
static source normalised(const float* row, int64_t size, const float* weight, float eps) {
  float part[LANES] = {0}, sum = 0.0f;
  int64_t i = 0;
  for (; i + LANES <= size; i += LANES)
    for (int l = 0; l < LANES; l++) part[l] += row[i + l] * row[i + l];
  for (; i < size; i++) part[0] += row[i] * row[i];
  for (int l = 0; l < LANES; l++) sum += part[l];
  const float scale = 1.0f / sqrtf(sum / (float)size + eps);
  return (source){.values = row, .weight = weight, .scale = scale, .size = size};
}

/* `count` numbers of a gated row; the last register may write zeros after them. */
INLINE void read_gated(const float* values, const float* factors, int64_t count, gate g,
                       float* out) {
  int64_t i = 0;
  for (; i + LANES <= count; i += LANES)
    store(out + i, multiply(activated((floats)load(values + i), g),
                            (floats)load(factors + i)));
  if (i == count) return;
  float rest[2 * LANES] = {0};
  memcpy(rest, values + i, (size_t)(count - i) * sizeof(float));
  memcpy(rest + LANES, factors + i, (size_t)(count - i) * sizeof(float));
  store(out + i, multiply(activated((floats)load(rest), g), (floats)load(rest + LANES)));
}

/* Fills `room` numbers from number `from` on, multiples of LANES; zeros follow a row. */
static void read_part(const source* s, int64_t from, int64_t room, float* out) {
  const float* values = s->values + from;
  const int64_t left = s->size - from, count = left < room ? left : room;
  if (s->gate == SILU)
    read_gated(values, s->factors + from, count, SILU, out);
  else if (s->gate == GELU_TANH)
    read_gated(values, s->factors + from, count, GELU_TANH, out);
  else if (s->weight == NULL)
    memcpy(out, values, (size_t)count * sizeof(float));
  else
    for (int64_t i = 0; i < count; i++) out[i] = values[i] * s->scale * s->weight[from + i];
  memset(out + count, 0, (size_t)(room - count) * sizeof(float));
}

/* Rounds to bfloat16, ties to even. */
INLINE uint32_t bfloat16_of(float value) {
  uint32_t bits;
  memcpy(&bits, &value, 4);
  const uint32_t rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
  return (bits & 0x7fffffffu) > 0x7f800000u ? 0x7fc0u : rounded;
}

static void to_bfloat16(const float* part, int64_t size, uint32_t* to) {
#ifdef DOTS_BFLOAT16
  uint16_t* words = (uint16_t*)to;
  for (int64_t i = 0; i < size; i++) words[i] = (uint16_t)bfloat16_of(part[i]);
#else
  for (int64_t i = 0; i < size; i++) to[i] = bfloat16_of(part[i]) << 16;
#endif
}

/* The scale by which 14-bit numbers stand for a row. A row with a NaN or an infinity has
   the scale NaN, and so have all its results. `most` is its largest magnitude. */
static float int14_scale(const source* s, float* most) {
  float top[LANES] = {0}, broken[LANES] = {0}, sound = 0.0f, part[2 * BLOCK];
  for (int64_t from = 0; from < s->size; from += 2 * BLOCK) {
    read_part(s, from, 2 * BLOCK, part);
    for (int64_t i = 0; i < 2 * BLOCK; i += LANES)
      for (int l = 0; l < LANES; l++) {
        const float magnitude = fabsf(part[i + l]);
        top[l] = magnitude > top[l] ? magnitude : top[l];
        broken[l] += magnitude * 0.0f;
      }
  }
  *most = 1e-30f;
  for (int l = 0; l < LANES; l++) {
    *most = top[l] > *most ? top[l] : *most;
    sound += broken[l];
  }
  return *most / INT14_MAX + sound;
}

static void to_int14(const float* part, int64_t size, float inverse, uint32_t* to) {
  int16_t* words = (int16_t*)to;
  for (int64_t i = 0; i < size; i++)
    words[i] = (int16_t)(int32_t)nearbyintf(part[i] * inverse);
}

/* How many words the rows of a product take. */
static int64_t words_of_rows(int64_t count, int64_t steps, kind k) {
  return (steps + BLOCK - 1) / BLOCK * count * BLOCK * words_of(k);
}

/* Writes row `row` of `count` to its places in `words`; returns its scale. */
INLINE float prepare_row(const source* s, int64_t row, int64_t count, uint32_t* words,
                         kind k) {
  const int64_t inputs = k == FLOAT32 ? BLOCK : 2 * BLOCK, per_row = BLOCK * words_of(k);
  float part[2 * BLOCK], most = 1.0f, scale = 1.0f;
  if (k == INT8) scale = int14_scale(s, &most);
  uint32_t* to = words + row * per_row;
  for (int64_t from = 0; from < s->size; from += inputs, to += count * per_row) {
    read_part(s, from, inputs, k == FLOAT32 ? (float*)to : part);
    if (k == BFLOAT16) to_bfloat16(part, inputs, to);
    if (k == INT8) to_int14(part, inputs, INT14_MAX / most, to);
    if (k == INT8 && takes_tiles(k, count)) order_for_tiles(to);
  }
  return scale;
}

static void prepare(const source* s, int64_t row, int64_t count, uint32_t* words,
                    float* row_scale, kind k) {
  switch (k) {
    case FLOAT32: prepare_row(s, row, count, words, FLOAT32); break;
    case BFLOAT16: prepare_row(s, row, count, words, BFLOAT16); break;
    case INT8: row_scale[row] = prepare_row(s, row, count, words, INT8); break;
  }
}
