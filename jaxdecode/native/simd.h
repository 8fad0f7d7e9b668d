/* The few vector operations that the kernels are written in, for each instruction set.

A register of `words` holds LANES 32-bit words, whatever numbers they stand for: one
float32, two bfloat16, or two int16. ROWS_MAX rows times TILE_VECTORS registers of
outputs are the sums that a product keeps in registers; BLOCK steps of a panel stay in
the first-level cache while all rows pass, see product.h. UNROLLS says whether several
steps are written out one after the other: so much less is counted, which pays where
another program runs on the same core. FAR_AHEAD is how many bytes earlier memory is brought
to the second-level cache, 0 if only to the first. DOTS_BFLOAT16 says that there is an
instruction for two products of bfloat16. */

#pragma once

#include <stdint.h>

#define PANEL 32 /* outputs side by side, see product.h */
#define INLINE static inline __attribute__((always_inline))

#if defined(__AVX512F__) && defined(__AVX512BW__)
#include "simd_avx512.h"
#elif defined(__AVX2__) && defined(__FMA__)
#include "simd_avx2.h"
#elif defined(__aarch64__)
#include "simd_neon.h"
#else
#error "needs AVX2 and FMA, AVX-512, or 64-bit ARM"
#endif

/* Has memory brought here that is soon read, and to the second-level cache what is read
   FAR_AHEAD bytes later. */
INLINE void fetch_line(const char* ahead) {
  __builtin_prefetch(ahead);
  if (FAR_AHEAD > 0) __builtin_prefetch(ahead + FAR_AHEAD, 0, 2);
}

#define VECTORS (PANEL / LANES) /* registers across a panel */
