/* What XLA calls: the buffers of a custom call, told apart and handed to the kernels. */

#include <stdint.h>

#include "attention.h"
#include "best.h"
#include "frame.h"
#include "multiply.h"
#include "noise.h"
#include "sort.h"
#include "work.h"

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
