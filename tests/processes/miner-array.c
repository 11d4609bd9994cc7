// The miner as ordinary code: the message schedule is an array on the C stack, and the rounds are a loop over it. It
// answers as the miner does, and shows what memory costs where the miner has registers.
#define SCHEDULE_IN_MEMORY
#include "miner.c"
