//! The environment variables a guest finds.

use std::{fmt, str::FromStr};

/// Which environment a guest gets. It reaches guest memory, and through Lua's hash seed the key order of results, so
/// all units that are to agree must set the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum GuestEnv {
    /// What loader 0.0.44 gives in the reference's container.
    #[default]
    Reference,
    /// None at all, as loader 0.0.49 gives to the `emscripten4` and `wasm64` formats; golden vectors were made so.
    Empty,
}

/// The script path that the reference's evaluation worker runs from, in its container image.
pub const REFERENCE_PROGRAM: &str = "/usr/app/src/effects/worker/evaluator/index.js";

impl GuestEnv {
    /// `NAME=value` strings in the order they are written to guest memory.
    pub fn strings(self) -> Vec<String> {
        match self {
            Self::Reference => vec![
                "USER=web_user".into(),
                "LOGNAME=web_user".into(),
                "PATH=/".into(),
                "PWD=/".into(),
                "HOME=/home/web_user".into(),
                "LANG=C.UTF-8".into(),
                format!("_={REFERENCE_PROGRAM}"),
            ],
            Self::Empty => Vec::new(),
        }
    }

    /// The setting's value.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reference => "reference",
            Self::Empty => "empty",
        }
    }
}

impl FromStr for GuestEnv {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        match s {
            "reference" => Ok(Self::Reference),
            "empty" => Ok(Self::Empty),
            _ => Err(format!("`{s}` is neither `reference` nor `empty`")),
        }
    }
}

impl fmt::Display for GuestEnv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
