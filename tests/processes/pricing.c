// Prices a European call option by Monte Carlo, in integers only.
//   Price Spot, Strike, Volatility, Steps, Paths, Seed      answers `price P check C`
//   Last                                                    answers that again, and how many paths there were in all
//
// The price of the underlying walks: a step multiplies it by 1 + v z / sd(z), where v is Volatility (of one step, in
// basis points) and z the sum of four uniform bytes, less 510: nearly normal, of mean 0 and variance 4 (256^2 - 1) /
// 12. There is no interest, so the option is worth the mean of max(price at the end - Strike, 0) over all paths. P has
// the unit of Spot and Strike and six decimals, rounded down. C is a checksum of the paths' ends. Bytes are those of
// the numbers of Marsaglia's xorshift32 ("Xorshift RNGs", 2003: shifts 13, 17, 5), which begins with Seed and goes on
// from path to path.
//
// A walk begins at 1 with 24 bits behind the point, and stops growing at 256 times that.
#include "ao.h"

#define STEPS_MAX 4096u
#define PATHS_MAX 1048576u
#define PRICE_MAX 1000000u

// 2^32 / (10000 sd(z)), rounded.
#define PER_BASIS_POINT 2906

static u64 paths_in_all;
static u64 last_price;  // millionths
static u32 last_check;

// The sum over paths of what the option pays, in the unit of `strike`: 24 bits behind the point of the first price.
static u64 walk(u32 strike, u32 volatility, u32 steps, u32 paths, u32 random, u32 *check_out) {
  const int scale = (int)volatility * PER_BASIS_POINT;
  u64 paid = 0;
  u32 check = 2166136261u;
  // One loop over the steps of all paths, without branches: a path's end is a choice of values in every step.
  const u32 begin = 1u << 24;
  u32 price = begin, left = steps;
  do {
    random ^= random << 13, random ^= random >> 17, random ^= random << 5;
    int z = (int)((random & 255) + (random >> 8 & 255) + (random >> 16 & 255) + (random >> 24)) - 510;
    u64 next = price + (u64)((long long)price * (scale * z) >> 32);
    price = next >> 32 ? ~0u : (u32)next;
    u32 is_end = !--left;
    paid += is_end && price > strike ? price - strike : 0;
    check = is_end ? (check ^ price) * 16777619u : check;
    price = is_end ? begin : price;
    left = is_end ? steps : left;
    paths -= is_end;
  } while (paths);
  *check_out = check;
  return paid;
}

static void say_last(void) {
  say_number(last_price / 1000000), say(".");
  for (u64 part = 1000000; part > 1; part /= 10) say_number(last_price % part / (part / 10));
  say(" check "), say_hex(last_check, 8);
}

static void receive(const char *message, const char *environment, const char *action) {
  (void)environment;
  if (same(action, "Last")) {
    if (paths_in_all) say("price "), say_last(), say(" of "), say_number(paths_in_all);
    else fail("Last: nothing was priced yet");
    return;
  }
  if (!same(action, "Price")) {
    fail("Action: "), fail(action), fail(" is none of Price, Last");
    return;
  }
  u32 spot, strike, volatility, steps, paths, seed;
  if (!read_number(message, "Spot", 1, PRICE_MAX, &spot) || !read_number(message, "Strike", 1, PRICE_MAX, &strike) ||
      !read_number(message, "Volatility", 0, 1000, &volatility) ||
      !read_number(message, "Steps", 1, STEPS_MAX, &steps) ||
      !read_number(message, "Paths", 1, PATHS_MAX, &paths) || !read_number(message, "Seed", 1, 0xffffffff, &seed))
    return;
  u64 bound = ((u64)strike << 24) / spot;
  u64 mean = walk(bound > ~0u ? ~0u : (u32)bound, volatility, steps, paths, seed, &last_check) / paths;
  // At most 2^32 times 2^20; then the whole part and its fraction.
  u64 scaled = mean * spot;
  last_price = (scaled >> 24) * 1000000 + ((scaled & 0xffffff) * 1000000 >> 24);
  paths_in_all += paths;
  say("price "), say_last();
}
