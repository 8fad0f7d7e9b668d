/* What XLA calls: the buffers of a custom call, told apart and handed to the kernels.

Leading axes of any operand may be missing or 1: `vmap` adds them, and they broadcast. */

#include <stddef.h>
#include <stdint.h>

#include "attention.h"
#include "product.h"
#include "work.h"

static const XLA_FFI_Buffer* operand(const XLA_FFI_CallFrame* frame, int64_t index) {
  return frame->args.args[index];
}

static const XLA_FFI_Buffer* result(const XLA_FFI_CallFrame* frame, int64_t index) {
  return frame->rets.rets[index];
}

static int64_t axis(const XLA_FFI_Buffer* b, int64_t from_the_end) {
  return b->dims[b->rank - from_the_end];
}

static int64_t product_of_last(const XLA_FFI_Buffer* b, int64_t axes) {
  int64_t count = 1;
  for (int64_t i = b->rank - axes; i < b->rank; i++) count *= b->dims[i];
  return count;
}

/* How many items, each of the last `axes` axes, a buffer holds. */
static int64_t items_in(const XLA_FFI_Buffer* b, int64_t axes) {
  int64_t count = 1;
  for (int64_t i = 0; i < b->rank - axes; i++) count *= b->dims[i];
  return count;
}

/* Where in `b` the item lies that belongs to item `index` of `out`, in elements. */
static int64_t item_of(const XLA_FFI_Buffer* b, int64_t axes, const XLA_FFI_Buffer* out,
                       int64_t out_axes, int64_t index) {
  int64_t at = 0, stride = product_of_last(b, axes);
  for (int64_t i = out->rank - out_axes - 1, j = b->rank - axes - 1; j >= 0; i--, j--) {
    if (b->dims[j] > 1) at += index % out->dims[i] * stride;
    stride *= b->dims[j];
    index /= out->dims[i];
  }
  return at;
}

static XLA_FFI_Error* refuse(const XLA_FFI_CallFrame* frame, const char* message) {
  XLA_FFI_Error_Create_Args ask = {
      .struct_size = XLA_FFI_Error_Create_Args_STRUCT_SIZE,
      .message = message,
      .errc = XLA_FFI_Error_Code_INVALID_ARGUMENT};
  return frame->api->XLA_FFI_Error_Create(&ask);
}

/* Whether XLA only asks which interface this was compiled for, which is then told. */
static int is_question(const XLA_FFI_CallFrame* frame) {
  XLA_FFI_Extension_Base* asked = frame->extension_start;
  if (asked != NULL && asked->type == XLA_FFI_Extension_Metadata) {
    XLA_FFI_Metadata* to = ((XLA_FFI_Metadata_Extension*)asked)->metadata;
    to->api_version.major_version = XLA_FFI_API_MAJOR;
    to->api_version.minor_version = XLA_FFI_API_MINOR;
    return 1;
  }
  return frame->stage != XLA_FFI_ExecutionStage_EXECUTE;
}

static const void* address(const XLA_FFI_Buffer* b, int64_t axes,
                           const XLA_FFI_Buffer* out, int64_t out_axes, int64_t index,
                           int bytes) {
  return (const char*)b->data + item_of(b, axes, out, out_axes, index) * bytes;
}

/* ---- products ---- */

enum { ROWS_AT_ONCE = 128, MATRICES_MAX = 4 };

typedef struct {
  product of[MATRICES_MAX];
  int64_t panels[MATRICES_MAX], matrices, blocks;
  void (*strip)(const product*, int64_t, int64_t, int64_t);
} product_task;

/* A part is one panel of one matrix, times a block of rows. */
static void product_parts(const void* data, int64_t from, int64_t to) {
  const product_task* task = data;
  for (int64_t part = from; part < to; part++) {
    int64_t panel = part / task->blocks, m = 0;
    while (panel >= task->panels[m]) panel -= task->panels[m++];
    const product* p = &task->of[m];
    const int64_t first = part % task->blocks * ROWS_AT_ONCE, left = p->count - first;
    task->strip(p, panel, first, first + (left < ROWS_AT_ONCE ? left : ROWS_AT_ONCE));
  }
}

/* Rounds the rows of a product to `digits`; returns their scales, which stand behind. */
static const float* round_rows(const product* p, int64_t inputs, int16_t* digits) {
  float* scales = (float*)(digits + 2 * p->count * p->steps);
  const float* rows = (const float*)p->rows;
  for (int64_t r = 0; r < p->count; r++)
    scales[r] = round_row(rows + r * inputs, inputs, p->steps, digits + 2 * r * p->steps);
  return scales;
}

static XLA_FFI_Error* multiply_item(const XLA_FFI_CallFrame* frame, int64_t item,
                                    int16_t* digits) {
  const XLA_FFI_Buffer* rows = operand(frame, 0);
  const XLA_FFI_DataType type = operand(frame, 1)->dtype;
  const int scaled = type == XLA_FFI_DataType_U16;
  product_task task = {.matrices = frame->rets.size,
                       .strip = type == XLA_FFI_DataType_F32   ? strip_float32
                                : type == XLA_FFI_DataType_U32 ? strip_bfloat16
                                                               : strip_int8};
  int64_t panels = 0;
  for (int64_t m = 0; m < task.matrices; m++) {
    const XLA_FFI_Buffer *matrix = operand(frame, 1 + m), *out = result(frame, m);
    product* p = &task.of[m];
    p->count = axis(out, 2);
    p->outputs = axis(out, 1);
    p->steps = axis(matrix, 2);
    p->panels = address(matrix, 3, out, 2, item, scaled ? 2 : 4);
    p->out = (float*)out->data + item * p->count * p->outputs;
    p->rows = address(rows, 2, out, 2, item, type == XLA_FFI_DataType_U32 ? 2 : 4);
    if (scaled) {
      p->scale = address(operand(frame, 1 + task.matrices + m), 1, out, 2, item, 4);
      p->row_scale = m > 0 ? task.of[0].row_scale
                           : round_rows(p, axis(rows, 1), digits);
      p->rows = (const uint32_t*)digits;
    }
    panels += task.panels[m] = axis(matrix, 3);
  }
  task.blocks = (task.of[0].count + ROWS_AT_ONCE - 1) / ROWS_AT_ONCE;
  return share(frame, product_parts, &task, panels * task.blocks);
}

/* (rows [.., M, I], N matrices in panels [.., P, steps, 32][, N scales [.., O]])
   -> N times float32 [.., M, O]. Rows are bfloat16 for panels of uint32, else float32;
   panels of uint16 (int8), which alone have scales, round them. */
XLA_FFI_Error* jaxdecode_product(XLA_FFI_CallFrame* frame) {
  if (is_question(frame)) return NULL;
  if (frame->rets.size > MATRICES_MAX)
    return refuse(frame, "jaxdecode_product: too many matrices");
  const XLA_FFI_Buffer *matrix = operand(frame, 1), *out = result(frame, 0);
  int16_t* digits = NULL;
  if (matrix->dtype == XLA_FFI_DataType_U16) {
    /* The digits of all rows, then a scale for each. */
    digits = malloc((size_t)axis(out, 2) * (axis(matrix, 2) + 1) * 4 + 1);
    if (digits == NULL) return refuse(frame, "jaxdecode_product: no memory for rows");
  }
  XLA_FFI_Error* error = NULL;
  const int64_t items = items_in(out, 2);
  for (int64_t item = 0; item < items && error == NULL; item++)
    error = multiply_item(frame, item, digits);
  free(digits);
  return error;
}

/* ---- attention ---- */

typedef struct {
  const XLA_FFI_Buffer *queries, *keys, *values, *positions, *out;
  int64_t window;
  atomic_int out_of_memory;
} attention_task;

/* A part is one key head of one row. */
static void attention_parts(const void* data, int64_t from, int64_t to) {
  attention_task* task = (attention_task*)data;
  const int64_t kv_heads = axis(task->keys, 3);
  const int wide = task->keys->dtype == XLA_FFI_DataType_F32, bytes = wide ? 4 : 2;
  for (int64_t part = from; part < to; part++) {
    const int64_t row = part / kv_heads, columns = axis(task->keys, 2);
    const int64_t at = *(const int32_t*)address(task->positions, 0, task->out, 2, row, 4);
    const attention a = {
        .queries = address(task->queries, 2, task->out, 2, row, 4),
        .keys = address(task->keys, 3, task->out, 2, row, bytes),
        .values = address(task->values, 3, task->out, 2, row, bytes),
        .out = (float*)task->out->data + row * product_of_last(task->out, 2),
        .heads = axis(task->out, 2),
        .kv_heads = kv_heads,
        .columns = columns,
        .size = axis(task->out, 1),
        .from = task->window > 0 && at >= task->window ? at + 1 - task->window : 0,
        .to = at < columns ? at + 1 : columns};
    if (!attend(&a, part % kv_heads, wide)) atomic_store(&task->out_of_memory, 1);
  }
}

/* (queries float32 [.., B, H, D], keys and values [.., B, K, T, D] float32 or uint16,
   positions int32 [.., B], window int32 [] or 0) -> float32 [.., B, H, D]. */
XLA_FFI_Error* jaxdecode_attend(XLA_FFI_CallFrame* frame) {
  if (is_question(frame)) return NULL;
  const XLA_FFI_Scalar* window = frame->attrs.attrs[0];
  attention_task task = {.queries = operand(frame, 0), .keys = operand(frame, 1),
                         .values = operand(frame, 2), .positions = operand(frame, 3),
                         .out = result(frame, 0),
                         .window = *(const int64_t*)window->value};
  atomic_init(&task.out_of_memory, 0);
  const int64_t parts = items_in(task.out, 2) * axis(task.keys, 3);
  XLA_FFI_Error* error = share(frame, attention_parts, &task, parts);
  if (error == NULL && atomic_load(&task.out_of_memory))
    return refuse(frame, "jaxdecode_attend: no memory for the scores");
  return error;
}
