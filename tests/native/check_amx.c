/* Products by tiles, compared in every bit with sums written out plainly.

Compiled with `amx_in_c.h` before it. Says first whether the kernels use tiles; ends with
status 0 if every product is right, and if it left no tile behind. */

#include <math.h>
#include <stdio.h>

#include "multiply.h"

#ifdef AMX_OF_MACHINE
static int in_c_products; /* nobody counts */
static int in_c_has_tiles(void) { return 0; }
#endif

static uint32_t state = 1;
static uint32_t drawn(void) {
  state = state * 1664525u + 1013904223u;
  return state >> 8;
}

static void must(int truth, const char* what, kind k, int64_t count, int64_t outputs,
                 int64_t inputs) {
  if (truth) return;
  printf("%s: kind %d, %d rows, [%d, %d]\n", what, (int)k, (int)count, (int)outputs,
         (int)inputs);
  exit(1);
}

typedef struct {
  kind k;
  int64_t count, outputs, inputs, steps, panels;
  float *rows, *row_scale, *scale;
  uint32_t *words, *matrix;
} problem;

static problem made(kind k, int64_t count, int64_t outputs, int64_t inputs) {
  problem p = {.k = k, .count = count, .outputs = outputs, .inputs = inputs};
  p.steps = (inputs + 1) / 2, p.panels = (outputs + PANEL - 1) / PANEL;
  const int64_t lines = p.panels * p.steps;
  p.rows = malloc((size_t)(count * inputs) * 4);
  p.row_scale = malloc((size_t)count * 4);
  p.scale = malloc((size_t)outputs * 4);
  p.words = malloc((size_t)words_of_rows(count, p.steps, k) * 4);
  p.matrix = malloc((size_t)(lines * line_bytes(k)));
  for (int64_t i = 0; i < count * inputs; i++) /* some are denormal as bfloat16 */
    p.rows[i] = ((float)drawn() / (1 << 23) - 1.0f) * (i % 97 == 5 ? 1e-38f : 1.0f);
  for (int64_t i = 0; i < outputs; i++) p.scale[i] = (float)(1 + i % 7);
  for (int64_t i = 0; i < 2 * lines * PANEL; i++) {
    if (k == INT8)
      ((int8_t*)p.matrix)[i] = (int8_t)drawn();
    else
      ((uint16_t*)p.matrix)[i] =
          (uint16_t)(i % 89 == 3 ? drawn() & 0x7f : (drawn() & 0x83ff) | 0x3c00);
  }
  for (int64_t o = outputs; k == BFLOAT16 && o < p.panels * PANEL; o++)
    for (int64_t s = 0; s < p.steps; s++)
      p.matrix[(o / PANEL * p.steps + s) * PANEL + o % PANEL] = 0;
  return p;
}

/* Which order words have depends on who is to read them. */
static void prepare_all(problem* p) {
  for (int64_t r = 0; r < p->count; r++) {
    const source s = {.values = p->rows + r * p->inputs, .size = p->inputs};
    prepare(&s, r, p->count, p->words, p->row_scale, p->k);
  }
}

static void drop(problem* p) {
  free(p->rows), free(p->row_scale), free(p->scale), free(p->words), free(p->matrix);
}

/* What the kernels make of all rows. */
static float* multiplied(problem* p) {
  prepare_all(p);
  float* out = malloc((size_t)(p->count * p->outputs) * 4);
  const product whole = {.rows = p->words, .panels = (const char*)p->matrix,
                         .row_scale = p->row_scale, .scale = p->scale, .out = out,
                         .count = p->count, .steps = p->steps, .outputs = p->outputs};
  product_task task = {.of = {whole}, .panels = {p->panels}, .matrices = 1,
                       .blocks = (p->count + ROWS_AT_ONCE - 1) / ROWS_AT_ONCE,
                       .strip = p->k == INT8 ? strip_int8 : strip_bfloat16};
  product_parts(&task, 0, p->panels * task.blocks);
  must(!in_c_has_tiles(), "left with tiles", p->k, p->count, p->outputs, p->inputs);
  return out;
}

static float of_bfloat16(uint32_t bits) {
  bits = bits & 0x7f80u ? bits << 16 : 0; /* denormal numbers count as zeros */
  float value;
  memcpy(&value, &bits, 4);
  return value;
}

/* A sum by tiles: the even and the odd of 32 inputs apart, each product fused. */
static float by_the_manual(const problem* p, int64_t r, int64_t o) {
  float sum = 0.0f;
  for (int64_t at = 0; at < p->inputs; at += 32) {
    float part[2] = {0.0f, 0.0f};
    for (int64_t i = at; i < at + 32 && i < p->inputs; i++) {
      const int64_t line = o / PANEL * p->steps + i / 2;
      const float weight =
          of_bfloat16(((const uint16_t*)p->matrix)[(line * PANEL + o % PANEL) * 2 + i % 2]);
      const float value = of_bfloat16(bfloat16_of(p->rows[r * p->inputs + i]));
      part[i % 2] = fmaf(value, weight, part[i % 2]);
    }
    sum += part[0] + part[1];
  }
  return sum;
}

static void check(kind k, int64_t count, int64_t outputs, int64_t inputs) {
  problem p = made(k, count, outputs, inputs);
  const int used = uses_amx, before = (int)in_c_products;
  float* out = multiplied(&p);
  const int by_tiles = used && (k == BFLOAT16 || count >= AMX_INT8_ROWS);
#ifndef AMX_OF_MACHINE
  must((in_c_products > before) == by_tiles, "other instructions", k, count, outputs, inputs);
#endif
  uses_amx = 0; /* what the dot instructions say */
  float* plain = multiplied(&p);
  uses_amx = used;
  for (int64_t i = 0; i < count * outputs; i++) {
    if (k == BFLOAT16 && by_tiles) plain[i] = by_the_manual(&p, i / outputs, i % outputs);
    must(memcmp(out + i, plain + i, 4) == 0, "other bits", k, count, outputs, inputs);
  }
  free(plain), free(out), drop(&p);
}

/* A row has the bits that it has alone. */
static void check_company(kind k, int64_t count, int64_t outputs, int64_t inputs) {
  problem p = made(k, count, outputs, inputs);
  float* together = multiplied(&p);
  for (int64_t r = 0; r < count; r++) {
    problem one = p;
    one.count = 1, one.row_scale = p.row_scale + r;
    one.words = malloc((size_t)words_of_rows(1, p.steps, k) * 4);
    one.rows = p.rows + r * inputs;
    float* alone = multiplied(&one);
    must(memcmp(alone, together + r * outputs, (size_t)outputs * 4) == 0, "other company",
         k, count, outputs, inputs);
    free(one.words), free(alone);
  }
  free(together), drop(&p);
}

int main(void) {
  static const int64_t inputs[] = {1, 2, 31, 32, 33, 63, 64, 255, 256, 257, 331};
  static const int64_t outputs[] = {1, 31, 32, 33, 65};
  printf(uses_amx ? "tiles\n" : "dots\n");
  for (kind k = BFLOAT16; k <= INT8; k++) {
    for (int64_t count = 1; count <= 33; count++) check(k, count, 37, 301);
    for (size_t i = 0; i < sizeof inputs / sizeof *inputs; i++)
      for (size_t o = 0; o < sizeof outputs / sizeof *outputs; o++)
        check(k, 19, outputs[o], inputs[i]);
    check(k, 131, 5, 70), check(k, 97, 5, 300), check(k, 9, 5, 2311), check(k, 33, 5, 2311);
    check_company(k, 33, 37, 301), check_company(k, 131, 3, 70);
  }
  printf("right\n");
  return 0;
}
