//! Where a process's scheduler is.
//!
//! A scheduler URL from the settings answers for every process. Else the su-router is asked; where it is out of reach or
//! does not know, the process's `Scheduler` tag leads to the newest `Scheduler-Location` of that wallet. A scheduler that
//! answers a first request with a redirect names the origin to use instead.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use url::Url;

use crate::{
    Error, UnitSettings,
    gateway::{Gateway, Without},
    http::{self, Http, Probe},
    memo::Memo,
};

/// How long a scheduler that needs no looking up, or that the router named, is used.
const ROUTED_FOR: Duration = Duration::from_secs(48 * 3600);
/// Bounds of the `Time-To-Live` that a scheduler's location gives.
const LOCATED_FOR: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(48 * 3600));
/// Schedulers' wallets remembered.
const WALLETS_MAX: usize = 256;
/// A router that cannot be reached in this time is passed over.
const ROUTER_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a router out of reach is not asked again.
const ROUTER_REST: Duration = Duration::from_secs(30);

/// Finds schedulers.
pub(crate) struct Locator {
    http: Arc<Http>,
    gateway: Arc<Gateway>,
    fixed: Option<Url>,
    router: Option<Url>,
    router_rests_until: Mutex<Option<Instant>>,
    wallets: Memo<(Url, Duration)>,
}

impl Locator {
    pub fn new(settings: &UnitSettings, http: Arc<Http>, gateway: Arc<Gateway>) -> Result<Self, Error> {
        for (what, url) in [("the scheduler's URL", &settings.su_url), ("the su-router's URL", &settings.su_router_url)]
        {
            if let Some(url) = url {
                http::check_url(what, url)?;
            }
        }
        Ok(Self {
            http,
            gateway,
            fixed: settings.su_url.clone(),
            router: settings.su_router_url.clone(),
            router_rests_until: Mutex::default(),
            wallets: Memo::new(WALLETS_MAX),
        })
    }

    /// Whether one scheduler answers for every process.
    pub fn is_fixed(&self) -> bool {
        self.fixed.is_some()
    }

    /// The scheduler of a process, and for how long.
    pub async fn scheduler(&self, process: &str) -> Result<(Url, Duration), Error> {
        if let Some(url) = &self.fixed {
            return Ok((url.clone(), ROUTED_FOR));
        }
        if let Some(url) = self.routed(process).await {
            return Ok((url, ROUTED_FOR));
        }
        let without = Without { signature: true, anchor: true, tags: false };
        let found = self.gateway.transaction(process, without).await?.ok_or_else(|| {
            Error::Upstream(format!("TransactionNotFound: Process {process} was not found on gateway"))
        })?;
        let wallet =
            found.tags.first("Scheduler").filter(|wallet| !wallet.is_empty()).ok_or_else(|| {
                Error::Upstream("SchedulerTagNotFound: No \"Scheduler\" tag found on process".to_owned())
            })?;
        let (url, holds) = self.located(wallet).await?;
        let url = match self.http.probe(asking_for(&url, process), ROUTER_TIMEOUT).await {
            Ok(probe) => redirected(&probe).unwrap_or(url),
            // Whoever asks it next says what is wrong with it.
            Err(_) => url,
        };
        Ok((url, holds))
    }

    /// What the router says.
    async fn routed(&self, process: &str) -> Option<Url> {
        let router = self.router.as_ref()?;
        let rests = |until: &Option<Instant>| until.is_some_and(|until| until > Instant::now());
        if rests(&self.lock_rest()) {
            return None;
        }
        match self.http.probe(asking_for(router, process), ROUTER_TIMEOUT).await {
            Ok(probe) if (200..300).contains(&probe.status) => Some(router.clone()),
            Ok(probe) => redirected(&probe),
            Err(failure) => {
                tracing::warn!(%failure, "the su-router is out of reach; going by GraphQL");
                *self.lock_rest() = Some(Instant::now() + ROUTER_REST);
                None
            }
        }
    }

    fn lock_rest(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.router_rests_until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the wallet's newest `Scheduler-Location` says.
    async fn located(&self, wallet: &str) -> Result<(Url, Duration), Error> {
        let (gateway, owner) = (self.gateway.clone(), wallet.to_owned());
        let load = || async move {
            let location = gateway.scheduler_location(&owner).await?.ok_or_else(|| {
                let text = format!("TransactionNotFound: Could not find 'Scheduler-Location' owner by wallet {owner}");
                Error::Upstream(text)
            })?;
            let unusable = |why: String| Error::Upstream(format!("InvalidSchedulerLocation: Url of {owner}: {why}"));
            let url = Url::parse(&location.url).map_err(|e| unusable(format!("{:?}: {e}", location.url)))?;
            http::check_url("Scheduler-Location", &url).map_err(|e| unusable(e.to_string()))?;
            let holds = Duration::from_millis(location.time_to_live).clamp(LOCATED_FOR.0, LOCATED_FOR.1);
            Ok(((url, holds), holds))
        };
        self.wallets.get_or_load(wallet, load).await
    }
}

/// `{base}/?process-id={process}`
fn asking_for(base: &Url, process: &str) -> Url {
    let mut url = base.clone();
    url.query_pairs_mut().clear().append_pair("process-id", process);
    url
}

/// The origin that a redirect names.
fn redirected(probe: &Probe) -> Option<Url> {
    let redirects = matches!(probe.status, 301 | 302 | 307 | 308);
    let location = probe.location.as_ref().filter(|_| redirects)?;
    let origin = Url::parse(&location.origin().ascii_serialization()).ok()?;
    http::check_url("redirect", &origin).ok()?;
    Some(origin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_names_an_origin() {
        let to = |status, location: &str| redirected(&Probe { status, location: Url::parse(location).ok() });
        assert_eq!(to(307, "https://su2.example:8/x/y?z").unwrap().as_str(), "https://su2.example:8/");
        assert!(to(200, "https://su2.example").is_none());
        assert!(to(304, "https://su2.example").is_none());
        assert!(to(302, "mailto:a@b").is_none());
        assert!(to(301, "no url").is_none());
    }
}
