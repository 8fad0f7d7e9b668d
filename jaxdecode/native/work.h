/* Dividing work among the threads of the pool that runs the program.

Each thread has a stretch of neighbouring parts, for what one part reads often lies before
what the next one reads. Who has done his own takes from the stretches of the others. The
caller works too, and waits only for parts that somebody has begun: when every other
thread is busy it does the whole work itself. */

#pragma once

#include <stdatomic.h>
#include <stdlib.h>

#include "simd.h"

#include "xla/ffi/api/c_api.h"

/* Does the parts `from` to `to` of the work that `task` describes. */
typedef void work_function(void* task, int64_t from, int64_t to);

typedef struct {
  _Alignas(64) atomic_llong next; /* a line of its own for each thread */
  int64_t end;
} stretch;

typedef struct {
  work_function* function;
  void* task; /* alive until every part is done */
  int64_t parts;
} job;

enum { JOBS_MAX = 2 };

typedef struct {
  job jobs[JOBS_MAX]; /* one after the other: none begins before the last one is done */
  int64_t count, threads;
  atomic_llong done[JOBS_MAX];
  atomic_int came, users; /* threads that have begun, that may still look at this */
  stretch of[];           /* [count, threads] */
} work;

/* Takes some of what is left of a stretch, fewer towards its end, so that nobody waits
   long for the last ones. Returns how many. */
static int64_t take(stretch* s, int64_t* from) {
  long long at = atomic_load(&s->next);
  while (at < s->end) {
    const int64_t some = 1 + (s->end - at) / 4;
    if (atomic_compare_exchange_weak(&s->next, &at, at + some)) {
      *from = at;
      return some;
    }
  }
  return 0;
}

static void finish(work* w, int64_t j) {
  while (atomic_load(&w->done[j]) < w->jobs[j].parts) relax();
}

static void take_parts(work* w) {
  const int64_t own = atomic_fetch_add(&w->came, 1);
  for (int64_t j = 0; j < w->count; j++) {
    const job* now = &w->jobs[j];
    int64_t from, some;
    if (j > 0) finish(w, j - 1);
    for (int64_t t = 0; t < w->threads; t++)
      while ((some = take(&w->of[j * w->threads + (own + t) % w->threads], &from)) > 0) {
        now->function(now->task, from, from + some);
        atomic_fetch_add(&w->done[j], some);
      }
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

static work* new_work(const job* jobs, int64_t count, int64_t threads) {
  const size_t bytes = sizeof(work) + (size_t)(count * threads) * sizeof(stretch);
  work* w = aligned_alloc(_Alignof(work), bytes);
  if (w == NULL) return NULL;
  w->count = count;
  w->threads = threads;
  atomic_init(&w->came, 0);
  atomic_init(&w->users, (int)threads);
  for (int64_t j = 0; j < count; j++) {
    w->jobs[j] = jobs[j];
    atomic_init(&w->done[j], 0);
    for (int64_t t = 0; t < threads; t++) {
      stretch* s = &w->of[j * threads + t];
      atomic_init(&s->next, t * jobs[j].parts / threads);
      s->end = (t + 1) * jobs[j].parts / threads;
    }
  }
  return w;
}

/* Does `count` jobs, at most JOBS_MAX, one after the other. */
static XLA_FFI_Error* share_all(const XLA_FFI_CallFrame* frame, const job* jobs,
                                int64_t count) {
  int64_t threads = threads_of(frame), most = 1;
  for (int64_t j = 0; j < count; j++) most = jobs[j].parts > most ? jobs[j].parts : most;
  if (threads > most) threads = most;
  work* w = threads > 1 ? new_work(jobs, count, threads) : NULL;
  if (w == NULL) {
    for (int64_t j = 0; j < count; j++) jobs[j].function(jobs[j].task, 0, jobs[j].parts);
    return NULL;
  }
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
  finish(w, count - 1);
  leave(w);
  return error;
}

static XLA_FFI_Error* share(const XLA_FFI_CallFrame* frame, work_function* function,
                            void* task, int64_t parts) {
  return share_all(frame, (const job[]){{function, task, parts}}, 1);
}
