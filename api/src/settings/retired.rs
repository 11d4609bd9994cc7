//! Environment names of the reference that an operator may still have set and that mean nothing here.

/// A name and why it has no effect.
pub struct Retired {
    /// The environment variable.
    pub name: &'static str,
    /// The end of "has no effect: ...".
    pub why: &'static str,
}

const CHECKPOINTS: &str = "this version neither reads nor writes checkpoints on Arweave";
const ONE_DIRECTORY: &str = "everything on disk lies under `--data`";

/// Every such name, in the order of the reference's documentation.
pub const RETIRED: &[Retired] = &[
    Retired { name: "DB_URL", why: ONE_DIRECTORY },
    Retired { name: "DB_MODE", why: ONE_DIRECTORY },
    Retired { name: "WASM_BINARY_FILE_DIRECTORY", why: ONE_DIRECTORY },
    Retired { name: "PROCESS_MEMORY_CACHE_FILE_DIR", why: ONE_DIRECTORY },
    Retired { name: "PROCESS_MEMORY_FILE_CHECKPOINTS_DIR", why: ONE_DIRECTORY },
    Retired { name: "WASM_MODULE_CACHE_MAX_SIZE", why: "compiled modules are shared by all threads and kept on disk" },
    Retired {
        name: "WASM_INSTANCE_CACHE_MAX_SIZE",
        why: "live processes are bounded in bytes, by PROCESS_MEMORY_CACHE_MAX_SIZE",
    },
    Retired { name: "MODULE_MODE", why: "there is no test mode of extensions" },
    Retired { name: "UPLOADER_URL", why: CHECKPOINTS },
    Retired { name: "CHECKPOINT_GRAPHQL_URL", why: CHECKPOINTS },
    Retired { name: "DISABLE_PROCESS_CHECKPOINT_CREATION", why: CHECKPOINTS },
    Retired { name: "DISABLE_PROCESS_FILE_CHECKPOINT_CREATION", why: CHECKPOINTS },
    Retired { name: "PROCESS_CHECKPOINT_CREATION_THROTTLE", why: CHECKPOINTS },
    Retired { name: "EAGER_CHECKPOINT_ACCUMULATED_GAS_THRESHOLD", why: CHECKPOINTS },
    Retired { name: "EAGER_CHECKPOINT_EVAL_TIME_THRESHOLD", why: CHECKPOINTS },
    Retired { name: "PROCESS_CHECKPOINT_TRUSTED_OWNERS", why: CHECKPOINTS },
    Retired { name: "PROCESS_CHECKPOINT_PREFERRED_OWNERS", why: CHECKPOINTS },
    Retired { name: "PROCESS_IGNORE_ARWEAVE_CHECKPOINTS", why: CHECKPOINTS },
    Retired { name: "IGNORE_ARWEAVE_CHECKPOINTS", why: CHECKPOINTS },
    Retired { name: "IGNORE_LOCAL_CHECKPOINTS", why: CHECKPOINTS },
    Retired { name: "CHECKPONT_VALIDATION_STEPS", why: CHECKPOINTS },
    Retired { name: "CHECKPONT_VALIDATION_THRESH", why: CHECKPOINTS },
    Retired { name: "CHECKPONT_VALIDATION_RETRIES", why: CHECKPOINTS },
    Retired { name: "MEM_MONITOR_INTERVAL", why: "memory is a metric" },
    Retired { name: "LOG_CONFIG_PATH", why: "levels per target are part of DEFAULT_LOG_LEVEL" },
];
