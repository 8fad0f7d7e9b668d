/* What XLA hands to a custom call: its buffers and attributes, and how to answer.

Leading axes of any operand may be missing or 1: `vmap` adds them, and they broadcast. */

#pragma once

#include <stddef.h>
#include <stdint.h>

#include "xla/ffi/api/c_api.h"

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

/* What a buffer must be: of one of some types, with at least so many axes. */
typedef struct {
  uint64_t types; /* a bit for each `XLA_FFI_DataType` */
  int64_t axes;
} expected;

#define TYPE(name) (1ull << XLA_FFI_DataType_##name)

static int is_as(const XLA_FFI_Buffer* b, expected wanted) {
  return (wanted.types >> b->dtype & 1) && b->rank >= wanted.axes;
}

/* Refuse a call whose first operands or results are not as expected, so that a wrong one
   is an error and not a stray read. There may be more; lists end with {0}. */
static XLA_FFI_Error* expect(const XLA_FFI_CallFrame* frame, const char* message,
                             const expected* operands, const expected* results) {
  int64_t count = 0;
  for (; operands[count].types; count++)
    if (count >= frame->args.size || !is_as(operand(frame, count), operands[count]))
      return refuse(frame, message);
  for (count = 0; results[count].types; count++)
    if (count >= frame->rets.size || !is_as(result(frame, count), results[count]))
      return refuse(frame, message);
  return NULL;
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

static int64_t whole_attribute(const XLA_FFI_CallFrame* frame, int64_t index) {
  return *(const int64_t*)((const XLA_FFI_Scalar*)frame->attrs.attrs[index])->value;
}

static float attribute(const XLA_FFI_CallFrame* frame, int64_t index) {
  return *(const float*)((const XLA_FFI_Scalar*)frame->attrs.attrs[index])->value;
}
