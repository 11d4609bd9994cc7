//! What the unit counts about itself.
//!
//! Families named `ao_cu_*` are the reference unit's, for dashboards that exist; those named `lockstep_*` are ours.
//! Counters get their `_total` when they are written out.

use std::sync::{Arc, atomic::AtomicU64};

use lockstep_jit::Outcome;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit as UnitOfMeasure},
};

use crate::{
    engines::LanesCounts,
    gateway::QueryLabels,
    schedule::Kind,
    verify::{Engines, Signatures},
};

/// Labels of the reference's evaluation counter.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct EvaluationLabels {
    /// `primary` or `dry-run`.
    pub stream_type: &'static str,
    /// `scheduled`, `assignment`, `cron` or `dry-run`.
    pub message_type: &'static str,
    /// Whether the result has an error: `true` or `false`.
    pub process_error: &'static str,
}

/// Labels of the reference's gauge of cached processes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CacheLabels {
    /// `memory` or `file`.
    pub cache_type: &'static str,
}

/// Seconds of one evaluation: aos runs most messages in about a millisecond, boots in a second.
const EVALUATION_BUCKETS: [f64; 12] = [0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0];
/// Seconds of one compilation.
const COMPILE_BUCKETS: [f64; 8] = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0];

/// All families of this room. Cheap to clone; clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub(crate) reference_evaluations: Family<EvaluationLabels, Counter>,
    pub(crate) worker_total: Gauge,
    pub(crate) worker_tasks: Gauge,
    pub(crate) reference_processes: Family<CacheLabels, Gauge>,
    pub(crate) reference_queries: Family<QueryLabels, Counter>,
    pub(crate) evaluations: Counter,
    pub(crate) evaluations_running: Gauge,
    pub(crate) evaluation_seconds: Histogram,
    pub(crate) gas: Counter,
    pub(crate) requests: Counter,
    pub(crate) requests_coalesced: Counter,
    pub(crate) results_from_store: Counter,
    pub(crate) determinism_faults: Counter,
    pub(crate) duplicates_skipped: Counter,
    pub(crate) time_limits_hit: Counter,
    pub(crate) panics: Counter,
    pub(crate) dry_runs: Counter,
    pub(crate) dry_runs_from_cache: Counter,
    pub(crate) processes_live: Gauge,
    pub(crate) process_bytes: Gauge<u64, AtomicU64>,
    pub(crate) processes_dropped: Counter,
    pub(crate) modules_loaded: Counter,
    pub(crate) module_code_bytes: Gauge<u64, AtomicU64>,
    pub(crate) compile_seconds: Histogram,
    pub(crate) backlog: Gauge,
    pub(crate) signatures: Signatures,
    pub(crate) engines: Engines,
    pub(crate) lanes: LanesCounts,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            reference_evaluations: Family::default(),
            reference_queries: Family::default(),
            worker_total: Gauge::default(),
            worker_tasks: Gauge::default(),
            reference_processes: Family::default(),
            evaluations: Counter::default(),
            evaluations_running: Gauge::default(),
            evaluation_seconds: Histogram::new(EVALUATION_BUCKETS),
            gas: Counter::default(),
            requests: Counter::default(),
            requests_coalesced: Counter::default(),
            results_from_store: Counter::default(),
            determinism_faults: Counter::default(),
            duplicates_skipped: Counter::default(),
            time_limits_hit: Counter::default(),
            panics: Counter::default(),
            dry_runs: Counter::default(),
            dry_runs_from_cache: Counter::default(),
            processes_live: Gauge::default(),
            process_bytes: Gauge::default(),
            processes_dropped: Counter::default(),
            modules_loaded: Counter::default(),
            module_code_bytes: Gauge::default(),
            compile_seconds: Histogram::new(COMPILE_BUCKETS),
            backlog: Gauge::default(),
            signatures: Signatures::default(),
            engines: Engines::default(),
            lanes: LanesCounts::default(),
        }
    }
}

impl Metrics {
    /// Puts every family into a registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "ao_cu_ao_process_total_evaluations",
            "Evaluations, by kind of stream and message",
            self.reference_evaluations.clone(),
        );
        registry.register(
            "ao_cu_ao_process_total",
            "Processes kept, by where they are kept",
            self.reference_processes.clone(),
        );
        registry.register(
            "ao_cu_ao_process_total_graphql_queries",
            "GraphQL queries, by name and outcome",
            self.reference_queries.clone(),
        );
        registry.register("ao_cu_worker_total", "Threads that evaluate", self.worker_total.clone());
        registry.register(
            "ao_cu_worker_tasks_total",
            "Work given to the evaluating threads and not finished",
            self.worker_tasks.clone(),
        );

        let ours = registry.sub_registry_with_prefix("lockstep");
        ours.register("evaluations", "Messages evaluated, dry runs left out", self.evaluations.clone());
        ours.register("evaluations_running", "Evaluating threads at work", self.evaluations_running.clone());
        ours.register_with_unit(
            "evaluation",
            "Time inside the engine for one message",
            UnitOfMeasure::Seconds,
            self.evaluation_seconds.clone(),
        );
        ours.register("gas", "Gas spent by evaluations, dry runs left out", self.gas.clone());
        ours.register("requests", "Requests for the result of a message", self.requests.clone());
        ours.register(
            "requests_coalesced",
            "Requests that shared the work of an equal one in flight",
            self.requests_coalesced.clone(),
        );
        ours.register("results_from_store", "Requests answered without evaluating", self.results_from_store.clone());
        ours.register(
            "determinism_faults",
            "Evaluations whose result differed from the one kept for the same message",
            self.determinism_faults.clone(),
        );
        ours.register(
            "duplicates_skipped",
            "Messages skipped because their content was evaluated before",
            self.duplicates_skipped.clone(),
        );
        ours.register("time_limits_hit", "Evaluations stopped by the wall-clock bound", self.time_limits_hit.clone());
        ours.register("panics", "Evaluations that ended in a fault of this program", self.panics.clone());
        ours.register("dry_runs", "Dry runs asked for", self.dry_runs.clone());
        ours.register("dry_runs_from_cache", "Dry runs answered without evaluating", self.dry_runs_from_cache.clone());
        ours.register("processes_live", "Processes held in memory", self.processes_live.clone());
        ours.register_with_unit(
            "process",
            "Memory held by live processes and states for dry runs",
            UnitOfMeasure::Bytes,
            self.process_bytes.clone(),
        );
        ours.register(
            "processes_dropped",
            "Processes dropped from memory, for the memory budget or for idleness",
            self.processes_dropped.clone(),
        );
        ours.register("modules_loaded", "Modules compiled or taken from the disk cache", self.modules_loaded.clone());
        ours.register_with_unit(
            "module_code",
            "Machine code of the modules held",
            UnitOfMeasure::Bytes,
            self.module_code_bytes.clone(),
        );
        ours.register_with_unit(
            "compile",
            "Time to compile one module, or to take it from the disk cache",
            UnitOfMeasure::Seconds,
            self.compile_seconds.clone(),
        );
        ours.register(
            "signatures",
            "Signatures of schedules and processes, by scheme, outcome and place",
            self.signatures.clone(),
        );
        ours.register_collector(Box::new(self.engines.clone()));
        self.lanes.register(ours);
        ours.register("backlog", "Messages known to wait for evaluation", self.backlog.clone());
    }

    pub(crate) fn count_evaluation(&self, kind: Kind, outcome: &Outcome) {
        let message_type = match kind {
            Kind::Scheduled | Kind::Process => "scheduled",
            Kind::Assignment => "assignment",
            Kind::Cron => "cron",
        };
        self.count("primary", message_type, outcome);
    }

    pub(crate) fn count_dry_run(&self, outcome: &Outcome) {
        self.count("dry-run", "dry-run", outcome);
    }

    fn count(&self, stream_type: &'static str, message_type: &'static str, outcome: &Outcome) {
        let process_error = if outcome.error.is_some() { "true" } else { "false" };
        self.reference_evaluations.get_or_create(&EvaluationLabels { stream_type, message_type, process_error }).inc();
    }

    /// One more or one fewer process held.
    pub(crate) fn live(&self, change: i64) {
        self.processes_live.inc_by(change);
        self.reference_processes.get_or_create(&CacheLabels { cache_type: "memory" }).inc_by(change);
    }
}

/// Shared by everything that counts.
pub(crate) type Counted = Arc<Metrics>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_written_under_the_names_that_dashboards_know() {
        let metrics = Metrics::default();
        metrics.count_evaluation(Kind::Scheduled, &Outcome::default());
        metrics.count_dry_run(&Outcome { error: Some(serde_json::json!({})), ..Outcome::default() });
        metrics.live(1);
        metrics.evaluations.inc();
        metrics.evaluation_seconds.observe(0.002);
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            r#"ao_cu_ao_process_total_evaluations_total{stream_type="primary",message_type="scheduled",process_error="false"} 1"#,
            r#"ao_cu_ao_process_total_evaluations_total{stream_type="dry-run",message_type="dry-run",process_error="true"} 1"#,
            r#"ao_cu_ao_process_total{cache_type="memory"} 1"#,
            "ao_cu_worker_total 0",
            "ao_cu_worker_tasks_total 0",
            "lockstep_evaluations_total 1",
            "lockstep_requests_coalesced_total 0",
            "lockstep_results_from_store_total 0",
            "lockstep_determinism_faults_total 0",
            "lockstep_gas_total 0",
            "lockstep_evaluation_seconds_count 1",
            "lockstep_processes_live 1",
            "lockstep_process_bytes 0",
            "lockstep_compile_seconds_count 0",
        ] {
            assert!(text.lines().any(|l| l == line), "no line `{line}` in\n{text}");
        }
    }
}
