// A hash miner: double SHA-256 over an 80-byte header, as Bitcoin's proof of work.
//   Mine Header: 152 hexadecimal digits (76 bytes), First: nonce, Count: n
//        tries n nonces from the first (32 bits, little-endian, wrapping), answers `nonce hash` of the smallest hash
//   Best                  answers the best of all messages so far, and how many hashes were tried
//
// The rounds are written out and every word is a scalar, so that a compiler keeps all of it in registers: the loop over nonces
// touches no memory. Both hashes of a nonce go through one copy of the rounds (two turns of the inner loop). With
// SCHEDULE_IN_MEMORY the same is written as it is everywhere else, with arrays on the stack.
#include "ao.h"

#define COUNT_MAX 4194304u

static const u32 initial[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

static u64 tried;
static u32 best_nonce, best_hash[8];

#define ROR(x, n) __builtin_rotateright32(x, n)
#ifdef SCHEDULE_IN_MEMORY
static const u32 constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be,
    0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa,
    0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85,
    0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3,
    0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f,
    0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

// FIPS 180-4, section 6.2.2, as it is usually written.
static void compress(u32 state[8], const u32 block[16]) {
  u32 w[64];
  for (u32 i = 0; i < 16; i++) w[i] = block[i];
  for (u32 i = 16; i < 64; i++)
    w[i] = w[i - 16] + (ROR(w[i - 15], 7) ^ ROR(w[i - 15], 18) ^ (w[i - 15] >> 3)) + w[i - 7] +
           (ROR(w[i - 2], 17) ^ ROR(w[i - 2], 19) ^ (w[i - 2] >> 10));
  u32 a = state[0], b = state[1], c = state[2], d = state[3], e = state[4], f = state[5], g = state[6], h = state[7];
  for (u32 i = 0; i < 64; i++) {
    u32 t = h + (ROR(e, 6) ^ ROR(e, 11) ^ ROR(e, 25)) + (g ^ (e & (f ^ g))) + constants[i] + w[i];
    u32 u = (ROR(a, 2) ^ ROR(a, 13) ^ ROR(a, 22)) + ((a & b) | (c & (a | b)));
    h = g, g = f, f = e, e = d + t, d = c, c = b, b = a, a = t + u;
  }
  state[0] += a, state[1] += b, state[2] += c, state[3] += d, state[4] += e, state[5] += f, state[6] += g, state[7] += h;
}

static void mine(const u32 header[19], u32 nonce, u32 count, u32 *nonce_out, u32 hash[8]) {
  u32 first[8], second[8], block[16];
  memcpy(first, initial, sizeof first);
  compress(first, header);
  for (u32 i = 0; i < 8; i++) hash[i] = ~0u;
  *nonce_out = nonce;
  do {
    for (u32 i = 0; i < 16; i++) block[i] = 0;
    for (u32 i = 0; i < 3; i++) block[i] = header[16 + i];
    block[3] = __builtin_bswap32(nonce), block[4] = 0x80000000, block[15] = 640;
    memcpy(second, first, sizeof second);
    compress(second, block);
    for (u32 i = 0; i < 8; i++) block[i] = second[i];
    block[8] = 0x80000000;
    for (u32 i = 9; i < 15; i++) block[i] = 0;
    block[15] = 256;
    memcpy(second, initial, sizeof second);
    compress(second, block);
    // The hash is a little-endian number: its last word, bytes turned, is the most significant.
    u32 h0 = __builtin_bswap32(second[7]), h1 = __builtin_bswap32(second[6]);
    if (h0 < hash[0] || (h0 == hash[0] && h1 < hash[1])) {  // 64 equal leading bits are not seen in four million tries
      for (u32 i = 0; i < 8; i++) hash[i] = __builtin_bswap32(second[7 - i]);
      *nonce_out = nonce;
    }
    nonce++;
  } while (--count);
}
#else
#define STEP(a, b, c, d, e, f, g, h, k, w)                                                    \
  t = h + (ROR(e, 6) ^ ROR(e, 11) ^ ROR(e, 25)) + (g ^ (e & (f ^ g))) + k + w;                \
  d += t;                                                                                     \
  h = t + (ROR(a, 2) ^ ROR(a, 13) ^ ROR(a, 22)) + ((a & b) | (c & (a | b)))
#define EIGHT(k0, k1, k2, k3, k4, k5, k6, k7, w0, w1, w2, w3, w4, w5, w6, w7)                 \
  STEP(a, b, c, d, e, f, g, h, k0, w0); STEP(h, a, b, c, d, e, f, g, k1, w1);                 \
  STEP(g, h, a, b, c, d, e, f, k2, w2); STEP(f, g, h, a, b, c, d, e, k3, w3);                 \
  STEP(e, f, g, h, a, b, c, d, k4, w4); STEP(d, e, f, g, h, a, b, c, k5, w5);                 \
  STEP(c, d, e, f, g, h, a, b, k6, w6); STEP(b, c, d, e, f, g, h, a, k7, w7)
#define EXTEND(w, w1, w9, w14)                                                                \
  w += (ROR(w1, 7) ^ ROR(w1, 18) ^ (w1 >> 3)) + w9 + (ROR(w14, 17) ^ ROR(w14, 19) ^ (w14 >> 10))
#define EXTEND_ALL                                                                            \
  EXTEND(m0, m1, m9, m14); EXTEND(m1, m2, m10, m15); EXTEND(m2, m3, m11, m0);                 \
  EXTEND(m3, m4, m12, m1); EXTEND(m4, m5, m13, m2); EXTEND(m5, m6, m14, m3);                  \
  EXTEND(m6, m7, m15, m4); EXTEND(m7, m8, m0, m5); EXTEND(m8, m9, m1, m6);                    \
  EXTEND(m9, m10, m2, m7); EXTEND(m10, m11, m3, m8); EXTEND(m11, m12, m4, m9);                \
  EXTEND(m12, m13, m5, m10); EXTEND(m13, m14, m6, m11); EXTEND(m14, m15, m7, m12);            \
  EXTEND(m15, m0, m8, m13)
// 64 rounds over a..h and m0..m15; FIPS 180-4, section 6.2.2.
#define ROUNDS                                                                                \
  EIGHT(0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, m0, m1, m2, m3, m4, m5, m6, m7);       \
  EIGHT(0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, m8, m9, m10, m11, m12, m13, m14, m15); \
  EXTEND_ALL;                                                                                 \
  EIGHT(0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da, m0, m1, m2, m3, m4, m5, m6, m7);       \
  EIGHT(0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, m8, m9, m10, m11, m12, m13, m14, m15); \
  EXTEND_ALL;                                                                                 \
  EIGHT(0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, m0, m1, m2, m3, m4, m5, m6, m7);       \
  EIGHT(0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, m8, m9, m10, m11, m12, m13, m14, m15); \
  EXTEND_ALL;                                                                                 \
  EIGHT(0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3, m0, m1, m2, m3, m4, m5, m6, m7);       \
  EIGHT(0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2, m8, m9, m10, m11, m12, m13, m14, m15)

// Tries `count` nonces; the header's first 76 bytes as big-endian words. Leaves the best in `*nonce_out` and `hash` (most
// significant word first, as the hash is printed).
static void mine(const u32 header[19], u32 nonce, u32 count, u32 *nonce_out, u32 hash[8]) {
  // Of a nonce's three blocks the first is the same for all: turn 0 does it once, then turns 1 and 2 do each nonce's own two.
  u32 s0 = initial[0], s1 = initial[1], s2 = initial[2], s3 = initial[3];
  u32 s4 = initial[4], s5 = initial[5], s6 = initial[6], s7 = initial[7];
  u32 m0 = header[0], m1 = header[1], m2 = header[2], m3 = header[3], m4 = header[4], m5 = header[5], m6 = header[6], m7 = header[7];
  u32 m8 = header[8], m9 = header[9], m10 = header[10], m11 = header[11], m12 = header[12], m13 = header[13], m14 = header[14], m15 = header[15];
  const u32 tail0 = header[16], tail1 = header[17], tail2 = header[18];
  u32 p0 = 0, p1 = 0, p2 = 0, p3 = 0, p4 = 0, p5 = 0, p6 = 0, p7 = 0;                                // after the header's first block
  u32 b0 = ~0u, b1 = ~0u, b2 = ~0u, b3 = ~0u, b4 = ~0u, b5 = ~0u, b6 = ~0u, b7 = ~0u, chosen = nonce;  // best so far
  u32 turn = 0, t;
  for (;;) {
    u32 a = s0, b = s1, c = s2, d = s3, e = s4, f = s5, g = s6, h = s7;
    ROUNDS;
    a += s0, b += s1, c += s2, d += s3, e += s4, f += s5, g += s6, h += s7;
    if (turn == 1) {  // the header's hash is hashed again
      s0 = initial[0], s1 = initial[1], s2 = initial[2], s3 = initial[3], s4 = initial[4], s5 = initial[5], s6 = initial[6], s7 = initial[7];
      m0 = a, m1 = b, m2 = c, m3 = d, m4 = e, m5 = f, m6 = g, m7 = h;
      m8 = 0x80000000, m9 = m10 = m11 = m12 = m13 = m14 = 0, m15 = 256;
      turn = 2;
      continue;
    }
    if (turn == 0) {
      p0 = a, p1 = b, p2 = c, p3 = d, p4 = e, p5 = f, p6 = g, p7 = h;
    } else {
      // The hash is a little-endian number: its last word, bytes turned, is the most significant.
      u32 h0 = __builtin_bswap32(h), h1 = __builtin_bswap32(g);
      if (h0 < b0 || (h0 == b0 && h1 < b1)) {  // 64 equal leading bits are not seen in four million tries
        b0 = h0, b1 = h1, b2 = __builtin_bswap32(f), b3 = __builtin_bswap32(e);
        b4 = __builtin_bswap32(d), b5 = __builtin_bswap32(c), b6 = __builtin_bswap32(b), b7 = __builtin_bswap32(a);
        chosen = nonce;
      }
      nonce++;
      if (!--count) break;
    }
    s0 = p0, s1 = p1, s2 = p2, s3 = p3, s4 = p4, s5 = p5, s6 = p6, s7 = p7;
    m0 = tail0, m1 = tail1, m2 = tail2, m3 = __builtin_bswap32(nonce);
    m4 = 0x80000000, m5 = m6 = m7 = m8 = m9 = m10 = m11 = m12 = m13 = m14 = 0, m15 = 640;
    turn = 1;
  }
  *nonce_out = chosen;
  hash[0] = b0, hash[1] = b1, hash[2] = b2, hash[3] = b3, hash[4] = b4, hash[5] = b5, hash[6] = b6, hash[7] = b7;
}
#endif

static int smaller(const u32 a[8], const u32 b[8]) {
  for (int i = 0; i < 8; i++)
    if (a[i] != b[i]) return a[i] < b[i];
  return 0;
}

static void say_find(u32 nonce, const u32 hash[8]) {
  char hex[65];
  for (u32 i = 0; i < 64; i++) hex[i] = "0123456789abcdef"[hash[i / 8] >> (28 - 4 * (i % 8)) & 15];
  hex[64] = 0;
  say_number(nonce), say(" "), say(hex);
}

static int read_header(const char *message, u32 header[19]) {
  char hex[153];
  if (tag(message, "Header", hex, sizeof hex) != 152) return 0;
  for (u32 i = 0; i < 19; i++) {
    int high = hex4(hex + 8 * i), low = hex4(hex + 8 * i + 4);
    if (high < 0 || low < 0) return 0;
    header[i] = (u32)high << 16 | (u32)low;
  }
  return 1;
}

static void receive(const char *message, const char *environment, const char *action) {
  (void)environment;
  if (same(action, "Best")) {
    if (tried) say_find(best_nonce, best_hash), say(" of "), say_number(tried);
    else fail("Best: nothing was tried yet");
    return;
  }
  if (!same(action, "Mine")) {
    fail("Action: "), fail(action), fail(" is none of Mine, Best");
    return;
  }
  u32 header[19], nonce, count, hash[8];
  if (!read_header(message, header)) {
    fail("Header: expected 152 hexadecimal digits");
    return;
  }
  if (!read_number(message, "First", 0, 0xffffffff, &nonce) || !read_number(message, "Count", 1, COUNT_MAX, &count)) return;
  mine(header, nonce, count, &nonce, hash);
  if (!tried || smaller(hash, best_hash)) {
    best_nonce = nonce;
    memcpy(best_hash, hash, sizeof hash);
  }
  tried += count;
  say_find(nonce, hash);
}
