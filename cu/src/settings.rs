//! What the ao room needs to know from an operator. The api room declares flags, names, defaults and docs, and fills this in.

use lockstep_jit::{GuestEnv, ModuleFormat};
use std::{path::PathBuf, time::Duration};

#[derive(Clone, Debug)]
pub struct UnitSettings {
    /// Static scheduler URL; none: discovery (su-router, then GraphQL Scheduler-Location).
    pub su_url: Option<url::Url>,
    pub su_router_url: Option<url::Url>,
    /// Transactions' data: `GET {arweave_url}/raw/{id}`.
    pub arweave_url: url::Url,
    pub graphql_url: url::Url,
    /// Block metadata, rotated on retry.
    pub block_graphql_urls: Vec<url::Url>,
    /// Results store, module cache, compiled code.
    pub data_dir: PathBuf,
    pub guest_env: GuestEnv,
    pub formats: Vec<ModuleFormat>,
    pub extensions: Vec<String>,
    /// PROCESS_WASM_MEMORY_MAX_LIMIT (admission)
    pub memory_max_limit: u64,
    /// PROCESS_WASM_COMPUTE_MAX_LIMIT (admission)
    pub compute_max_limit: u64,
    /// Threads evaluating messages / dry runs.
    pub evaluation_threads: usize,
    pub dry_run_threads: usize,
    /// WASM_EVALUATION_WORKERS_DRY_RUN_MAX_QUEUE
    pub dry_run_queue_max: usize,
    /// PROCESS_MEMORY_CACHE_MAX_SIZE: bytes of live processes; idle ones beyond it are dropped, least recently used first.
    pub process_memory_budget: u64,
    pub process_memory_ttl: Duration,
    /// Wall-clock bound of one evaluation.
    pub evaluation_time_limit: Duration,
    /// HYDRATION_MODE_NONCE_LIMIT; 0 off.
    pub hydration_nonce_limit: u64,
    /// LOAD_MESSAGES_PAGE_SIZE
    pub page_size: u32,
    pub dry_run_default_max_age: Duration,
    pub dry_run_process_cache_ttl: Duration,
    pub dry_run_result_max_age: Duration,
    /// ALLOW_OWNERS (RESTRICT_/ALLOW_PROCESSES are checked by the api room)
    pub allow_owners: Vec<String>,
    /// Largest upstream JSON body accepted, bytes; largest module/data body.
    pub upstream_json_max_bytes: u64,
    pub upstream_data_max_bytes: u64,
    /// Upstream request time-out and number of retries for transient failures.
    pub upstream_timeout: Duration,
    /// DISABLE_PROCESS_EVALUATION_CACHE
    pub evaluation_cache: bool,
    /// ENABLE_MEMORY_RESET
    pub memory_reset: bool,
}
