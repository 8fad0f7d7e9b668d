/* Rows times a panel by AMX, the matrix unit of some x86 processors.

A tile is a register of 16 rows of 64 bytes, and one instruction multiplies two tiles: 16
rows by 16 words by 16 outputs. Four tiles of sums share two of rows and two of lines, and
stay where they are until a panel's lines are over.

bfloat16: a line is what the instruction reads. It adds the even and the odd inputs of 16
steps apart, each as fused products from zero, and then their sum to the sum before
(TDPBF16PS in Intel's manual). A dot instruction (VDPBF16PS) adds product after product to
the one sum and so rounds otherwise: where AMX is used, it is for every number of rows.

int8: a word is four inputs of an output, so lines are put together in pairs. A row's int16
is a lower byte without and an upper byte with a sign; each 32 steps of a row hold their
lower bytes and then their upper ones, and have sums apart. All sums are exact, whoever
adds them, so few rows keep the dot instruction: for them the pairs cost too much.

Tests put plain C in place of the instructions as well. They are used only where a first
product, by a process of its own, has every bit that the manual promises: a virtual machine
may name instructions that it does not have. */

#pragma once

#include "tile.h"

#if defined(__AMX_TILE__) && defined(__AMX_BF16__) && defined(__AMX_INT8__) && \
    defined(DOTS_BFLOAT16) && defined(__linux__)

#include <cpuid.h>
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
  TILE = 16,             /* rows, words or outputs */
  GROUP = 2 * TILE,      /* rows of bfloat16 that share a tile of lines */
  WIDE = PANEL * 4,      /* bytes of a line of bfloat16, and of a pair of int8 */
  ROW_BYTES = BLOCK * 4, /* from one row's words to the next one's */
  NEAR = 4096,           /* bytes before they are read, lines are fetched */
  AMX_INT8_ROWS = 16,    /* fewer are not worth putting lines together; measured */
};
_Static_assert(BLOCK % (2 * TILE) == 0 && BFLOAT16_WORDS == 1, "tiles do not fit");

static int uses_amx; /* set once, when the library is loaded */
static _Thread_local int shape; /* of this thread's tiles; 0 if it has none */

/* Has what was written to memory there before tiles are loaded: compilers' own headers do
   not say that tile instructions read it. */
INLINE void written(const void* memory) {
  __asm__ volatile("" : : "r"(memory) : "memory");
}

/* Gives tiles 0, 1 and 4 `upper` rows, tiles 2, 3 and 5 `lower` rows, and 6 and 7 all. */
static void shape_tiles(int upper, int lower) {
  if (shape == upper * 32 + lower) return;
  struct {
    uint8_t palette, start, reserved[14];
    uint16_t bytes[16];
    uint8_t rows[16];
  } __attribute__((aligned(64))) config = {.palette = 1};
  const int rows[8] = {upper, upper, lower, lower, upper, lower, TILE, TILE};
  for (int t = 0; t < 8; t++) {
    config.rows[t] = (uint8_t)rows[t];
    config.bytes[t] = rows[t] > 0 ? 64 : 0;
  }
  written(&config);
  _tile_loadconfig(&config);
  shape = upper * 32 + lower;
}

/* To be called before a thread that has multiplied does anything else. */
static void release_amx(void) {
  if (shape != 0) _tile_release();
  shape = 0;
}

/* How many steps of a row are in a tile of it, or in its two. */
INLINE int64_t steps_of(kind k) { return k == INT8 ? 2 * TILE : TILE; }

/* What a group of rows is multiplied by. */
typedef struct {
  const char *lines, *rest; /* whole tiles of lines, and a last one filled up with zeros */
  const char* ahead;        /* what to fetch meanwhile, WIDE * TILE bytes a tile, or NULL */
  int64_t tiles, whole;     /* all of them, and those that are in `lines` */
} tiled;

/* A tile's worth of lines is fetched bit by bit: all at once they keep the tiles waiting. */
INLINE void fetch_quarter(const char* ahead, int quarter) {
  enum { QUARTER = TILE * WIDE / 4 };
  for (int64_t i = quarter * QUARTER; ahead != NULL && i < (quarter + 1) * QUARTER; i += 64)
    fetch_line(ahead + i);
}

/* Adds `upper` and `lower` rows, a block of each, times tiles `from` to `to`. Of int8 the
   upper rows are the lower bytes, and the lower rows the upper ones. */
INLINE void add_tiles(const uint32_t* row, const tiled* by, int64_t from, int64_t to, kind k,
                      int upper, int lower) {
  const uint32_t* other = row + (k == INT8 ? TILE : upper * BLOCK);
  for (int64_t t = from; t < to; t++, row += steps_of(k), other += steps_of(k)) {
    const char* line = t < by->whole ? by->lines + t * TILE * WIDE : by->rest;
    const char* ahead = by->ahead == NULL ? NULL : by->ahead + t * TILE * WIDE;
    fetch_quarter(ahead, 0);
    _tile_loadd(6, line, WIDE);
    fetch_quarter(ahead, 1);
    _tile_loadd(7, line + 64, WIDE);
    fetch_quarter(ahead, 2);
    _tile_loadd(4, row, ROW_BYTES);
    fetch_quarter(ahead, 3);
    if (k == INT8) {
      _tile_dpbusd(0, 4, 6);
      _tile_dpbusd(1, 4, 7);
    } else {
      _tile_dpbf16ps(0, 4, 6);
      _tile_dpbf16ps(1, 4, 7);
    }
    if (lower == 0) continue;
    _tile_loadd(5, other, ROW_BYTES);
    if (k == INT8) {
      _tile_dpbssd(2, 5, 6);
      _tile_dpbssd(3, 5, 7);
    } else {
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
  }
}

/* Writes the sums of a group, from `all` rows in each block, to [rows, PANEL] at `sums`,
   and those of lower rows to `more`. */
INLINE void multiply_group(const uint32_t* row, int64_t all, const tiled* by, kind k,
                           int upper, int lower, char* sums, char* more) {
  const int64_t tiles = BLOCK / steps_of(k);
  shape_tiles(upper, lower);
  _tile_zero(0);
  _tile_zero(1);
  if (lower > 0) {
    _tile_zero(2);
    _tile_zero(3);
  }
  for (int64_t from = 0; from < by->tiles; from += tiles, row += all * BLOCK)
    add_tiles(row, by, from, from + tiles < by->tiles ? from + tiles : by->tiles, k, upper,
              lower);
  _tile_stored(0, sums, WIDE);
  _tile_stored(1, sums + 64, WIDE);
  if (lower == 0) return;
  _tile_stored(2, more, WIDE);
  _tile_stored(3, more + 64, WIDE);
}

static void multiply_bfloat16(const uint32_t* row, int64_t all, const char* lines,
                              int64_t steps, char* sums, int64_t count) {
  char rest[TILE * WIDE] __attribute__((aligned(64)));
  const int64_t whole = steps / TILE, left = steps % TILE;
  tiled by = {lines, rest, lines + NEAR, (steps + TILE - 1) / TILE, whole};
  if (left > 0) {
    memcpy(rest, lines + whole * TILE * WIDE, (size_t)(left * WIDE));
    memset(rest + left * WIDE, 0, (size_t)((TILE - left) * WIDE));
    written(rest);
  }
  for (int64_t groups = (count + GROUP - 1) / GROUP; groups > 0; groups--) {
    const int rows = (int)((count + groups - 1) / groups);
    const int lower = rows > TILE ? rows / 2 : 0, upper = rows - lower;
    multiply_group(row, all, &by, BFLOAT16, upper, lower, sums, sums + upper * WIDE);
    row += rows * BLOCK, sums += rows * WIDE, count -= rows;
    by.ahead = NULL; /* the first rows have fetched it */
  }
}

/* Puts lines of int8 together in pairs; zeros follow, so that there are whole tiles. */
static void put_together(const uint16_t* lines, int64_t steps, uint32_t* pairs) {
  const int64_t whole = (steps + 2 * TILE - 1) / (2 * TILE) * (2 * TILE);
  int64_t s = 0;
  for (; s + 2 <= steps; s += 2, lines += 2 * PANEL, pairs += PANEL) {
    fetch_line((const char*)lines + NEAR);
    fetch_line((const char*)lines + NEAR + 64);
    for (int64_t i = 0; i < PANEL; i++)
      pairs[i] = lines[i] | (uint32_t)lines[PANEL + i] << 16;
  }
  for (; s < whole; s += 2, lines += 2 * PANEL, pairs += PANEL)
    for (int64_t i = 0; i < PANEL; i++) pairs[i] = s < steps ? lines[i] : 0;
}

static void multiply_int8(const uint32_t* row, int64_t all, const char* lines, int64_t steps,
                          char* sums, int64_t count) {
  uint32_t pairs[INT8_STEPS / 2 * PANEL] __attribute__((aligned(64)));
  uint32_t upper_bytes[TILE * PANEL] __attribute__((aligned(64)));
  const int64_t tiles = (steps + 2 * TILE - 1) / (2 * TILE);
  const tiled by = {(const char*)pairs, NULL, NULL, tiles, tiles};
  put_together((const uint16_t*)lines, steps, pairs);
  written(pairs);
  for (int64_t groups = (count + TILE - 1) / TILE; groups > 0; groups--) {
    const int rows = (int)((count + groups - 1) / groups);
    multiply_group(row, all, &by, INT8, rows, rows, sums, (char*)upper_bytes);
    written(upper_bytes);
    for (int i = 0; i < rows * PANEL; i++) ((uint32_t*)sums)[i] += upper_bytes[i] << 8;
    row += rows * BLOCK, sums += rows * WIDE, count -= rows;
  }
}

/* ---- for the kernels ---- */

/* Whether tiles multiply `count` rows. */
INLINE int takes_tiles(kind k, int64_t count) {
  return uses_amx && (k == BFLOAT16 || (k == INT8 && count >= AMX_INT8_ROWS));
}

/* Brings a block of a row's int8 words, if tiles are to read them, into their order. */
static void order_for_tiles(uint32_t* block) {
  for (int64_t at = 0; at < BLOCK; at += 2 * TILE, block += 2 * TILE) {
    int16_t numbers[4 * TILE];
    memcpy(numbers, block, sizeof numbers);
    for (int i = 0; i < 4 * TILE; i++) {
      ((uint8_t*)block)[i] = (uint8_t)numbers[i];
      ((int8_t*)block)[4 * TILE + i] = (int8_t)(numbers[i] >> 8);
    }
  }
}

/* Writes to `sums` [count, PANEL] what `count` rows of each block, which has `all`, are
   times `steps` lines; at most INT8_STEPS of int8. */
static void multiply_by_tiles(const uint32_t* row, int64_t all, const char* lines,
                              int64_t steps, char* sums, kind k, int64_t count) {
  written(row);
  if (k == INT8)
    multiply_int8(row, all, lines, steps, sums, count);
  else
    multiply_bfloat16(row, all, lines, steps, sums, count);
  written(sums);
}

/* ---- whether to use it ---- */

/* Whether the tiles are those above, and the system lets this process use them. Linux
   refuses where a thread's stack for signals is too small for tiles, and afterwards refuses
   such stacks. */
#ifndef amx_is_permitted /* tests answer for a processor that is not there */
static int amx_is_permitted(void) {
  enum { REQUEST = 0x1023, TILE_DATA = 18, TILES = 0x1d }; /* as Linux and Intel say */
  unsigned total, row, rows, unused;
  if (!__get_cpuid_count(TILES, 1, &total, &row, &rows, &unused)) return 0;
  if (total != (1024u << 16 | 8192u) || row != (8u << 16 | 64u) || (rows & 0xffff) != 16)
    return 0;
  return syscall(SYS_arch_prctl, REQUEST, TILE_DATA) == 0;
}
#endif

/* One sum of `steps` steps, in the manual's order. */
static uint32_t plain_sum(const uint32_t* row, const char* lines, int64_t steps, int output,
                          kind k) {
  float sum = 0.0f;
  uint32_t whole = 0, bits;
  for (int64_t at = 0; at < steps; at += TILE) {
    float part[2] = {0};
    for (int64_t i = 2 * at; i < 2 * (at + TILE) && i < 2 * steps; i++) {
      const int64_t word = i / 2 * PANEL + output;
      const uint32_t a = row[i / 2] >> i % 2 * 16 & 0xffff;
      float x, y;
      if (k == INT8) {
        whole += (uint32_t)((int16_t)a * ((const int8_t*)lines)[2 * word + i % 2]);
        continue;
      }
      const uint32_t wide[2] = {a << 16,
                                (uint32_t)((const uint16_t*)lines)[2 * word + i % 2] << 16};
      memcpy(&x, &wide[0], 4), memcpy(&y, &wide[1], 4);
      part[i % 2] = fmaf(x, y, part[i % 2]);
    }
    sum += part[0] + part[1];
  }
  memcpy(&bits, &sum, 4);
  return k == INT8 ? whole : bits;
}

/* Whether a product of words drawn at random is as the manual says, in every bit. */
static int amx_is_right(kind k) {
  enum { ROWS = GROUP + 5, STEPS = 2 * TILE + 3 };
  static uint32_t rows[ROWS * BLOCK], lines[STEPS * PANEL], sums[ROWS * PANEL];
  static uint32_t ordered[ROWS * BLOCK];
  uint32_t state = 1;
  for (int i = 0; i < STEPS * PANEL + ROWS * STEPS; i++) {
    const int at = i - STEPS * PANEL; /* lines first, then rows */
    uint32_t word = state = state * 1664525u + 1013904223u;
    if (k == BFLOAT16) word = (word & 0x83ff83ffu) | 0x3c003c00u; /* 2^-7 to 2 */
    *(at < 0 ? &lines[i] : &rows[at / STEPS * BLOCK + at % STEPS]) = word;
  }
  memcpy(ordered, rows, sizeof rows);
  for (int r = 0; k == INT8 && r < ROWS; r++) order_for_tiles(ordered + r * BLOCK);
  for (int from = 0; from < ROWS; from += ROWS - 1) { /* all rows, and the last alone */
    multiply_by_tiles(ordered + from * BLOCK, ROWS, (const char*)lines, STEPS, (char*)sums, k,
                      ROWS - from);
    for (int i = 0; i < (ROWS - from) * PANEL; i++)
      if (sums[i] != plain_sum(rows + (from + i / PANEL) * BLOCK, (const char*)lines, STEPS,
                               i % PANEL, k))
        return 0;
  }
  return 1;
}

/* Whether a child of this process multiplies right: the instructions may end it, as they do
   on virtual machines that name AMX and do not have it. It is a bare child, so that nothing
   else that runs here hears of it or of its end. */
static int amx_is_right_in_a_child(void) {
  const int64_t child = syscall(SYS_clone, 0, NULL, NULL, NULL, 0);
  if (child == 0) {
    static const int ends[] = {SIGILL, SIGSEGV, SIGBUS, SIGFPE, SIGTRAP, SIGABRT};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) signal(ends[i], SIG_DFL);
    prctl(PR_SET_DUMPABLE, 0); /* nor is its end worth a file */
    const int right = amx_is_right(BFLOAT16) && amx_is_right(INT8);
    syscall(SYS_exit_group, right ? 0 : 1);
  }
  int status = 1;
  while (child > 0 && waitpid((pid_t)child, &status, __WALL) < 0)
    if (errno != EINTR) return 0;
  return child > 0 && status == 0;
}

__attribute__((constructor)) static void look_for_amx(void) {
  uses_amx = amx_is_permitted() && amx_is_right_in_a_child();
}

#else

INLINE void release_amx(void) {}
INLINE int takes_tiles(kind k, int64_t count) { return (void)k, (void)count, 0; }
INLINE void order_for_tiles(uint32_t* block) { (void)block; }
INLINE void multiply_by_tiles(const uint32_t* row, int64_t all, const char* lines,
                              int64_t steps, char* sums, kind k, int64_t count) {
  (void)row, (void)all, (void)lines, (void)steps, (void)sums, (void)k, (void)count;
}

#endif
