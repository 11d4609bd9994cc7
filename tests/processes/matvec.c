// A layer of 8-bit weights: products of a matrix and a vector, on purpose bound by memory.
//   Load Seed                      makes the weights anew; answers their checksum
//   Multiply Seed, Repeats: n      makes a vector and multiplies it by the matrix n times, each time with the sums
//                                  of the last, brought back to 8 bits; answers `check C first A B C D`: a checksum
//                                  of all sums and the first four of the last product, 32 bits in hexadecimal digits
//
// Weights and vectors are the upper bytes of the numbers of Marsaglia's xorshift32 ("Xorshift RNGs", 2003: shifts 13,
// 17, 5).
#include "ao.h"

#define SIDE 160
#define REPEATS_MAX 4096u

typedef signed char i8;

static u32 is_loaded;
static i8 weights[SIDE * SIDE];
static i8 vector[SIDE];
static int sums[SIDE];

static u32 next_random(u32 random) {
  random ^= random << 13, random ^= random >> 17;
  return random ^ random << 5;
}

static void fill(i8 *to, u32 count, u32 random) {
  for (u32 i = 0; i < count; i++) random = next_random(random), to[i] = (i8)(random >> 24);
}

static void multiply(void) {
  const i8 *weight = weights;
  for (u32 row = 0; row < SIDE; row++) {
    int sum = 0;
    for (u32 i = 0; i < SIDE; i++) sum += *weight++ * vector[i];
    sums[row] = sum;
  }
}

// A sum of 160 products of two bytes has 22 bits and a sign; random ones mostly 16 and a sign.
static i8 to_byte(int sum) {
  sum >>= 9;
  return (i8)(sum > 127 ? 127 : sum < -128 ? -128 : sum);
}

static void receive(const char *message, const char *environment, const char *action) {
  (void)environment;
  u32 seed, repeats, check = 2166136261u;
  if (same(action, "Load")) {
    if (!read_number(message, "Seed", 1, 0xffffffff, &seed)) return;
    fill(weights, SIDE * SIDE, seed);
    is_loaded = 1;
    for (u32 i = 0; i < SIDE * SIDE; i++) check = (check ^ (u8)weights[i]) * 16777619u;
    say("check "), say_hex(check, 8);
  } else if (!same(action, "Multiply")) {
    fail("Action: "), fail(action), fail(" is none of Load, Multiply");
  } else if (!is_loaded) {
    fail("Multiply: no weights are loaded yet");
  } else if (read_number(message, "Seed", 1, 0xffffffff, &seed) &&
             read_number(message, "Repeats", 1, REPEATS_MAX, &repeats)) {
    fill(vector, SIDE, seed);
    while (repeats--) {
      multiply();
      for (u32 i = 0; i < SIDE; i++) {
        check = (check ^ (u32)sums[i]) * 16777619u;
        vector[i] = to_byte(sums[i]);
      }
    }
    say("check "), say_hex(check, 8), say(" first");
    for (u32 i = 0; i < 4; i++) say(" "), say_hex((u32)sums[i], 8);
  }
}
