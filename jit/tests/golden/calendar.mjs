// Makes `calendar.txt`: dates, as the loader's own JavaScript computes and formats them.
//
//   npm pack @permaweb/ao-loader@0.0.49 && tar xf permaweb-ao-loader-0.0.49.tgz
//   TZ=UTC node calendar.mjs package/dist/index.cjs SEED COUNT > calendar.txt
//
// No guest is needed: the loader hands its import table to `instantiateWasm`, and gets a stand-in instance whose
// exports are JavaScript functions. A line is a format (v1, em2, em3, em4, w64), a function, its arguments, `=`, what it
// gave (`abort` if the loader threw) and the structure afterwards, field by field.
import { createRequire } from 'node:module'
const require = createRequire(import.meta.url)
const [, , loaderPath, seed, count] = process.argv
const loader = require(require('node:path').resolve(loaderPath))
const formats = {
  v1: 'wasm32-unknown-emscripten',
  em2: 'wasm32-unknown-emscripten2',
  em3: 'wasm32-unknown-emscripten3',
  em4: 'wasm32-unknown-emscripten4',
  w64: 'wasm64-unknown-emscripten-draft_2024_02_15',
}
const letters = { _gmtime_js: 'B', _localtime_js: 'C', _mktime_js: 'i', strftime: 'n', _tzset_js: 'j' }
process.exit = () => {}
console.error = console.warn = console.log = () => {}
const print = (line) => process.stdout.write(line + '\n')
if (new Date(2024, 0, 1).getTimezoneOffset() || new Date(2024, 6, 1).getTimezoneOffset()) throw new Error('run with TZ=UTC')
const HostDate = Date
const now = HostDate.now

let state = BigInt(seed) * 2n + 1n
const random = (n) => {
  state = (state * 6364136223846793005n + 1442695040888963407n) & 0xffffffffffffffffn
  return Number((state >> 33n) % BigInt(n))
}
const pick = (list) => list[random(list.length)]

const TM = 8192
const PATTERN = 4096
const OUT = 16384
const ZONE = 12288

async function boot(name) {
  const wide = name === 'w64'
  const memory = new WebAssembly.Memory({ initial: 4, maximum: 4 })
  const pointer = wide ? BigInt : Number
  const machine = { wide, memory: new Uint8Array(memory.buffer), view: new DataView(memory.buffer), high: 0, heap: 40000 }
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
    malloc: (n) => {
      const at = machine.heap
      machine.heap += Number(n)
      return pointer(at)
    },
    setTempRet0: (n) => (machine.high = n),
    _emscripten_tempret_set: (n) => (machine.high = n),
  }
  for (const other of ['__wasm_call_ctors', 'emscripten_stack_init', 'stackRestore', 'fflush', 'free', 'handle'])
    exports[other] = () => pointer(0)
  Object.assign(exports, { E: memory, F: () => {}, G: () => 0, H: () => 0, I: exports.__indirect_function_table,
    J: exports.malloc, K: () => 3200, L: () => {}, M: () => 2048, N: () => {}, O: () => 3072 })
  const instantiate = (info, receive) => {
    machine.imports = info.env || info.a
    setTimeout(() => receive({ exports }), 0)
    return {}
  }
  Date.now = now
  try {
    await loader(instantiate, { format: formats[name] })
  } catch (error) {
    if (!machine.imports) throw error
  }
  machine.call = (name, ...args) => machine.imports[machine.imports.env ? name : machine.imports[name] ? name : letters[name]](...args)
  return machine
}

const FIELDS = ['sec', 'min', 'hour', 'mday', 'mon', 'year', 'wday', 'yday', 'isdst']
const readTm = (m) => {
  const ints = FIELDS.map((_, i) => m.view.getInt32(TM + i * 4, true))
  ints.push(m.wide ? m.view.getBigInt64(TM + 40, true) : m.view.getInt32(TM + 36, true))
  return ints.join(' ')
}
const writeTm = (m, ints, gmtoff, zone) => {
  m.memory.fill(0, TM, TM + 64)
  ints.forEach((n, i) => m.view.setInt32(TM + i * 4, n, true))
  if (m.wide) {
    m.view.setBigInt64(TM + 40, BigInt(gmtoff), true)
    m.view.setBigUint64(TM + 48, BigInt(zone), true)
  } else {
    m.view.setInt32(TM + 36, Number(BigInt.asIntN(32, BigInt(gmtoff))), true)
    m.view.setUint32(TM + 40, zone, true)
  }
}

const YEAR = 31556952
const seconds = () => pick([
  () => random(2 ** 31), () => -random(2 ** 31), () => 1700000000 + random(YEAR), () => random(400) * 86400 * 91,
  () => -62167219200 + random(200 * YEAR), () => (random(2 ** 31) - 2 ** 30) * 8000, () => 8640000000000 + random(3) - 1,
  () => -8640000000000 + random(3) - 1, () => pick([0, -1, 86399, 951782400, 4107542400, 2 ** 53, -(2 ** 53), 1e15]),
])()
const year = () => pick([() => 70 + random(160), () => random(3000) - 1950, () => pick([-1900, -1801, -1800, -1899, 0, 99, 100, 273860, 273861, -273720, -273721, 998100, 2 ** 31 - 1, -(2 ** 31)]), () => random(600000) - 300000])()
const odd = (usual, spread) => pick([() => random(usual), () => random(usual), () => random(usual), () => random(spread) - spread / 2])()
const big = () => pick([2 ** 31 - 1, -(2 ** 31), 10000000, -10000001])
const maybe = (value) => (random(40) ? value : big())
const fields = () => [maybe(odd(61, 10000)), maybe(odd(60, 10000)), maybe(odd(24, 10000)), maybe(odd(32, 100000)), maybe(odd(12, 1000)), year(), odd(7, 20), odd(366, 1000), pick([-1, 0, 1])]
const LETTERS = 'aAbBCdegGHIjmMnpStuUVwWyYzZcDFhrRTxXEO%k'
const pattern = () => {
  let text = ''
  for (let i = 1 + random(6); i > 0; i--)
    text += pick(['%' + pick([...LETTERS]), '%' + pick([...LETTERS]), '%E' + pick([...'cCxXyYd']), '%O' + pick([...'deHImMSuUVwWyk']), '%%', '%', ' ', '-', 'ab', 'é', '$&'])
  return text
}
const quote = (text) => '"' + [...Buffer.from(text)].map((b) => (b > 0x20 && b < 0x7f && b !== 0x25 && b !== 0x22 ? String.fromCharCode(b) : '%' + b.toString(16).padStart(2, '0'))).join('') + '"'

const machines = {}
for (const name of Object.keys(formats)) machines[name] = await boot(name)
for (const [name, m] of Object.entries(machines)) {
  const P = m.wide ? BigInt : Number
  const attempt = (line, run) => {
    let got
    try {
      got = run()
    } catch (error) {
      got = 'abort'
    }
    print(`${name} ${line} = ${got}`)
  }
  // The zone: offset, summer time, names as found in memory.
  attempt('tzset', () => {
    m.memory.fill(0xaa, OUT, OUT + 64)
    const text = (at) => Buffer.from(m.memory.subarray(at, m.memory.indexOf(0, at))).toString()
    if (name === 'v1' || name === 'em2') {
      m.call('_tzset_js', OUT, OUT + 8, OUT + 16)
      const first = m.view.getUint32(OUT + 16, true), second = m.view.getUint32(OUT + 20, true)
      return `${m.view.getInt32(OUT, true)} ${m.view.getInt32(OUT + 8, true)} ${quote(text(first))} ${quote(text(second))} ${Math.sign(first - second)} ${Math.abs(first - second)}`
    }
    m.call('_tzset_js', P(OUT), P(OUT + 8), P(OUT + 16), P(OUT + 40))
    return `${m.view.getInt32(OUT, true)} ${m.view.getInt32(OUT + 8, true)} ${quote(text(OUT + 16))} ${quote(text(OUT + 40))} 0 0`
  })
  const time = (n) => {
    if (m.wide) return [BigInt(n)]
    if (name === 'v1' || name === 'em2') return m.view.setInt32(OUT, n, true), [OUT]
    return [Number(BigInt.asIntN(32, BigInt(n))), Number(BigInt.asIntN(32, BigInt(n) >> 32n))]
  }
  for (let i = 0; i < Number(count); i++) {
    for (const what of ['gmtime', 'localtime']) {
      let n = seconds()
      if (name === 'v1' || name === 'em2') n |= 0
      attempt(`${what} ${BigInt(n)}`, () => {
        writeTm(m, [9, 9, 9, 9, 9, 9, 9, 9, 9], 9, 0)
        m.call(`_${what}_js`, ...time(n), P(TM))
        return readTm(m)
      })
    }
    const given = fields()
    attempt(`mktime ${given.join(' ')}`, () => {
      writeTm(m, given, 9, 0)
      m.high = null
      let got = m.call('_mktime_js', P(TM))
      if (m.high !== null) got = (BigInt(m.high) << 32n) | BigInt(got)
      return BigInt.asIntN(64, BigInt(got)) + ' ' + readTm(m)
    })
    const tm = fields()
    // Names beyond the tables end the evaluation: keep most dates whole.
    if (random(10)) tm[6] = random(7)
    if (random(10)) tm[4] = random(12)
    if (random(10)) tm[7] = random(366)
    const gmtoff = pick([0, 0, 0, 3600, -5400, 19800, 7, -123456789, 2147483647])
    const zone = pick(['UTC', 'UTC', '', 'A$$B', 'x%y'])
    const text = pattern()
    const room = pick([100, 100, 100, 8])
    attempt(`strftime ${tm.join(' ')} ${gmtoff} ${quote(zone)} ${quote(text)} ${room}`, () => {
      m.memory.fill(0, PATTERN, PATTERN + 256)
      m.memory.set(Buffer.from(text), PATTERN)
      m.memory.fill(0, ZONE, ZONE + 32)
      m.memory.set(Buffer.from(zone), ZONE)
      writeTm(m, tm, gmtoff, zone === '' ? 0 : ZONE)
      m.memory.fill(0xaa, OUT, OUT + 200)
      const got = Number(m.call('strftime', P(OUT), P(room), P(PATTERN), P(TM)))
      return got + (got || m.memory[OUT] === 0 ? ' ' + quote(m.memory.subarray(OUT, OUT + got)) + ' ' + m.memory[OUT + got] : '')
    })
  }
}
