// A counter.
//   Increment [By: n]   adds n (1 unless said), answers the count
//   Get                 answers the count
//   Reset               back to 0; only for the process's owner
#include "ao.h"

static u64 count;

static void increment(const char *message) {
  char by_text[24];
  u64 by = 1;
  int found = tag(message, "By", by_text, sizeof by_text);
  if (found != -2 && (found < 0 || !decimal(by_text, &by))) {
    fail("By: expected a whole number of up to 64 bits");
  } else if (by > ~0ull - count) {
    fail("By: the count would not fit in 64 bits");
  } else {
    count += by;
    say_number(count);
  }
}

static void receive(const char *message, const char *environment, const char *action) {
  if (same(action, "Increment")) {
    increment(message);
  } else if (same(action, "Get")) {
    say_number(count);
  } else if (!same(action, "Reset")) {
    fail("Action: "), fail(action), fail(" is none of Increment, Get, Reset");
  } else if (!sender_owns(environment)) {
    fail("Reset: only for the owner of this process, not for "), fail(sender);
  } else {
    count = 0;
    say_number(count);
  }
}
