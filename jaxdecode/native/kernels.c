/* What XLA calls: the buffers of a custom call, told apart and handed to the kernels. */

#include <stdint.h>

#include "attention.h"
#include "best.h"
#include "frame.h"
#include "noise.h"
#include "product.h"
#include "rows.h"
#include "sort.h"
#include "work.h"

/* ---- products ---- */

enum { MATRICES_MAX = 4, ROWS_SHARED_FROM = 16 };

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

static XLA_FFI_Error* prepare_rows(const XLA_FFI_CallFrame* frame, rows_task* task) {
  if (task->count >= ROWS_SHARED_FROM) return share(frame, rows_parts, task, task->count);
  rows_parts(task, 0, task->count);
  return NULL;
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

/* How many operands stand after the norms: factors of a gate, what results are added to. */
static int64_t extras_of(const XLA_FFI_CallFrame* frame) {
  return (gate_of(frame) != NO_GATE) + (whole_attribute(frame, 2) != 0);
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

static XLA_FFI_Error* multiply_item(const XLA_FFI_CallFrame* frame, int64_t item,
                                    const prepared* room) {
  static void (*const strips[])(const product*, int64_t, int64_t, int64_t) = {
      [FLOAT32] = strip_float32, [BFLOAT16] = strip_bfloat16, [INT8] = strip_int8};
  const XLA_FFI_Buffer *rows = operand(frame, 0), *out = result(frame, 0);
  const kind k = kind_of(frame);
  const int64_t choices = choices_of(frame), chosen = chosen_of(frame, choices, item);
  product_task task = {.matrices = frame->rets.size, .strip = strips[k]};
  int64_t panels = 0;
  for (int64_t m = 0; m < task.matrices; m++) {
    const XLA_FFI_Buffer* matrix = operand(frame, 2 + m * choices + chosen);
    product* p = &task.of[m];
    out = result(frame, m);
    *p = (product){.count = axis(out, 2), .outputs = axis(out, 1),
                   .steps = axis(matrix, 2), .rows = room->words,
                   .row_scale = room->row_scale};
    p->panels = address(matrix, 3, out, 2, item, k == INT8 ? 2 : 4);
    p->out = (float*)out->data + item * p->count * p->outputs;
    if (k == INT8) {
      const int64_t at = 2 + (task.matrices + m) * choices + chosen;
      p->scale = address(operand(frame, at), 1, out, 2, item, 4);
    }
    panels += task.panels[m] = axis(matrix, 3);
  }
  rows_task before = {.room = room, .count = axis(rows, 2), .inputs = axis(rows, 1),
                      .eps = attribute(frame, 0), .gate = gate_of(frame), .k = k};
  before.rows = address(rows, 2, out, 2, item, 4);
  const int64_t extras = frame->args.size - extras_of(frame);
  if (before.gate != NO_GATE)
    before.factors = address(operand(frame, extras), 2, out, 2, item, 4);
  else if (has_norm(frame)) {
    const XLA_FFI_Buffer* norm = operand(frame, extras - choices + chosen);
    before.norm = address(norm, 1, out, 2, item, 4);
  }
  if (whole_attribute(frame, 2))
    task.of[0].onto =
        address(operand(frame, frame->args.size - 1), 2, out, 2, item, 4);
  XLA_FFI_Error* error = prepare_rows(frame, &before);
  if (error != NULL) return error;
  task.blocks = (before.count + ROWS_AT_ONCE - 1) / ROWS_AT_ONCE;
  return share(frame, product_parts, &task, panels * task.blocks);
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
  return !whole_attribute(frame, 2) ||
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

/* ---- attention ---- */

typedef struct {
  const XLA_FFI_Buffer *queries, *keys, *values, *positions, *layers, *out;
  int64_t window;
  atomic_int out_of_memory;
} attention_task;

/* Where a part's key head begins; a part is one key head of one token. */
static int64_t head_at(const attention_task* task, const XLA_FFI_Buffer* kept,
                       int64_t part) {
  const int64_t kv_heads = axis(kept, 3), item = part / kv_heads, layers = axis(kept, 4);
  const int32_t asked = *(const int32_t*)address(task->layers, 0, task->out, 2, item, 4);
  const int64_t layer = asked < 0 ? 0 : asked < layers ? asked : layers - 1;
  return item_of(kept, 4, task->out, 2, item) +
         (layer * kv_heads + part % kv_heads) * product_of_last(kept, 2);
}

static void attention_parts(void* data, int64_t from, int64_t to) {
  attention_task* task = data;
  const int64_t kv_heads = axis(task->keys, 3), columns = axis(task->keys, 2);
  const int wide = task->keys->dtype == XLA_FFI_DataType_F32, bytes = wide ? 4 : 2;
  const char *keys = task->keys->data, *values = task->values->data;
  int64_t key = head_at(task, task->keys, from), value = head_at(task, task->values, from);
  for (int64_t part = from; part < to; part++) {
    const int64_t item = part / kv_heads, next = part + 1 < to ? part + 1 : part;
    const int64_t at = *(const int32_t*)address(task->positions, 0, task->out, 2, item, 4);
    const int64_t next_key = head_at(task, task->keys, next);
    const int64_t next_value = head_at(task, task->values, next);
    const attention a = {
        .queries = address(task->queries, 2, task->out, 2, item, 4),
        .keys = keys + key * bytes,
        .values = values + value * bytes,
        .next_keys = keys + next_key * bytes,
        .next_values = values + next_value * bytes,
        .out = (float*)task->out->data + item * product_of_last(task->out, 2),
        .heads = axis(task->out, 2),
        .kv_heads = kv_heads,
        .size = axis(task->out, 1),
        .from = task->window > 0 && at >= task->window ? at + 1 - task->window : 0,
        .to = at < columns ? at + 1 : columns};
    if (!attend(&a, part % kv_heads, wide)) atomic_store(&task->out_of_memory, 1);
    key = next_key;
    value = next_value;
  }
}

/* (queries float32 [.., H, D], keys and values [.., L, K, T, D] float32 or uint16,
   positions int32 [..], layers int32 [..]) -> float32 [.., H, D]; an item is one token,
   which reads one of the L layers.
   Attribute `window`: int64, 0 for all columns up to a token's own. */
XLA_FFI_Error* jaxdecode_attend(XLA_FFI_CallFrame* frame) {
  if (is_question(frame)) return NULL;
  const expected stored = {TYPE(F32) | TYPE(U16), 4};
  XLA_FFI_Error* error = expect(
      frame, "jaxdecode_attend: other operands or results",
      (expected[]){{TYPE(F32), 2}, stored, stored, {TYPE(S32), 0}, {TYPE(S32), 0}, {0}},
      (expected[]){{TYPE(F32), 2}, {0}});
  if (error != NULL) return error;
  attention_task task = {.queries = operand(frame, 0), .keys = operand(frame, 1),
                         .values = operand(frame, 2), .positions = operand(frame, 3),
                         .layers = operand(frame, 4), .out = result(frame, 0),
                         .window = whole_attribute(frame, 0)};
  atomic_init(&task.out_of_memory, 0);
  const int64_t parts = items_in(task.out, 2) * axis(task.keys, 3);
  error = share(frame, attention_parts, &task, parts);
  if (error == NULL && atomic_load(&task.out_of_memory))
    return refuse(frame, "jaxdecode_attend: no memory for the scores");
  return error;
}

/* ---- the best of a row ---- */

typedef struct {
  const XLA_FFI_Buffer *rows, *maxima, *out;
  int64_t chunk;
  atomic_int out_of_memory;
} best_task;

static void best_parts(void* data, int64_t from, int64_t to) {
  best_task* task = data;
  const int64_t k = axis(task->out, 1);
  entry* heap = malloc((size_t)k * sizeof(entry));
  if (heap == NULL) atomic_store(&task->out_of_memory, 1);
  for (int64_t item = from; item < to && heap != NULL; item++)
    best(address(task->rows, 1, task->out, 1, item, 4), axis(task->rows, 1),
         address(task->maxima, 1, task->out, 1, item, 4), task->chunk, k, heap,
         (int32_t*)task->out->data + item * k);
  free(heap);
}

/* (rows float32 [.., V], maxima float32 [.., C] of their chunks) -> int32 [.., k].
   Attribute `chunk`: int64, entries of a chunk. k is at least 1. */
XLA_FFI_Error* jaxdecode_best(XLA_FFI_CallFrame* frame) {
  if (is_question(frame)) return NULL;
  XLA_FFI_Error* error = expect(frame, "jaxdecode_best: other operands or results",
                                (expected[]){{TYPE(F32), 1}, {TYPE(F32), 1}, {0}},
                                (expected[]){{TYPE(S32), 1}, {0}});
  if (error != NULL) return error;
  best_task task = {.rows = operand(frame, 0), .maxima = operand(frame, 1),
                    .out = result(frame, 0), .chunk = whole_attribute(frame, 0)};
  atomic_init(&task.out_of_memory, 0);
  error = share(frame, best_parts, &task, items_in(task.out, 1));
  if (error == NULL && atomic_load(&task.out_of_memory))
    return refuse(frame, "jaxdecode_best: no memory for the candidates");
  return error;
}

/* ---- whole rows in order ---- */

typedef struct {
  const XLA_FFI_Buffer *rows, *values, *order;
  atomic_int out_of_memory;
} sort_task;

static void sort_parts(void* data, int64_t from, int64_t to) {
  sort_task* task = data;
  const int64_t size = axis(task->order, 1);
  placed* room = malloc((size_t)size * 2 * sizeof(placed));
  if (room == NULL) atomic_store(&task->out_of_memory, 1);
  for (int64_t item = from; item < to && room != NULL; item++)
    sort_row(address(task->rows, 1, task->order, 1, item, 4), size, room,
             (float*)task->values->data + item * size,
             (int32_t*)task->order->data + item * size);
  free(room);
}

/* (rows float32 [.., V]) -> float32 [.., V] in order, int32 [.., V] where each was. */
XLA_FFI_Error* jaxdecode_sort(XLA_FFI_CallFrame* frame) {
  if (is_question(frame)) return NULL;
  XLA_FFI_Error* error = expect(frame, "jaxdecode_sort: other operands or results",
                                (expected[]){{TYPE(F32), 1}, {0}},
                                (expected[]){{TYPE(F32), 1}, {TYPE(S32), 1}, {0}});
  if (error != NULL) return error;
  sort_task task = {.rows = operand(frame, 0), .values = result(frame, 0),
                    .order = result(frame, 1)};
  atomic_init(&task.out_of_memory, 0);
  error = share(frame, sort_parts, &task, items_in(task.order, 1));
  if (error == NULL && atomic_load(&task.out_of_memory))
    return refuse(frame, "jaxdecode_sort: no memory for a row");
  return error;
}

/* ---- bounds of noise ---- */

typedef struct {
  const XLA_FFI_Buffer *rows, *keys, *reached, *out;
  int64_t chunk;
} bounds_task;

/* A part is one chunk of one row. */
static void bounds_parts(void* data, int64_t from, int64_t to) {
  const bounds_task* task = data;
  const int64_t chunks = axis(task->out, 1), size = axis(task->rows, 1);
  for (int64_t part = from; part < to; part++) {
    const int64_t item = part / chunks, first = part % chunks * task->chunk;
    const int64_t left = size - first;
    const float* row = address(task->rows, 1, task->out, 1, item, 4);
    ((float*)task->out->data)[part] =
        chunk_bound(row + first, left < task->chunk ? left : task->chunk, task->chunk,
                    (uint32_t)first, address(task->keys, 1, task->out, 1, item, 4),
                    *(const float*)address(task->reached, 0, task->out, 1, item, 4));
  }
}

/* (rows float32 [.., V], words of their keys uint32 [.., 2], scores float32 [..])
   -> float32 [.., C]. Attribute `chunk`: int64, entries of a chunk. */
XLA_FFI_Error* jaxdecode_bounds(XLA_FFI_CallFrame* frame) {
  if (is_question(frame)) return NULL;
  XLA_FFI_Error* error =
      expect(frame, "jaxdecode_bounds: other operands or results",
             (expected[]){{TYPE(F32), 1}, {TYPE(U32), 1}, {TYPE(F32), 0}, {0}},
             (expected[]){{TYPE(F32), 1}, {0}});
  if (error != NULL) return error;
  bounds_task task = {.rows = operand(frame, 0), .keys = operand(frame, 1),
                            .reached = operand(frame, 2), .out = result(frame, 0),
                            .chunk = whole_attribute(frame, 0)};
  if (task.chunk > CHUNK_MAX || task.chunk % LANES)
    return refuse(frame, "jaxdecode_bounds: chunks of another size");
  return share(frame, bounds_parts, &task, items_in(task.out, 1) * axis(task.out, 1));
}
