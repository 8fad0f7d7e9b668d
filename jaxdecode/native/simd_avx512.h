/* The operations of `simd.h` in AVX-512, with its dot products where they exist. */

#pragma once

#include <immintrin.h>

#include "simd_x86.h"

#define LANES 16
#define ROWS_MAX 12
#define TILE_VECTORS 2
#define BLOCK 128
#define UNROLLS 0
/* Of the processors with AVX-512, those with AMX wait for memory with few places near the
   first-level cache, and many near the second one. */
#ifdef __AMX_TILE__
#define FAR_AHEAD 16384
#else
#define FAR_AHEAD 0
#endif
typedef __m512 floats;
typedef __m512i words;
INLINE words zero(void) { return _mm512_setzero_si512(); }
INLINE words load(const void* from) { return _mm512_loadu_si512(from); }
INLINE void store(float* to, floats v) { _mm512_storeu_ps(to, v); }
INLINE words repeat(uint32_t word) { return _mm512_set1_epi32((int)word); }
INLINE floats all(float value) { return _mm512_set1_ps(value); }
/* Written out: of the forms that there are, a compiler is left the one that adds to the sum
   where it is. With all of them it brings rows forward, and moves sums to memory for them.
   Their order is left to it, which is quicker for a few rows. So are the dot products. */
#define ADDED_BY(instruction, sum, a, b) \
  __asm__(instruction " %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b))
INLINE words multiply_add(words a, words b, words sum) {
  ADDED_BY("vfmadd231ps", sum, a, b);
  return sum;
}
INLINE void relax(void) { _mm_pause(); }
INLINE words low_half(words v) { return _mm512_slli_epi32(v, 16); }
INLINE words high_half(words v) {
  return _mm512_and_si512(v, _mm512_set1_epi32((int)0xffff0000u));
}
INLINE words widen(const void* from) {
  return _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i*)from));
}
INLINE floats to_floats(words v) { return _mm512_cvtepi32_ps(v); }
INLINE floats add(floats a, floats b) { return _mm512_add_ps(a, b); }
INLINE floats subtract(floats a, floats b) { return _mm512_sub_ps(a, b); }
INLINE floats multiply(floats a, floats b) { return _mm512_mul_ps(a, b); }
INLINE floats divide(floats a, floats b) { return _mm512_div_ps(a, b); }
INLINE floats larger(floats a, floats b) { return _mm512_max_ps(a, b); }
INLINE floats add_product(floats c, floats a, floats b) {
  return _mm512_fmadd_ps(a, b, c);
}
INLINE floats subtract_product(floats c, floats a, floats b) {
  return _mm512_fnmadd_ps(a, b, c);
}
INLINE float total(floats v) { return _mm512_reduce_add_ps(v); }
INLINE float largest(floats v) { return _mm512_reduce_max_ps(v); }
INLINE int some_reach(floats v, float bound) { /* false for NaN */
  return _mm512_cmp_ps_mask(v, all(bound), _CMP_GE_OQ) != 0;
}
INLINE floats round_to_whole(floats v) { return _mm512_roundscale_ps(v, 8); }
INLINE floats times_power_of_two(floats v, floats power) {
  return _mm512_scalef_ps(v, power);
}
INLINE floats zero_below(floats v, floats x, float bound) {
  return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, all(bound), _CMP_NLT_UQ), v);
}
INLINE words dot_int16(words a, words b, words sum) {
#ifdef __AVX512VNNI__
  ADDED_BY("vpdpwssd", sum, a, b);
#else
  words products;
  __asm__("vpmaddwd %3, %2, %1\n\tvpaddd %1, %0, %0"
          : "+v"(sum), "=&v"(products) : "v"(a), "v"(b));
#endif
  return sum;
}
#ifdef __AVX512BF16__
#define DOTS_BFLOAT16 1
INLINE words dot_bfloat16(words a, words b, words sum) {
  ADDED_BY("vdpbf16ps", sum, a, b);
  return sum;
}
#endif
INLINE words widen_bfloat16(const void* from) {
  const words wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)from));
  return _mm512_slli_epi32(wide, 16);
}
/* When a lane comes in the order of `store_totals`: it adds neighbours, then neighbouring
   pairs, and so on. */
static const int PLACE_OF_LANE[LANES] = {0, 2, 1, 3, 8,  10, 9,  11,
                                         4, 6, 5, 7, 12, 14, 13, 15};
/* Stores the totals of four registers; each is added up in the same order. */
INLINE void store_totals(float* to, const floats v[4]) {
  const floats ab = add(_mm512_unpacklo_ps(v[0], v[1]), _mm512_unpackhi_ps(v[0], v[1]));
  const floats cd = add(_mm512_unpacklo_ps(v[2], v[3]), _mm512_unpackhi_ps(v[2], v[3]));
  const __m512d low = _mm512_unpacklo_pd((__m512d)ab, (__m512d)cd);
  const __m512d high = _mm512_unpackhi_pd((__m512d)ab, (__m512d)cd);
  const floats quarters = add((floats)low, (floats)high);
  const __m256 upper = (__m256)_mm512_extractf64x4_pd((__m512d)quarters, 1);
  const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(quarters), upper);
  const __m128 last = _mm256_extractf128_ps(half, 1);
  _mm_storeu_ps(to, _mm_add_ps(_mm256_castps256_ps128(half), last));
}
