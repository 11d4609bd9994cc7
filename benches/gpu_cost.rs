//! What the kernels cost on an AMD GPU that need not be there: Mesa's RADV driver compiles for it and counts.
//!
//! ```text
//! VK_DRIVER_FILES=/usr/share/vulkan/icd.d/radeon_icd.x86_64.json RADV_FORCE_FAMILY=gfx1100 \
//!     cargo bench -p lockstep-shaders --bench gpu_cost
//! ```
//!
//! Newer versions of Mesa name the family `navi31`. Nothing is executed. Registers, spills and occupancy are those of the
//! whole kernels. Time is modelled: the compiler's inverse throughput (cycles for which a wave of 64 lanes keeps a SIMD
//! busy) of each straight piece, times how often the piece runs, as if nothing ever waited for memory.

mod radv;

use std::process::ExitCode;

use lockstep_shaders::kernels::program::{Operation, Program};
use lockstep_shaders::kernels::{curve, ed25519, rsa_rows, rsa_tiles, secp256k1};
use lockstep_shaders::limbs::Form;
use lockstep_shaders::limbs::field::Field;
use lockstep_shaders::limbs::rows::Rows;
use lockstep_shaders::limbs::tape::Tape;
use lockstep_shaders::limbs::tile::Tiles;
use naga::valid::Capabilities;
use radv::{CLOCK_HZ, Driver, LANES, SIMDS, Statistics};

fn main() -> ExitCode {
    let driver = match Driver::open() {
        Ok(driver) => driver,
        Err(error) => {
            eprintln!("gpu_cost: {error}; this bench needs RADV, told by RADV_FORCE_FAMILY what to compile for");
            return ExitCode::FAILURE;
        }
    };
    println!("compiled for {}; rates are modelled for an RX 7900 XTX", driver.name);
    for form in [Form::THIN, Form::THIN_UNMASKED, Form::NARROW, Form::WIDE, Form::WIDEST] {
        println!("\n{form:?}");
        for bits in [2048, 4096] {
            rsa_by_lane(&driver, Tiles::new(form, bits), bits);
            rsa_by_lanes(&driver, Rows::new(form, bits), bits);
        }
        for (name, field, programs) in [
            (
                "2^255-19",
                Field::curve25519(form),
                vec![
                    ("Ed25519, cofactorless", ed25519::program(ed25519::Rule::Cofactorless)),
                    ("Ed25519, the network's rule", ed25519::program(ed25519::Rule::Network)),
                ],
            ),
            (
                "secp256k1",
                Field::secp256k1(form),
                vec![
                    ("secp256k1, by key", secp256k1::verify_program()),
                    ("secp256k1, recovered", secp256k1::recover_program()),
                ],
            ),
        ] {
            print_kernel(name, &compile(&driver, &curve::wgsl(&field), form));
            for (name, program) in programs {
                curve_program(&driver, &field, name, &program);
            }
        }
    }
    ExitCode::SUCCESS
}

fn rate(cycles: f64) -> f64 {
    SIMDS * CLOCK_HZ / cycles * LANES / 1e6
}

/// Cycles for which a wave of 64 lanes keeps a SIMD of RDNA3 busy with one 24-bit multiply-add, which is done at full rate.
const MULTIPLY_ADD_CYCLES: f64 = 2.0;

/// How much of the rate at which nothing but the products were computed, where products are 24-bit multiply-adds.
fn bound(form: Form, cycles: f64, products: usize) -> String {
    match form.masked {
        true => {
            let least = products as f64 * MULTIPLY_ADD_CYCLES;
            format!(", {:.2} of the {:.2} M/s of its {products} products alone", least / cycles, rate(least))
        }
        false => String::new(),
    }
}

/// What a lane reads and writes of storage, were none of it in a register or cache.
fn print_rate(form: Form, cycles: f64, products: usize, bytes: usize) {
    let terabytes = rate(cycles) * bytes as f64 / 1e6;
    println!(
        "      modelled {:.2} M/s{}; {} KB a signature, {terabytes:.1} TB/s at that rate",
        rate(cycles),
        bound(form, cycles, products),
        bytes / 1000
    );
}

fn compile(driver: &Driver, wgsl: &str, form: Form) -> Statistics {
    let module = naga::front::wgsl::parse_str(wgsl).unwrap_or_else(|error| panic!("{error}\n{wgsl}"));
    let capabilities = if form.wide { Capabilities::SHADER_INT64 } else { Capabilities::empty() };
    driver.compile(&module, capabilities, true).expect("a valid kernel")
}

fn print_kernel(name: &str, statistics: &Statistics) {
    println!("  kernel {name}: {}", statistics.line());
}

fn throughput(driver: &Driver, wgsl: &str, form: Form) -> f64 {
    compile(driver, wgsl, form).of("Inverse Throughput")
}

/// A kernel with one piece between loads and stores.
fn piece(form: Form, loads: &[(&str, usize)], accumulators: usize, tape: &Tape, outputs: &str, count: usize) -> String {
    let mut text = String::from(
        "@group(0) @binding(0) var<uniform> params: vec4<u32>;\n\
         @group(0) @binding(1) var<storage, read_write> registers: array<u32>;\n",
    );
    if accumulators > 0 {
        let sum = if form.wide { "u64" } else { "u32" };
        text += &format!("@group(0) @binding(2) var<storage, read_write> sums: array<{sum}>;\n");
    }
    text += "@compute @workgroup_size(64)\nfn main(@builtin(global_invocation_id) id: vec3<u32>) {\n";
    text += "let lane = id.x;\nlet lanes = params.x;\nlet modifier = params.y & 63u;\n";
    for ((name, limbs), place) in loads.iter().zip(["y", "w"]) {
        // Two places: a product of a number and itself would cost less.
        text += &format!("let from_{name} = params.{place} * lanes + lane;\n");
        text += &form.load_wgsl(name, *limbs, |word| format!("registers[from_{name} + {word}u * lanes]"));
    }
    for i in 0..accumulators {
        text += &format!("var t{i} = sums[{i}u * lanes + lane];\n");
    }
    for i in 0..count {
        text += &format!("var {outputs}{i} = 0u;\n");
    }
    // Either the sums change or there are limbs.
    text += &format!("{{\n{}}}\n", tape.wgsl(count == 0));
    text += "let to = params.z * lanes + lane;\n";
    text += &form.store_wgsl(count, |i| format!("{outputs}{i}"), |word| format!("registers[to + {word}u * lanes]"));
    for i in 0..accumulators {
        text += &format!("sums[{i}u * lanes + lane] = t{i};\n");
    }
    text + "}\n"
}

fn curve_program(driver: &Driver, field: &Field, name: &str, program: &Program) {
    let (form, count) = (field.form, field.count);
    let both = [("a", count), ("b", count)];
    let mut copy = Tape::new(form.wide);
    for i in 0..count {
        let limb = copy.input(format!("a{i}"), form.mask().into());
        copy.output(format!("d{i}"), limb);
    }
    let pieces = [
        (&[Operation::Mul][..], &both[..], field.mul()),
        (&[Operation::Square], &both[..1], field.square()),
        (&[Operation::Scale], &both[..1], field.scale()),
        (&[Operation::Add], &both, field.add()),
        (&[Operation::Sub], &both, field.sub()),
        (&[Operation::Freeze], &both[..1], field.freeze()),
        (&[Operation::Look, Operation::Table, Operation::Select], &both[..1], copy),
    ];
    let (mut cycles, mut products, mut shown) = (0.0, 0, Vec::new());
    for (operations, loads, tape) in pieces {
        let times: usize = operations.iter().map(|operation| program.steps_of(*operation)).sum();
        let each = throughput(driver, &piece(form, loads, 0, &tape, "d", count), form);
        cycles += times as f64 * each;
        products += times * tape.products();
        shown.push(format!("{times} {:?} x {each}", operations[0]));
    }
    let bytes = program.registers * form.words(count) * 4;
    println!("    {name}: {} = {cycles} cycles a wave, {bytes} bytes a lane", shown.join(" + "));
    // Operands and result.
    let moved = |operation: &Operation| match operation {
        Operation::Mul | Operation::Add | Operation::Sub | Operation::Select => 3,
        Operation::Square | Operation::Scale | Operation::Freeze | Operation::Look | Operation::Table => 2,
        _ => 0,
    };
    let elements: usize =
        Operation::ALL.iter().map(|(operation, _)| moved(operation) * program.steps_of(*operation)).sum();
    print_rate(form, cycles, products, elements * form.words(count) * 4);
}

/// One lane a signature.
fn rsa_by_lane(driver: &Driver, tiles: Tiles, bits: u64) {
    let form = tiles.form;
    print_kernel(&format!("RSA-{bits}, one lane a signature"), &compile(driver, &rsa_tiles::wgsl(tiles), form));
    // The same loops as in the kernel.
    let (mut sums, mut carries, mut digits) = (0u64, 0u64, 0u64);
    for step in 0..18 {
        let square = step != 0 && step != 17;
        for column in 0..2 * tiles.count {
            let first = (column + 1).saturating_sub(tiles.count);
            let end = if square { column / 2 + 1 } else { column.min(tiles.count - 1) + 1 };
            let mut held = 0;
            let weights = (first..end).map(|i| if square && 2 * i != column { 2 } else { 1 });
            for weight in weights.chain((first..column.min(tiles.count)).map(|_| 1)) {
                if held + 2 > tiles.pairs_between_carries() {
                    carries += 1;
                    held = 0;
                }
                held += weight;
                sums += 1;
            }
            carries += 1;
            if column < tiles.count {
                (digits, sums, carries) = (digits + 1, sums + 1, carries + 1);
            }
        }
    }
    let limbs = tiles.limbs;
    let base = sums_alone(driver, form, 2 * limbs);
    let sum = piece(form, &[("a", limbs), ("b", limbs)], 2 * limbs, &tiles.accumulate(), "q", 0);
    let sum = throughput(driver, &sum, form) - base;
    let carry = throughput(driver, &piece(form, &[], 2 * limbs, &tiles.carry(), "q", 0), form) - base;
    let digit = throughput(driver, &piece(form, &[("u", limbs), ("a", limbs)], 0, &tiles.digit(), "q", limbs), form);
    let cycles = sums as f64 * sum + carries as f64 * carry + digits as f64 * digit;
    println!(
        "    RSA-{bits}: {sums} tile products x {sum} + {carries} carries x {carry} + {digits} digits x {digit} = {cycles} cycles a wave"
    );
    let products = sums as usize * tiles.accumulate().products() + digits as usize * tiles.digit().products();
    print_rate(form, cycles, products, sums as usize * 2 * form.words(limbs) * 4);
}

/// What loading and storing a piece's sums takes: in the kernel they are in registers, so that is left out.
fn sums_alone(driver: &Driver, form: Form, count: usize) -> f64 {
    let mut nothing = Tape::new(form.wide);
    for i in 0..count {
        let sum = nothing.input_accumulator(format!("t{i}"), u64::from(form.mask()));
        nothing.output(format!("t{i}"), sum);
    }
    throughput(driver, &piece(form, &[], count, &nothing, "q", 0), form)
}

/// A lane for each tile of a signature. What barriers cost is left out.
fn rsa_by_lanes(driver: &Driver, rows: Rows, bits: u64) {
    let Tiles { form, limbs, count } = rows.tiles;
    print_kernel(&format!("RSA-{bits}, {count} lanes a signature"), &compile(driver, &rsa_rows::wgsl(rows), form));
    let base = sums_alone(driver, form, 2 * limbs);
    let both = [("a", limbs), ("b", limbs)];
    let sum = throughput(driver, &piece(form, &both, 2 * limbs, &rows.accumulate(), "q", 0), form) - base;
    let digit = piece(form, &[("a", limbs)], limbs, &rows.digit(), "q", limbs);
    let digit = throughput(driver, &digit, form) - sums_alone(driver, form, limbs);
    let carry = throughput(driver, &piece(form, &[], 2 * limbs, &rows.carry(), "q", 0), form) - base;
    let steps = 18 * count;
    let cycles = steps as f64 * (2.0 * sum + digit + carry);
    println!(
        "    RSA-{bits}: {steps} rows x (2 tile products x {sum} + digit {digit} + carry {carry}) = {cycles} cycles a wave \
         of {} signatures",
        LANES as usize / count
    );
    // A lane reads a, the digit and its neighbour's tile, and writes its own.
    let bytes = steps * count * 4 * limbs * 4;
    println!(
        "      modelled {:.2} M/s; {} KB of workgroup memory a signature",
        rate(cycles) / count as f64,
        bytes / 1000
    );
}
