/* The operations of `simd.h` that are alike in AVX2 and AVX-512. */

#pragma once

#include <immintrin.h>
#include <stdint.h>

/* Four numbers, from `at` on, of each of four columns; a line gets the same one of all. */
static inline __attribute__((always_inline)) void transpose_four(
    const float* const columns[4], int64_t at, float* const lines[4]) {
  __m128 rows[4];
  for (int c = 0; c < 4; c++) rows[c] = _mm_loadu_ps(columns[c] + at);
  _MM_TRANSPOSE4_PS(rows[0], rows[1], rows[2], rows[3]);
  for (int c = 0; c < 4; c++) _mm_storeu_ps(lines[c], rows[c]);
}
