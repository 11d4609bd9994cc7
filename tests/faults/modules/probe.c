// A process that does what its Action says: every way in which an answer, or an evaluation, can go wrong.
#define AO_OWN_HANDLE
#include "../../processes/ao.h"

static u64 count;
static char big[1 << 20];
static sink answer;
static volatile u32 never;

static const char *ok(const char *output) {
  put(&answer, "{\"ok\":true,\"response\":{\"Output\":"), put(&answer, output);
  put(&answer, ",\"Messages\":[],\"Spawns\":[],\"Assignments\":[]}}");
  return answer.at;
}

// Not a loop to any compiler: what comes after the call needs its result and reads memory.
static __attribute__((noinline)) u32 deep(u32 n) {
  u32 rest = deep(n + 1);
  return rest * 3 + never;
}

EXPORT("handle") const char *handle(const char *message, const char *environment) {
  char action[ADDRESS_BYTES];
  (void)environment;
  open_sink(&answer, big, sizeof big);
  message = blank(message);
  if (tag(message, "Action", action, sizeof action) < 0) action[0] = 0;

  if (same(action, "Count")) {  // a number where others give text
    count++;
    put_number(&answer, count);
    char digits[21];
    memcpy(digits, big, answer.used + 1);
    open_sink(&answer, big, sizeof big);
    return ok(digits);
  }
  if (same(action, "Echo")) {  // the message as the guest sees it, byte for byte
    static char copy[1 << 18];
    sink quoted;
    open_sink(&quoted, copy, sizeof copy);
    put_quoted(&quoted, message);
    return quoted.full ? "{\"ok\":false,\"response\":\"too long\"}" : ok(copy);
  }
  if (same(action, "Environment")) {
    static char copy[1 << 18];
    sink quoted;
    open_sink(&quoted, copy, sizeof copy);
    put_quoted(&quoted, environment);
    return quoted.full ? "{\"ok\":false,\"response\":\"too long\"}" : ok(copy);
  }
  count += 1000;  // what follows must leave no trace
  if (same(action, "Error")) {
    return "{\"ok\":true,\"response\":{\"Error\":{\"code\":7,\"message\":\"told so\"},\"Output\":\"kept\",\"Messages\":[{\"Target\":\"t\",\"Anchor\":\"00000000000000000000000000000001\",\"Tags\":[],\"Data\":\"kept\"}],\"Spawns\":[],\"Assignments\":[]}}";
  }
  if (same(action, "Throw")) return "{\"ok\":false,\"response\":{\"code\":9,\"message\":\"thrown\"}}";
  if (same(action, "Trap")) __builtin_trap();
  if (same(action, "Divide")) return (const char *)((never + 1) / never);
  if (same(action, "Overflow")) return (const char *)deep(1);
  if (same(action, "Outside")) return *(const char *volatile *)0xfffffffc;
  if (same(action, "Spin"))
    for (;;) never = 0;
  if (same(action, "PointerOutside")) return (const char *)0xfffffff0;
  if (same(action, "PointerAtEnd")) return (const char *)(__builtin_wasm_memory_size(0) * 65536);
  if (same(action, "NoEnd")) {  // no NUL between here and the end of the memory
    u32 end = __builtin_wasm_memory_size(0) * 65536;
    memset((void *)(end - 64), 'x', 64);
    return (const char *)(end - 64);
  }
  if (same(action, "NotJson")) return "this is not JSON";
  if (same(action, "Nothing")) return 0;
  if (same(action, "Empty")) return "{}";
  if (same(action, "Null")) return "null";
  if (same(action, "Deep")) {
    for (u32 i = 0; i < 200000; i++) put(&answer, "[");
    return big;
  }
  if (same(action, "Unmarked")) return "{\"ok\":true,\"response\":{}}";
  if (same(action, "InvalidUtf8")) return "{\"ok\":true,\"response\":{\"Output\":\"\xff\xfe\xc3(\"}}";
  if (same(action, "WrongTypes")) return "{\"ok\":true,\"response\":{\"Output\":5,\"Messages\":{},\"Spawns\":7,\"Assignments\":\"no\",\"GasUsed\":\"many\"}}";
  count -= 1000;
  return ok("\"\"");
}
