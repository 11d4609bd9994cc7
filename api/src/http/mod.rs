//! The routes: parse, ask the unit, render. A file a route family; statuses and error shapes in `failure`.

pub mod compute;
pub mod number;
pub mod server;

mod access;
mod body;
mod docs;
mod dry_run;
mod dry_run_body;
mod edge;
mod failure;
mod openapi;
mod operator;
mod query;
mod result;
mod results;
mod stall;
mod state;

#[cfg(test)]
mod tests;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::{FromRequestParts, Path},
    http::{Method, Uri, request::Parts},
    middleware,
    routing::{MethodRouter, get, post},
};

use self::{access::Access, compute::Compute, failure::Failure};
use crate::{
    metrics::Metrics,
    rate_limit::RateLimiter,
    settings::{Settings, UnitMode},
};

/// Longest path parameter, in characters; the reference's framework knows no route with a longer one.
const PATH_PARAM_MAX: usize = 100;

/// What every handler shares.
#[derive(Clone)]
pub struct App(Arc<Shared>);

struct Shared {
    unit: Box<dyn Compute>,
    unit_mode: UnitMode,
    busy_after: Option<Duration>,
    access: Access,
    dry_run_limit: Option<RateLimiter>,
    metrics: Metrics,
    is_metrics_served: bool,
    address: String,
    started: Instant,
    openapi: String,
    docs: String,
}

impl App {
    /// Handlers' state for `unit`, under `settings`; `address` is what `GET /` shows.
    pub fn new(unit: impl Compute, settings: &Settings, address: String) -> Self {
        let document = openapi::document();
        Self(Arc::new(Shared {
            metrics: Metrics::new(|registry| unit.register_metrics(registry)),
            unit: Box::new(unit),
            unit_mode: settings.unit_mode,
            busy_after: (!settings.busy_threshold.is_zero()).then_some(settings.busy_threshold),
            access: Access::new(&settings.restrict_processes, &settings.allow_processes),
            dry_run_limit: RateLimiter::new(
                settings.rate_limit_window,
                settings.rate_limit_max_requests,
                settings.rate_limit_cleanup_interval,
            ),
            is_metrics_served: settings.enable_metrics_endpoint,
            address,
            started: Instant::now(),
            docs: docs::page(&document),
            openapi: document.to_string(),
        }))
    }

    /// Routes that evaluate or read results exist in `cu` mode only.
    fn only_as_cu(&self) -> Result<(), Failure> {
        if self.0.unit_mode == UnitMode::Cu { Ok(()) } else { Err(Failure::other_mode()) }
    }
}

/// Every route: its path, as axum and the OpenAPI document write it, and what answers there.
fn routes() -> Vec<(&'static str, MethodRouter<App>)> {
    vec![
        ("/", get(operator::root)),
        ("/result/{messageTxId}", get(result::result)),
        ("/results/{processId}", get(results::results)),
        ("/cron/{processId}", get(results::cron)),
        ("/state/{processId}", get(state::state)),
        ("/dry-run", post(dry_run::dry_run)),
        ("/status", get(operator::status)),
        ("/metrics", get(operator::metrics)),
        ("/openapi.json", get(operator::openapi)),
        ("/docs", get(operator::docs)),
    ]
}

/// The whole HTTP interface.
///
/// Serve it with connection information, as [`server`] does: dry runs are limited per client, and a client without
/// forwarding headers is known by its address.
pub fn router(app: App) -> Router {
    let no_route = async |method: Method, uri: Uri| Failure::no_route(&method, &uri);
    routes()
        .into_iter()
        .fold(Router::new(), |router, (path, methods)| {
            let app = app.clone();
            let observe = move |request, next| edge::observe(app.clone(), path, request, next);
            router.route(path, methods.route_layer(middleware::from_fn(observe)))
        })
        .fallback(no_route)
        .method_not_allowed_fallback(no_route)
        .layer(middleware::from_fn(edge::edge))
        .with_state(app)
}

/// The one parameter of a path, decoded.
struct PathParam(String);

impl<S: Send + Sync> FromRequestParts<S> for PathParam {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let Ok(Path(text)) = Path::<String>::from_request_parts(parts, state).await else {
            return Err(Failure::bad_url(&parts.uri));
        };
        if text.chars().count() > PATH_PARAM_MAX {
            return Err(Failure::no_route(&parts.method, &parts.uri));
        }
        Ok(Self(text))
    }
}
