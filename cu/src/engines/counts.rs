//! What is counted of lanes.

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use lockstep_jit::lanes::HandedBack;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

/// Labels of what is counted for each module.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ModuleLabels {
    /// The module's id.
    pub module: Arc<str>,
}

/// Labels of messages that came back.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct HandedBackLabels {
    /// The module's id.
    pub module: Arc<str>,
    /// Why, in a word.
    pub reason: &'static str,
}

/// Counters of lanes. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct LanesCounts {
    messages: Family<ModuleLabels, Counter>,
    handed_back: Family<HandedBackLabels, Counter>,
    groups: Family<ModuleLabels, Counter>,
    compared: Family<ModuleLabels, Counter>,
    wrong: Family<ModuleLabels, Counter>,
    seconds: Family<ModuleLabels, Counter<f64, AtomicU64>>,
    compile_seconds: Family<ModuleLabels, Gauge<f64, AtomicU64>>,
}

impl LanesCounts {
    /// Puts the families into a registry, whose prefix comes before their names.
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("lanes_messages", "Messages evaluated in lanes, by module", self.messages.clone());
        registry.register(
            "lanes_handed_back",
            "Messages that lanes handed back to the native engine, by module and reason",
            self.handed_back.clone(),
        );
        registry.register("lanes_groups", "Groups of lanes dispatched, by module", self.groups.clone());
        registry.register(
            "lanes_compared",
            "Messages evaluated in lanes that the native engine was found to evaluate alike, by module",
            self.compared.clone(),
        );
        registry.register(
            "lanes_wrong",
            "Groups of which the native engine evaluated a message otherwise, which closed the module's lanes, by module",
            self.wrong.clone(),
        );
        registry.register("lanes_busy_seconds", "Time that groups of lanes took, by module", self.seconds.clone());
        registry.register(
            "lanes_compile_seconds",
            "Time that a module's kernel took to compile, by module",
            self.compile_seconds.clone(),
        );
    }

    pub(super) fn compiled(&self, module: &Arc<str>, took: Duration) {
        self.compile_seconds.get_or_create(&ModuleLabels { module: module.clone() }).set(took.as_secs_f64());
    }

    pub(super) fn group(&self, module: &Arc<str>, evaluated: usize, compared: u64, took: Duration) {
        let labels = ModuleLabels { module: module.clone() };
        self.messages.get_or_create(&labels).inc_by(evaluated as u64);
        self.compared.get_or_create(&labels).inc_by(compared);
        self.groups.get_or_create(&labels).inc();
        self.seconds.get_or_create(&labels).inc_by(took.as_secs_f64());
    }

    pub(super) fn wrong(&self, module: &Arc<str>) {
        self.wrong.get_or_create(&ModuleLabels { module: module.clone() }).inc();
    }

    pub(super) fn handed_back(&self, module: &Arc<str>, why: HandedBack) {
        self.handed_back.get_or_create(&HandedBackLabels { module: module.clone(), reason: why.name() }).inc();
    }
}
