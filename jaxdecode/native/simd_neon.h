/* The operations of `simd.h` in NEON, for 64-bit ARM. */

#pragma once

#include <arm_neon.h>
#include <math.h>

#define LANES 4
#define ROWS_MAX 6
#define TILE_VECTORS 4
#define BLOCK 128
#define UNROLLS 0
#define FAR_AHEAD 0
typedef float32x4_t floats;
typedef int32x4_t words;
INLINE words zero(void) { return vdupq_n_s32(0); }
INLINE words load(const void* from) { return (words)vld1q_u8(from); }
INLINE void store(float* to, floats v) { vst1q_f32(to, v); }
INLINE words repeat(uint32_t word) { return vdupq_n_s32((int32_t)word); }
INLINE floats all(float value) { return vdupq_n_f32(value); }
INLINE words multiply_add(words a, words b, words sum) {
  return (words)vfmaq_f32((floats)sum, (floats)a, (floats)b);
}
INLINE void relax(void) { __asm__ volatile("yield"); }
INLINE words low_half(words v) { return vshlq_n_s32(v, 16); }
INLINE words high_half(words v) { return vandq_s32(v, vdupq_n_s32((int)0xffff0000u)); }
INLINE words widen(const void* from) { return (words)vmovl_s8(vld1_s8(from)); }
INLINE words widen_bfloat16(const void* from) {
  return (words)vshll_n_u16(vld1_u16(from), 16);
}
INLINE floats to_floats(words v) { return vcvtq_f32_s32(v); }
INLINE floats add(floats a, floats b) { return vaddq_f32(a, b); }
INLINE floats subtract(floats a, floats b) { return vsubq_f32(a, b); }
INLINE floats multiply(floats a, floats b) { return vmulq_f32(a, b); }
INLINE floats divide(floats a, floats b) { return vdivq_f32(a, b); }
/* The second of two where one is NaN, as on x86. */
INLINE floats larger(floats a, floats b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
INLINE floats add_product(floats c, floats a, floats b) { return vfmaq_f32(c, a, b); }
INLINE floats subtract_product(floats c, floats a, floats b) { return vfmsq_f32(c, a, b); }
INLINE float total(floats v) { return vaddvq_f32(v); }
INLINE float largest(floats v) { return vmaxvq_f32(v); }
INLINE int some_reach(floats v, float bound) { /* false for NaN */
  return vmaxvq_u32(vcgeq_f32(v, all(bound))) != 0;
}
INLINE floats round_to_whole(floats v) { return vrndnq_f32(v); }
INLINE floats times_power_of_two(floats v, floats power) {
  return (floats)vaddq_s32((words)v, vshlq_n_s32(vcvtnq_s32_f32(power), 23));
}
INLINE floats zero_below(floats v, floats x, float bound) { /* keeps the NaN of x */
  return (floats)vbicq_u32((uint32x4_t)v, vcltq_f32(x, all(bound)));
}
INLINE words dot_int16(words a, words b, words sum) {
  const int16x8_t x = (int16x8_t)a, y = (int16x8_t)b;
  const words low = vmull_s16(vget_low_s16(x), vget_low_s16(y));
  return vaddq_s32(sum, vpaddq_s32(low, vmull_high_s16(x, y)));
}
/* When a lane comes in the order of `store_totals`: it adds neighbours, then neighbouring
   pairs, and so on. */
static const int PLACE_OF_LANE[LANES] = {0, 1, 2, 3};
/* Stores the totals of four registers; each is added up in the same order. */
INLINE void store_totals(float* to, const floats v[4]) {
  vst1q_f32(to, vpaddq_f32(vpaddq_f32(v[0], v[1]), vpaddq_f32(v[2], v[3])));
}
/* Four numbers, from `at` on, of each of four columns; a line gets the same one of all. */
INLINE void transpose_four(const float* const columns[4], int64_t at,
                           float* const lines[4]) {
  const float32x4_t a = vld1q_f32(columns[0] + at), b = vld1q_f32(columns[1] + at);
  const float32x4_t c = vld1q_f32(columns[2] + at), d = vld1q_f32(columns[3] + at);
  const float64x2_t ab = (float64x2_t)vzip1q_f32(a, b), cd = (float64x2_t)vzip1q_f32(c, d);
  const float64x2_t AB = (float64x2_t)vzip2q_f32(a, b), CD = (float64x2_t)vzip2q_f32(c, d);
  vst1q_f32(lines[0], (float32x4_t)vzip1q_f64(ab, cd));
  vst1q_f32(lines[1], (float32x4_t)vzip2q_f64(ab, cd));
  vst1q_f32(lines[2], (float32x4_t)vzip1q_f64(AB, CD));
  vst1q_f32(lines[3], (float32x4_t)vzip2q_f64(AB, CD));
}
