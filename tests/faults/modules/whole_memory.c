// A module whose memory is all that 32 bits can address, from the start (65,536 pages: set by build.sh).
#define AO_OWN_HANDLE
#include "../../processes/ao.h"
EXPORT("handle") const char *handle(const char *message, const char *environment) {
  (void)message, (void)environment;
  *(volatile u8 *)0xffff0000 = 1;
  return "{\"ok\":true,\"response\":{\"Output\":\"touched\"}}";
}
