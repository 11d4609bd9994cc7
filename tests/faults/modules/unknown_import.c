// A module that imports what nobody provides.
#define AO_OWN_HANDLE
#include "../../processes/ao.h"
__attribute__((import_module("env"), import_name("nobody_provides_this"))) int nobody_provides_this(int);
EXPORT("handle") const char *handle(const char *message, const char *environment) {
  (void)message;
  return nobody_provides_this((int)environment) ? "{\"ok\":true,\"response\":{\"Output\":\"\"}}" : "";
}
