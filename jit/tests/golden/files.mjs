// Makes `files-*.txt`: random sequences of file system calls, run by the loader's own JavaScript, with what came back.
//
//   npm pack @permaweb/ao-loader@0.0.49 && tar xf permaweb-ao-loader-0.0.49.tgz
//   node files.mjs package/dist/index.cjs FORMAT SEED SEQUENCES OPERATIONS > files-FORMAT.txt
//
// FORMAT is em2, em3, em4 or w64. No guest is needed: the loader hands its import table to `instantiateWasm`, and gets
// a stand-in instance whose exports are JavaScript functions. A line is an operation, its arguments, `=`, what it gave
// (`abort` if the loader threw anything but an error number), the bytes it stored in guest memory, and how often it
// read the clock.
import { createRequire } from 'node:module'
const require = createRequire(import.meta.url)
const [, , loaderPath, format, seed, sequences, operations] = process.argv
const loader = require(require('node:path').resolve(loaderPath))
const formats = {
  em2: 'wasm32-unknown-emscripten2',
  em3: 'wasm32-unknown-emscripten3',
  em4: 'wasm32-unknown-emscripten4',
  w64: 'wasm64-unknown-emscripten-draft_2024_02_15',
}
const wide = format === 'w64'
// The devices' bytes are this unit's own; here only their number matters.
Object.defineProperty(globalThis, 'crypto', { value: { getRandomValues: (view) => view.fill(0x52) } })
console.error = console.warn = console.log = () => {}
const print = (line) => process.stdout.write(line + '\n')

// A small generator of its own, since the loader replaces Math.random.
let state = BigInt(seed) * 2n + 1n
const random = (n) => {
  state = (state * 6364136223846793005n + 1442695040888963407n) & 0xffffffffffffffffn
  return Number((state >> 33n) % BigInt(n))
}
const pick = (list) => list[random(list.length)]

async function boot() {
  const memory = new WebAssembly.Memory({ initial: 4, maximum: 4 })
  const pointer = wide ? BigInt : Number
  let imports
  const exports = {
    memory,
    __indirect_function_table: new WebAssembly.Table({ initial: 1, element: 'anyfunc' }),
    emscripten_stack_get_end: () => pointer(1024),
    emscripten_stack_get_base: () => pointer(2048),
    emscripten_stack_get_current: () => pointer(2048),
    main: () => 0,
    stackSave: () => 2048,
    stackAlloc: () => 3072,
    __errno_location: () => 3200,
  }
  for (const name of ['__wasm_call_ctors', 'emscripten_stack_init', 'stackRestore', 'fflush', 'malloc', 'free', 'handle'])
    exports[name] = () => pointer(0)
  const instantiate = (info, receive) => {
    imports = info.env
    setTimeout(() => receive({ exports }), 0)
    return {}
  }
  // What is created before the loader takes over the clock is stamped with the host's time; ours is the first reading.
  Date.now = () => 10000
  await loader(instantiate, { format: formats[format] })
  return { memory: new Uint8Array(memory.buffer), view: new DataView(memory.buffer), imports }
}

const A = 4096 // paths
const B = 8192
const OUT = 16384 // what the loader writes
const ROOM = 512
const DATA = 32768

const names = ['tmp', 'a', 'b', 'c', '.d', 'dev', 'tty', 'tty1', 'null', 'stdin', 'urandom', 'proc', 'self', 'fd', '0',
  '1', '3', '..', '.', 'home', 'web_user', 'data', 'x y', 'ä', '', ' 1', '\xE9', '__proto__']
const likely = ['/tmp/a', '/tmp/b', '/tmp/c', '/tmp/a/b', '/tmp/a/.d', '/tmp/b/a', '/tmp', '/a', '/b', '/dev/null',
  '/dev/tty', '/dev/tty1', '/dev/stdin', '/dev/stdout', '/dev/stderr', '/dev/random', '/dev/urandom', '/proc/self/fd',
  '/proc/self/fd/1', '/proc/self/fd/3', '/proc/self', '/data', '/data/x', '/.d', '/.d/a', '/', '', '.', '/tmp/a/',
  '/tmp/../a', '/a/__proto__']
const path = () => {
  if (random(2)) return pick(likely.slice(0, 6))
  if (random(3)) return pick(likely)
  const depth = 1 + random(4)
  return (random(4) ? '/' : '') + Array.from({ length: depth }, () => pick(names)).join('/') + (random(6) ? '' : '/')
}
const fd = () => (random(12) ? random(8) : pick([-1, -100, 20, 4096, 100, -5]))
const dirfd = () => (random(3) ? -100 : fd())
const flags = () => (random(3) ? pick([0, 577, 577, 578, 1089, 66, 66, 65, 2, 1, 514]) : oddFlags())
const oddFlags = () => (random(12) ? random(3) : 3) | pick([0, 0, 64, 64, 64, 64]) | pick([0, 0, 0, 128]) |
  pick([0, 0, 0, 512]) | pick([0, 0, 1024]) | pick([0, 0, 0, 0, 65536]) | pick([0, 0, 0, 131072]) |
  pick([0, 0, 0, 0, 0, 0x200000, 2048])
const mode = () => pick([0o666, 0o666, 0o644, 0o777, 0o777, 0, 0o444, 0o222, 0o111, 0o7777, -1])
const offset = () => pick([0, 1, 5, -1, -3, 10, 100, 300, 2 ** 53, -(2 ** 53), 2 ** 53 + 2, -(2 ** 54)])
const size = () => pick([0, 1, 3, 9, 20, 300])
const flag = (odds, value) => (random(odds) ? 0 : value)

const plans = {
  openat: () => [dirfd(), path(), flags(), mode()],
  close: () => [fd()],
  read: () => [fd(), size()],
  write: () => [fd(), size()],
  seek: () => [fd(), offset(), pick([0, 1, 2, 0, 1, 2, 3])],
  fdstat: () => [fd()],
  stat: () => [path()],
  lstat: () => [path()],
  fstat: () => [fd()],
  newfstatat: () => [dirfd(), path(), flag(2, 256) | flag(2, 4096) | flag(4, 2048) | flag(60, 1)],
  mkdirat: () => [dirfd(), path(), mode()],
  rmdir: () => [path() || '/a'],
  unlinkat: () => [dirfd(), path(), flag(3, 512) | flag(80, 1)],
  renameat: () => [dirfd(), path(), dirfd(), path()],
  readlinkat: () => [dirfd(), path(), pick([-1, 0, 1, 4, 8, 9, 20])],
  faccessat: () => [dirfd(), path(), pick([0, 1, 2, 4, 6, 7, 8]), flag(80, 1)],
  chmod: () => [path() || '/a', mode()],
  fchmod: () => [fd(), mode()],
  fchown: () => [fd()],
  ftruncate: () => [fd(), pick([0, 1, 5, 40, -1, 2 ** 54])],
  utimensat: () => [dirfd(), path(), pick(['now', '5000', '-5', '1700000000', '99999999']), pick([0, 1, 999999999]), flag(80, 1)],
  dup3: () => [fd(), fd(), flag(40, 1)],
  fcntl: () => [fd(), random(18), pick([0, 1, 5, -1, 1024, 4097, 2])],
  getcwd: () => [pick([0, 1, 2, 20])],
  ioctl: () => [fd(), pick([21505, 21506, 21508, 21509, 21510, 21512, 21515, 21519, 21520, 21523, 21524, 21531, ...(random(20) ? [] : [5])])],
  sync: () => [fd()],
}
// Mostly calls that change something.
const weighted = Object.keys(plans).concat(...Array(5).fill(['openat', 'openat', 'write', 'read', 'renameat', 'mkdirat', 'unlinkat', 'seek', 'stat']))

// Percent-encodes what is not printable, so that a line is plain text.
const quote = (bytes) => '"' + [...bytes].map((b) => (b > 0x20 && b < 0x7f && b !== 0x25 ? String.fromCharCode(b) : '%' + b.toString(16).padStart(2, '0'))).join('') + '"'
// Latin-1 for the one name that is meant to be invalid UTF-8.
const encode = (text) => Buffer.concat([...text].map((c) => (c === '\xE9' ? Buffer.from([0xe9]) : Buffer.from(c))))

async function sequence() {
  const { memory, view, imports } = await boot()
  print('boot ' + ' = ' + (Date.now() - 10000))
  const P = wide ? BigInt : Number
  const put = (at, text) => {
    memory.fill(0, at, at + 256)
    const bytes = encode(text)
    memory.set(bytes, at)
    return P(at)
  }
  const split = (n) => (wide ? [BigInt(n)] : [Number(BigInt.asIntN(32, BigInt(n))), Number(BigInt.asIntN(32, BigInt(n) >> 32n))])
  const word = (at, n) => (wide ? view.setBigUint64(at, BigInt(n), true) : view.setUint32(at, n, true))
  const vector = (length) => {
    word(OUT - 256, DATA)
    word(OUT - 256 + (wide ? 8 : 4), length)
    return [P(OUT - 256), P(1), P(OUT)]
  }
  const run = {
    openat: (d, p, f, m) => (view.setInt32(B, m, true), imports.__syscall_openat(d, put(A, p), f, P(B))),
    close: (f) => imports.fd_close(f),
    read: (f, n) => imports.fd_read(f, ...vector(n)),
    write: (f, n) => {
      for (let i = 0; i < n; i++) memory[DATA + i] = 65 + ((i + n) % 26)
      return imports.fd_write(f, ...vector(n))
    },
    seek: (f, o, w) => imports.fd_seek(f, ...split(o), w, P(OUT)),
    fdstat: (f) => imports.fd_fdstat_get(f, P(OUT)),
    stat: (p) => imports.__syscall_stat64(put(A, p), P(OUT)),
    lstat: (p) => imports.__syscall_lstat64(put(A, p), P(OUT)),
    fstat: (f) => imports.__syscall_fstat64(f, P(OUT)),
    newfstatat: (d, p, f) => imports.__syscall_newfstatat(d, put(A, p), P(OUT), f),
    mkdirat: (d, p, m) => imports.__syscall_mkdirat(d, put(A, p), m),
    rmdir: (p) => imports.__syscall_rmdir(put(A, p)),
    unlinkat: (d, p, f) => imports.__syscall_unlinkat(d, put(A, p), f),
    renameat: (d, p, e, q) => imports.__syscall_renameat(d, put(A, p), e, put(B, q)),
    readlinkat: (d, p, n) => imports.__syscall_readlinkat(d, put(A, p), P(OUT), P(n)),
    faccessat: (d, p, m, f) => imports.__syscall_faccessat(d, put(A, p), m, f),
    chmod: (p, m) => imports.__syscall_chmod(put(A, p), m),
    fchmod: (f, m) => imports.__syscall_fchmod(f, m),
    fchown: (f) => imports.__syscall_fchown32(f, 1, 1),
    ftruncate: (f, n) => imports.__syscall_ftruncate64(f, ...split(n)),
    utimensat: (d, p, t, ns, f) => {
      let times = 0
      if (t !== 'now') {
        times = B
        for (const [at, seconds, rest] of [[0, Number(t), ns], [1, 5, 7]]) {
          if (format === 'em2') {
            view.setInt32(B + at * 8, seconds, true)
            view.setInt32(B + at * 8 + 4, rest, true)
          } else {
            view.setBigInt64(B + at * 16, BigInt(seconds), true)
            view.setInt32(B + at * 16 + 8, rest, true)
          }
        }
      }
      return imports.__syscall_utimensat(d, put(A, p), P(times), f)
    },
    dup3: (f, g, h) => imports.__syscall_dup3(f, g, h),
    fcntl: (f, c, a) => {
      word(B, 0)
      const locks = format === 'em3' || format === 'em4' ? 12 : 5
      if (c === locks) word(B, OUT)
      else view.setInt32(B, a, true)
      return imports.__syscall_fcntl64(f, c, P(B))
    },
    getcwd: (n) => imports.__syscall_getcwd(P(OUT), P(n)),
    ioctl: (f, r) => (word(B, OUT), imports.__syscall_ioctl(f, r, P(B))),
    sync: (f) => imports.fd_sync(f),
  }
  for (let i = 0; i < Number(operations); i++) {
    const name = pick(weighted)
    const args = plans[name]()
    // Guest memory beforehand is 0xAA, so that the bytes a call leaves alone show.
    memory.fill(0xaa, OUT, OUT + ROOM)
    memory.fill(0xaa, DATA, DATA + ROOM)
    const before = Date.now()
    let got
    try {
      got = run[name](...args)
      if (typeof got === 'bigint') got = Number(got)
      if (got === undefined) got = 0
    } catch (error) {
      got = 'abort'
    }
    const ticks = Date.now() - before - 1
    let stored = ''
    if (got !== 'abort') {
      let end = ROOM
      const region = name === 'read' ? DATA : OUT
      while (end && memory[region + end - 1] === 0xaa) end--
      const bytes = memory.subarray(region, region + end)
      if (name === 'read') stored = got === 0 ? String(view.getUint32(OUT, true)) : ''
      if (name === 'read' && got === 0 && end) stored += ' ' + Buffer.from(bytes).toString('hex')
      if (name !== 'read' && name !== 'write' && end) stored = Buffer.from(bytes).toString('hex')
    }
    const shown = args.map((a) => (typeof a === 'string' && name !== 'utimensat' ? quote(encode(a)) : typeof a === 'string' && a !== args[2] ? quote(encode(a)) : String(typeof a === 'number' && Math.abs(a) > 2 ** 52 ? BigInt(a) : a)))
    print([name, ...shown, '=', got, ticks, stored].join(' ').trimEnd())
    if (got === 'abort') break
  }
}
for (let i = 0; i < Number(sequences); i++) await sequence()
