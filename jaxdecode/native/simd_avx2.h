/* The operations of `simd.h` in AVX2 and FMA. */

#pragma once

#include <immintrin.h>

#include "simd_x86.h"

#define LANES 8
#define ROWS_MAX 6
#define TILE_VECTORS 2
#define BLOCK 64
#define UNROLLS 1
#define FAR_AHEAD 0
typedef __m256 floats;
typedef __m256i words;
INLINE words zero(void) { return _mm256_setzero_si256(); }
INLINE words load(const void* from) { return _mm256_loadu_si256((const words*)from); }
INLINE void store(float* to, floats v) { _mm256_storeu_ps(to, v); }
INLINE words repeat(uint32_t word) { return _mm256_set1_epi32((int)word); }
INLINE floats all(float value) { return _mm256_set1_ps(value); }
/* Written out, with its place among others fixed: 16 registers just hold a tile, and a
   compiler that is free to choose another form or order moves sums to memory. */
INLINE words multiply_add(words a, words b, words sum) {
  __asm__ volatile("vfmadd231ps %2, %1, %0" : "+x"(sum) : "x"(a), "x"(b));
  return sum;
}
INLINE void relax(void) { _mm_pause(); }
INLINE words low_half(words v) { return _mm256_slli_epi32(v, 16); }
/* The mask stays in memory, for the same reason. */
INLINE words high_half(words v) {
  static const uint32_t mask[LANES] __attribute__((aligned(32))) = {
      0xffff0000u, 0xffff0000u, 0xffff0000u, 0xffff0000u,
      0xffff0000u, 0xffff0000u, 0xffff0000u, 0xffff0000u};
  words high;
  __asm__("vpand %2, %1, %0" : "=x"(high) : "x"(v), "m"(*(const words*)mask));
  return high;
}
INLINE words widen(const void* from) {
  return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i*)from));
}
INLINE floats to_floats(words v) { return _mm256_cvtepi32_ps(v); }
INLINE floats add(floats a, floats b) { return _mm256_add_ps(a, b); }
INLINE floats subtract(floats a, floats b) { return _mm256_sub_ps(a, b); }
INLINE floats multiply(floats a, floats b) { return _mm256_mul_ps(a, b); }
INLINE floats divide(floats a, floats b) { return _mm256_div_ps(a, b); }
INLINE floats larger(floats a, floats b) { return _mm256_max_ps(a, b); }
INLINE floats add_product(floats c, floats a, floats b) {
  return _mm256_fmadd_ps(a, b, c);
}
INLINE floats subtract_product(floats c, floats a, floats b) {
  return _mm256_fnmadd_ps(a, b, c);
}
INLINE float total(floats v) {
  __m128 half = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  half = _mm_add_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_add_ss(half, _mm_shuffle_ps(half, half, 1)));
}
INLINE float largest(floats v) {
  __m128 half = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  half = _mm_max_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_max_ss(half, _mm_shuffle_ps(half, half, 1)));
}
INLINE int some_reach(floats v, float bound) { /* false for NaN */
  return _mm256_movemask_ps(_mm256_cmp_ps(v, all(bound), _CMP_GE_OQ)) != 0;
}
INLINE floats round_to_whole(floats v) { return _mm256_round_ps(v, 8); }
INLINE floats times_power_of_two(floats v, floats power) {
  const words exponent = _mm256_slli_epi32(_mm256_cvtps_epi32(power), 23);
  return (floats)_mm256_add_epi32((words)v, exponent);
}
INLINE floats zero_below(floats v, floats x, float bound) {
  return _mm256_and_ps(v, _mm256_cmp_ps(x, all(bound), _CMP_NLT_UQ));
}
INLINE words dot_int16(words a, words b, words sum) {
#ifdef __AVXVNNI__
  return _mm256_dpwssd_avx_epi32(sum, a, b);
#else
  words products; /* written out, as above */
  __asm__ volatile("vpmaddwd %3, %2, %1\n\tvpaddd %1, %0, %0"
                   : "+x"(sum), "=&x"(products) : "x"(a), "x"(b));
  return sum;
#endif
}
INLINE words widen_bfloat16(const void* from) {
  const words wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)from));
  return _mm256_slli_epi32(wide, 16);
}
/* When a lane comes in the order of `store_totals`: it adds neighbours, then neighbouring
   pairs, and so on. */
static const int PLACE_OF_LANE[LANES] = {0, 1, 2, 3, 4, 5, 6, 7};
/* Stores the totals of four registers; each is added up in the same order. */
INLINE void store_totals(float* to, const floats v[4]) {
  const floats ab = _mm256_hadd_ps(v[0], v[1]), cd = _mm256_hadd_ps(v[2], v[3]);
  const floats halves = _mm256_hadd_ps(ab, cd);
  const __m128 upper = _mm256_extractf128_ps(halves, 1);
  _mm_storeu_ps(to, _mm_add_ps(_mm256_castps256_ps128(halves), upper));
}
