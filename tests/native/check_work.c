/* Shares jobs among threads of a pool that is late, short of threads or refuses some.

Each part of the second job looks whether all of the first are done, and each part says
that it was done. Ends with status 0 if every part was done once, in order. */

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "work.h"

enum { PARTS_MAX = 1000, POOL_MAX = 8 };

typedef struct {
  atomic_int first[PARTS_MAX], second[PARTS_MAX], done, early;
  int64_t parts; /* of the first job */
} record;

static void do_first(void* task, int64_t from, int64_t to) {
  record* r = task;
  for (int64_t i = from; i < to; i++) {
    if (i % 7 == 0) usleep(20); /* some take longer, so that others are waited for */
    atomic_fetch_add(&r->first[i], 1);
    atomic_fetch_add(&r->done, 1);
  }
}

static void do_second(void* task, int64_t from, int64_t to) {
  record* r = task;
  for (int64_t i = from; i < to; i++) {
    if (atomic_load(&r->done) != r->parts) atomic_store(&r->early, 1);
    atomic_fetch_add(&r->second[i], 1);
  }
}

static int64_t pool, refused_from; /* as many threads are promised; scheduling fails later */
static pthread_t started[POOL_MAX];
static int64_t running;

static XLA_FFI_Error* promise(XLA_FFI_ThreadPool_NumThreads_Args* ask) {
  *ask->num_threads = pool;
  return NULL;
}

typedef struct {
  XLA_FFI_Task* task;
  void* data;
  int delay;
} call;

static void* begin(void* given) {
  const call c = *(call*)given;
  free(given);
  usleep((unsigned)c.delay);
  c.task(c.data);
  return NULL;
}

static XLA_FFI_Error* schedule(XLA_FFI_ThreadPool_Schedule_Args* ask) {
  static int refusal;
  if (running >= refused_from) return (XLA_FFI_Error*)&refusal;
  call* c = malloc(sizeof(call));
  *c = (call){ask->task, ask->data, (int)(running * 150)};
  pthread_create(&started[running++], NULL, begin, c);
  return NULL;
}

static int is_right(int64_t parts, int64_t more) {
  XLA_FFI_Api api = {.XLA_FFI_ThreadPool_NumThreads = promise,
                     .XLA_FFI_ThreadPool_Schedule = schedule};
  const XLA_FFI_CallFrame frame = {.api = &api};
  record* r = calloc(1, sizeof(record));
  r->parts = parts;
  running = 0;
  const job jobs[] = {{do_first, r, parts}, {do_second, r, more}};
  share_all(&frame, jobs, 2);
  int right = !atomic_load(&r->early); /* before any thread is waited for */
  for (int64_t i = 0; i < PARTS_MAX; i++) {
    right &= atomic_load(&r->first[i]) == (i < parts);
    right &= atomic_load(&r->second[i]) == (i < more);
  }
  for (int64_t t = 0; t < running; t++) pthread_join(started[t], NULL);
  free(r);
  return right;
}

int main(void) {
  static const int64_t sizes[] = {1, 2, 3, 17, 64, 999};
  for (pool = 1; pool <= POOL_MAX; pool++)
    for (refused_from = 0; refused_from < pool; refused_from += 3)
      for (int i = 0; i < 36; i++)
        if (!is_right(sizes[i % 6], sizes[i / 6])) {
          printf("wrong: %d threads, refused from %d, case %d\n", (int)pool,
                 (int)refused_from, i);
          return 1;
        }
  printf("work\n");
  return 0;
}
