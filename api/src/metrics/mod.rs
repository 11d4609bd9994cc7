//! What `/metrics` shows of requests and of this operating-system process. The unit adds its own families.
//!
//! Names are the reference's: `ao_cu_...` for its own, `ao_cuprocess_...` (no underscore) for the process's.

mod process;
mod summary;

use std::time::Duration;

use axum::http::{Method, StatusCode};
use prometheus_client::{
    encoding::text::{encode_eof, encode_registry},
    metrics::{family::Family, histogram::Histogram},
    registry::Registry,
};

use self::{process::ProcessCollector, summary::Summaries};

/// Upper bounds of the duration buckets, seconds.
const DURATION_BUCKETS: [f64; 6] = [0.5, 1.0, 3.0, 5.0, 10.0, 30.0];

/// Label names and values, in the reference's order.
pub(crate) type Labels = Vec<(&'static str, String)>;

/// Every metric of this unit.
pub struct Metrics {
    registry: Registry,
    durations: Family<Labels, Histogram>,
    summaries: Summaries,
}

impl Metrics {
    /// `register` adds the metrics of the room below.
    pub fn new(register: impl FnOnce(&mut Registry)) -> Self {
        let mut registry = Registry::default();
        let durations =
            Family::<Labels, Histogram>::new_with_constructor(|| Histogram::new(DURATION_BUCKETS.iter().copied()));
        registry.register(
            "ao_cu_http_request_duration_seconds",
            "Time to answer HTTP requests, in seconds",
            durations.clone(),
        );
        registry.register_collector(Box::new(ProcessCollector));
        register(&mut registry);
        let summaries = Summaries::new(
            "ao_cu_http_request_summary_seconds",
            "Time to answer HTTP requests, in seconds; quantiles over each label set's latest 1024 requests",
        );
        Self { registry, durations, summaries }
    }

    /// Counts an answered request; `route` as the router writes it (`/result/{messageTxId}`).
    pub fn observe_request(&self, method: &Method, route: &str, status: StatusCode, elapsed: Duration) {
        // Clients may make methods up; labels may not grow with them.
        let method = match method.as_str() {
            known @ ("GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS") => known,
            _ => "OTHER",
        };
        let labels: Labels = vec![
            ("method", method.to_owned()),
            ("route", route.replace('{', ":").replace('}', "")),
            ("status", status.as_u16().to_string()),
            ("statusGroup", format!("{}xx", status.as_u16() / 100)),
        ];
        let seconds = elapsed.as_secs_f64();
        self.durations.get_or_create(&labels).observe(seconds);
        self.summaries.observe(labels, seconds);
    }

    /// Everything, as OpenMetrics text.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode_registry(&mut text, &self.registry)?;
        self.summaries.encode(&mut text);
        encode_eof(&mut text)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_under_the_reference_s_names_and_labels() {
        let metrics = Metrics::new(|_| {});
        let get = |millis| {
            metrics.observe_request(
                &Method::GET,
                "/result/{messageTxId}",
                StatusCode::OK,
                Duration::from_millis(millis),
            );
        };
        get(700);
        get(2000);
        let text = metrics.encode().unwrap();
        let labels = r#"method="GET",route="/result/:messageTxId",status="200",statusGroup="2xx""#;
        for line in [
            format!("ao_cu_http_request_duration_seconds_bucket{{le=\"1.0\",{labels}}} 1"),
            format!("ao_cu_http_request_duration_seconds_bucket{{le=\"3.0\",{labels}}} 2"),
            format!("ao_cu_http_request_summary_seconds{{{labels},quantile=\"0.5\"}} 0.7"),
            format!("ao_cu_http_request_summary_seconds_count{{{labels}}} 2"),
            format!("ao_cu_http_request_summary_seconds_sum{{{labels}}} 2.7"),
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn the_process_is_shown_under_the_reference_s_names() {
        let text = Metrics::new(|_| {}).encode().unwrap();
        for name in [
            "ao_cuprocess_cpu_user_seconds_total",
            "ao_cuprocess_cpu_system_seconds_total",
            "ao_cuprocess_cpu_seconds_total",
            "ao_cuprocess_start_time_seconds",
            "ao_cuprocess_resident_memory_bytes",
            "ao_cuprocess_virtual_memory_bytes",
            "ao_cuprocess_open_fds",
            "ao_cuprocess_max_fds",
        ] {
            assert!(text.lines().any(|line| line.starts_with(&format!("{name} "))), "{name}\n{text}");
        }
    }

    #[test]
    fn made_up_methods_share_a_label() {
        let metrics = Metrics::new(|_| {});
        for name in ["BREW", "WHEN"] {
            metrics.observe_request(&Method::from_bytes(name.as_bytes()).unwrap(), "/", StatusCode::OK, Duration::ZERO);
        }
        let text = metrics.encode().unwrap();
        assert!(text.contains(r#"method="OTHER""#) && !text.contains("BREW"), "{text}");
    }
}
