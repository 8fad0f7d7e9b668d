/* Dividing work among the threads of the pool that runs the program.

The caller works too, and waits only for parts that somebody has begun: when every other
thread is busy it does the whole work itself. */

#pragma once

#include <stdatomic.h>
#include <stdlib.h>

#include "simd.h"

#include "xla/ffi/api/c_api.h"

/* Does the parts `from` to `to` of the work that `task` describes. */
typedef void work_function(void* task, int64_t from, int64_t to);

typedef struct {
  work_function* function;
  void* task; /* alive until every part is done */
  int64_t parts, grain;
  atomic_llong next, done;
  atomic_int users; /* threads that may still look at this */
} work;

static void take_parts(work* w) {
  for (;;) {
    const int64_t from = atomic_fetch_add(&w->next, w->grain);
    if (from >= w->parts) return;
    const int64_t to = w->parts - from < w->grain ? w->parts : from + w->grain;
    w->function(w->task, from, to);
    atomic_fetch_add(&w->done, to - from);
  }
}

static void leave(work* w) {
  if (atomic_fetch_sub(&w->users, 1) == 1) free(w);
}

static void help(void* data) {
  take_parts(data);
  leave(data);
}

static int64_t threads_of(const XLA_FFI_CallFrame* frame) {
  int64_t count = 1;
  XLA_FFI_ThreadPool_NumThreads_Args ask = {
      .struct_size = XLA_FFI_ThreadPool_NumThreads_Args_STRUCT_SIZE,
      .ctx = frame->ctx,
      .num_threads = &count};
  XLA_FFI_Error* error = frame->api->XLA_FFI_ThreadPool_NumThreads(&ask);
  if (error == NULL) return count;
  XLA_FFI_Error_Destroy_Args drop = {
      .struct_size = XLA_FFI_Error_Destroy_Args_STRUCT_SIZE, .error = error};
  frame->api->XLA_FFI_Error_Destroy(&drop);
  return 1; /* a program without a pool */
}

static XLA_FFI_Error* share(const XLA_FFI_CallFrame* frame, work_function* function,
                            void* task, int64_t parts) {
  int64_t threads = threads_of(frame);
  if (threads > parts) threads = parts;
  work* w = threads > 1 ? malloc(sizeof(work)) : NULL;
  if (w == NULL) {
    function(task, 0, parts);
    return NULL;
  }
  /* A few grains for each thread: one that starts late leaves the rest to the others. */
  *w = (work){.function = function, .task = task, .parts = parts,
              .grain = 1 + parts / (threads * 8)};
  atomic_init(&w->next, 0);
  atomic_init(&w->done, 0);
  atomic_init(&w->users, (int)threads);
  XLA_FFI_Error* error = NULL;
  for (int64_t t = 1; t < threads; t++) {
    XLA_FFI_ThreadPool_Schedule_Args ask = {
        .struct_size = XLA_FFI_ThreadPool_Schedule_Args_STRUCT_SIZE,
        .ctx = frame->ctx,
        .task = help,
        .data = w};
    error = frame->api->XLA_FFI_ThreadPool_Schedule(&ask);
    if (error != NULL) { /* nobody will come for these */
      for (; t < threads; t++) leave(w);
      break;
    }
  }
  take_parts(w);
  while (atomic_load(&w->done) < parts) relax();
  leave(w);
  return error;
}
