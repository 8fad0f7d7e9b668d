/* The instructions for matrices that this machine may lack, in plain C.

To be included before the kernels (`-include`), and compiled with -mamx-tile -mamx-int8
-mamx-bf16. Each operation does what Intel's manual says of the instruction that its name
stands for, over arrays; what would be an invalid instruction ends the program.

In the environment, AMX_REFUSED says that the system does not permit tiles, AMX_TRAPS that
there are no such instructions, AMX_ROUNDS_OTHERWISE that products of bfloat16 add like the
dot instruction, and AMX_FORGETS_SIGNS that bytes are never signed. With the macro
AMX_OF_MACHINE, only the dot product is in C: the instructions and the permission are the
machine's. */

#pragma once

#include <immintrin.h>
#include <math.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- floats that are never denormal, rounded to nearest ---- */

static float in_c_flushed(float value) {
  return fpclassify(value) == FP_SUBNORMAL ? copysignf(0.0f, value) : value;
}

static float in_c_wide(const uint8_t* bfloat16) {
  const uint8_t bytes[4] = {0, 0, bfloat16[0], bfloat16[1]};
  float value;
  memcpy(&value, bytes, 4);
  return in_c_flushed(value);
}

/* sum + a * b, rounded once, of numbers that lie somewhere in memory. */
static float in_c_fused(const uint8_t* a, const uint8_t* b, float sum) {
  return in_c_flushed(fmaf(in_c_wide(a), in_c_wide(b), in_c_flushed(sum)));
}

/* ---- VDPBF16PS: the odd product first, then the even one ---- */

#ifndef __AVX512BF16__
#define DOTS_BFLOAT16 1
#ifdef __AVX512F__
typedef __m512i in_c_register;
#else
typedef __m256i in_c_register;
#endif

static inline in_c_register dot_bfloat16(in_c_register a, in_c_register b,
                                         in_c_register sum) {
  uint8_t x[sizeof a], y[sizeof a];
  float z[sizeof a / 4];
  memcpy(x, &a, sizeof a), memcpy(y, &b, sizeof a), memcpy(z, &sum, sizeof a);
  for (size_t i = 0; i < sizeof a / 4; i++) {
    z[i] = in_c_fused(x + 4 * i + 2, y + 4 * i + 2, z[i]);
    z[i] = in_c_fused(x + 4 * i, y + 4 * i, z[i]);
  }
  memcpy(&sum, z, sizeof a);
  return sum;
}
#endif

#ifndef AMX_OF_MACHINE

/* ---- a thread's tiles ---- */

typedef struct {
  uint8_t bytes[16][64];
  int rows, row_bytes; /* 0 where it is not configured */
} in_c_tile;

static _Thread_local in_c_tile in_c_tiles[8];
static atomic_int in_c_products; /* how many there were, in all threads */

static void in_c_need(int truth, const char* rule) {
  if (truth) return;
  fprintf(stderr, "an invalid use of tiles: %s\n", rule);
  abort();
}

static in_c_tile* in_c_used(int t) {
  in_c_need(in_c_tiles[t].rows > 0, "a tile without a shape");
  return &in_c_tiles[t];
}

static int in_c_has_tiles(void) {
  for (int t = 0; t < 8; t++)
    if (in_c_tiles[t].rows > 0) return 1;
  return 0;
}

static void in_c_release(void) { memset(in_c_tiles, 0, sizeof in_c_tiles); }

/* The 64 bytes: palette, first row, 14 reserved, bytes of a row, rows; of 16 tiles. */
static void in_c_configure(const void* memory) {
  const uint8_t* config = memory;
  if (getenv("AMX_TRAPS") != NULL) raise(SIGILL);
  in_c_need(config[0] == 1 && config[1] == 0, "another palette, or a first row");
  for (int i = 2; i < 16; i++) in_c_need(config[i] == 0, "a reserved byte");
  in_c_release();
  for (int t = 0; t < 16; t++) {
    const int rows = config[48 + t], bytes = config[16 + 2 * t] | config[17 + 2 * t] << 8;
    in_c_need(t < 8 || (rows == 0 && bytes == 0), "more than 8 tiles");
    in_c_need(rows <= 16 && bytes <= 64, "a tile that is too large");
    in_c_need((rows == 0) == (bytes == 0), "rows without bytes, or bytes without rows");
    if (t < 8) in_c_tiles[t].rows = rows, in_c_tiles[t].row_bytes = bytes;
  }
}

static void in_c_zero(int t) {
  memset(in_c_used(t)->bytes, 0, sizeof in_c_tiles[t].bytes);
}

static void in_c_load(int t, const void* from, int64_t stride) {
  in_c_zero(t);
  for (int r = 0; r < in_c_tiles[t].rows; r++)
    memcpy(in_c_tiles[t].bytes[r], (const char*)from + r * stride,
           (size_t)in_c_tiles[t].row_bytes);
}

static void in_c_store(int t, void* to, int64_t stride) {
  const in_c_tile* tile = in_c_used(t);
  for (int r = 0; r < tile->rows; r++)
    memcpy((char*)to + r * stride, tile->bytes[r], (size_t)tile->row_bytes);
}

static void in_c_check_shapes(int to, int a, int b) {
  const in_c_tile *sums = in_c_used(to), *left = in_c_used(a), *right = in_c_used(b);
  in_c_need(to != a && to != b && a != b, "a tile twice");
  in_c_need(sums->rows == left->rows, "sums and left have other rows");
  in_c_need(sums->row_bytes == right->row_bytes, "sums and right have other columns");
  in_c_need(left->row_bytes == right->rows * 4, "left and right do not meet");
  atomic_fetch_add(&in_c_products, 1);
}

/* One product of four pairs of bytes; `is_signed` says how the left ones are read. */
static uint32_t in_c_four(const uint8_t* a, const uint8_t* b, int is_signed) {
  uint32_t sum = 0;
  for (int i = 0; i < 4; i++)
    sum += (uint32_t)((is_signed ? (int8_t)a[i] : (int)a[i]) * (int8_t)b[i]);
  return sum;
}

/* TDPBSSD and TDPBUSD. */
static void in_c_dot_bytes(int to, int a, int b, int is_signed) {
  in_c_check_shapes(to, a, b);
  if (getenv("AMX_FORGETS_SIGNS") != NULL) is_signed = 0;
  for (int m = 0; m < in_c_tiles[to].rows; m++)
    for (int k = 0; k < in_c_tiles[b].rows; k++)
      for (int n = 0; n < in_c_tiles[to].row_bytes / 4; n++) {
        uint32_t sum;
        memcpy(&sum, in_c_tiles[to].bytes[m] + 4 * n, 4);
        sum += in_c_four(in_c_tiles[a].bytes[m] + 4 * k, in_c_tiles[b].bytes[k] + 4 * n,
                         is_signed);
        memcpy(in_c_tiles[to].bytes[m] + 4 * n, &sum, 4);
      }
}

/* TDPBF16PS of one row and one column. */
static float in_c_dot(const in_c_tile* b, const uint8_t* row, int n, float sum) {
  float part[2] = {0.0f, 0.0f};
  for (int k = 0; k < b->rows; k++)
    for (int i = 0; i < 2; i++)
      part[i] = in_c_fused(row + 4 * k + 2 * i, b->bytes[k] + 4 * n + 2 * i, part[i]);
  return in_c_flushed(in_c_flushed(sum) + in_c_flushed(part[0] + part[1]));
}

static float in_c_dot_otherwise(const in_c_tile* b, const uint8_t* row, int n, float sum) {
  for (int k = 0; k < b->rows; k++)
    for (int i = 1; i >= 0; i--)
      sum = in_c_fused(row + 4 * k + 2 * i, b->bytes[k] + 4 * n + 2 * i, sum);
  return sum;
}

static void in_c_dot_bfloat16(int to, int a, int b) {
  const int otherwise = getenv("AMX_ROUNDS_OTHERWISE") != NULL;
  in_c_check_shapes(to, a, b);
  for (int m = 0; m < in_c_tiles[to].rows; m++)
    for (int n = 0; n < in_c_tiles[to].row_bytes / 4; n++) {
      const uint8_t* row = in_c_tiles[a].bytes[m];
      float sum;
      memcpy(&sum, in_c_tiles[to].bytes[m] + 4 * n, 4);
      sum = (otherwise ? in_c_dot_otherwise : in_c_dot)(&in_c_tiles[b], row, n, sum);
      memcpy(in_c_tiles[to].bytes[m] + 4 * n, &sum, 4);
    }
}

#undef _tile_loadd
#undef _tile_stored
#undef _tile_zero
#undef _tile_dpbssd
#undef _tile_dpbusd
#undef _tile_dpbf16ps
#define _tile_loadconfig in_c_configure
#define _tile_release in_c_release
#define _tile_zero in_c_zero
#define _tile_loadd in_c_load
#define _tile_stored in_c_store
#define _tile_dpbssd(to, a, b) in_c_dot_bytes(to, a, b, 1)
#define _tile_dpbusd(to, a, b) in_c_dot_bytes(to, a, b, 0)
#define _tile_dpbf16ps in_c_dot_bfloat16
#define amx_is_permitted() (getenv("AMX_REFUSED") == NULL)

#endif
