//! A sliding window of dry runs per client.

use std::{
    collections::{HashMap, VecDeque},
    sync::Mutex,
    time::{Duration, Instant},
};

/// Clients remembered at once. Beyond it, whoever was heard of longest ago is forgotten: clients name themselves in
/// headers, so their number must not decide how much memory is used.
const CLIENTS_MAX: usize = 65_536;

/// Bytes of a client's name that count.
const CLIENT_BYTES_MAX: usize = 64;

/// Counts requests per client in the window that ends now.
pub struct RateLimiter {
    window: Duration,
    requests_max: usize,
    cleanup_interval: Duration,
    clients: Mutex<Clients>,
}

struct Clients {
    requests: HashMap<String, VecDeque<Instant>>,
    cleaned: Instant,
}

/// A counted request; give it back with [`RateLimiter::forgive`] if it shall not count after all.
#[derive(Debug)]
pub struct Counted {
    client: String,
    at: Instant,
}

impl RateLimiter {
    /// At most `requests_max` requests of one client per `window`; clients silent for a window are forgotten every
    /// `cleanup_interval`. Any of them zero: `None`, no limit.
    pub fn new(window: Duration, requests_max: u32, cleanup_interval: Duration) -> Option<Self> {
        if window.is_zero() || requests_max == 0 || cleanup_interval.is_zero() {
            return None;
        }
        let clients = Clients { requests: HashMap::new(), cleaned: Instant::now() };
        Some(Self { window, requests_max: requests_max as usize, cleanup_interval, clients: Mutex::new(clients) })
    }

    /// Counts a request made at `now`; `None` if the client has used up its window.
    pub fn count(&self, client: &str, now: Instant) -> Option<Counted> {
        let client = shortened(client);
        let mut clients = self.clients.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if now.saturating_duration_since(clients.cleaned) >= self.cleanup_interval {
            clients.forget_silent(self.window, now);
        }
        if clients.requests.len() >= CLIENTS_MAX && !clients.requests.contains_key(client) {
            clients.forget_silent(self.window, now);
            clients.make_room();
        }
        let times = clients.requests.entry(client.to_owned()).or_default();
        while times.front().is_some_and(|&time| now.saturating_duration_since(time) >= self.window) {
            times.pop_front();
        }
        if times.len() >= self.requests_max {
            return None;
        }
        times.push_back(now);
        Some(Counted { client: client.to_owned(), at: now })
    }

    /// Takes a counted request back.
    pub fn forgive(&self, counted: Counted) {
        let mut clients = self.clients.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(times) = clients.requests.get_mut(&counted.client) {
            if let Some(index) = times.iter().rposition(|&time| time == counted.at) {
                times.remove(index);
            }
            if times.is_empty() {
                clients.requests.remove(&counted.client);
            }
        }
    }
}

impl Clients {
    fn forget_silent(&mut self, window: Duration, now: Instant) {
        self.requests.retain(|_, times| times.back().is_some_and(|&last| now.saturating_duration_since(last) < window));
        self.cleaned = now;
    }

    /// Forgets whoever was heard of longest ago, if still full.
    fn make_room(&mut self) {
        if self.requests.len() < CLIENTS_MAX {
            return;
        }
        let oldest = self.requests.iter().min_by_key(|(_, times)| times.back().copied()).map(|(name, _)| name.clone());
        if let Some(oldest) = oldest {
            self.requests.remove(&oldest);
        }
    }
}

fn shortened(client: &str) -> &str {
    let mut end = client.len().min(CLIENT_BYTES_MAX);
    while !client.is_char_boundary(end) {
        end -= 1;
    }
    &client[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(60);
    const CLEANUP: Duration = Duration::from_secs(1000);

    #[test]
    fn a_client_gets_its_number_of_requests_per_window_and_others_are_not_affected() {
        let limiter = RateLimiter::new(WINDOW, 2, CLEANUP).unwrap();
        let start = Instant::now();
        assert!(limiter.count("a", start).is_some());
        assert!(limiter.count("a", start + Duration::from_secs(30)).is_some());
        assert!(limiter.count("a", start + Duration::from_secs(59)).is_none());
        assert!(limiter.count("b", start + Duration::from_secs(59)).is_some());
    }

    #[test]
    fn the_window_slides() {
        let limiter = RateLimiter::new(WINDOW, 2, CLEANUP).unwrap();
        let start = Instant::now();
        limiter.count("a", start).unwrap();
        limiter.count("a", start + Duration::from_secs(30)).unwrap();
        assert!(limiter.count("a", start + Duration::from_secs(60)).is_some(), "the first has left the window");
        assert!(limiter.count("a", start + Duration::from_secs(61)).is_none(), "the second has not");
    }

    #[test]
    fn a_forgiven_request_does_not_count() {
        let limiter = RateLimiter::new(WINDOW, 1, CLEANUP).unwrap();
        let now = Instant::now();
        let counted = limiter.count("a", now).unwrap();
        limiter.forgive(counted);
        assert!(limiter.count("a", now).is_some());
        assert!(limiter.count("a", now).is_none());
    }

    #[test]
    fn any_zero_switches_the_limit_off() {
        assert!(RateLimiter::new(Duration::ZERO, 6, CLEANUP).is_none());
        assert!(RateLimiter::new(WINDOW, 0, CLEANUP).is_none());
        assert!(RateLimiter::new(WINDOW, 6, Duration::ZERO).is_none());
    }

    #[test]
    fn silent_clients_are_forgotten_at_the_cleanup_interval() {
        let limiter = RateLimiter::new(WINDOW, 6, CLEANUP).unwrap();
        let start = Instant::now();
        limiter.count("a", start).unwrap();
        limiter.count("b", start + CLEANUP).unwrap();
        assert_eq!(limiter.clients.lock().unwrap().requests.len(), 1);
    }

    #[test]
    fn the_number_of_clients_and_the_length_of_their_names_are_bounded() {
        let limiter = RateLimiter::new(WINDOW, 6, CLEANUP).unwrap();
        let start = Instant::now();
        for i in 0..CLIENTS_MAX + 3 {
            limiter.count(&i.to_string(), start + Duration::from_nanos(i as u64)).unwrap();
        }
        let long = "é".repeat(1000);
        limiter.count(&long, start).unwrap();
        let clients = limiter.clients.lock().unwrap();
        assert_eq!(clients.requests.len(), CLIENTS_MAX);
        assert!(!clients.requests.contains_key("0"));
        assert!(clients.requests.keys().all(|name| name.len() <= CLIENT_BYTES_MAX));
    }
}
