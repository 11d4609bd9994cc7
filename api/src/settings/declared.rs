//! Every setting, once: type, default, environment names, meaning. Flags, `--help`, the configuration file's keys,
//! validation and the README's table all come from here.
//!
//! The name is the key in the configuration file; with `-` for `_` it is the flag. The first environment name that is
//! set counts; names without `LOCKSTEP_` are the reference's, with its meaning and default unless the text says otherwise.

use std::{
    collections::HashMap,
    num::{NonZeroU32, NonZeroUsize},
    path::PathBuf,
    sync::LazyLock,
    time::Duration,
};

use lockstep_cu::{settings::EngineChoice, verify::Policy};
use lockstep_jit::{GuestEnv, ModuleFormat};
use lockstep_shaders::device::Choice as GpuChoice;
use url::Url;

use super::{
    Error, Sources,
    value::{Bytes, Listen, LogFilter, LogFormat, Percent, Secret, UnitMode, Value},
};

/// What is known of a setting without its value.
pub struct Declaration {
    /// Key in the configuration file; with `-` for `_`, the flag.
    pub name: &'static str,
    /// The heading it stands under.
    pub group: &'static str,
    /// Its documentation, a line each.
    pub doc: &'static [&'static str],
    /// Environment variables, the first that is set counts.
    pub env: &'static [&'static str],
    /// The default's text; empty: none, or as `doc` says.
    pub default: &'static str,
    /// Whether the flag may stand without a value.
    pub is_switch: bool,
}

impl Declaration {
    /// The flag, without its dashes.
    pub fn flag(&self) -> &'static str {
        static FLAGS: LazyLock<HashMap<&str, String>> =
            LazyLock::new(|| DECLARED.iter().map(|setting| (setting.name, setting.name.replace('_', "-"))).collect());
        FLAGS.get(self.name).map_or(self.name, String::as_str)
    }

    /// The documentation as one line.
    pub fn text(&self) -> String {
        self.doc.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
    }
}

macro_rules! declare {
    ($( $group:literal { $( $(#[doc = $doc:literal])+ $name:ident: $ty:ty = $default:literal, [$($env:literal),*]; )* } )*) => {
        /// What an operator decided: every setting with its value.
        #[derive(Clone, Debug)]
        pub struct Settings {
            $($( $(#[doc = $doc])+ pub $name: $ty, )*)*
        }

        /// Every setting, in the order they are shown.
        pub const DECLARED: &[Declaration] = &[
            $($( Declaration {
                name: stringify!($name),
                group: $group,
                doc: &[$($doc),+],
                env: &[$($env),*],
                default: $default,
                is_switch: <$ty as Value>::IS_SWITCH,
            }, )*)*
        ];

        impl Settings {
            /// Reads every setting from its strongest source.
            pub(super) fn read(sources: &Sources) -> Result<Self, Error> {
                Ok(Self { $($( $name: sources.value::<$ty>(stringify!($name), &[$($env),*], $default)?, )*)* })
            }
        }
    };
}

declare! {
    "Serving" {
        /// Address and port to listen on; port 0 lets the system choose. `PORT` is a port alone, on every interface.
        listen: Listen = "0.0.0.0:6363", ["LOCKSTEP_LISTEN", "PORT"];
        /// Directory of everything kept on disk: results, modules, compiled code, this unit's identity.
        data: PathBuf = "lockstep-data", ["LOCKSTEP_DATA"];
        /// `cu` serves every route; `ru` serves dry runs only.
        unit_mode: UnitMode = "cu", ["UNIT_MODE"];
        /// The unit's wallet (the JSON of an RSA JWK), whose address `GET /` shows. Prefer a file: arguments can be
        /// read by others on the machine. Without a wallet the address is a random identity kept in the data directory.
        wallet: Option<Secret> = "", ["WALLET"];
        /// File holding the wallet; `wallet` itself wins.
        wallet_file: Option<PathBuf> = "", ["WALLET_FILE"];
        /// How long a request may wait for an evaluation before it is answered 202 "in progress"; 0: for ever.
        busy_threshold: Duration = "0", ["BUSY_THRESHOLD"];
        /// Whether `GET /metrics` is served. On by default here, off in the reference.
        enable_metrics_endpoint: bool = "true", ["ENABLE_METRICS_ENDPOINT"];
        /// How long requests in flight may go on once the unit is told to stop.
        shutdown_grace: Duration = "30s", ["LOCKSTEP_SHUTDOWN_GRACE"];
    }
    "The network" {
        /// The one scheduler of every process. None: each process's own scheduler is looked up.
        su_url: Option<Url> = "", ["SU_URL"];
        /// Asked first where a process's scheduler is; empty: straight to GraphQL.
        su_router_url: Option<Url> = "https://su-router.ao-testnet.xyz", ["SU_ROUTER_URL"];
        /// Arweave gateway.
        gateway_url: Url = "https://arweave.net", ["GATEWAY_URL"];
        /// Where transactions' data is read (`/raw/ID`); none: the gateway.
        arweave_url: Option<Url> = "", ["ARWEAVE_URL"];
        /// Where transactions are looked up; none: the gateway's `/graphql`.
        graphql_url: Option<Url> = "", ["GRAPHQL_URL"];
        /// Where block times are looked up, each tried in turn; none: `graphql-url`, and with the default gateway also
        /// Goldsky's.
        graphql_urls: Vec<Url> = "", ["GRAPHQL_URLS"];
        /// Messages asked of a scheduler at once.
        load_messages_page_size: NonZeroU32 = "1000", ["LOAD_MESSAGES_PAGE_SIZE"];
        /// How long one request to a scheduler or gateway may take.
        upstream_timeout: Duration = "30s", ["LOCKSTEP_UPSTREAM_TIMEOUT"];
        /// Largest JSON answer accepted from a scheduler or gateway.
        upstream_json_max: Bytes = "64MiB", ["LOCKSTEP_UPSTREAM_JSON_MAX"];
        /// Largest module or transaction data accepted.
        upstream_data_max: Bytes = "256MiB", ["LOCKSTEP_UPSTREAM_DATA_MAX"];
    }
    "Signatures" {
        /// Signatures of messages, assignments, processes, modules and assigned items: `off` checks none; `report` checks,
        /// counts and logs; with `enforce` what is invalid is not evaluated either, and whoever asks for it or for what
        /// follows is told. The gateway is asked about what the scheduler's words do not tell; what cannot be verified then
        /// is counted, and evaluated.
        verify: Policy = "report", ["LOCKSTEP_VERIFY"];
        /// The GPU that verifies signatures beside the processor, for batches with which it was measured to be faster:
        /// `auto` takes the best there is, and none is no fault; `off` takes none; with `required`, or a part of an
        /// adapter's name, the unit does not start without. Adapters that are programs on the processor are taken only
        /// by the latter two. Lanes (`engine`) run on the same adapter and on all that are like it; with `auto` also on
        /// one that is a program.
        gpu: GpuChoice = "auto", ["LOCKSTEP_GPU"];
        /// How long a signature may wait for others, to be verified with them on the GPU. Without a GPU none waits.
        verify_wait: Duration = "2", ["LOCKSTEP_VERIFY_WAIT"];
    }
    "Evaluation" {
        /// Which engine evaluates: `native`; `lanes`, many processes of a module side by side on a GPU, wherever they can,
        /// faster or not, and the unit does not start without an adapter; with `auto` lanes for messages with which they
        /// were measured to be faster, and until then, and for all others, the native engine.
        engine: EngineChoice = "auto", ["LOCKSTEP_ENGINE"];
        /// How long a message waits for others, to be evaluated with them in lanes. Where they keep coming and a group takes
        /// long, up to a fifth of its time.
        lane_wait: Duration = "10", ["LOCKSTEP_LANE_WAIT"];
        /// The environment variables guests see: those of the reference's container, or none.
        guest_env: GuestEnv = "reference", ["LOCKSTEP_GUEST_ENV"];
        /// Wall-clock bound of one evaluation. A breach is an error of this unit, never a result.
        evaluation_time_limit: Duration = "5m", ["LOCKSTEP_EVALUATION_TIME_LIMIT"];
        /// `Module-Format`s accepted; none: all seven.
        process_wasm_supported_formats: Vec<ModuleFormat> = "", ["PROCESS_WASM_SUPPORTED_FORMATS"];
        /// `Extension`s accepted.
        process_wasm_supported_extensions: Vec<String> = "", ["PROCESS_WASM_SUPPORTED_EXTENSIONS"];
        /// Largest `Memory-Limit` admitted.
        process_wasm_memory_max_limit: Bytes = "1_073_741_824", ["PROCESS_WASM_MEMORY_MAX_LIMIT"];
        /// Largest `Compute-Limit` admitted, in gas.
        process_wasm_compute_max_limit: u64 = "9_000_000_000_000", ["PROCESS_WASM_COMPUTE_MAX_LIMIT"];
        /// Threads that evaluate, those for messages and those for dry runs together; none: one for each core for
        /// messages, and beside them the other share of as many for dry runs.
        wasm_evaluation_max_workers: Option<NonZeroUsize> = "", ["WASM_EVALUATION_MAX_WORKERS"];
        /// Share of threads for messages, in percent; the rest serves dry runs. Each gets one at least.
        wasm_evaluation_primary_workers_percentage: Percent = "70", ["WASM_EVALUATION_PRIMARY_WORKERS_PERCENTAGE"];
        /// Dry runs that may wait for a thread; those beyond are answered 429.
        wasm_evaluation_workers_dry_run_max_queue: usize = "3000", ["WASM_EVALUATION_WORKERS_DRY_RUN_MAX_QUEUE"];
        /// Memory of live processes; beyond it idle ones are dropped, least recently used first.
        process_memory_cache_max_size: Bytes = "1_073_741_824", ["PROCESS_MEMORY_CACHE_MAX_SIZE"];
        /// How long an idle process stays live.
        process_memory_cache_ttl: Duration = "24h", ["PROCESS_MEMORY_CACHE_TTL"];
        /// A request that would wait behind more messages than this of a process already catching up is answered 503;
        /// 0: never.
        hydration_mode_nonce_limit: u64 = "200", ["HYDRATION_MODE_NONCE_LIMIT"];
        /// Keeps no results: each is evaluated anew. Always so in `ru` mode.
        disable_process_evaluation_cache: bool = "false", ["DISABLE_PROCESS_EVALUATION_CACHE"];
        /// Lets a process's owner start it afresh with a message tagged `Action=Reset-Memory`.
        enable_memory_reset: bool = "false", ["ENABLE_MEMORY_RESET"];
    }
    "Who may" {
        /// Processes refused with 403.
        restrict_processes: Vec<String> = "", ["RESTRICT_PROCESSES"];
        /// If any: the only processes served.
        allow_processes: Vec<String> = "", ["ALLOW_PROCESSES"];
        /// If any: only processes of these owners are served.
        allow_owners: Vec<String> = "", ["ALLOW_OWNERS"];
    }
    "Dry runs" {
        /// Age up to which a dry run may use a state already at hand, unless it says `x-max-age`.
        dry_run_default_max_process_age: Duration = "100", ["DRY_RUN_DEFAULT_MAX_PROCESS_AGE"];
        /// How long such a state is kept.
        dry_run_process_cache_ttl: Duration = "2000", ["DRY_RUN_PROCESS_CACHE_TTL"];
        /// How long the answer to a dry run is given again to equal ones; 0: not at all.
        dry_run_result_max_age: Duration = "60000", ["DRY_RUN_RESULT_MAX_AGE"];
        /// Window in which a client's dry runs are counted; 0: no limit.
        rate_limit_window: Duration = "60000", ["RATE_LIMIT_WINDOW"];
        /// Dry runs a client may ask in that window; 0: no limit.
        rate_limit_max_requests: u32 = "6", ["RATE_LIMIT_MAX_REQUESTS"];
        /// How often clients not heard of for a window are forgotten; 0: no limit on anyone.
        rate_limit_cleanup_interval: Duration = "1_000_000", ["RATE_LIMIT_CLEANUP_INTERVAL"];
    }
    "Logs" {
        /// What is logged, on standard error: a level, and `target=level` exceptions.
        default_log_level: LogFilter = "info", ["DEFAULT_LOG_LEVEL"];
        /// `text` for people, `json` for machines.
        log_format: LogFormat = "text", ["LOCKSTEP_LOG_FORMAT"];
    }
}
