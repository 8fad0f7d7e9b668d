/* What XLA calls: the buffers of a custom call, told apart and handed to the kernels. */

#include <stdint.h>

#include "attention.h"
#include "draws.h"
#include "frame.h"
#include "multiply.h"
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
