/* Rows times a block of lines by AMX, the matrix unit of some x86 processors.

A tile is a register of 16 rows of 64 bytes, and one instruction multiplies two tiles: 16
rows by 16 steps by 16 outputs. Four tiles of sums share two of rows and two of lines.

bfloat16: a line is what the instruction reads. It adds the even and the odd inputs of 16
steps apart, each as fused products from zero, and then their sum to the sum before
(TDPBF16PS in Intel's manual). A dot instruction (VDPBF16PS) adds product after product to
the one sum and so rounds otherwise: where AMX is used, it is for every number of rows.

int8: the sums are exact, whoever adds them, so few rows keep the dot instruction. For
many, a row's int16 is a lower byte without and an upper byte with a sign. A line is widened
with zeros to two bytes for each weight: as it lies, the weights meet the lower bytes and
the zeros the upper ones; read from one byte earlier on, it is the other way round.

Tests put plain C in place of the instructions; no processor that has them has run this.
Hence it is used only where a first product, by a process of its own, has every bit that the
manual promises. */

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
  TILE = 16,               /* rows, steps or outputs */
  GROUP = 2 * TILE,        /* rows that share a tile of lines */
  WIDE = PANEL * 4,        /* bytes of a line of bfloat16, and of widened int8 */
  ROW_BYTES = BLOCK * 4,   /* from one row's words to the next one's */
  AMX_INT8_ROWS = 8,       /* fewer are not worth widening lines for; estimated */
};
_Static_assert(BLOCK % TILE == 0 && BFLOAT16_WORDS == 1, "tiles do not fit");

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

/* Two tiles' worth of lines, and where their sums wait; each line has WIDE bytes. */
typedef struct {
  const char *lines[2], *ahead; /* what to fetch meanwhile, or NULL */
  char* sums[2];
} pair;

/* Adds `upper` and `lower` rows times `steps` steps, a multiple of TILE. Upper sums of
   int8, which are the second ones, begin at 0. */
INLINE void add_pair(const uint32_t* row, const pair* p, int64_t steps, kind k, int upper,
                     int lower) {
  char *const left = p->sums[0], *const right = p->sums[1];
  _tile_loadd(0, left, WIDE);
  if (lower > 0) _tile_loadd(2, left + upper * WIDE, WIDE);
  if (k == INT8) {
    _tile_zero(1);
    if (lower > 0) _tile_zero(3);
  } else {
    _tile_loadd(1, right, WIDE);
    if (lower > 0) _tile_loadd(3, right + upper * WIDE, WIDE);
  }
  for (int64_t at = 0; at < steps; at += TILE) {
    for (int64_t i = 0; p->ahead != NULL && i < TILE * WIDE; i += 64)
      __builtin_prefetch(p->ahead + at * WIDE + i);
    _tile_loadd(6, p->lines[0] + at * WIDE, WIDE);
    _tile_loadd(7, p->lines[1] + at * WIDE, WIDE);
    _tile_loadd(4, row + at, ROW_BYTES);
    if (k == INT8) {
      _tile_dpbusd(0, 4, 6);
      _tile_dpbssd(1, 4, 7);
    } else {
      _tile_dpbf16ps(0, 4, 6);
      _tile_dpbf16ps(1, 4, 7);
    }
    if (lower == 0) continue;
    _tile_loadd(5, row + upper * BLOCK + at, ROW_BYTES);
    if (k == INT8) {
      _tile_dpbusd(2, 5, 6);
      _tile_dpbssd(3, 5, 7);
    } else {
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
  }
  _tile_stored(0, left, WIDE);
  _tile_stored(1, right, WIDE);
  if (lower == 0) return;
  _tile_stored(2, left + upper * WIDE, WIDE);
  _tile_stored(3, right + upper * WIDE, WIDE);
}

/* Adds rows times lines that are 16 bits wide, each half of the panel by both bytes. */
static void add_int8(const uint32_t* row, const char* lines, int64_t steps, char* sums,
                     int upper, int lower) {
  uint32_t high[GROUP * PANEL];
  for (int half = 0; half < 2; half++) {
    const char* from = lines + half * 64;
    const pair p = {{from, from - 1}, NULL, {sums + half * 64, (char*)high}};
    add_pair(row, &p, steps, INT8, upper, lower);
    for (int r = 0; r < upper + lower; r++) {
      uint32_t* low = (uint32_t*)p.sums[0] + r * PANEL;
      for (int i = 0; i < TILE; i++) low[i] += high[r * PANEL + i] << 8;
    }
  }
}

static void add_bfloat16(const uint32_t* row, const char* lines, const char* ahead,
                         int64_t steps, char* sums, int upper, int lower) {
  const pair p = {{lines, lines + 64}, ahead, {sums, sums + 64}};
  add_pair(row, &p, steps, BFLOAT16, upper, lower);
}

/* Copies the lines of a block to `room`, those of int8 widened; zeros follow, so that
   there are whole tiles of lines. */
static void whole_tiles(const char* first, int64_t steps, kind k, char* room) {
  const int64_t left = (TILE - steps % TILE) % TILE;
  if (k == BFLOAT16) memcpy(room, first, (size_t)(steps * WIDE));
  for (int64_t s = 0; k == INT8 && s < steps; s++) {
    const uint8_t* line = (const uint8_t*)first + s * line_bytes(INT8);
    __builtin_prefetch(line + BLOCK * line_bytes(INT8));
    for (int64_t i = 0; i < WIDE / 2; i++) ((uint16_t*)room)[s * WIDE / 2 + i] = line[i];
  }
  memset(room + steps * WIDE, 0, (size_t)(left * WIDE));
}

/* Adds `count` rows times a block to `sums` [count, PANEL], as `pass` does. */
static void amx_block(const uint32_t* row, const char* first, int64_t steps, char* sums,
                      kind k, int64_t count) {
  char room[64 + BLOCK * WIDE] __attribute__((aligned(64)));
  const char *lines = first, *ahead = first + BLOCK * WIDE;
  const int64_t whole = (steps + TILE - 1) / TILE * TILE;
  if (k == INT8 || whole != steps) {
    room[63] = 0; /* is read before the first line */
    whole_tiles(first, steps, k, room + 64);
    lines = room + 64;
  }
  written(room);
  written(sums);
  for (int64_t groups = (count + GROUP - 1) / GROUP; groups > 0; groups--) {
    const int rows = (int)((count + groups - 1) / groups);
    const int lower = rows > TILE ? rows / 2 : 0, upper = rows - lower;
    shape_tiles(upper, lower);
    if (k == INT8)
      add_int8(row, lines, whole, sums, upper, lower);
    else
      add_bfloat16(row, lines, ahead, whole, sums, upper, lower);
    row += rows * BLOCK, sums += rows * WIDE, count -= rows;
    ahead = NULL; /* the first rows have fetched it */
  }
}

/* Does what `pass` does and returns 1, or returns 0 if that is to do it. */
INLINE int pass_by_amx(const uint32_t* row, const char* first, int64_t steps, words* sums,
                       kind k, int64_t count) {
  if (k == FLOAT32 || (k == INT8 && count < AMX_INT8_ROWS) || !uses_amx) return 0;
  amx_block(row, first, steps, (char*)sums, k, count);
  return 1;
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
  uint32_t state = 1;
  for (int i = 0; i < STEPS * PANEL + ROWS * STEPS; i++) {
    const int at = i - STEPS * PANEL; /* lines first, then rows */
    uint32_t word = state = state * 1664525u + 1013904223u;
    if (k == BFLOAT16) word = (word & 0x83ff83ffu) | 0x3c003c00u; /* 2^-7 to 2 */
    *(at < 0 ? &lines[i] : &rows[at / STEPS * BLOCK + at % STEPS]) = word;
  }
  for (int from = 0; from < ROWS; from += ROWS - 1) { /* all rows, and the last alone */
    memset(sums, 0, sizeof sums);
    amx_block(rows + from * BLOCK, (const char*)lines, STEPS, (char*)sums, k, ROWS - from);
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
INLINE int pass_by_amx(const uint32_t* row, const char* first, int64_t steps, words* sums,
                       kind k, int64_t count) {
  (void)row, (void)first, (void)steps, (void)sums, (void)k, (void)count;
  return 0;
}

#endif
