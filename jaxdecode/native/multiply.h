/* What XLA calls to multiply rows by matrices: which operand is what, and who does it. */

#pragma once

#include <stdint.h>
#include <stdlib.h>

#include "frame.h"
#include "product.h"
#include "rows.h"
#include "work.h"

enum { MATRICES_MAX = 4 };

typedef struct {
  product of[MATRICES_MAX];
  int64_t panels[MATRICES_MAX], matrices, blocks;
  void (*strip)(const product*, int64_t, int64_t, int64_t);
} product_task;

/* A part is one panel of one matrix, times a block of rows. */
static void product_parts(void* data, int64_t from, int64_t to) {
  const product_task* task = data;
  for (int64_t part = from; part < to; part++) {
    int64_t panel = part / task->blocks, m = 0;
    while (panel >= task->panels[m]) panel -= task->panels[m++];
    const product* p = &task->of[m];
    const int64_t first = part % task->blocks * ROWS_AT_ONCE, left = p->count - first;
    task->strip(p, panel, first, first + (left < ROWS_AT_ONCE ? left : ROWS_AT_ONCE));
  }
  release_amx();
}

/* A call's rows as the matrices want them; they live in one piece of memory. */
typedef struct {
  uint32_t* words;  /* as `product.rows` */
  float* row_scale; /* [count] */
} prepared;

static int make_room(prepared* room, int64_t count, int64_t steps, kind k) {
  const int64_t words = words_of_rows(count, steps, k);
  room->words = malloc((size_t)(words + count) * 4);
  room->row_scale = (float*)(room->words + words);
  return room->words != NULL;
}

typedef struct {
  const prepared* room;
  const float *rows, *norm, *factors; /* of the two, at most one is no NULL */
  int64_t count, inputs;
  float eps;
  gate gate;
  kind k;
} rows_task;

/* A part is one row. */
static void rows_parts(void* data, int64_t from, int64_t to) {
  const rows_task* task = data;
  for (int64_t r = from; r < to; r++) {
    const int64_t at = r * task->inputs;
    source s = {.values = task->rows + at, .size = task->inputs, .gate = task->gate};
    if (task->gate != NO_GATE) s.factors = task->factors + at;
    if (task->norm != NULL) s = normalised(s.values, s.size, task->norm, task->eps);
    prepare(&s, r, task->count, task->room->words, task->room->row_scale, task->k);
  }
}

static kind kind_of(const XLA_FFI_CallFrame* frame) {
  const XLA_FFI_DataType type = operand(frame, 2)->dtype;
  return type == XLA_FFI_DataType_F32   ? FLOAT32
         : type == XLA_FFI_DataType_U32 ? BFLOAT16
                                        : INT8;
}

static int has_norm(const XLA_FFI_CallFrame* frame) { return attribute(frame, 0) >= 0.0f; }

static gate gate_of(const XLA_FFI_CallFrame* frame) {
  return (gate)whole_attribute(frame, 1);
}

static int has_onto(const XLA_FFI_CallFrame* frame) {
  return whole_attribute(frame, 2) != 0;
}

/* How many operands stand after the norms: factors of a gate, what results are added to. */
static int64_t extras_of(const XLA_FFI_CallFrame* frame) {
  return (gate_of(frame) != NO_GATE) + has_onto(frame);
}

/* From how many alike the call's matrices are chosen: each is an operand. */
static int64_t choices_of(const XLA_FFI_CallFrame* frame) {
  const int scaled = operand(frame, 2)->dtype == XLA_FFI_DataType_U16;
  const int64_t kinds = frame->rets.size * (scaled ? 2 : 1) + has_norm(frame);
  return (frame->args.size - 2 - extras_of(frame)) / kinds;
}

/* Which of them item `item` takes; the nearest for a number outside. */
static int64_t chosen_of(const XLA_FFI_CallFrame* frame, int64_t choices, int64_t item) {
  const int64_t asked =
      *(const int32_t*)address(operand(frame, 1), 0, result(frame, 0), 2, item, 4);
  return asked < 0 ? 0 : asked < choices ? asked : choices - 1;
}

/* The rows of an item, and what is done to them first. */
static rows_task rows_of_item(const XLA_FFI_CallFrame* frame, int64_t item,
                              const prepared* room) {
  const XLA_FFI_Buffer *rows = operand(frame, 0), *out = result(frame, 0);
  const int64_t choices = choices_of(frame), chosen = chosen_of(frame, choices, item);
  const int64_t extras = frame->args.size - extras_of(frame);
  rows_task task = {.room = room, .count = axis(rows, 2), .inputs = axis(rows, 1),
                    .eps = attribute(frame, 0), .gate = gate_of(frame),
                    .k = kind_of(frame)};
  task.rows = address(rows, 2, out, 2, item, 4);
  if (task.gate != NO_GATE)
    task.factors = address(operand(frame, extras), 2, out, 2, item, 4);
  if (has_norm(frame))
    task.norm = address(operand(frame, extras - choices + chosen), 1, out, 2, item, 4);
  return task;
}

/* One of the products of an item, of prepared rows. */
static product product_of_item(const XLA_FFI_CallFrame* frame, int64_t item, int64_t m,
                               const prepared* room) {
  const kind k = kind_of(frame);
  const int64_t choices = choices_of(frame), chosen = chosen_of(frame, choices, item);
  const XLA_FFI_Buffer* matrix = operand(frame, 2 + m * choices + chosen);
  const XLA_FFI_Buffer* out = result(frame, m);
  product p = {.count = axis(out, 2), .outputs = axis(out, 1), .steps = axis(matrix, 2),
               .rows = room->words, .row_scale = room->row_scale};
  p.panels = address(matrix, 3, out, 2, item, k == INT8 ? 2 : 4);
  p.out = (float*)out->data + item * p.count * p.outputs;
  if (k == INT8) {
    const int64_t at = 2 + (frame->rets.size + m) * choices + chosen;
    p.scale = address(operand(frame, at), 1, out, 2, item, 4);
  }
  if (has_onto(frame))
    p.onto = address(operand(frame, frame->args.size - 1), 2, out, 2, item, 4);
  return p;
}

static XLA_FFI_Error* multiply_item(const XLA_FFI_CallFrame* frame, int64_t item,
                                    const prepared* room) {
  static void (*const strips[])(const product*, int64_t, int64_t, int64_t) = {
      [FLOAT32] = strip_float32, [BFLOAT16] = strip_bfloat16, [INT8] = strip_int8};
  product_task task = {.matrices = frame->rets.size, .strip = strips[kind_of(frame)]};
  int64_t panels = 0;
  for (int64_t m = 0; m < task.matrices; m++) {
    task.of[m] = product_of_item(frame, item, m, room);
    panels += task.panels[m] = axis(operand(frame, 2 + m * choices_of(frame)), 3);
  }
  rows_task before = rows_of_item(frame, item, room);
  task.blocks = (before.count + ROWS_AT_ONCE - 1) / ROWS_AT_ONCE;
  const job jobs[] = {{rows_parts, &before, before.count},
                      {product_parts, &task, panels * task.blocks}};
  return share_all(frame, jobs, 2);
}

/* Whether a buffer has a number for each of another's, in their last two axes. */
static int is_like(const XLA_FFI_Buffer* b, const XLA_FFI_Buffer* other) {
  return is_as(b, (expected){TYPE(F32), 2}) && axis(b, 1) == axis(other, 1) &&
         axis(b, 2) == axis(other, 2);
}

/* Whether the operands after the norms are as their attributes say. */
static int has_right_extras(const XLA_FFI_CallFrame* frame) {
  const int64_t last = frame->args.size - 1, extras = frame->args.size - extras_of(frame);
  if (gate_of(frame) > GELU_TANH || (gate_of(frame) != NO_GATE && has_norm(frame)))
    return 0;
  if (gate_of(frame) != NO_GATE && !is_like(operand(frame, extras), operand(frame, 0)))
    return 0;
  return !has_onto(frame) ||
         (frame->rets.size == 1 && is_like(operand(frame, last), result(frame, 0)));
}

static XLA_FFI_Error* expect_product(const XLA_FFI_CallFrame* frame) {
  static const char* const wrong = "jaxdecode_product: other operands or results";
  if (frame->attrs.size != 3) /* as of a program that was made for other kernels */
    return refuse(frame, "jaxdecode_product: other attributes");
  XLA_FFI_Error* error = expect(
      frame, wrong,
      (expected[]){{TYPE(F32), 2}, {TYPE(S32), 0}, {TYPE(F32) | TYPE(U32) | TYPE(U16), 3}, {0}},
      (expected[]){{TYPE(F32), 2}, {0}});
  if (error != NULL) return error;
  if (frame->rets.size > MATRICES_MAX)
    return refuse(frame, "jaxdecode_product: too many matrices");
  const int64_t choices = choices_of(frame), matrices = frame->rets.size * choices;
  const uint64_t type = 1ull << operand(frame, 2)->dtype;
  const int64_t scales = type == TYPE(U16) ? matrices : 0;
  const int64_t norms = has_norm(frame) ? choices : 0;
  const int64_t end = 2 + matrices + scales + norms;
  if (choices < 1 || frame->args.size != end + extras_of(frame) || !has_right_extras(frame))
    return refuse(frame, wrong);
  for (int64_t i = 2; i < end; i++) {
    const expected matrix = {type, 3}, vector = {TYPE(F32), 1};
    if (!is_as(operand(frame, i), i < 2 + matrices ? matrix : vector))
      return refuse(frame, wrong);
  }
  return NULL;
}

/* (rows float32 [.., M, I], chosen int32 [..], N x C matrices in panels
   [.., P, steps, 32][, N x C scales [.., O]][, C norm weights [.., I]]
   [, factors float32 [.., M, I]][, onto float32 [.., M, O]])
   -> N times float32 [.., M, O].
   Each of the N is one of C alike, number `chosen`.
   Panels of float32, of uint32 (bfloat16) or of uint16 (int8), which alone have scales.
   Attributes `eps`: float32, below 0 where rows are not normalised; `gate`: int64, 0 where
   they are not activated and multiplied by factors, else how (no call has both); `onto`:
   int64, not 0 where the results of one matrix are added to something. */
XLA_FFI_Error* jaxdecode_product(XLA_FFI_CallFrame* frame) {
  if (is_question(frame)) return NULL;
  XLA_FFI_Error* error = expect_product(frame);
  if (error != NULL) return error;
  const XLA_FFI_Buffer *rows = operand(frame, 0), *matrix = operand(frame, 2);
  prepared room = {0};
  if (!make_room(&room, axis(rows, 2), axis(matrix, 2), kind_of(frame)))
    return refuse(frame, "jaxdecode_product: no memory for the rows");
  const int64_t items = items_in(result(frame, 0), 2);
  for (int64_t item = 0; item < items && error == NULL; item++)
    error = multiply_item(frame, item, &room);
  free(room.words);
  return error;
}
