/* The few vector operations that the kernels are written in, for AVX-512 and AVX2.

A register of `words` holds LANES 32-bit words, whatever numbers they stand for: one
float32, two bfloat16, or two int16. */

#pragma once

#include <immintrin.h>
#include <stdint.h>

#define PANEL 32 /* outputs side by side, see product.h */
#define INLINE static inline __attribute__((always_inline))

#if defined(__AVX512F__) && defined(__AVX512BW__)
#define LANES 16
#define ROWS_MAX 8 /* 12 fit the registers; 8 is 1.1 to 1.6 times as fast (gcc 12) */
typedef __m512 floats;
typedef __m512i words;
INLINE words zero(void) { return _mm512_setzero_si512(); }
INLINE words load(const void* from) { return _mm512_loadu_si512(from); }
INLINE void store(float* to, floats v) { _mm512_storeu_ps(to, v); }
INLINE words repeat(uint32_t word) { return _mm512_set1_epi32((int)word); }
INLINE floats all(float value) { return _mm512_set1_ps(value); }
INLINE floats multiply_add(words a, words b, words sum) {
  return _mm512_fmadd_ps((floats)a, (floats)b, (floats)sum);
}
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
INLINE floats larger(floats a, floats b) { return _mm512_max_ps(a, b); }
INLINE floats add_product(floats c, floats a, floats b) {
  return _mm512_fmadd_ps(a, b, c);
}
INLINE floats subtract_product(floats c, floats a, floats b) {
  return _mm512_fnmadd_ps(a, b, c);
}
INLINE float total(floats v) { return _mm512_reduce_add_ps(v); }
INLINE float largest(floats v) { return _mm512_reduce_max_ps(v); }
INLINE floats round_to_whole(floats v) { return _mm512_roundscale_ps(v, 8); }
INLINE floats times_power_of_two(floats v, floats power) {
  return _mm512_scalef_ps(v, power);
}
INLINE floats zero_below(floats v, floats x, float bound) {
  return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, all(bound), _CMP_NLT_UQ), v);
}
INLINE words dot_int16(words a, words b, words sum) {
#ifdef __AVX512VNNI__
  return _mm512_dpwssd_epi32(sum, a, b);
#else
  return _mm512_add_epi32(sum, _mm512_madd_epi16(a, b));
#endif
}
#elif defined(__AVX2__) && defined(__FMA__)
#define LANES 8
#define ROWS_MAX 2
typedef __m256 floats;
typedef __m256i words;
INLINE words zero(void) { return _mm256_setzero_si256(); }
INLINE words load(const void* from) { return _mm256_loadu_si256((const words*)from); }
INLINE void store(float* to, floats v) { _mm256_storeu_ps(to, v); }
INLINE words repeat(uint32_t word) { return _mm256_set1_epi32((int)word); }
INLINE floats all(float value) { return _mm256_set1_ps(value); }
INLINE floats multiply_add(words a, words b, words sum) {
  return _mm256_fmadd_ps((floats)a, (floats)b, (floats)sum);
}
INLINE words low_half(words v) { return _mm256_slli_epi32(v, 16); }
INLINE words high_half(words v) {
  return _mm256_and_si256(v, _mm256_set1_epi32((int)0xffff0000u));
}
INLINE words widen(const void* from) {
  return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i*)from));
}
INLINE floats to_floats(words v) { return _mm256_cvtepi32_ps(v); }
INLINE floats add(floats a, floats b) { return _mm256_add_ps(a, b); }
INLINE floats subtract(floats a, floats b) { return _mm256_sub_ps(a, b); }
INLINE floats multiply(floats a, floats b) { return _mm256_mul_ps(a, b); }
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
INLINE floats round_to_whole(floats v) { return _mm256_round_ps(v, 8); }
INLINE floats times_power_of_two(floats v, floats power) {
  const words exponent = _mm256_slli_epi32(_mm256_cvtps_epi32(power), 23);
  return (floats)_mm256_add_epi32((words)v, exponent);
}
INLINE floats zero_below(floats v, floats x, float bound) {
  return _mm256_and_ps(v, _mm256_cmp_ps(x, all(bound), _CMP_NLT_UQ));
}
INLINE words dot_int16(words a, words b, words sum) {
  return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b));
}
#else
#error "needs AVX2 and FMA, or AVX-512"
#endif

#define VECTORS (PANEL / LANES) /* registers across a panel */

/* Two products of bfloat16 per lane, summed in float32. */
INLINE words dot_bfloat16(words a, words b, words sum) {
#if defined(__AVX512BF16__) && defined(__AVX512BW__)
  return (words)_mm512_dpbf16_ps((floats)sum, (__m512bh)a, (__m512bh)b);
#else
  sum = (words)multiply_add(low_half(a), low_half(b), sum);
  return (words)multiply_add(high_half(a), high_half(b), sum);
#endif
}
