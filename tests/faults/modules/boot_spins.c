// A module whose constructors never end.
#define AO_OWN_HANDLE
#include "../../processes/ao.h"
static volatile u32 never;
__attribute__((constructor)) static void spin(void) {
  while (!never) {}
}
EXPORT("handle") const char *handle(const char *message, const char *environment) {
  (void)message, (void)environment;
  return "{\"ok\":true,\"response\":{\"Output\":\"\"}}";
}
