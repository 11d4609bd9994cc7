//! Rewriting one body: its memory accesses, and the gas it counts.

use wasm_encoder::{
    BranchHint, Function, Instruction, MemArg, ValType,
    reencode::{self, Reencode},
};
use wasmparser::Operator;

use super::{
    Rewriter, Survey,
    counter::Counter,
    narrow::{self, Known},
    writer::{Scratch, Writer},
};

/// Writes a body anew.
///
/// Where a guest could go on for ever, at the head of every loop and on entry of every function that calls, it looks
/// whether the host wants it to stop.
///
/// What a function charges gathers in a local, and is added to the global before anything that leaves the function
/// (calls, returns, branches to the outermost label), so that host and callees always see the true count. The limit is
/// compared in the same places. The reference compares at every segment; but the count only grows, an evaluation that ran
/// out is undone as a whole, and the host compares once more at the end, so the same evaluations run out, with the same
/// result.
///
/// `twin` is for a body that [`asyncify::specialize`](super::asyncify::specialize) wrote: the function that it is the twin
/// of, and which is called if the guest is being unwound or rewound.
pub fn rewrite(
    rewriter: &mut Rewriter,
    index: u32,
    body: &wasmparser::FunctionBody<'_>,
    ops: &[(Operator<'_>, u64)],
    twin: Option<u32>,
) -> Result<(Function, Vec<BranchHint>), reencode::Error> {
    let survey = rewriter.survey.clone();
    let params = survey.function_type(index).map_or(0, |ty| ty.params().len() as u32);
    let usegas = survey.usegas;
    let amount_is_64 =
        usegas.and_then(|f| survey.function_type(f)?.params().first()) == Some(&wasmparser::ValType::I64);
    let mut locals = Vec::new();
    let mut local_count = params;
    for pair in body.get_locals_reader()? {
        let (count, ty) = pair?;
        local_count += count;
        locals.push((count, rewriter.val_type(ty)?));
    }
    let is_usegas =
        |op: &Operator<'_>| matches!(op, Operator::Call { function_index } if Some(*function_index) == usegas);
    let counts = ops.iter().any(|(op, charge)| *charge > 0 || is_usegas(op));
    let counter = Counter { local: local_count, global: rewriter.gas_global };
    if counts {
        locals.push((1, ValType::I64));
        local_count += 1;
    }
    let mut known = (survey.is_narrowed && ops.iter().any(|(op, _)| narrow::concerns(op))).then(|| {
        locals.extend(Scratch::TYPES);
        Known::new(&survey, survey.function_types[index as usize], params, ops.iter().map(|(op, _)| op))
    });

    let mut out = Writer::new(locals, Scratch::from(local_count));
    let calls =
        |op: &Operator<'_>| matches!(op, Operator::Call { .. } | Operator::CallIndirect { .. }) && !is_usegas(op);
    if let (Some(twin), Some(asyncify)) = (twin, &survey.asyncify) {
        out.put(&Instruction::GlobalGet(asyncify.state)).unlikely_if();
        for param in 0..params {
            out.put(&Instruction::LocalGet(param));
        }
        out.put(&Instruction::Call(twin)).put(&Instruction::Return).put(&Instruction::End);
    }
    let has_calls = ops.iter().any(|(op, _)| calls(op));
    if has_calls {
        stop_check(&survey, &mut out);
        if counts {
            counter.check(&mut out);
        }
    }
    let mut depth = 0u32;
    for (op, charge) in ops {
        if *charge > 0 {
            counter.charge_constant(&mut out, *charge);
        }
        if is_usegas(op) {
            counter.charge_stack(&mut out, amount_is_64);
        } else {
            if counts && leaves(op, depth) {
                counter.settle(&mut out);
            }
            let encoded = rewriter.instruction(op.clone())?;
            match &mut known {
                Some(known) => narrow::lower(known, &mut out, op, &encoded),
                None => {
                    out.put(&encoded);
                }
            }
            if matches!(op, Operator::Loop { .. }) {
                stop_check(&survey, &mut out);
                if counts {
                    counter.settle(&mut out);
                    counter.check(&mut out);
                }
            }
        }
        match op {
            Operator::Block { .. } | Operator::Loop { .. } | Operator::If { .. } => depth += 1,
            Operator::End => depth = depth.saturating_sub(1),
            _ => {}
        }
        if let Some(known) = &mut known {
            known.follow(op);
        }
    }
    Ok(out.finish())
}

/// Traps if the host wants the guest to stop. The load is atomic, since the host writes meanwhile: it may not be left out
/// for having been made before.
fn stop_check(survey: &Survey, out: &mut Writer) {
    if survey.has_memory {
        out.put(&Instruction::I32Const(0)).put(&Instruction::I32AtomicLoad8U(MemArg {
            offset: 0,
            align: 0,
            memory_index: 1,
        }));
        out.unlikely_if().put(&Instruction::Unreachable).put(&Instruction::End);
    }
}

/// Whether control may leave the function at `op`, inside `depth` blocks.
fn leaves(op: &Operator<'_>, depth: u32) -> bool {
    match op {
        Operator::Call { .. } | Operator::CallIndirect { .. } | Operator::Return => true,
        Operator::Br { relative_depth } | Operator::BrIf { relative_depth } => *relative_depth == depth,
        Operator::BrTable { targets } => {
            targets.default() == depth || targets.targets().any(|t| matches!(t, Ok(t) if t == depth))
        }
        Operator::End => depth == 0,
        _ => false,
    }
}
