// What a process written in plain C needs of ao: the guest side of module format `wasm32-unknown-emscripten4`, a reader for the
// JSON it is given, and a writer for the JSON it answers. No imports, no C library, no allocation: every buffer is static and
// bounded, so a process's whole memory is 128 KiB (what one lane of a GPU dispatch can hold).
//
// A process includes this file once, defines `receive`, and calls `say`, `send` and `fail` from it.
#ifndef AO_H
#define AO_H

typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;

#define EXPORT(name) __attribute__((export_name(name), used))

#define ADDRESS_BYTES 64      // an id or an address with its NUL; ids are 43 characters, Ethereum addresses 42
#define TEXT_BYTES 1024       // longest text of one answer
#define MESSAGES_BYTES 8192   // all outgoing messages of one answer, as JSON
#define RESPONSE_BYTES 16384  // a whole answer; a character of the text may need six (\u0000)

// ---- The C library that the compiler assumes ------------------------------------------------------------------------------

void *memset(void *to, int byte, unsigned long count) {
  u8 *t = to;
  while (count--) *t++ = (u8)byte;
  return to;
}

void *memcpy(void *restrict to, const void *restrict from, unsigned long count) {
  u8 *t = to;
  const u8 *f = from;
  while (count--) *t++ = *f++;
  return to;
}

static u32 length(const char *s) {
  u32 n = 0;
  while (s[n]) n++;
  return n;
}

static int same(const char *a, const char *b) {
  while (*a && *a == *b) a++, b++;
  return *a == *b;
}

// ---- Reading JSON ---------------------------------------------------------------------------------------------------------
// A value is the address of its first character in the NUL-terminated text. The text comes from a unit, which wrote it itself,
// but nothing here reads past its NUL whatever it holds.

static const char *blank(const char *p) {
  while (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t') p++;
  return p;
}

static const char *string_end(const char *p) {  // p at the opening quote; answers the place after the closing one
  for (p++; *p && *p != '"'; p++)
    if (*p == '\\' && p[1]) p++;
  return *p ? p + 1 : p;
}

static const char *value_end(const char *p) {
  u32 depth = 0;
  do {
    p = blank(p);
    if (*p == '"') {
      p = string_end(p);
    } else if (*p == '{' || *p == '[') {
      depth++, p++;
      continue;
    } else if (*p == '}' || *p == ']') {
      depth--, p++;
    } else if (*p == ',' || *p == ':') {
      p++;
      continue;
    } else {
      while (*p && *p != ',' && *p != '}' && *p != ']' && *p != ' ' && *p != '\n' && *p != '\r' && *p != '\t') p++;
    }
  } while (*p && depth);
  return p;
}

// First element of an array, or 0.
static const char *first(const char *array) {
  if (!array || *array != '[') return 0;
  array = blank(array + 1);
  return *array && *array != ']' ? array : 0;
}

// Element after this one, or 0.
static const char *next(const char *element) {
  element = blank(value_end(element));
  return *element == ',' ? blank(element + 1) : 0;
}

// Value of a member of an object, or 0. Names are compared as written: the names ao uses need no escapes.
static const char *member(const char *object, const char *name) {
  if (!object || *object != '{') return 0;
  u32 n = length(name);
  const char *p = blank(object + 1);
  while (*p == '"') {
    const char *end = string_end(p);
    const char *value = blank(end);
    if (*value != ':') return 0;
    value = blank(value + 1);
    if ((u32)(end - p) == n + 2) {
      u32 i = 0;
      while (i < n && p[1 + i] == name[i]) i++;
      if (i == n) return value;
    }
    p = blank(value_end(value));
    if (*p != ',') return 0;
    p = blank(p + 1);
  }
  return 0;
}

static int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

static int hex4(const char *p) {  // -1 unless four hexadecimal digits
  int value = 0;
  for (int i = 0; i < 4; i++) {
    int digit = hex_digit(p[i]);
    if (digit < 0) return -1;
    value = value << 4 | digit;
  }
  return value;
}

// Text of a string value as UTF-8 with its NUL. Answers its length, or -1: not a string, or not in `room` bytes.
static int text(const char *value, char *out, u32 room) {
  if (!value || *value != '"') return -1;
  u32 n = 0;
  const char *p = value + 1;
  while (*p && *p != '"') {
    u32 c = (u8)*p++;
    if (c == '\\') {
      c = (u8)*p;
      if (!c) return -1;
      p++;
      if (c == 'n') c = '\n';
      else if (c == 't') c = '\t';
      else if (c == 'r') c = '\r';
      else if (c == 'b') c = '\b';
      else if (c == 'f') c = '\f';
      else if (c == 'u') {
        int unit = hex4(p);
        if (unit < 0) return -1;
        p += 4;
        c = (u32)unit;
        if (c >= 0xd800 && c < 0xdc00 && p[0] == '\\' && p[1] == 'u') {
          int low = hex4(p + 2);
          if (low >= 0xdc00 && low < 0xe000) {
            c = 0x10000 + ((c - 0xd800) << 10) + ((u32)low - 0xdc00);
            p += 6;
          }
        }
        if (c >= 0xd800 && c < 0xe000) c = 0xfffd;  // half of a pair has no UTF-8
        u32 more = c < 0x80 ? 0 : c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
        if (n + more + 1 >= room) return -1;
        if (!more) {
          out[n++] = (char)c;
        } else {
          out[n++] = (char)((0xf00 >> more) | (c >> (6 * more)));
          while (more--) out[n++] = (char)(0x80 | ((c >> (6 * more)) & 0x3f));
        }
        continue;
      }
    }
    if (n + 1 >= room) return -1;
    out[n++] = (char)c;
  }
  out[n] = 0;
  return (int)n;
}

// Whether an object's member is exactly this text.
static int member_is(const char *object, const char *name, const char *wanted) {
  char found[ADDRESS_BYTES];
  return text(member(object, name), found, sizeof found) >= 0 && same(found, wanted);
}

// First tag of a message with this name: its value as text. Answers its length; -1: too long or no string; -2: no such tag.
static int tag(const char *message, const char *name, char *out, u32 room) {
  for (const char *t = first(member(message, "Tags")); t; t = next(t))
    if (member_is(t, "name", name)) return text(member(t, "value"), out, room);
  return -2;
}

// Whether any tag has this name and value.
static int has_tag(const char *message, const char *name, const char *value) {
  for (const char *t = first(member(message, "Tags")); t; t = next(t))
    if (member_is(t, "name", name) && member_is(t, "value", value)) return 1;
  return 0;
}

// A decimal number of up to 64 bits. Answers 0 unless the text is one, digits only.
static int decimal(const char *s, u64 *out) {
  u64 n = 0;
  if (!*s) return 0;
  for (; *s; s++) {
    if (*s < '0' || *s > '9') return 0;
    u64 digit = (u64)(*s - '0');
    if (n > (~0ull - digit) / 10) return 0;
    n = n * 10 + digit;
  }
  *out = n;
  return 1;
}

// ---- Writing the answer ---------------------------------------------------------------------------------------------------

typedef struct {
  char *at;
  u32 room, used;
  int full;  // something did not fit: the whole answer becomes an error
} sink;

static char said_bytes[TEXT_BYTES], failed_bytes[TEXT_BYTES], sent_bytes[MESSAGES_BYTES], response_bytes[RESPONSE_BYTES];
static sink said, failed, sent, response;

static void put(sink *s, const char *t) {
  u32 n = length(t);
  if (s->used + n >= s->room) {
    s->full = 1;
    return;
  }
  memcpy(s->at + s->used, t, n);
  s->used += n;
  s->at[s->used] = 0;
}

static void put_number(sink *s, u64 n) {
  char digits[21];
  u32 i = 20;
  digits[20] = 0;
  do digits[--i] = (char)('0' + n % 10);
  while (n /= 10);
  put(s, digits + i);
}

static void put_quoted(sink *s, const char *t) {
  char one[7] = {0};
  put(s, "\"");
  for (; *t; t++) {
    u8 c = (u8)*t;
    if (c == '"' || c == '\\') {
      one[0] = '\\', one[1] = (char)c, one[2] = 0;
    } else if (c < 0x20) {
      static const char hex[] = "0123456789abcdef";
      one[0] = '\\', one[1] = 'u', one[2] = '0', one[3] = '0', one[4] = hex[c >> 4], one[5] = hex[c & 15], one[6] = 0;
    } else {
      one[0] = (char)c, one[1] = 0;
    }
    put(s, one);
  }
  put(s, "\"");
}

// Adds to the text of this answer.
static void say(const char *t) { put(&said, t); }
static void say_number(u64 n) { put_number(&said, n); }

// Makes this answer an error: state goes back to what it was, nothing is sent. More calls add to the error's text.
static void fail(const char *t) { put(&failed, t); }

// First tag of this name as a whole number within bounds; else this answer is an error and it answers 0.
static int read_number(const char *message, const char *name, u64 least, u64 most, u32 *out) {
  char written[24];
  u64 n;
  if (tag(message, name, written, sizeof written) < 0 || !decimal(written, &n) || n < least || n > most) {
    fail(name), fail(": expected a whole number from "), put_number(&failed, least), fail(" to "), put_number(&failed, most);
    return 0;
  }
  *out = (u32)n;
  return 1;
}

// Adds a number to the text of this answer, in hexadecimal digits.
static void say_hex(u64 n, u32 digits) {
  char hex[17];
  hex[digits] = 0;
  while (digits--) hex[digits] = "0123456789abcdef"[n & 15], n >>= 4;
  say(hex);
}

static u64 references;  // part of the state: anchors of outgoing messages must differ

typedef struct {
  const char *name, *value;
} tag_pair;

// Sends a message. Its anchor is the next reference in 32 digits, as the messenger wants it.
static void send(const char *target, const tag_pair *tags, u32 count) {
  char anchor[33];
  u64 n = ++references;
  for (int i = 31; i >= 0; i--, n /= 10) anchor[i] = (char)('0' + n % 10);
  anchor[32] = 0;
  put(&sent, sent.used ? ",{\"Target\":" : "{\"Target\":");
  put_quoted(&sent, target);
  put(&sent, ",\"Anchor\":");
  put_quoted(&sent, anchor);
  put(&sent, ",\"Data\":\"\",\"Tags\":[{\"name\":\"Data-Protocol\",\"value\":\"ao\"},{\"name\":\"Variant\",\"value\":\"ao.TN.1\"},"
             "{\"name\":\"Type\",\"value\":\"Message\"},{\"name\":\"Reference\",\"value\":\"");
  put_number(&sent, references);
  put(&sent, "\"}");
  for (u32 i = 0; i < count; i++) {
    put(&sent, ",{\"name\":");
    put_quoted(&sent, tags[i].name);
    put(&sent, ",\"value\":");
    put_quoted(&sent, tags[i].value);
    put(&sent, "}");
  }
  put(&sent, "]}");
}

static void open_sink(sink *s, char *at, u32 room) {
  *s = (sink){.at = at, .room = room};
  at[0] = 0;
}

// ---- Who may say what -----------------------------------------------------------------------------------------------------

static char sender[ADDRESS_BYTES];  // the message's From

static int sender_owns(const char *environment) { return member_is(member(environment, "Process"), "Owner", sender); }

// A message that speaks for someone else than its signer counts only if the signer is an authority of this process.
static int trusted(const char *message, const char *environment) {
  char signer[ADDRESS_BYTES];
  if (text(member(message, "Owner"), signer, sizeof signer) < 0) return 0;
  return same(signer, sender) || has_tag(member(environment, "Process"), "Authority", signer);
}

#ifndef AO_OWN_HANDLE  // a process may write its whole answer itself
// What a process does with one message.
static void receive(const char *message, const char *environment, const char *action);

EXPORT("handle") const char *handle(const char *message, const char *environment) {
  char action[ADDRESS_BYTES];
  open_sink(&said, said_bytes, sizeof said_bytes);
  open_sink(&failed, failed_bytes, sizeof failed_bytes);
  open_sink(&sent, sent_bytes, sizeof sent_bytes);
  open_sink(&response, response_bytes, sizeof response_bytes);
  message = blank(message), environment = blank(environment);
  if (text(member(message, "From"), sender, sizeof sender) < 0) {
    fail("From: expected an address");
  } else if (!trusted(message, environment)) {
    fail("From: "), fail(sender), fail(" is not who signed this message, and the signer is no authority of this process");
  } else if (!has_tag(message, "Type", "Process")) {  // the process itself comes first, and asks nothing
    int found = tag(message, "Action", action, sizeof action);
    if (found == -2) fail("Action: this message has no such tag");
    else if (found < 0) fail("Action: expected a text of at most 63 bytes");
    else receive(message, environment, action);
  }
  if (said.full || sent.full) fail("the answer is too long");
  put(&response, "{\"ok\":true,\"response\":{");
  if (failed.used) {
    put(&response, "\"Error\":");
    put_quoted(&response, failed.at);
    put(&response, ",\"Messages\":[],\"Spawns\":[],\"Assignments\":[]}}");
  } else {
    put(&response, "\"Output\":{\"data\":");
    put_quoted(&response, said.at);
    put(&response, "},\"Messages\":[");
    put(&response, sent.at);
    put(&response, "],\"Spawns\":[],\"Assignments\":[]}}");
  }
  if (response.full) return "{\"ok\":false,\"response\":\"the answer is too long\"}";
  return response.at;
}
#endif

// ---- What the loader asks of every module of this format ------------------------------------------------------------------

extern u8 __heap_base;  // the linker puts the stack right below it
u32 stack_pointer(void);
void set_stack_pointer(u32 to);

static u32 stack_base(void) { return (u32)&__heap_base; }
static u32 stack_end(void) { return stack_base() - STACK_BYTES; }

EXPORT("emscripten_stack_init") void stack_init(void) {}
EXPORT("emscripten_stack_get_base") u32 stack_get_base(void) { return stack_base(); }
EXPORT("emscripten_stack_get_end") u32 stack_get_end(void) { return stack_end(); }
EXPORT("emscripten_stack_get_current") u32 stack_get_current(void) { return stack_pointer(); }
EXPORT("emscripten_stack_get_free") u32 stack_get_free(void) { return stack_pointer() - stack_end(); }
EXPORT("_emscripten_stack_restore") void stack_restore(u32 to) { set_stack_pointer(to); }

// A message longer than the stack traps here, before it could overwrite anything.
EXPORT("_emscripten_stack_alloc") u32 stack_alloc(u32 bytes) {
  u32 at = stack_pointer();
  if (bytes > at - stack_end() - STACK_KEPT) __builtin_trap();
  at = (at - bytes) & ~15u;
  set_stack_pointer(at);
  return at;
}

// Nothing here allocates; a host may.
static u32 heap_used;
EXPORT("malloc") u32 heap_allocate(u32 bytes) {
  u32 room = __builtin_wasm_memory_size(0) * 65536 - stack_base();
  if (bytes > room || heap_used > room - bytes) return 0;
  u32 at = stack_base() + heap_used;
  heap_used = (heap_used + bytes + 15) & ~15u;
  return at;
}
EXPORT("free") void heap_free(u32 at) { (void)at; }

#endif
