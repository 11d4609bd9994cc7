//! The processes that the benches of lanes evaluate, and their messages.

use serde_json::{Value, json};

/// A tag's name and value.
type Tag = (&'static str, String);

/// A process and what it is asked.
pub struct Program {
    /// The module's name.
    pub name: &'static str,
    /// The module.
    pub wasm: &'static [u8],
    /// How much a message asks for, and of what; 0 where messages have no size.
    pub work: u32,
    /// What the work is counted in.
    pub unit: &'static str,
    vectors: &'static str,
    before: Option<fn() -> Vec<Tag>>,
    ask: fn(process: u32, work: u32) -> Vec<Tag>,
}

macro_rules! shipped {
    ($file:literal, $vectors:literal) => {
        (
            include_bytes!(concat!("../tests/processes/", $file, ".wasm")),
            include_str!(concat!("../tests/processes/", $vectors, ".json")),
        )
    };
}

/// The program whose neighbours do unequally much.
pub const UNEVEN: &str = "miner-uneven";

/// Bitcoin's first block's header, without its nonce.
const HEADER: &str = "0100000000000000000000000000000000000000000000000000000000000000000000003ba3edfd7a7b12b27ac72c3e\
                      67768f617fc81bc3888a51323a9fb8aa4b1e5e4a29ab5f49ffff001d";

impl Program {
    /// All of them. Work is such that 1,024 messages take lavapipe on two cores seconds.
    pub fn all() -> Vec<Program> {
        let of = |name, (wasm, vectors): (&'static [u8], &'static str), work, unit, before, ask| Program {
            name,
            wasm,
            work,
            unit,
            vectors,
            before,
            ask,
        };
        vec![
            of("miner", shipped!("miner", "miner"), 50_000, "nonces", None, mine),
            of("miner-array", shipped!("miner-array", "miner"), 50_000, "nonces", None, mine),
            of(
                UNEVEN,
                shipped!("miner", "miner"),
                50_000,
                "nonces, from an eighth to twice as many,",
                None,
                mine_unevenly,
            ),
            of("pricing", shipped!("pricing", "pricing"), 20_000, "paths", None, price),
            of("matvec", shipped!("matvec", "matvec"), 8, "products", Some(load), multiply),
            of("nbody", shipped!("nbody", "nbody"), 100, "steps", None, advance),
            of("token", shipped!("token", "token"), 0, "", None, mint),
            of("counter", shipped!("counter", "counter"), 0, "", None, increment),
        ]
    }

    /// The process's and module's description.
    pub fn environment(&self) -> String {
        self.file()["env"].to_string()
    }

    /// The message that asks a process for so much work.
    pub fn message(&self, process: u32, work: u32) -> String {
        self.with_tags((self.ask)(process, work))
    }

    /// What every process has to be told before, if anything.
    pub fn before(&self) -> Option<String> {
        self.before.map(|before| self.with_tags(before()))
    }

    /// A message as a unit gives it to a guest: a recorded one with other tags.
    fn with_tags(&self, tags: Vec<Tag>) -> String {
        let mut message = self.file()["records"][1]["msg"].clone();
        let own = [("Data-Protocol", "ao".to_owned()), ("Variant", "ao.TN.1".into()), ("Type", "Message".into())];
        let tags = own.into_iter().chain(tags).map(|(name, value)| json!({ "name": name, "value": value }));
        message["Tags"] = tags.collect();
        message.to_string()
    }

    fn file(&self) -> Value {
        serde_json::from_str(self.vectors).expect("a vector file")
    }
}

fn mine(process: u32, work: u32) -> Vec<Tag> {
    let first = process.wrapping_mul(work).to_string();
    vec![("Action", "Mine".into()), ("Header", HEADER.into()), ("First", first), ("Count", work.to_string())]
}

fn mine_unevenly(process: u32, work: u32) -> Vec<Tag> {
    mine(process, work.div_ceil(8) * (1 + process * 5 % 16))
}

/// Steps of a priced path.
pub const PRICE_STEPS: u32 = 64;

fn price(process: u32, work: u32) -> Vec<Tag> {
    vec![
        ("Action", "Price".into()),
        ("Spot", "100".into()),
        ("Strike", "105".into()),
        ("Volatility", "100".into()),
        ("Steps", PRICE_STEPS.to_string()),
        ("Paths", work.to_string()),
        ("Seed", (process + 1).to_string()),
    ]
}

fn load() -> Vec<Tag> {
    vec![("Action", "Load".into()), ("Seed", "1".into())]
}

fn multiply(process: u32, work: u32) -> Vec<Tag> {
    vec![("Action", "Multiply".into()), ("Seed", (process + 1).to_string()), ("Repeats", work.to_string())]
}

fn advance(_: u32, work: u32) -> Vec<Tag> {
    vec![("Action", "Advance".into()), ("Steps", work.to_string())]
}

fn mint(process: u32, _: u32) -> Vec<Tag> {
    vec![("Action", "Mint".into()), ("Quantity", (process + 1).to_string())]
}

fn increment(process: u32, _: u32) -> Vec<Tag> {
    vec![("Action", "Increment".into()), ("By", (process + 1).to_string())]
}
