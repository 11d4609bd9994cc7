// The sun and the four large planets, in 64-bit floats: bound by what a float costs where floats are computed with
// integers.
//   Advance Steps: n     moves the planets on by n steps of a hundredth of a year; answers as State
//   State                answers `energy E sun X Y Z ...`: energy and positions as the bits of floats, hexadecimal
//
// Masses, positions and velocities as in the Computer Language Benchmarks Game's n-body (JPL's of 1994, in units of
// the sun's mass, astronomical units and years), and so is the integrator: symplectic Euler. Additions are made in its
// order, so that every implementation with IEEE 754's doubles comes to the same bits.
#include "ao.h"

#define BODIES 5
#define STEPS_MAX 1000000u
#define PI 3.141592653589793
#define SUN (4 * PI * PI)
#define YEAR 365.24

typedef struct {
  double at[3], speed[3], mass;
} body;

static u32 is_begun;
static body bodies[BODIES] = {
    {{0, 0, 0}, {0, 0, 0}, SUN},
    {{4.84143144246472090e+00, -1.16032004402742839e+00, -1.03622044471123109e-01},
     {1.66007664274403694e-03 * YEAR, 7.69901118419740425e-03 * YEAR, -6.90460016972063023e-05 * YEAR},
     9.54791938424326609e-04 * SUN},
    {{8.34336671824457987e+00, 4.12479856412430479e+00, -4.03523417114321381e-01},
     {-2.76742510726411899e-03 * YEAR, 4.99852801234917238e-03 * YEAR, 2.30417297573763929e-05 * YEAR},
     2.85885980666130812e-04 * SUN},
    {{1.28943695621391310e+01, -1.51111514016986312e+01, -2.23307578892655734e-01},
     {2.96460137564761618e-03 * YEAR, 2.37847173959480950e-03 * YEAR, -2.96589568540237556e-05 * YEAR},
     4.36624404335156298e-05 * SUN},
    {{1.53796971148509165e+01, -2.59193146099879641e+01, 1.79258772950371181e-01},
     {2.68067772490389322e-03 * YEAR, 1.62824170038242295e-03 * YEAR, -9.51592254519715870e-05 * YEAR},
     5.15138902046611451e-05 * SUN}};

static const char *const names[BODIES] = {"sun", "jupiter", "saturn", "uranus", "neptune"};

// Gives the sun the velocity with which the whole does not move.
static void begin(void) {
  for (u32 k = 0; k < 3; k++) {
    double momentum = 0;
    for (u32 i = 0; i < BODIES; i++) momentum += bodies[i].speed[k] * bodies[i].mass;
    bodies[0].speed[k] = -momentum / SUN;
  }
  is_begun = 1;
}

static void advance(double time) {
  for (body *a = bodies; a < bodies + BODIES; a++) {
    for (body *b = a + 1; b < bodies + BODIES; b++) {
      double x = a->at[0] - b->at[0], y = a->at[1] - b->at[1], z = a->at[2] - b->at[2];
      double square = x * x + y * y + z * z;
      double pull = time / (square * __builtin_sqrt(square));
      double of_a = a->mass * pull, of_b = b->mass * pull;
      a->speed[0] -= x * of_b, a->speed[1] -= y * of_b, a->speed[2] -= z * of_b;
      b->speed[0] += x * of_a, b->speed[1] += y * of_a, b->speed[2] += z * of_a;
    }
  }
  for (body *a = bodies; a < bodies + BODIES; a++)
    for (u32 k = 0; k < 3; k++) a->at[k] += time * a->speed[k];
}

static double energy(void) {
  double sum = 0;
  for (const body *a = bodies; a < bodies + BODIES; a++) {
    double square = a->speed[0] * a->speed[0] + a->speed[1] * a->speed[1] + a->speed[2] * a->speed[2];
    sum += 0.5 * a->mass * square;
    for (const body *b = a + 1; b < bodies + BODIES; b++) {
      double x = a->at[0] - b->at[0], y = a->at[1] - b->at[1], z = a->at[2] - b->at[2];
      sum -= a->mass * b->mass / __builtin_sqrt(x * x + y * y + z * z);
    }
  }
  return sum;
}

static void say_bits(double number) {
  union {
    double number;
    u64 bits;
  } both = {number};
  say(" "), say_hex(both.bits, 16);
}

static void receive(const char *message, const char *environment, const char *action) {
  (void)environment;
  u32 steps = 0;
  if (same(action, "Advance")) {
    if (!read_number(message, "Steps", 1, STEPS_MAX, &steps)) return;
  } else if (!same(action, "State")) {
    fail("Action: "), fail(action), fail(" is none of Advance, State");
    return;
  }
  if (!is_begun) begin();
  while (steps--) advance(0.01);
  say("energy"), say_bits(energy());
  for (u32 i = 0; i < BODIES; i++) {
    say(" "), say(names[i]);
    for (u32 k = 0; k < 3; k++) say_bits(bodies[i].at[k]);
  }
}
