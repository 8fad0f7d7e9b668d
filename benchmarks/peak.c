/* As many multiply-adds as an instruction set can do: nothing is read, nothing waits. */

#include "tile.h"

#define TWELVE(at) \
  at(0) at(1) at(2) at(3) at(4) at(5) at(6) at(7) at(8) at(9) at(10) at(11)

/* The compiler may neither leave these out nor put them into memory. */
#if defined(__aarch64__)
#define HIDDEN(register) __asm__ volatile("" : "+w"(register))
#elif LANES == 16
#define HIDDEN(register) __asm__ volatile("" : "+v"(register))
#else
#define HIDDEN(register) __asm__ volatile("" : "+x"(register))
#endif

INLINE void spend(kind k, int64_t rounds) {
  words factor = zero();
#define SUM(i) words sum##i = zero();
#define ADD(i)                               \
  HIDDEN(factor);                            \
  sum##i = times(factor, factor, sum##i, k); \
  HIDDEN(sum##i);
  TWELVE(SUM)
  for (; rounds > 0; rounds--) {
    TWELVE(ADD)
  }
}

/* Does `rounds` times what `operations` says. */
void arithmetic(int k, int64_t rounds) {
  switch (k) {
    case FLOAT32: spend(FLOAT32, rounds); break;
    case BFLOAT16: spend(BFLOAT16, rounds); break;
    default: spend(INT8, rounds);
  }
}

/* Multiplications and additions of a round, for one kind of number. */
int64_t operations(int k) {
  const int pairs = k == INT8 || (k == BFLOAT16 && words_of(BFLOAT16) == 1);
  return 12 * LANES * 2 * (pairs ? 2 : 1);
}
