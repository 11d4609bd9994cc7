//! The machine that runs programs of field operations: the kernel `wgsl/curve.wgsl`, and its twin.

use std::fmt::Write;

use super::fill;
use super::program::{Bits, Operation, Program};
use crate::buffers::{Buffers, dispatch};
use crate::device::{Device, Lost, OpenError};
use crate::limbs::field::Field;
use crate::limbs::tape::{LANES, Scratch, Tape};

/// The kernel for a field as WGSL.
pub fn wgsl(field: &Field) -> String {
    let count = field.count;
    let form = field.form;
    let storage = |buffer: &str, from: &str, stride: &str| {
        let (buffer, from, stride) = (buffer.to_owned(), from.to_owned(), stride.to_owned());
        move |word: usize| format!("{buffer}[{from} + {word}u{stride}]")
    };
    let load = |name: &str| form.load_wgsl(name, count, storage("registers", &format!("from_{name}"), " * lanes"));
    let rows = |f: &dyn Fn(usize) -> String| (0..count).fold(String::new(), |text, i| text + &f(i) + "\n");
    let any = (0..count).map(|i| format!("d{i}")).collect::<Vec<_>>().join(" | ");
    let mut text = fill(
        include_str!("../../wgsl/curve.wgsl"),
        &[
            ("words", form.words(count).to_string()),
            ("declare_d", rows(&|i| format!("var d{i} = 0u;"))),
            (
                "load_table",
                form.load_wgsl("c", count, storage("table", "from_table", "")) + &rows(&|i| format!("d{i} = c{i};")),
            ),
            ("load_a", load("a")),
            ("load_b", load("b")),
            ("copy_a", rows(&|i| format!("d{i} = a{i};"))),
            ("freeze", field.freeze().wgsl(false)),
            ("any_d", any),
            ("mul", field.mul().wgsl(false)),
            ("square", field.square().wgsl(false)),
            ("scale", field.scale().wgsl(false)),
            ("add", field.add().wgsl(false)),
            ("sub", field.sub().wgsl(false)),
            ("select", rows(&|i| format!("d{i} = select(b{i}, a{i}, choice);"))),
            ("store_d", form.store_wgsl(count, |limb| format!("d{limb}"), storage("registers", "to", " * lanes"))),
        ],
    );
    for (operation, name) in Operation::ALL {
        let _ = writeln!(text, "const {name} = {}u;", operation as u32);
    }
    let _ = writeln!(text, "const FIRST_OF_FLAGS = {}u;", Operation::Bit as u32);
    text
}

/// What a lane is given.
#[derive(Clone, Debug, Default)]
pub struct Lane {
    /// The program's inputs, each 32 little-endian bytes of a number below [`Field::bound`].
    pub inputs: Vec<[u8; 32]>,
    /// The program's words.
    pub words: Vec<u32>,
}

/// What a lane answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Whether the program's verdict is set.
    pub holds: bool,
    /// The program's outputs, 32 little-endian bytes each.
    pub outputs: Vec<[u8; 32]>,
}

fn answer(program: &Program, field: &Field, flags: u32, output: impl Fn(usize) -> Vec<u32>) -> Answer {
    let outputs = (0..program.outputs)
        .map(|index| field.form.bytes(output(index), 32).try_into().expect("32 bytes were asked for"))
        .collect();
    Answer { holds: flags >> program.verdict & 1 == 1, outputs }
}

/// The kernel for one field on a device. It runs any program over that field.
#[derive(Debug)]
pub struct CurveKernel {
    field: Field,
    pipeline: wgpu::ComputePipeline,
    buffers: Buffers,
}

impl CurveKernel {
    /// Compiles the kernel.
    ///
    /// # Errors
    /// [`OpenError::Kernel`] if the driver refuses it.
    pub fn new(device: &Device, field: Field) -> Result<CurveKernel, OpenError> {
        let pipeline = device.compile("curve", &wgsl(&field))?;
        Ok(CurveKernel { field, pipeline, buffers: Buffers::default() })
    }

    /// Runs `program` for each lane.
    ///
    /// # Errors
    /// [`Lost`] if the device went away before all were done.
    pub fn run(&mut self, device: &Device, program: &Program, lanes: &[Lane]) -> Result<Vec<Answer>, Lost> {
        let Field { count, form, .. } = self.field;
        let size = form.words(count);
        let most = device.found.lanes(4 * program.registers * size);
        let mut answers = Vec::with_capacity(lanes.len());
        let table: Vec<u32> = program.table.iter().flat_map(|element| form.pack(&form.split(element, count))).collect();
        for chunk in lanes.chunks(most) {
            let n = chunk.len();
            let mut inputs = vec![0; program.inputs * size * n];
            let mut words = vec![0; program.words * n];
            for (lane, one) in chunk.iter().enumerate() {
                for (input, bytes) in one.inputs.iter().enumerate() {
                    for (at, word) in form.pack(&form.cut(bytes, count)).into_iter().enumerate() {
                        inputs[(input * size + at) * n + lane] = word;
                    }
                }
                one.words.iter().enumerate().for_each(|(word, bits)| words[word * n + lane] = *bits);
            }
            let buffers = &mut self.buffers;
            let params = buffers.uniform(device, "params", [n as u32, program.steps.len() as u32, 0, 0]);
            let steps = buffers.upload(device, "program", program.steps.as_flattened());
            let registers = buffers.storage(device, "registers", program.registers * size * n);
            device.queue.write_buffer(&registers, 0, bytemuck::cast_slice(&inputs));
            let words = buffers.upload(device, "words", &words);
            let table = buffers.upload(device, "table", &table);
            let flags = buffers.storage(device, "flags", n);
            let bindings = [&params, &steps, &registers, &words, &table, &flags];
            let output_words = program.outputs * size * n;
            let first = program.first_output * size * n;
            let reads = [(&flags, 0, n), (&registers, first, output_words)];
            let read = dispatch(device, buffers, &self.pipeline, &bindings, (n, 64), &reads)?;
            let (flags, outputs) = read.split_at(n);
            for (lane, flags) in flags.iter().enumerate() {
                answers.push(answer(program, &self.field, *flags, |output| {
                    form.unpack(count, |word| outputs[(output * size + word) * n + lane]).collect()
                }));
            }
        }
        Ok(answers)
    }
}

/// The kernel's twin for one field.
#[derive(Debug)]
pub struct CurveTwin {
    field: Field,
    mul: Tape,
    square: Tape,
    scale: Tape,
    add: Tape,
    sub: Tape,
    freeze: Tape,
}

type Row = [u64; LANES];

impl CurveTwin {
    /// The twin for a field.
    pub fn new(field: Field) -> CurveTwin {
        CurveTwin {
            mul: field.mul(),
            square: field.square(),
            scale: field.scale(),
            add: field.add(),
            sub: field.sub(),
            freeze: field.freeze(),
            field,
        }
    }

    /// Runs `program` for each lane.
    pub fn run(&self, program: &Program, lanes: &[Lane]) -> Vec<Answer> {
        let table: Vec<_> =
            program.table.iter().map(|element| self.field.form.split(element, self.field.count)).collect();
        lanes.chunks(LANES).flat_map(|chunk| self.run_block(program, &table, chunk)).collect()
    }

    fn run_block(&self, program: &Program, table: &[Vec<u32>], lanes: &[Lane]) -> Vec<Answer> {
        let Field { count, form, .. } = self.field;
        let mut registers: Vec<Row> = vec![[0; LANES]; program.registers * count];
        for (lane, one) in lanes.iter().enumerate() {
            for (input, bytes) in one.inputs.iter().enumerate() {
                for (limb, word) in form.cut(bytes, count).into_iter().enumerate() {
                    registers[input * count + limb][lane] = word.into();
                }
            }
        }
        let mut flags = [1u32 << 31; LANES];
        let mut scratch = Scratch::default();
        let mut operands: Vec<Row> = Vec::with_capacity(2 * count);
        let mut d: Vec<Row> = vec![[0; LANES]; count];
        for [operation, target, a, b] in &program.steps {
            let (operation, modifier) = (Operation::ALL[(operation & 0xff) as usize].0, operation >> 8);
            let bits = |lane: usize| {
                let words = lanes.get(lane).map_or(&[][..], |lane| &lane.words);
                Bits::of(*b, |word| words.get(word as usize).copied().unwrap_or(0))
            };
            let mut compute = |tape: &Tape, d: &mut Vec<Row>, both: bool, last: &[Row]| {
                operands.clear();
                operands.extend_from_slice(&registers[*a as usize * count..][..count]);
                if both {
                    operands.extend_from_slice(&registers[*b as usize * count..][..count]);
                }
                operands.extend_from_slice(last);
                d.iter_mut().zip(tape.run(&operands, &mut scratch)).for_each(|(d, row)| *d = *row);
            };
            let set = |flags: &mut [u32; LANES], flag: u32, value: &dyn Fn(usize, u32) -> u32| {
                for (lane, flags) in flags.iter_mut().enumerate() {
                    *flags = *flags & !(1 << flag) | (value(lane, *flags) & 1) << flag;
                }
            };
            match operation {
                Operation::Mul => compute(&self.mul, &mut d, true, &[]),
                Operation::Square => compute(&self.square, &mut d, false, &[]),
                Operation::Scale => compute(&self.scale, &mut d, false, &[[modifier.into(); LANES]]),
                Operation::Add => compute(&self.add, &mut d, true, &[]),
                Operation::Sub => compute(&self.sub, &mut d, true, &[]),
                Operation::Freeze => {
                    compute(&self.freeze, &mut d, false, &[]);
                    set(&mut flags, b & 31, &|lane, _| u32::from(d.iter().all(|row| row[lane] == 0)));
                    set(&mut flags, b >> 8 & 31, &|lane, _| d[0][lane] as u32);
                }
                Operation::Look | Operation::Table => {
                    for lane in 0..LANES {
                        let from = (a + modifier * bits(lane)) as usize;
                        for (limb, d) in d.iter_mut().enumerate() {
                            d[lane] = match operation {
                                Operation::Look => registers[from * count + limb][lane],
                                _ => table[from][limb].into(),
                            };
                        }
                    }
                }
                Operation::Select => {
                    for lane in 0..LANES {
                        let from = if flags[lane] >> modifier & 1 == 1 { *a } else { *b } as usize;
                        d.iter_mut().enumerate().for_each(|(limb, d)| d[lane] = registers[from * count + limb][lane]);
                    }
                }
                Operation::Bit => set(&mut flags, *target, &|lane, _| bits(lane)),
                Operation::And => set(&mut flags, *target, &|_, held| held >> a & held >> b),
                Operation::Or => set(&mut flags, *target, &|_, held| held >> a | held >> b),
                Operation::Xor => set(&mut flags, *target, &|_, held| held >> a ^ held >> b),
            }
            if (operation as u32) < Operation::Bit as u32 {
                registers[*target as usize * count..][..count].copy_from_slice(&d);
            }
        }
        (0..lanes.len())
            .map(|lane| {
                let outputs = &registers[program.first_output * count..];
                answer(program, &self.field, flags[lane], |output| {
                    outputs[output * count..][..count].iter().map(|row| row[lane] as u32).collect()
                })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use num_bigint::BigUint;

    use super::super::program::Builder;
    use super::*;
    use crate::limbs::Form;
    use crate::test_numbers::{Random, device};

    /// A program of random steps over four inputs, and what num-bigint says of its four outputs.
    fn random_program(random: &mut Random, field: &Field, lanes: usize) -> (Program, Vec<Lane>, Vec<Vec<[u8; 32]>>) {
        let p = &field.modulus;
        let mut builder = Builder::default();
        let mut given: Vec<Lane> =
            (0..lanes).map(|_| Lane { inputs: vec![], words: vec![random.below(1 << 32) as u32] }).collect();
        let mut values: Vec<_> = (0..4)
            .map(|_| {
                let numbers: Vec<_> = (0..lanes)
                    .map(|lane| {
                        let mut bytes = random.bytes::<32>();
                        if field.modulus.bits() == 255 {
                            bytes[31] &= 0x7f;
                        }
                        given[lane].inputs.push(bytes);
                        BigUint::from_bytes_le(&bytes)
                    })
                    .collect();
                (builder.input(), numbers)
            })
            .collect();
        for _ in 0..300 {
            let recent = values.len().saturating_sub(12);
            let mut pick = || recent + random.below((values.len() - recent) as u64) as usize;
            let ((a, x), (b, y)) = (values[pick()].clone(), values[pick()].clone());
            let each = |f: &dyn Fn(usize) -> BigUint| (0..lanes).map(|lane| f(lane) % p).collect::<Vec<_>>();
            let (operation, detail) = (random.below(7), random.below(32) as u32);
            values.push(match operation {
                0 => (builder.mul(a, b), each(&|lane| &x[lane] * &y[lane])),
                1 => (builder.add(a, b), each(&|lane| &x[lane] + &y[lane])),
                2 => (builder.sub(a, b), each(&|lane| &x[lane] + p * 2u8 - &y[lane])),
                3 => (builder.square(a), each(&|lane| &x[lane] * &x[lane])),
                4 => (builder.scale(a, detail), each(&|lane| &x[lane] * detail)),
                5 => (builder.freeze(a), each(&|lane| x[lane].clone())),
                _ if builder.flags_left() > 1 => {
                    let flag = builder.bit(0, detail);
                    let set = |lane: usize| given[lane].words[0] >> detail & 1 == 1;
                    (
                        builder.select(flag, a, b),
                        each(&|lane| if set(lane) { x[lane].clone() } else { y[lane].clone() }),
                    )
                }
                _ => (builder.constant_copy(detail), each(&|_| detail.into())),
            });
        }
        let outputs: Vec<_> = values.split_off(values.len() - 4);
        let frozen = outputs.iter().map(|(element, _)| builder.freeze(*element)).collect();
        let expected = (0..lanes)
            .map(|lane| {
                outputs
                    .iter()
                    .map(|(_, numbers)| {
                        let mut bytes = (&numbers[lane] % p).to_bytes_le();
                        bytes.resize(32, 0);
                        bytes.try_into().unwrap()
                    })
                    .collect()
            })
            .collect();
        let verdict = builder.bit(0, 0);
        (builder.finish(verdict, frozen, 1), given, expected)
    }

    #[test]
    fn random_programs_mean_the_same_to_the_kernel_to_the_twin_and_to_num_bigint() {
        let device = device();
        let mut random = Random::new(7);
        for form in Form::ALL {
            for field in [Field::curve25519(form), Field::secp256k1(form)] {
                let twin = CurveTwin::new(field.clone());
                let on_device = device.as_ref().filter(|device| device.found.int64 || !form.wide);
                let mut kernel = on_device.map(|device| (device, CurveKernel::new(device, field.clone()).unwrap()));
                for lanes in [1, 63, 70] {
                    let (program, given, expected) = random_program(&mut random, &field, lanes);
                    let expected: Vec<_> = expected
                        .into_iter()
                        .zip(&given)
                        .map(|(outputs, lane)| Answer { holds: lane.words[0] & 1 == 1, outputs })
                        .collect();
                    assert_eq!(twin.run(&program, &given), expected, "twin, {form:?}");
                    if let Some((device, kernel)) = &mut kernel {
                        assert_eq!(kernel.run(device, &program, &given), Ok(expected), "kernel, {form:?}");
                    }
                }
            }
        }
    }
}
