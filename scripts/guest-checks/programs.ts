/** Sources of programs that run in the guests. */

/** What gcc and the C library make of numbers at run time, compared with what gcc worked out while compiling. */
export const SELF_CHECK_C = `#include <fenv.h>
#include <math.h>
#include <stdio.h>
#include <stdint.h>

static volatile double zero = 0.0, third = 1.0 / 3.0, big = 1e308, tiny = 5e-324;
static volatile float half = 0.5f;
static volatile long double ten = 10.0L;
static volatile int64_t minimum = INT64_MIN;
static int failures;
#define CHECK(x) do { if (!(x)) { printf("wrong: %s\\n", #x); failures++; } } while (0)

int main(void) {
  CHECK(third * 3.0 == 1.0 / 3.0 * 3.0);
  CHECK(big * 10.0 == HUGE_VAL && isnan(zero / zero) && signbit(-zero));
  CHECK(tiny / 2.0 == 0.0 && tiny * 2.0 == 1e-323);
  CHECK(half + 16777216.0f == 16777216.0f && (float)third == 0x1.555556p-2f);
  CHECK(ten / 3.0L == 10.0L / 3.0L && sqrtl(ten) == __builtin_sqrtl(10.0L));
  CHECK((int64_t)-9.2233720368547758e18 == minimum && (uint64_t)minimum >> 63 == 1);
  CHECK(lrint(2.5) == 2 && lrint(3.5) == 4 && nearbyint(-0.5) == 0);
  feclearexcept(FE_ALL_EXCEPT);
  volatile double quotient = 1.0 / (third + zero);
  CHECK(fetestexcept(FE_INEXACT) && !fetestexcept(FE_DIVBYZERO));
  quotient = 1.0 / zero;
  CHECK(fetestexcept(FE_DIVBYZERO) && isinf(quotient));
  fesetround(FE_UPWARD);
  CHECK(1.0 + tiny + zero > 1.0 && ten / 3.0L > 3.3333333333333333333L);
  fesetround(FE_TONEAREST);
  CHECK(fma(third, third, -0x1.c71c71c71c71bp-4) == __builtin_fma(1.0 / 3.0, 1.0 / 3.0, -0x1.c71c71c71c71bp-4));
  CHECK(fabs(sin(1e22) + 0.8522008497671888) < 1e-16 && fabs(tgamma(10.5) / 1133278.3889487855 - 1) < 1e-14);
  CHECK(__builtin_popcountll(0xf0f0f0f0f0f0f0f0ull) == 32 && __builtin_clzll(1) == 63);
  CHECK(minimum / 3 == -3074457345618258602 && minimum % 1000 == -808);
  unsigned __int128 product = (unsigned __int128)(uint64_t)minimum * (uint64_t)minimum;
  CHECK((uint64_t)(product >> 64) == 1ull << 62 && product / 7 * 7 + product % 7 == product);
  printf(failures ? "failed\\n" : "all right\\n");
  return failures != 0;
}
`;

/** A 32-bit program that checks itself. */
export const NARROW_C = `#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static volatile int failures, signals;
static volatile int64_t wide = -0x123456789abcdefll;
static volatile double third = 1.0 / 3.0;
static volatile long double ten = 10.0L;
#define CHECK(x) do { if (!(x)) { printf("wrong: %s\\n", #x); failures++; } } while (0)

static void caught(int number) { signals += number == SIGUSR1; }
static void *count(void *at) {
  for (int i = 0; i < 100000; i++) __sync_fetch_and_add((int *)at, 1);
  return NULL;
}
static int compare(const void *a, const void *b) { return *(const int *)a - *(const int *)b; }

int main(void) {
  CHECK(wide / 1000 == -81985529216486ll && wide % 1000 == -895);
  CHECK((uint64_t)wide >> 60 == 15 && (int64_t)(third * 3e9 + 0.5) == 1000000000);
  CHECK(sqrtl(ten) * sqrtl(ten) - ten < 1e-17L && fabs(sin(1e22) + 0.8522008497671888) < 1e-15);
  int numbers[1000], counter = 0;
  for (int i = 0; i < 1000; i++) numbers[i] = i * 7919 % 1009;
  qsort(numbers, 1000, sizeof *numbers, compare);
  for (int i = 1; i < 1000; i++) if (numbers[i - 1] >= numbers[i]) { CHECK(!"sorted"); break; }
  signal(SIGUSR1, caught);
  for (int i = 0; i < 100; i++) raise(SIGUSR1);
  CHECK(signals == 100);
  pthread_t threads[4];
  for (int i = 0; i < 4; i++) pthread_create(&threads[i], NULL, count, &counter);
  for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
  CHECK(counter == 400000);
  char *text = strdup("text that is moved"), *copy = malloc(1 << 20);
  memset(copy, 'x', 1 << 20);
  strcpy(copy + 4095, text);
  CHECK(strcmp(copy + 4095, text) == 0 && memchr(copy, 't', 1 << 20) == copy + 4095);
  struct timespec before, after;
  clock_gettime(CLOCK_MONOTONIC, &before);
  usleep(20000);
  clock_gettime(CLOCK_MONOTONIC, &after);
  CHECK((after.tv_sec - before.tv_sec) * 1000000000ll + after.tv_nsec - before.tv_nsec >= 20000000);
  printf("%d bytes, %s\\n", (int)sizeof(void *), failures ? "failed" : "all right");
  return failures != 0;
}
`;

export const DEBUGGED_C = `#include <stdio.h>
#include <string.h>

int counter;
char from[64] = "the bytes that are copied", to[64];

__attribute__((noinline)) int account(int n) {
  counter += n;
  return counter * 2;
}

int main(void) {
  int sum = 0;
  for (int i = 1; i <= 5; i++) sum += account(i);
  const char *source = from;
  char *target = to;
  unsigned long count = sizeof from;
  __asm__ volatile("copy: rep movsb\\nbehind:" : "+S"(source), "+D"(target), "+c"(count) : : "memory");
  printf("sum %d, %s\\n", sum, strcmp(from, to) == 0 ? "copied" : "wrong");
  return 0;
}
`;

/** Breakpoints in debug registers, watchpoints, and steps: over calls, over each byte of REP MOVSB, over system calls. */
export const GDB_SCRIPT = `set pagination off
set width 0
break main
run
hbreak account
continue
print n
watch counter
continue
delete 2
rwatch to[3]
continue
info registers eflags
delete
hbreak copy
continue
stepi
stepi
print 64 - $rcx
delete
tbreak *behind
continue
print $rcx
print to
catch syscall 1
continue
stepi
stepi
stepi
delete
set var $steps = 0
while $steps < 200
  stepi
  set var $steps = $steps + 1
end
continue
`;
