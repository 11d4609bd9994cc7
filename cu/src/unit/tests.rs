//! The unit over a network of schedules in memory and an engine of counters.

mod caches;
mod dry_runs;
mod faults;
mod lanes;
mod results;
mod sharing;

use super::*;
pub(super) use crate::process::fake::{Counters, Network, ORIGIN, message_id};
pub(super) use lockstep_jit::GuestEnv;
pub(super) use serde_json::json;

pub(super) struct World {
    pub network: Arc<Network>,
    pub engine: Counters,
    pub settings: UnitSettings,
    pub unit: Unit,
    _dir: tempfile::TempDir,
}

pub(super) fn settings(data_dir: &std::path::Path) -> UnitSettings {
    let url = |text: &str| text.parse::<url::Url>().unwrap();
    UnitSettings {
        verify: crate::verify::Policy::Report,
        gpu: crate::verify::GpuSettings::OFF,
        engine: crate::settings::EngineChoice::Native,
        lane_wait: Duration::from_millis(20),
        su_url: None,
        su_router_url: None,
        arweave_url: url("http://127.0.0.1:1"),
        graphql_url: url("http://127.0.0.1:1/graphql"),
        block_graphql_urls: Vec::new(),
        data_dir: data_dir.to_owned(),
        guest_env: GuestEnv::Reference,
        formats: lockstep_jit::ModuleFormat::ALL.to_vec(),
        extensions: Vec::new(),
        memory_max_limit: 1 << 30,
        compute_max_limit: 9_000_000_000_000,
        evaluation_threads: 2,
        dry_run_threads: 1,
        dry_run_queue_max: 10,
        process_memory_budget: 1 << 30,
        process_memory_ttl: Duration::from_secs(3600),
        evaluation_time_limit: Duration::from_secs(10),
        hydration_nonce_limit: 200,
        page_size: 1000,
        dry_run_default_max_age: Duration::from_millis(100),
        dry_run_process_cache_ttl: Duration::from_secs(2),
        dry_run_result_max_age: Duration::from_secs(60),
        allow_owners: Vec::new(),
        upstream_json_max_bytes: 1 << 20,
        upstream_data_max_bytes: 1 << 20,
        upstream_timeout: Duration::from_secs(1),
        evaluation_cache: true,
        memory_reset: false,
    }
}

impl World {
    pub async fn new() -> Self {
        Self::with(|_| ()).await
    }

    pub async fn with(change: impl FnOnce(&mut UnitSettings)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = settings(dir.path());
        change(&mut settings);
        let (network, engine) = (Arc::new(Network::default()), Counters::default());
        let unit = Self::start(&settings, &network, &engine).await;
        Self { network, engine, settings, unit, _dir: dir }
    }

    async fn start(settings: &UnitSettings, network: &Arc<Network>, engine: &Counters) -> Unit {
        Unit::start(settings.clone(), Arc::clone(network) as _, Arc::new(engine.clone())).await.unwrap()
    }

    /// Another unit in the same directory, with an engine that has done nothing yet.
    pub async fn restart(self) -> Self {
        let Self { network, settings, unit, _dir, .. } = self;
        unit.shutdown().await;
        let store = Arc::downgrade(&unit.0.store);
        drop(unit);
        eventually(|| store.strong_count() == 0).await;
        let engine = Counters::default();
        let unit = Self::start(&settings, &network, &engine).await;
        Self { network, engine, settings, unit, _dir }
    }

    pub async fn result(&self, pid: &str, uid: &str) -> Result<Outcome, Error> {
        match self.unit.result(pid, uid, None).await? {
            Reply::Ready(outcome) => Ok(outcome),
            Reply::Busy => panic!("busy without a bound"),
        }
    }

    /// The count that a message said.
    pub async fn count(&self, pid: &str, nonce: u64) -> u64 {
        count_of(&self.result(pid, &message_id(pid, nonce)).await.unwrap())
    }

    pub fn metrics(&self) -> &Metrics {
        &self.unit.0.metrics
    }

    pub fn spawn_result(&self, pid: &str, uid: &str) -> tokio::task::JoinHandle<Result<Outcome, Error>> {
        let (unit, pid, uid) = (self.unit.clone(), pid.to_owned(), uid.to_owned());
        tokio::spawn(async move {
            match unit.result(&pid, &uid, None).await? {
                Reply::Ready(outcome) => Ok(outcome),
                Reply::Busy => panic!("busy without a bound"),
            }
        })
    }
}

pub(super) fn count_of(outcome: &Outcome) -> u64 {
    outcome.output.as_ref().and_then(Value::as_str).unwrap().parse().unwrap()
}

pub(super) fn count_in(memory: &Option<Vec<u8>>) -> u64 {
    u64::from_be_bytes(memory.as_deref().unwrap().try_into().unwrap())
}

pub(super) async fn eventually(happened: impl Fn() -> bool) {
    let patience = tokio::time::timeout(Duration::from_secs(10), async {
        while !happened() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    patience.await.expect("it happens within ten seconds");
}

pub(super) fn all() -> Range {
    Range { from: None, to: None, sort: Sort::Asc, limit: 25 }
}
