//! 429: the dry runs of one client.

use super::*;

const LIMITED: &str = r#"{"error":"Rate limit exceeded"}"#;

#[tokio::test]
async fn dry_run_429_from_the_seventh_in_a_minute_and_other_routes_are_free() {
    let served = served(&[]);
    for _ in 0..6 {
        served.dry_run("?process-id=P", MESSAGE).await.is(200, DONE);
    }
    served.dry_run("?process-id=P", MESSAGE).await.is(429, LIMITED);
    served.dry_run("", "{}").await.is(429, LIMITED);
    served.get("/result/M?process-id=P").await.is(200, DONE);
}

#[tokio::test]
async fn failed_dry_runs_count_invalid_and_cached_ones_do_not() {
    let served = served(&[("rate_limit_max_requests", "2")]);
    for _ in 0..4 {
        assert_eq!(served.dry_run("?process-id=P", "{}").await.status, 400);
        served.dry_run("?process-id=P&to=cached", MESSAGE).await.is(200, DONE);
    }
    assert_eq!(served.dry_run("?process-id=Upstream", MESSAGE).await.status, 500);
    assert_eq!(served.dry_run("?process-id=Upstream", MESSAGE).await.status, 500);
    served.dry_run("?process-id=P", MESSAGE).await.is(429, LIMITED);
}

#[tokio::test]
async fn clients_are_told_apart_by_forwarded_address_then_real_address() {
    let served = served(&[("rate_limit_max_requests", "1")]);
    let post = async |name: &str, value: &str| {
        let headers = [("content-type", "application/json"), (name, value)];
        served.post("?process-id=P", &headers, MESSAGE).await.status.as_u16()
    };
    assert_eq!(post("x-forwarded-for", "1.1.1.1, 9.9.9.9").await, 200);
    assert_eq!(post("x-forwarded-for", "1.1.1.1").await, 429);
    assert_eq!(post("x-real-ip", "1.1.1.1").await, 429, "both headers name the same clients");
    assert_eq!(post("x-real-ip", "2.2.2.2").await, 200);
    assert_eq!(post("x-other", "1").await, 200, "the connection's own address");
    assert_eq!(post("x-other", "2").await, 429);
}

#[tokio::test]
async fn any_zero_switches_the_rate_limit_off() {
    for name in ["rate_limit_window", "rate_limit_max_requests", "rate_limit_cleanup_interval"] {
        let served = served(&[(name, "0")]);
        for _ in 0..20 {
            served.dry_run("?process-id=P", MESSAGE).await.is(200, DONE);
        }
    }
}
