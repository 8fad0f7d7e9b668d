/* What XLA calls: the buffers of a custom call, told apart and handed to the kernels. */

#include <stdint.h>

#include "attention.h"
#include "blocked_attention.h"
#include "draws.h"
#include "frame.h"
#include "multiply.h"
#include "work.h"

/* ---- attention ---- */

enum { QUERIES_MIN = 8 }; /* fewer attend alone: keys are not laid out anew for them */

typedef struct {
  const XLA_FFI_Buffer *queries, *keys, *values, *positions, *layers, *out;
  int64_t window;
  int64_t tokens, at_once; /* of a row; those that attend together, 1 is alone */
} attention_task;

/* Where the key head `kv` that a token reads begins. */
static const char* head_at(const attention_task* task, const XLA_FFI_Buffer* kept,
                           int64_t token, int64_t kv) {
  const int64_t layers = axis(kept, 4), bytes = kept->dtype == XLA_FFI_DataType_F32 ? 4 : 2;
  const int32_t asked = *(const int32_t*)address(task->layers, 0, task->out, 2, token, 4);
  const int64_t layer = asked < 0 ? 0 : asked < layers ? asked : layers - 1;
  const int64_t head = (layer * axis(kept, 3) + kv) * product_of_last(kept, 2);
  return (const char*)kept->data + (item_of(kept, 4, task->out, 2, token) + head) * bytes;
}

/* The columns that a token sees. */
static part columns_of(const attention_task* task, int64_t token) {
  const int64_t at = *(const int32_t*)address(task->positions, 0, task->out, 2, token, 4);
  const int64_t columns = axis(task->keys, 2), window = task->window;
  return (part){window > 0 && at >= window ? at + 1 - window : 0,
                at < columns ? at + 1 : columns};
}

static float* result_of(const attention_task* task, int64_t token) {
  return (float*)task->out->data + token * product_of_last(task->out, 2);
}

static int are_wide(const attention_task* task) {
  return task->keys->dtype == XLA_FFI_DataType_F32;
}

/* A part is one key head of one token. */
static void tokens_alone(void* data, int64_t from, int64_t to) {
  const attention_task* task = data;
  const int64_t kv_heads = axis(task->keys, 3);
  for (int64_t part_at = from; part_at < to; part_at++) {
    const int64_t token = part_at / kv_heads, kv = part_at % kv_heads;
    const int64_t next = part_at + 1 < to ? part_at + 1 : part_at;
    const part seen = columns_of(task, token);
    const attention a = {
        .queries = address(task->queries, 2, task->out, 2, token, 4),
        .keys = head_at(task, task->keys, token, kv),
        .values = head_at(task, task->values, token, kv),
        .next_keys = head_at(task, task->keys, next / kv_heads, next % kv_heads),
        .next_values = head_at(task, task->values, next / kv_heads, next % kv_heads),
        .out = result_of(task, token),
        .heads = axis(task->out, 2),
        .kv_heads = kv_heads,
        .size = axis(task->out, 1),
        .from = seen.from,
        .to = seen.to};
    attend(&a, kv, are_wide(task));
  }
}

/* A part is one key head of some tokens of a row. */
static void tokens_together(void* data, int64_t from, int64_t to) {
  const attention_task* task = data;
  const int64_t kv_heads = axis(task->keys, 3), group = axis(task->out, 2) / kv_heads;
  const int64_t blocks = (task->tokens + task->at_once - 1) / task->at_once;
  workspace* w = new_workspace(axis(task->out, 1));
  for (int64_t at = from; at < to; at++) {
    const int64_t row = at / (blocks * kv_heads), kv = at / blocks % kv_heads;
    const int64_t first = at % blocks * task->at_once, left = task->tokens - first;
    const int64_t token = row * task->tokens + first;
    int64_t begins[QUERIES_MAX], ends[QUERIES_MAX];
    if (w == NULL) { /* no memory */
      for (int64_t s = 0; s < task->at_once && s < left; s++) {
        const int64_t part_alone = (token + s) * kv_heads + kv;
        tokens_alone(data, part_alone, part_alone + 1);
      }
      continue;
    }
    const query_block b = {
        .queries = address(task->queries, 2, task->out, 2, token, 4),
        .keys = head_at(task, task->keys, token, kv),
        .values = head_at(task, task->values, token, kv),
        .out = result_of(task, token),
        .tokens = left < task->at_once ? left : task->at_once,
        .heads = axis(task->out, 2),
        .first_head = kv * group,
        .group = group,
        .size = axis(task->out, 1),
        .from = begins,
        .to = ends};
    for (int64_t s = 0; s < b.tokens; s++) {
      const part seen = columns_of(task, token + s);
      begins[s] = seen.from, ends[s] = seen.to;
    }
    attend_block(&b, w, are_wide(task));
  }
  free(w);
}

/* How many of a row's tokens attend together: as many as share what is laid out, but so
   few that each thread has several parts; 1 if not even so many are worth it, or where
   they are not known to read the same keys. */
static int64_t tokens_at_once(const XLA_FFI_CallFrame* frame, const attention_task* task) {
  const int64_t group = axis(task->out, 2) / axis(task->keys, 3), rank = task->keys->rank;
  const int is_same = (rank < 5 || task->keys->dims[rank - 5] == 1) &&
                      (task->values->rank < 5 || axis(task->values, 5) == 1) &&
                      (task->layers->rank == 0 || axis(task->layers, 1) == 1) &&
                      (task->queries->rank < 3 || axis(task->queries, 3) == task->tokens);
  if (!is_same || task->tokens * group < QUERIES_MIN || group > QUERIES_MAX) return 1;
  const int64_t parts = 4 * threads_of(frame);
  const int64_t all = items_in(task->out, 2) * axis(task->keys, 3);
  int64_t tokens = (all + parts - 1) / parts, fewest = PASS / group;
  if (tokens < fewest) tokens = fewest;
  if (tokens > QUERIES_MAX / group) tokens = QUERIES_MAX / group;
  return tokens < 1 ? 1 : tokens;
}

/* (queries float32 [.., H, D], keys and values [.., L, K, T, D] float32 or uint16,
   positions int32 [..], layers int32 [..]) -> float32 [.., H, D]; an item is one token,
   which reads one of the L layers. Tokens along the last of their axes may attend together.
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
  const int64_t items = items_in(task.out, 2), kv_heads = axis(task.keys, 3);
  task.tokens = task.out->rank < 3 ? 1 : axis(task.out, 3);
  task.at_once = tokens_at_once(frame, &task);
  if (task.at_once == 1) return share(frame, tokens_alone, &task, items * kv_heads);
  const int64_t blocks = (task.tokens + task.at_once - 1) / task.at_once;
  return share(frame, tokens_together, &task, items / task.tokens * blocks * kv_heads);
}
