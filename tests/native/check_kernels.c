/* Calls the kernels as XLA would, and compares with sums written out in float64.

Compiled together with them for a processor that runs no Python here. Ends with status 0
and one line per kernel that is right. */

#include <math.h>
#include <stdio.h>

#include "kernels.c"

enum { KINDS = 3, GROUPS = 3, HEADS = 2, SIZE = 64, COLUMNS = 150, LAYERS = 2 };

static XLA_FFI_Error* one_thread(XLA_FFI_ThreadPool_NumThreads_Args* ask) {
  *ask->num_threads = 1;
  return NULL;
}

static XLA_FFI_Error* complain(XLA_FFI_Error_Create_Args* ask) {
  printf("refused: %s\n", ask->message);
  exit(2);
}

/* An array of one type, with as many axes as are not 0. */
typedef struct {
  XLA_FFI_Buffer buffer;
  int64_t dims[6];
} array;

static array of(XLA_FFI_DataType type, void* data, const int64_t dims[6]) {
  array a = {.buffer = {.dtype = type, .data = data}};
  for (; a.buffer.rank < 6 && dims[a.buffer.rank] > 0; a.buffer.rank++)
    a.dims[a.buffer.rank] = dims[a.buffer.rank];
  return a;
}
#define ARRAY(type, data, ...) \
  of(XLA_FFI_DataType_##type, data, (const int64_t[6]){__VA_ARGS__})

static void call(XLA_FFI_Handler* kernel, array* operands, int64_t count, array* result,
                 int64_t results, XLA_FFI_DataType type, void* attribute, int64_t second) {
  XLA_FFI_Api api = {.XLA_FFI_Error_Create = complain,
                     .XLA_FFI_ThreadPool_NumThreads = one_thread};
  void *given[8], *returned[8];
  for (int64_t i = 0; i < count; i++) {
    operands[i].buffer.dims = operands[i].dims;
    given[i] = &operands[i].buffer;
  }
  for (int64_t i = 0; i < results; i++) {
    result[i].buffer.dims = result[i].dims;
    returned[i] = &result[i].buffer;
  }
  int64_t third = kernel == jaxdecode_product; /* is always given something to add to */
  XLA_FFI_Scalar scalar = {type, attribute}, other = {XLA_FFI_DataType_S64, &second};
  XLA_FFI_Scalar last = {XLA_FFI_DataType_S64, &third};
  void* attributes[3] = {&scalar, &other, &last};
  XLA_FFI_CallFrame frame = {.api = &api, .stage = XLA_FFI_ExecutionStage_EXECUTE};
  frame.args.size = count, frame.args.args = given;
  frame.rets.size = results, frame.rets.rets = returned;
  frame.attrs.size = 3, frame.attrs.attrs = attributes;
  kernel(&frame);
}

static uint32_t state = 1;
static float number(void) { /* in [-1, 1) */
  state = state * 1664525u + 1013904223u;
  return (float)(int32_t)state / 2147483648.0f;
}

static void* numbers(int64_t count) {
  float* made = malloc((size_t)count * 4);
  for (int64_t i = 0; i < count; i++) made[i] = number();
  return made;
}

static float of_bfloat16(uint32_t bits) {
  bits <<= 16;
  float value;
  memcpy(&value, &bits, 4);
  return value;
}

static void must_be_near(const char* what, double got, double wanted, double slack) {
  if (fabs(got - wanted) <= slack) return;
  printf("%s: %.9g, not %.9g\n", what, got, wanted);
  exit(1);
}

/* Element `o`, `i` of a matrix in panels of `steps` steps. */
static double element(const void* panels, int64_t steps, int64_t o, int64_t i, kind k) {
  const int64_t line = o / PANEL * steps;
  if (k == FLOAT32) return ((const float*)panels)[(line + i) * PANEL + o % PANEL];
  const int64_t at = ((line + i / 2) * PANEL + o % PANEL) * 2 + i % 2;
  if (k == BFLOAT16) return of_bfloat16(((const uint16_t*)panels)[at]);
  return ((const int8_t*)panels)[at];
}

/* What a gate makes of a number and its factor. */
static float after_gate(float value, float factor, gate g) {
  const double x = value, bent = g == SILU ? x : 1.5957691216 * (x + 0.044715 * x * x * x);
  return g == NO_GATE ? value : (float)(x / (1 + exp(-bent)) * factor);
}

static void check_product(kind k, int64_t count, int64_t outputs, int64_t inputs, gate g) {
  static const XLA_FFI_DataType types[KINDS] = {
      XLA_FFI_DataType_F32, XLA_FFI_DataType_U32, XLA_FFI_DataType_U16};
  const int64_t panels = (outputs + PANEL - 1) / PANEL;
  const int64_t steps = k == FLOAT32 ? inputs : (inputs + 1) / 2;
  float *rows = numbers(count * inputs), *words = numbers(panels * steps * PANEL);
  float *scale = numbers(outputs), *out = numbers(count * outputs);
  float *factors = numbers(count * inputs), *onto = numbers(count * outputs);
  for (int64_t i = 0; k == BFLOAT16 && i < 2 * panels * steps * PANEL; i++)
    ((uint16_t*)words)[i] = (uint16_t)bfloat16_of(number());
  for (int64_t i = 0; k == INT8 && i < 2 * panels * steps * PANEL; i++)
    ((int8_t*)words)[i] = (int8_t)(127 * number());
  int32_t chosen = 0;
  float eps = -1.0f;
  array operands[6] = {ARRAY(F32, rows, count, inputs), ARRAY(S32, &chosen, 0),
                       of(types[k], words, (const int64_t[6]){panels, steps, PANEL})};
  int64_t given = 3;
  if (k == INT8) operands[given++] = ARRAY(F32, scale, outputs);
  if (g != NO_GATE) operands[given++] = ARRAY(F32, factors, count, inputs);
  operands[given++] = ARRAY(F32, onto, count, outputs);
  array result = ARRAY(F32, out, count, outputs);
  call(jaxdecode_product, operands, given, &result, 1, XLA_FFI_DataType_F32, &eps, g);
  for (int64_t r = 0; r < count; r++)
    for (int64_t o = 0; o < outputs; o++) {
      double sum = 0, size = 0, by = k == INT8 ? scale[o] : 1;
      for (int64_t i = 0; i < inputs; i++) {
        float value = after_gate(rows[r * inputs + i], factors[r * inputs + i], g);
        if (k == BFLOAT16) value = of_bfloat16(bfloat16_of(value));
        const double term = value * element(words, steps, o, i, k) * by;
        sum += term, size += fabs(term);
      }
      const double own = k == FLOAT32 ? 2e-6 : k == BFLOAT16 ? 1e-3 : 2.0 / INT14_MAX;
      const double slack = size * (g == NO_GATE && k != INT8 ? 1e-6 : own) + 1e-6;
      must_be_near("product", out[r * outputs + o], sum + onto[r * outputs + o], slack);
    }
  free(rows), free(words), free(scale), free(out), free(factors), free(onto);
}

/* Tokens of one row, the last one at `position`. */
static void check_attention(int wide, int32_t position, int64_t tokens) {
  const int64_t heads = HEADS * GROUPS, kept = LAYERS * HEADS * COLUMNS * SIZE;
  const int64_t all = tokens * heads;
  float *q = numbers(all * SIZE), *keys = numbers(kept), *values = numbers(kept);
  float* out = numbers(all * SIZE);
  uint16_t *short_keys = malloc(2 * kept), *short_values = malloc(2 * kept);
  for (int64_t i = 0; !wide && i < kept; i++) {
    keys[i] = of_bfloat16(short_keys[i] = (uint16_t)bfloat16_of(keys[i]));
    values[i] = of_bfloat16(short_values[i] = (uint16_t)bfloat16_of(values[i]));
  }
  int32_t layer = 1, positions[COLUMNS];
  for (int64_t s = 0; s < tokens; s++) positions[s] = position - (int32_t)(tokens - 1 - s);
  const XLA_FFI_DataType type = wide ? XLA_FFI_DataType_F32 : XLA_FFI_DataType_U16;
  const int64_t dims[6] = {1, LAYERS, HEADS, COLUMNS, SIZE};
  int64_t window = 0;
  array operands[5] = {ARRAY(F32, q, tokens, heads, SIZE),
                       of(type, wide ? (void*)keys : short_keys, dims),
                       of(type, wide ? (void*)values : short_values, dims),
                       ARRAY(S32, positions, tokens), ARRAY(S32, &layer, 0)};
  array result = ARRAY(F32, out, tokens, heads, SIZE);
  call(jaxdecode_attend, operands, 5, &result, 1, XLA_FFI_DataType_S64, &window, 0);
  for (int64_t h = 0; h < all; h++) {
    const int64_t from = (layer * HEADS + h % heads / GROUPS) * COLUMNS * SIZE;
    double weights[COLUMNS], sum = 0;
    for (int64_t t = 0; t <= positions[h / heads]; t++) {
      double score = 0;
      for (int64_t i = 0; i < SIZE; i++)
        score += (double)q[h * SIZE + i] * keys[from + t * SIZE + i];
      sum += weights[t] = exp(score);
    }
    for (int64_t i = 0; i < SIZE; i++) {
      double mixed = 0;
      for (int64_t t = 0; t <= positions[h / heads]; t++)
        mixed += weights[t] * values[from + t * SIZE + i];
      must_be_near("attention", out[h * SIZE + i], mixed / sum, 2e-6);
    }
  }
  free(q), free(keys), free(values), free(out), free(short_keys), free(short_values);
}

enum { ENTRIES = 200, CHUNK = 64, CHUNKS = 4, PUT = 3, FOUND = 5 };

static double weight(const float* row, double best) {
  double sum = 0;
  for (int64_t i = 0; i < ENTRIES; i++) sum += exp(row[i] - best);
  return log(sum);
}

static float largest_of(const float* row, int64_t count) {
  float most = -INFINITY;
  for (int64_t i = 0; i < count; i++) most = fmaxf(most, row[i]);
  return most;
}

static void must_be_of(const float* row, const float* maxima, float log_z) {
  for (int64_t c = 0; c < CHUNKS; c++) {
    const int64_t left = ENTRIES - c * CHUNK;
    const float most = largest_of(row + c * CHUNK, left < CHUNK ? left : CHUNK);
    must_be_near("survey", maxima[c], most, 0);
  }
  must_be_near("survey", log_z, weight(row, largest_of(row, ENTRIES)), 2e-6);
}

static void check_survey(void) {
  float *row = numbers(ENTRIES), *old = malloc(4 * ENTRIES), maxima[CHUNKS], log_z;
  float values[PUT] = {3.0f, -INFINITY, -1.0f}, best, before;
  int32_t ids[PUT] = {199, 7, ENTRIES};
  int64_t chunk = CHUNK;
  array operands[3] = {ARRAY(F32, row, ENTRIES), ARRAY(S32, ids, PUT),
                       ARRAY(F32, values, PUT)};
  array survey[2] = {ARRAY(F32, maxima, CHUNKS), ARRAY(F32, &log_z, 0)};
  call(jaxdecode_survey, operands, 1, survey, 2, XLA_FFI_DataType_S64, &chunk, 0);
  must_be_of(row, maxima, log_z);
  memcpy(old, row, 4 * ENTRIES);
  array put[5] = {ARRAY(F32, row, ENTRIES), ARRAY(F32, &best, 0), ARRAY(F32, &before, 0),
                  survey[0], survey[1]};
  call(jaxdecode_put, operands, 3, put, 5, XLA_FFI_DataType_S64, &chunk, 0);
  must_be_near("put", best, largest_of(old, ENTRIES), 0);
  must_be_near("put", before, weight(old, best), 2e-6);
  old[199] = 3.0f, old[7] = -INFINITY;
  if (memcmp(old, row, 4 * ENTRIES)) must_be_near("put", 1, 0, 0);
  must_be_of(row, maxima, log_z);
  free(row), free(old);
}

static void check_best(void) {
  float *row = numbers(ENTRIES), maxima[CHUNKS];
  int32_t out[FOUND];
  int64_t chunk = CHUNK;
  for (int64_t c = 0; c < CHUNKS; c++)
    maxima[c] = largest_of(row + c * CHUNK, c < CHUNKS - 1 ? CHUNK : ENTRIES % CHUNK);
  array operands[2] = {ARRAY(F32, row, ENTRIES), ARRAY(F32, maxima, CHUNKS)};
  array result = ARRAY(S32, out, FOUND);
  call(jaxdecode_best, operands, 2, &result, 1, XLA_FFI_DataType_S64, &chunk, 0);
  for (int64_t i = 0; i < FOUND; i++) {
    must_be_near("best", row[out[i]], largest_of(row, ENTRIES), 0);
    row[out[i]] = -2.0f;
  }
  free(row);
}

static void check_search(void) {
  float *row = numbers(ENTRIES), maxima[CHUNKS], reached = -INFINITY, log_z;
  uint32_t key[2] = {17, 42};
  int32_t ids[FOUND], start = 0, next;
  uint32_t bits[FOUND], again[FOUND];
  int64_t chunk = CHUNK;
  array survey[2] = {ARRAY(F32, maxima, CHUNKS), ARRAY(F32, &log_z, 0)};
  array operands[5] = {ARRAY(F32, row, ENTRIES), survey[0], ARRAY(U32, key, 2),
                       ARRAY(S32, &start, 0), ARRAY(F32, &reached, 0)};
  call(jaxdecode_survey, operands, 1, survey, 2, XLA_FFI_DataType_S64, &chunk, 0);
  array results[3] = {ARRAY(S32, ids, FOUND), ARRAY(U32, bits, FOUND),
                      ARRAY(S32, &next, 0)};
  call(jaxdecode_search, operands, 5, results, 3, XLA_FFI_DataType_S64, &chunk, 0);
  array hashed[2] = {operands[2], results[0]}, hashes = ARRAY(U32, again, FOUND);
  call(jaxdecode_hash, hashed, 2, &hashes, 1, XLA_FFI_DataType_S64, &chunk, 0);
  must_be_near("hash", again[0], bits[0], 0);
  int64_t wanted = 0;
  double most = -INFINITY;
  for (uint32_t i = 0; i < ENTRIES; i++) {
    const counters hash = threefry(key[0], key[1], (counters){0} + i);
    const double u = (hash[0] >> 9) / 8388608.0;
    const double score = row[i] - log(-log(u > 0 ? u : 1e-38));
    if (score > most) most = score, wanted = i;
  }
  must_be_near("search", ids[0], wanted, 0);
  must_be_near("search", ids[1], ENTRIES, 0);
  must_be_near("search", next, ENTRIES, 0);
  free(row);
}

int main(void) {
  static const int64_t counts[] = {1, 2, 3, 5, 6, 7, 13, 131};
  for (kind k = FLOAT32; k <= INT8; k++)
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
      for (gate g = NO_GATE; g <= GELU_TANH; g++) check_product(k, counts[i], 37, 331, g);
  check_product(INT8, 3, 5, 2311, NO_GATE);
  printf("product\n");
  for (int wide = 0; wide < 2; wide++)
    for (int32_t position = 0; position < COLUMNS; position += 37) {
      check_attention(wide, position, 1);
      check_attention(wide, position, position + 1);
    }
  printf("attention\n");
  check_survey();
  printf("survey\n");
  check_best();
  printf("best\n");
  check_search();
  printf("search\n");
  return 0;
}
