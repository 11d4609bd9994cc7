//! How each function is compiled: in place where it is called, or as states of the machine.
//!
//! Drivers inline every call, so a kernel in which functions called functions would have the size of the call tree, and
//! recursion would have no place. Here a function is there once: a call sets where to go on and leaves. Only what is small
//! or called from one place, has no loop, and calls nothing that is not so itself, is compiled in place.

use std::collections::{BinaryHeap, HashMap, HashSet};

use wasmparser::Operator;

use super::program::Program;

/// A function of at most so many memory accesses and so many instructions is compiled wherever it is called.
const IN_PLACE_ACCESSES_MAX: u32 = 4;
const IN_PLACE_OPS_MAX: usize = 120;

/// What an access counts in the size of a function, against an instruction: a driver on the CPU makes some hundred instructions
/// of it.
const ACCESS_SIZE: u64 = 32;

/// Loops over the machine's last functions, at most.
const TAILS_MAX: usize = 4;

/// How deep functions may be compiled into each other, so that hostile chains do not exhaust the host's stack.
const IN_PLACE_DEPTH_MAX: usize = 24;

/// The plan for one module and what it exports.
pub struct Plan {
    /// Functions that are states of the machine, callers before those they call where there is an order; of those that could
    /// come next, the largest.
    pub machine: Vec<u32>,
    /// Places in `machine` from which on functions have a loop of the kernel over their states, to the last of them; one within the
    /// other, each of at most half the size. What reads texts calls small functions all the time, and each of these
    /// calls takes a turn: where the processor runs all states, masked, that is not past the large ones.
    pub tails: Vec<usize>,
    /// For each function of the machine: those on a cycle with it, itself among them if it calls itself. Empty for what is
    /// never active twice.
    cycles: HashMap<u32, u32>,
    in_place: HashSet<u32>,
}

impl Plan {
    /// Makes a plan for everything that `entries` can reach.
    pub fn new(program: &Program<'_>, entries: &[u32]) -> Plan {
        let graph = Graph::new(program, entries);
        let (components, order) = graph.components();
        let mut in_place: HashSet<u32> = HashSet::new();
        let mut depths: HashMap<u32, usize> = HashMap::new();
        let mut weights: HashMap<u32, (u32, usize)> = HashMap::new();
        // What is called comes before what calls it.
        for &function in order.iter() {
            let callees = &graph.calls[&function];
            let own = program.own(function).expect("only own functions are in the graph");
            let mut accesses: u32 = own.ops.iter().map(|(op, _)| accesses(op)).sum();
            let mut ops = own.ops.len();
            let mut depth = 0;
            for (callee, sites) in callees {
                if in_place.contains(callee) {
                    let (more_accesses, more_ops) = weights[callee];
                    accesses = accesses.saturating_add(more_accesses.saturating_mul(*sites));
                    ops = ops.saturating_add(more_ops.saturating_mul(*sites as usize));
                    depth = depth.max(depths[callee] + 1);
                }
            }
            weights.insert(function, (accesses, ops));
            depths.insert(function, depth);
            let calls_machine =
                graph.indirect.contains(&function) || callees.keys().any(|callee| !in_place.contains(callee));
            let is_small = accesses <= IN_PLACE_ACCESSES_MAX && ops <= IN_PLACE_OPS_MAX;
            let called_once = graph.sites.get(&function) == Some(&1) && !graph.in_tables.contains(&function);
            let is_cyclic = graph.is_cyclic(function, &components);
            let loops = own.ops.iter().any(|(op, _)| matches!(op, Operator::Loop { .. }));
            if !calls_machine && !is_cyclic && !loops && depth < IN_PLACE_DEPTH_MAX && (is_small || called_once) {
                in_place.insert(function);
            }
        }
        let needed = |function: &u32| {
            !in_place.contains(function) || entries.contains(function) || graph.in_tables.contains(function)
        };
        let size = |function: u32| {
            let (accesses, ops) = weights[&function];
            u64::from(accesses) * ACCESS_SIZE + ops as u64
        };
        let machine: Vec<u32> = graph.callers_first(&components, &order, &size).into_iter().filter(needed).collect();
        let tails = tails(&machine.iter().map(|function| size(*function)).collect::<Vec<_>>());
        let cycles = order
            .iter()
            .filter(|function| graph.is_cyclic(**function, &components))
            .map(|function| (*function, components[function]))
            .collect();
        Plan { machine, tails, cycles, in_place }
    }

    /// Whether a call of this function is compiled where it stands.
    pub fn is_in_place(&self, function: u32) -> bool {
        self.in_place.contains(&function)
    }

    /// Whether a call from one function may come back into it before it returns.
    pub fn may_reenter(&self, caller: u32, callee: u32) -> bool {
        match (self.cycles.get(&caller), self.cycles.get(&callee)) {
            (Some(a), Some(b)) => a == b,
            _ => false,
        }
    }

    /// Whether an indirect call from this function may come back into it.
    pub fn is_cyclic(&self, function: u32) -> bool {
        self.cycles.contains_key(&function)
    }
}

/// From which places on the sizes to the end are at most half of what they are from the place before, the first at 0.
fn tails(sizes: &[u64]) -> Vec<usize> {
    let mut tails = Vec::new();
    let mut around: u64 = sizes.iter().sum();
    let mut left = around;
    for (at, size) in sizes.iter().enumerate() {
        if left <= around / 2 && tails.len() < TAILS_MAX {
            tails.push(at);
            around = left;
        }
        left -= size;
    }
    tails
}

/// A module's own functions that may be called again before they return.
pub fn active_twice(program: &Program<'_>) -> HashSet<u32> {
    let own = program.imports.len()..program.imports.len() + program.functions.len();
    let graph = Graph::new(program, &own.map(|function| function as u32).collect::<Vec<_>>());
    let (components, order) = graph.components();
    order.into_iter().filter(|function| graph.is_cyclic(*function, &components)).collect()
}

/// How many places of a kernel reach memory for an instruction, at most: what drivers' compile time goes with.
pub fn accesses(op: &Operator<'_>) -> u32 {
    use Operator::*;
    match op {
        I32Load { memarg } | F32Load { memarg } | I64Load32S { memarg } | I64Load32U { memarg } => {
            if memarg.align >= 2 { 1 } else { 2 }
        }
        I64Load { memarg } | F64Load { memarg } => {
            if memarg.align >= 2 {
                2
            } else {
                3
            }
        }
        I32Load8S { .. } | I32Load8U { .. } | I64Load8S { .. } | I64Load8U { .. } => 1,
        I32Load16S { memarg } | I32Load16U { memarg } | I64Load16S { memarg } | I64Load16U { memarg } => {
            if memarg.align >= 1 { 1 } else { 2 }
        }
        I32Store { memarg } | F32Store { memarg } | I64Store32 { memarg } => {
            if memarg.align >= 2 {
                1
            } else {
                4
            }
        }
        I64Store { memarg } | F64Store { memarg } => {
            if memarg.align >= 2 {
                2
            } else {
                6
            }
        }
        I32Store8 { .. } | I64Store8 { .. } => 2,
        I32Store16 { memarg } | I64Store16 { memarg } => {
            if memarg.align >= 1 {
                2
            } else {
                4
            }
        }
        MemoryCopy { .. } | MemoryFill { .. } => 3,
        _ => 0,
    }
}

/// Who calls whom, of what the entries reach.
struct Graph {
    /// For each function, what it calls directly and in how many places.
    calls: HashMap<u32, HashMap<u32, u32>>,
    /// Places that call a function directly.
    sites: HashMap<u32, u32>,
    /// Functions that call through a table.
    indirect: HashSet<u32>,
    /// Functions that tables hold, if anything calls through one.
    in_tables: HashSet<u32>,
}

impl Graph {
    fn new(program: &Program<'_>, entries: &[u32]) -> Graph {
        let mut graph =
            Graph { calls: HashMap::new(), sites: HashMap::new(), indirect: HashSet::new(), in_tables: HashSet::new() };
        let own = |function: &u32| program.own(*function).is_some();
        let mut waiting: Vec<u32> = entries.iter().copied().filter(own).collect();
        while let Some(function) = waiting.pop() {
            if graph.calls.contains_key(&function) {
                continue;
            }
            let mut calls = HashMap::new();
            for (op, _) in &program.own(function).expect("filtered before").ops {
                match op {
                    Operator::Call { function_index } if own(function_index) => {
                        *calls.entry(*function_index).or_insert(0) += 1;
                        *graph.sites.entry(*function_index).or_insert(0) += 1;
                        waiting.push(*function_index);
                    }
                    Operator::CallIndirect { table_index, .. } => {
                        graph.indirect.insert(function);
                        for entry in program.tables[*table_index as usize].entries.iter().flatten().filter(|f| own(f)) {
                            graph.in_tables.insert(*entry);
                            waiting.push(*entry);
                        }
                    }
                    _ => {}
                }
            }
            graph.calls.insert(function, calls);
        }
        graph
    }

    /// Everything that a function may call.
    fn successors(&self, function: u32) -> Vec<u32> {
        let mut all: Vec<u32> = self.calls[&function].keys().copied().collect();
        if self.indirect.contains(&function) {
            all.extend(&self.in_tables);
        }
        all.sort_unstable();
        all.dedup();
        all
    }

    /// The functions, callers before what they call unless that calls them; of those that could come next, the largest.
    fn callers_first(&self, components: &HashMap<u32, u32>, order: &[u32], size: &dyn Fn(u32) -> u64) -> Vec<u32> {
        let count = components.values().max().map_or(0, |last| *last as usize + 1);
        let (mut members, mut sizes) = (vec![Vec::new(); count], vec![0u64; count]);
        let mut callees = vec![HashSet::new(); count];
        for &function in order.iter().rev() {
            let own = components[&function];
            members[own as usize].push(function);
            sizes[own as usize] += size(function);
            let called = self.successors(function).into_iter().map(|callee| components[&callee]);
            callees[own as usize].extend(called.filter(|callee| *callee != own));
        }
        let mut callers = vec![0u32; count];
        callees.iter().flatten().for_each(|callee| callers[*callee as usize] += 1);
        // Of two of one size, the one found last.
        let mut ready: BinaryHeap<(u64, usize)> =
            (0..count).filter(|at| callers[*at] == 0).map(|at| (sizes[at], at)).collect();
        let mut sorted = Vec::new();
        while let Some((_, at)) = ready.pop() {
            sorted.extend(&members[at]);
            for callee in &callees[at] {
                let callee = *callee as usize;
                callers[callee] -= 1;
                if callers[callee] == 0 {
                    ready.push((sizes[callee], callee));
                }
            }
        }
        sorted
    }

    /// Whether a function may be active twice.
    fn is_cyclic(&self, function: u32, components: &HashMap<u32, u32>) -> bool {
        self.successors(function).iter().any(|callee| components[callee] == components[&function])
    }

    /// Strongly connected components (Tarjan), by function; and the functions, what is called before what calls it.
    /// Without recursion of its own: hostile call chains are long.
    fn components(&self) -> (HashMap<u32, u32>, Vec<u32>) {
        let mut index: HashMap<u32, u32> = HashMap::new();
        let mut low: HashMap<u32, u32> = HashMap::new();
        let mut component: HashMap<u32, u32> = HashMap::new();
        let (mut order, mut open) = (Vec::new(), Vec::new());
        let mut roots: Vec<u32> = self.calls.keys().copied().collect();
        roots.sort_unstable();
        let mut components = 0;
        for root in roots {
            let mut work = vec![(root, None::<(Vec<u32>, usize)>)];
            while let Some((function, state)) = work.pop() {
                let (successors, at) = match state {
                    None if index.contains_key(&function) => continue,
                    None => {
                        let number = index.len() as u32;
                        index.insert(function, number);
                        low.insert(function, number);
                        open.push(function);
                        (self.successors(function), 0)
                    }
                    Some(state) => state,
                };
                if at > 0 {
                    let seen = successors[at - 1];
                    if !component.contains_key(&seen) {
                        let lower = low[&function].min(low[&seen]);
                        low.insert(function, lower);
                    }
                }
                if let Some(&next) = successors.get(at) {
                    work.push((function, Some((successors, at + 1))));
                    work.push((next, None));
                    continue;
                }
                if low[&function] == index[&function] {
                    while let Some(member) = open.pop() {
                        component.insert(member, components);
                        order.push(member);
                        if member == function {
                            break;
                        }
                    }
                    components += 1;
                }
            }
        }
        (component, order)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tails_are_of_at_most_half_of_what_they_are_in() {
        assert!(tails(&[]).is_empty());
        assert!(tails(&[9]).is_empty());
        assert!(tails(&[1, 9]).is_empty());
        assert_eq!(tails(&[9, 1]), [1]);
        assert_eq!(tails(&[20, 10, 4, 3, 2, 1, 1]), [2, 4, 5, 6]);
    }

    #[test]
    fn callers_come_first_and_large_ones_before_small_ones() {
        // 4 calls 2 calls 0; 1 and 3 call each other.
        let wasm = wat::parse_str(
            r#"(module
                (func $small) (func $back (call $and)) (func $middle (call $small)) (func $and (call $back))
                (func (export "first") (call $middle) (call $back) (call $large) (call $small))
                (func $large (drop (i32.load (i32.const 0))) (drop (i32.load (i32.const 4))))
                (memory 1))"#,
        )
        .unwrap();
        let program = Program::read(&wasm, false).unwrap();
        let graph = Graph::new(&program, &[4]);
        let (components, order) = graph.components();
        let size = |function: u32| program.own(function).unwrap().ops.len() as u64;
        let sorted = graph.callers_first(&components, &order, &size);
        let at = |function| sorted.iter().position(|f| *f == function).unwrap();
        assert_eq!(sorted.len(), 6);
        assert_eq!(at(4), 0);
        assert!(at(5) < at(2) && at(2) < at(0), "{sorted:?}");
        assert_eq!(at(1).abs_diff(at(3)), 1, "{sorted:?}");
    }
}
