//! How a lane ends.

use std::fmt;

/// Why a lane stopped. The numbers are the kernel's (`wgsl/machine.wgsl`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ending {
    /// The call returned.
    Done,
    /// WebAssembly says that it traps: the native engine would trap likewise.
    Trap(Trap),
    /// The lane could not go on exactly: the native engine has to do it.
    Bail(Bail),
}

/// A trap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Trap {
    /// `unreachable` was reached.
    Unreachable,
    /// An access outside linear memory.
    Memory,
    /// An indirect call behind the table's end.
    TableBounds,
    /// An indirect call of an entry that holds nothing.
    NullEntry,
    /// An indirect call of a function of another type.
    EntryType,
    /// A division by 0.
    Division,
    /// A quotient or a converted float that its type cannot hold.
    Overflow,
    /// A conversion of NaN to an integer.
    Conversion,
}

/// Why a lane hands its message back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bail {
    /// More instructions than one dispatch may take.
    Budget,
    /// Memory would grow beyond the lane's window.
    Window,
    /// Calls nested deeper than the lane's stack holds.
    Stack,
    /// A host function.
    Host,
    /// An access that is not aligned as its instruction hints.
    Alignment,
    /// An instruction that lanes do not have.
    Instruction,
    /// A table whose entries only an instance knows.
    Table,
    /// The driver bounded a loop that cannot be gone on with.
    Driver,
    /// A stack frame is not where, or not used as, the compiler took it to be.
    Frame,
    /// What the compiler took for constant is not what it was, or is written to.
    Constants,
    /// Anything a kernel should not say.
    Unknown,
}

impl Ending {
    /// From a lane's status; none while it runs.
    pub fn of(status: u32) -> Option<Ending> {
        Some(match status {
            0 => return None,
            1 => Ending::Done,
            2 => Ending::Trap(Trap::Unreachable),
            3 => Ending::Trap(Trap::Memory),
            4 => Ending::Trap(Trap::TableBounds),
            5 => Ending::Trap(Trap::NullEntry),
            6 => Ending::Trap(Trap::EntryType),
            7 => Ending::Trap(Trap::Division),
            8 => Ending::Trap(Trap::Overflow),
            9 => Ending::Trap(Trap::Conversion),
            32 => Ending::Bail(Bail::Budget),
            33 => Ending::Bail(Bail::Window),
            34 => Ending::Bail(Bail::Stack),
            35 => Ending::Bail(Bail::Host),
            36 => Ending::Bail(Bail::Alignment),
            37 => Ending::Bail(Bail::Instruction),
            38 => Ending::Bail(Bail::Table),
            39 => Ending::Bail(Bail::Driver),
            40 => Ending::Bail(Bail::Frame),
            41 => Ending::Bail(Bail::Constants),
            _ => Ending::Bail(Bail::Unknown),
        })
    }

    /// The lane's status.
    pub fn status(self) -> u32 {
        (1..42).find(|status| Ending::of(*status) == Some(self)).unwrap_or(u32::MAX)
    }
}

impl Trap {
    /// What wasmtime says of the same trap.
    pub fn text(self) -> &'static str {
        match self {
            Trap::Unreachable => "wasm trap: wasm `unreachable` instruction executed",
            Trap::Memory => "wasm trap: out of bounds memory access",
            Trap::TableBounds => "wasm trap: undefined element: out of bounds table access",
            Trap::NullEntry => "wasm trap: uninitialized element",
            Trap::EntryType => "wasm trap: indirect call type mismatch",
            Trap::Division => "wasm trap: integer divide by zero",
            Trap::Overflow => "wasm trap: integer overflow",
            Trap::Conversion => "wasm trap: invalid conversion to integer",
        }
    }
}

impl Bail {
    /// Every reason, for counters.
    pub const ALL: [Bail; 11] = [
        Bail::Budget,
        Bail::Window,
        Bail::Stack,
        Bail::Host,
        Bail::Alignment,
        Bail::Instruction,
        Bail::Table,
        Bail::Driver,
        Bail::Frame,
        Bail::Constants,
        Bail::Unknown,
    ];

    /// The reason in a word.
    pub fn name(self) -> &'static str {
        match self {
            Bail::Budget => "budget",
            Bail::Window => "window",
            Bail::Stack => "stack",
            Bail::Host => "host",
            Bail::Alignment => "alignment",
            Bail::Instruction => "instruction",
            Bail::Table => "table",
            Bail::Driver => "driver",
            Bail::Frame => "frame",
            Bail::Constants => "constants",
            Bail::Unknown => "unknown",
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ending::Done => f.write_str("done"),
            Ending::Trap(trap) => f.write_str(trap.text()),
            Ending::Bail(bail) => write!(f, "handed back: {}", bail.name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_and_an_ending_are_the_same_thing() {
        for status in (1..=9).chain(32..=41) {
            let ending = Ending::of(status).unwrap();
            assert_eq!(ending.status(), status, "{ending}");
        }
        assert_eq!(Ending::of(0), None);
        assert_eq!(Ending::of(77), Some(Ending::Bail(Bail::Unknown)));
    }
}
