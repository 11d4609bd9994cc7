//! What the ao room needs to know from an operator. The api room declares flags, names, defaults and help, and fills this
//! in; names in capitals are the reference's.

use std::{path::PathBuf, time::Duration};

use lockstep_jit::{GuestEnv, ModuleFormat};

use crate::verify::{GpuSettings, Policy};

pub use crate::engines::EngineChoice;

/// Everything configurable about a [`Unit`](crate::Unit).
#[derive(Clone, Debug)]
pub struct UnitSettings {
    /// Scheduler of every process; none: discovery (su-router, then a Scheduler-Location through GraphQL).
    pub su_url: Option<url::Url>,
    /// Where discovery asks first; none: it begins with GraphQL.
    pub su_router_url: Option<url::Url>,
    /// Transactions' data: `GET {arweave_url}/raw/{id}`.
    pub arweave_url: url::Url,
    /// Transactions' heads.
    pub graphql_url: url::Url,
    /// Block metadata; the next one is asked on each retry.
    pub block_graphql_urls: Vec<url::Url>,
    /// Results, modules and compiled code.
    pub data_dir: PathBuf,
    /// Environment variables that guests see.
    pub guest_env: GuestEnv,
    /// Formats that are evaluated (PROCESS_WASM_SUPPORTED_FORMATS).
    pub formats: Vec<ModuleFormat>,
    /// Extensions that modules may name (PROCESS_WASM_SUPPORTED_EXTENSIONS).
    pub extensions: Vec<String>,
    /// Largest Memory-Limit admitted, bytes (PROCESS_WASM_MEMORY_MAX_LIMIT).
    pub memory_max_limit: u64,
    /// Largest Compute-Limit admitted, gas (PROCESS_WASM_COMPUTE_MAX_LIMIT).
    pub compute_max_limit: u64,
    /// Threads that evaluate messages.
    pub evaluation_threads: usize,
    /// Threads that evaluate dry runs.
    pub dry_run_threads: usize,
    /// Dry runs waiting at most (WASM_EVALUATION_WORKERS_DRY_RUN_MAX_QUEUE).
    pub dry_run_queue_max: usize,
    /// Bytes of live processes; idle ones beyond are dropped, least recently used first
    /// (PROCESS_MEMORY_CACHE_MAX_SIZE).
    pub process_memory_budget: u64,
    /// How long an idle process stays live (PROCESS_MEMORY_CACHE_TTL).
    pub process_memory_ttl: Duration,
    /// Wall-clock bound of one evaluation, and of a module's start-up code.
    pub evaluation_time_limit: Duration,
    /// Messages that a request may be behind; 0: any number (HYDRATION_MODE_NONCE_LIMIT).
    pub hydration_nonce_limit: u64,
    /// Messages asked of a scheduler at a time (LOAD_MESSAGES_PAGE_SIZE).
    pub page_size: u32,
    /// Age of state that a dry run takes without asking for newer (DRY_RUN_DEFAULT_MAX_PROCESS_AGE).
    pub dry_run_default_max_age: Duration,
    /// How long a dry run's copy of a process is kept (DRY_RUN_PROCESS_CACHE_TTL).
    pub dry_run_process_cache_ttl: Duration,
    /// How long a dry run's result is given again (DRY_RUN_RESULT_MAX_AGE).
    pub dry_run_result_max_age: Duration,
    /// Owners whose processes are evaluated; empty: all (ALLOW_OWNERS). Lists of processes are the api room's.
    pub allow_owners: Vec<String>,
    /// Largest JSON body accepted from schedulers and gateways, bytes.
    pub upstream_json_max_bytes: u64,
    /// Largest module or data body accepted from gateways, bytes.
    pub upstream_data_max_bytes: u64,
    /// How long a scheduler or gateway may take for one answer.
    pub upstream_timeout: Duration,
    /// What is done about signatures.
    pub verify: Policy,
    /// Which GPU verifies signatures beside the processor.
    pub gpu: GpuSettings,
    /// Which engine evaluates. Lanes run on the adapter of [`UnitSettings::gpu`]; with its `auto` on the best there is, a
    /// program on the processor if there is no better.
    pub engine: EngineChoice,
    /// How long a message may wait for others, to be evaluated with them in lanes.
    pub lane_wait: Duration,
    /// Whether results are stored and answered again (DISABLE_PROCESS_EVALUATION_CACHE negated).
    pub evaluation_cache: bool,
    /// Whether a process's owner may reset its memory (ENABLE_MEMORY_RESET).
    pub memory_reset: bool,
}
