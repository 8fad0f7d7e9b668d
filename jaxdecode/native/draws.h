/* What XLA calls to draw tokens: the buffers of a custom call, handed to the kernels. */

#pragma once

#include <stdint.h>

#include "best.h"
#include "frame.h"
#include "noise.h"
#include "sort.h"
#include "survey.h"
#include "work.h"

/* ---- the best of a row ---- */

typedef struct {
  const XLA_FFI_Buffer *rows, *maxima, *out;
  int64_t chunk;
  atomic_int out_of_memory;
} best_task;

static void best_parts(void* data, int64_t from, int64_t to) {
  best_task* task = data;
  const int64_t k = axis(task->out, 1);
  const size_t places = (size_t)k * sizeof(uint64_t);
  uint64_t* heap = malloc(places + (size_t)groups_for(k) * sizeof(float));
  if (heap == NULL) atomic_store(&task->out_of_memory, 1);
  for (int64_t item = from; item < to && heap != NULL; item++)
    best(address(task->rows, 1, task->out, 1, item, 4), axis(task->rows, 1),
         address(task->maxima, 1, task->out, 1, item, 4), task->chunk, k, heap,
         (float*)(heap + k), (int32_t*)task->out->data + item * k);
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

/* ---- whole rows ---- */

typedef struct {
  const XLA_FFI_Buffer *rows, *ids, *values; /* nothing is put where there are no ids */
  const XLA_FFI_Buffer *changed, *best, *before, *maxima, *after;
  int64_t chunk;
  atomic_int out_of_memory;
} survey_task;

/* Puts what is to be put into row `item`, which is copied unless it may be changed. */
static void change_row(const survey_task* task, int64_t item, survey* s) {
  const XLA_FFI_Buffer* out = task->changed;
  float* row = (float*)out->data + item * s->size;
  const float* given = address(task->rows, 1, out, 1, item, 4);
  if (row != given) memcpy(row, given, (size_t)s->size * sizeof(float));
  ((float*)task->before->data)[item] = log_weight(s, (float*)task->best->data + item);
  put_values(s, row, address(task->ids, 1, out, 1, item, 4),
      address(task->values, 1, out, 1, item, 4), axis(task->ids, 1));
}

/* A part is one row. */
static void survey_parts(void* data, int64_t from, int64_t to) {
  survey_task* task = data;
  survey s;
  if (!make_survey(&s, axis(task->rows, 1), task->chunk)) {
    atomic_store(&task->out_of_memory, 1);
    return;
  }
  for (int64_t item = from; item < to; item++) {
    float best;
    memset(s.changed, 1, (size_t)s.chunks);
    look(&s, address(task->rows, 1, task->after, 0, item, 4));
    if (task->ids != NULL) change_row(task, item, &s);
    ((float*)task->after->data)[item] = log_weight(&s, &best);
    memcpy((float*)task->maxima->data + item * s.chunks, s.maxima,
           (size_t)s.chunks * sizeof(float));
  }
  free(s.maxima);
}

static int is_chunk(int64_t chunk) {
  return chunk > 0 && chunk <= CHUNK_MAX && chunk % LANES == 0;
}

static int has_chunks(const XLA_FFI_Buffer* maxima, const XLA_FFI_Buffer* rows,
                      int64_t chunk) {
  return axis(maxima, 1) == (axis(rows, 1) + chunk - 1) / chunk;
}

static XLA_FFI_Error* survey_all(const XLA_FFI_CallFrame* frame, survey_task* task,
                                 const char* wrong_chunks) {
  if (!is_chunk(task->chunk) || !has_chunks(task->maxima, task->rows, task->chunk))
    return refuse(frame, wrong_chunks);
  atomic_init(&task->out_of_memory, 0);
  XLA_FFI_Error* error = share(frame, survey_parts, task, items_in(task->after, 0));
  if (error == NULL && atomic_load(&task->out_of_memory))
    return refuse(frame, "jaxdecode_survey: no memory for the chunks");
  return error;
}

/* (rows float32 [.., V]) -> the maxima of their chunks float32 [.., C], and the
   logarithms of their total weights float32 [..].
   Attribute `chunk`: int64, entries of a chunk. */
XLA_FFI_Error* jaxdecode_survey(XLA_FFI_CallFrame* frame) {
  if (is_question(frame)) return NULL;
  XLA_FFI_Error* error =
      expect(frame, "jaxdecode_survey: other operands or results",
             (expected[]){{TYPE(F32), 1}, {0}},
             (expected[]){{TYPE(F32), 1}, {TYPE(F32), 0}, {0}});
  if (error != NULL) return error;
  survey_task task = {.rows = operand(frame, 0), .maxima = result(frame, 0),
                      .after = result(frame, 1), .chunk = whole_attribute(frame, 0)};
  return survey_all(frame, &task, "jaxdecode_survey: chunks of another size");
}

/* (rows float32 [.., V], ids int32 [.., N], values float32 [.., N]) -> the rows with the
   values at the ids float32 [.., V], the largest entry and the logarithm of the weight
   before that float32 [..], and what `jaxdecode_survey` returns of the rows after it.
   Attribute as there. */
XLA_FFI_Error* jaxdecode_put(XLA_FFI_CallFrame* frame) {
  if (is_question(frame)) return NULL;
  XLA_FFI_Error* error = expect(
      frame, "jaxdecode_put: other operands or results",
      (expected[]){{TYPE(F32), 1}, {TYPE(S32), 1}, {TYPE(F32), 1}, {0}},
      (expected[]){{TYPE(F32), 1}, {TYPE(F32), 0}, {TYPE(F32), 0}, {TYPE(F32), 1},
                   {TYPE(F32), 0}, {0}});
  if (error != NULL) return error;
  survey_task task = {.rows = operand(frame, 0), .ids = operand(frame, 1),
                      .values = operand(frame, 2), .changed = result(frame, 0),
                      .best = result(frame, 1), .before = result(frame, 2),
                      .maxima = result(frame, 3), .after = result(frame, 4),
                      .chunk = whole_attribute(frame, 0)};
  if (axis(task.ids, 1) != axis(task.values, 1) ||
      axis(task.rows, 1) != axis(task.changed, 1))
    return refuse(frame, "jaxdecode_put: other sizes");
  return survey_all(frame, &task, "jaxdecode_put: chunks of another size");
}

/* ---- the best of a row and its noise ---- */

typedef struct {
  const XLA_FFI_Buffer *rows, *maxima, *keys, *from, *reached, *ids, *bits, *next;
  int64_t chunk;
} search_task;

enum { FOUND_MAX = 64 };

/* A part is one row. */
static void search_parts(void* data, int64_t first, int64_t end) {
  const search_task* task = data;
  const XLA_FFI_Buffer* out = task->ids;
  float most[FOUND_MAX];
  for (int64_t item = first; item < end; item++) {
    const int32_t from = *(const int32_t*)address(task->from, 0, out, 1, item, 4);
    search s = {.row = address(task->rows, 1, out, 1, item, 4),
                .maxima = address(task->maxima, 1, out, 1, item, 4),
                .size = axis(task->rows, 1),
                .chunk = task->chunk,
                .key = address(task->keys, 1, out, 1, item, 4),
                .from = from > 0 ? from : 0,
                .before = *(const float*)address(task->reached, 0, out, 1, item, 4),
                .reached = -INFINITY,
                .ids = (int32_t*)out->data + item * axis(out, 1),
                .bits = (uint32_t*)task->bits->data + item * axis(out, 1),
                .most = most,
                .room = axis(out, 1)};
    ((int32_t*)task->next->data)[item] = (int32_t)search_row(&s);
    for (int64_t i = s.count; i < s.room; i++) s.ids[i] = (int32_t)s.size, s.bits[i] = 0;
  }
}

/* (rows float32 [.., V], the maxima of their chunks float32 [.., C], words of their keys
   uint32 [.., 2], where to begin int32 [..], scores float32 [..]) -> the ids of entries
   that can have the best score int32 [.., K], V where there are fewer, the bits of their
   noise uint32 [.., K], and where the search stopped for want of room int32 [..]. K is at
   most FOUND_MAX.
   Attribute `chunk`: int64, entries of a chunk. */
XLA_FFI_Error* jaxdecode_search(XLA_FFI_CallFrame* frame) {
  if (is_question(frame)) return NULL;
  XLA_FFI_Error* error =
      expect(frame, "jaxdecode_search: other operands or results",
             (expected[]){{TYPE(F32), 1}, {TYPE(F32), 1}, {TYPE(U32), 1}, {TYPE(S32), 0},
                          {TYPE(F32), 0}, {0}},
             (expected[]){{TYPE(S32), 1}, {TYPE(U32), 1}, {TYPE(S32), 0}, {0}});
  if (error != NULL) return error;
  search_task task = {.rows = operand(frame, 0), .maxima = operand(frame, 1),
                      .keys = operand(frame, 2), .from = operand(frame, 3),
                      .reached = operand(frame, 4), .ids = result(frame, 0),
                      .bits = result(frame, 1), .next = result(frame, 2),
                      .chunk = whole_attribute(frame, 0)};
  const int64_t room = axis(task.ids, 1);
  if (!is_chunk(task.chunk) || !has_chunks(task.maxima, task.rows, task.chunk))
    return refuse(frame, "jaxdecode_search: chunks of another size");
  if (room < 1 || room > FOUND_MAX || room != axis(task.bits, 1) ||
      axis(task.keys, 1) != 2)
    return refuse(frame, "jaxdecode_search: other sizes");
  return share(frame, search_parts, &task, items_in(task.ids, 1));
}

/* ---- noise of a few entries ---- */

typedef struct {
  const XLA_FFI_Buffer *keys, *ids, *bits;
} hash_task;

/* A part is one row. */
static void hash_parts(void* data, int64_t from, int64_t to) {
  const hash_task* task = data;
  const int64_t count = axis(task->bits, 1);
  for (int64_t item = from; item < to; item++)
    hash(address(task->keys, 1, task->bits, 1, item, 4),
         address(task->ids, 1, task->bits, 1, item, 4), count,
         (uint32_t*)task->bits->data + item * count);
}

/* (words of keys uint32 [.., 2], ids int32 [.., K]) -> the bits of their noise
   uint32 [.., K]. */
XLA_FFI_Error* jaxdecode_hash(XLA_FFI_CallFrame* frame) {
  if (is_question(frame)) return NULL;
  XLA_FFI_Error* error = expect(frame, "jaxdecode_hash: other operands or results",
                                (expected[]){{TYPE(U32), 1}, {TYPE(S32), 1}, {0}},
                                (expected[]){{TYPE(U32), 1}, {0}});
  if (error != NULL) return error;
  hash_task task = {operand(frame, 0), operand(frame, 1), result(frame, 0)};
  if (axis(task.keys, 1) != 2 || axis(task.ids, 1) != axis(task.bits, 1))
    return refuse(frame, "jaxdecode_hash: other sizes");
  return share(frame, hash_parts, &task, items_in(task.bits, 1));
}
