//! What is answered when all goes well: 200, 202, 204, headers, methods.

use super::*;

#[tokio::test]
async fn root_200_address_then_timestamp() {
    let got = served(&[]).get("/").await;
    let body: Value = serde_json::from_str(got.text()).unwrap();
    assert!(got.text().starts_with(r#"{"address":"my address","timestamp":1"#), "{}", got.text());
    assert!(body["timestamp"].as_u64().unwrap() > 1_700_000_000_000);
    assert_eq!(got.header("content-type"), Some("application/json; charset=utf-8"));
}

#[tokio::test]
async fn result_200_in_the_reference_s_key_order() {
    served(&[]).get("/result/M?process-id=P").await.is(200, DONE);
}

#[tokio::test]
async fn result_200_for_an_evaluation_that_threw() {
    let body = r#"{"Messages":[],"Assignments":[],"Spawns":[],"Output":"","Error":{}}"#;
    served(&[]).get("/result/M?process-id=thrown").await.is(200, body);
}

#[tokio::test]
async fn results_200_page_of_25_ascending_by_default() {
    let served = served(&[]);
    served.get("/results/P").await.is(200, PAGE);
    let range = served.last_range();
    assert_eq!((range.sort, range.limit, range.from, range.to), (Sort::Asc, 25, None, None));
}

#[tokio::test]
async fn results_200_sort_of_from_beats_that_of_to_beats_the_query() {
    let served = served(&[]);
    let (asc, desc) = (cursor(r#"{"timestamp":1,"sort":"ASC"}"#), cursor(r#"{"timestamp":2,"sort":"DESC"}"#));
    for (query, sort) in [
        ("sort=DESC".to_owned(), Sort::Desc),
        (format!("sort=ASC&to={desc}"), Sort::Desc),
        (format!("sort=DESC&from={asc}&to={desc}"), Sort::Asc),
    ] {
        assert_eq!(served.get(&format!("/results/P?{query}")).await.status, 200);
        assert_eq!(served.last_range().sort, sort, "{query}");
    }
}

#[tokio::test]
async fn results_200_bounds_are_cursors_or_bare_timestamps_and_may_be_empty() {
    let served = served(&[]);
    let place = cursor(r#"{"timestamp":17,"ordinate":"2","cron":"0-10-minutes","sort":"ASC"}"#);
    served.get(&format!("/results/P?from={place}&to=99&limit=3")).await;
    let range = served.last_range();
    let expected = Cursor { timestamp: 17, ordinate: Some("2".into()), cron: Some("0-10-minutes".into()) };
    assert_eq!(range.from, Some(expected));
    assert_eq!(range.to, Some(Cursor { timestamp: 99, ordinate: None, cron: None }));
    assert_eq!(range.limit, 3);
    served.get(&format!("/results/P?from=&to={}&limit=", cursor("{}"))).await;
    let range = served.last_range();
    assert_eq!((range.from, range.to, range.limit), (None, None, 0));
}

#[tokio::test]
async fn cron_200_page_of_500_always_ascending() {
    let served = served(&[]);
    let place = cursor(r#"{"timestamp":1,"sort":"DESC"}"#);
    served.get(&format!("/cron/P?from={place}&limit=50")).await.is(200, PAGE);
    assert_eq!((served.last_range().sort, served.last_range().limit), (Sort::Asc, 50));
    served.get("/cron/P?to=1750000031460").await.is(200, PAGE);
    assert_eq!(served.last_range().limit, 500);
    assert_eq!(served.last_range().to.unwrap().timestamp, 1_750_000_031_460, "a bare timestamp is allowed");
}

#[tokio::test]
async fn state_200_raw_memory_with_what_was_last() {
    let served = served(&[]);
    let got = served.get("/state/P?to=12").await;
    assert_eq!((got.status.as_u16(), got.body.as_slice()), (200, [0, 255, 1].as_slice()));
    assert_eq!(got.header("content-type"), Some("application/octet-stream"));
    assert_eq!(
        (got.header("last-timestamp"), got.header("last-ordinate"), got.header("last-block-height")),
        (Some("9"), Some("3"), Some("5"))
    );
    for query in ["", "?to=", "?to=0"] {
        served.get(&format!("/state/P{query}")).await;
    }
    assert_eq!(*served.fake.0.states.lock().unwrap(), [Some(12), None, None, None]);
}

#[tokio::test]
async fn dry_run_200_and_what_the_unit_is_told() {
    let served = served(&[]);
    let headers = [("content-type", "application/json; charset=utf-8"), ("x-max-age", "250")];
    served.post("?process-id=P&to=M", &headers, r#"{"Tags":[],"Owner":"o","Junk":1}"#).await.is(200, DONE);
    let runs = served.fake.0.dry_runs.lock().unwrap();
    assert_eq!(serde_json::to_string(&runs[0].body).unwrap(), MESSAGE);
    assert_eq!((runs[0].to.as_deref(), runs[0].max_age), (Some("M"), Some(Duration::from_millis(250))));
}

#[tokio::test]
async fn status_200_version_engines_processes_backlog() {
    let got = served(&[]).get("/status").await;
    let body: Value = serde_json::from_str(got.text()).unwrap();
    assert_eq!(body["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(
        (&body["engines"], &body["processes_live"], &body["backlog"]),
        (&json!(["native"]), &json!(2), &json!(12))
    );
    assert_eq!((&body["unit_mode"], &body["results_stored"]), (&json!("cu"), &json!(99)));
    assert!(body["uptime_seconds"].is_u64());
}

#[tokio::test]
async fn metrics_200_openmetrics_of_requests_process_and_unit() {
    let served = served(&[]);
    served.get("/result/M?process-id=P").await;
    served.get("/result/M?process-id=Upstream").await;
    let got = served.get("/metrics").await;
    assert_eq!(got.header("content-type"), Some("application/openmetrics-text; version=1.0.0; charset=utf-8"));
    for part in [
        r#"ao_cu_http_request_duration_seconds_count{method="GET",route="/result/:messageTxId",status="200",statusGroup="2xx"} 1"#,
        r#"ao_cu_http_request_summary_seconds_count{method="GET",route="/result/:messageTxId",status="500",statusGroup="5xx"} 1"#,
        "ao_cuprocess_resident_memory_bytes ",
        "lockstep_fake 0",
    ] {
        assert!(got.text().contains(part), "{part}\n{}", got.text());
    }
}

#[tokio::test]
async fn openapi_200_and_docs_200() {
    let served = served(&[]);
    let document: Value = serde_json::from_str(served.get("/openapi.json").await.text()).unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    let docs = served.get("/docs").await;
    assert_eq!((docs.status.as_u16(), docs.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert!(docs.text().starts_with("<!doctype html>"));
}

#[tokio::test]
async fn result_202_busy() {
    let served = served(&[("busy_threshold", "100")]);
    let body = r#"{"message":"Evaluation of process \"busy\" to \"M\" is in progress."}"#;
    served.get("/result/M?process-id=busy").await.is(202, body);
    assert_eq!(*served.fake.0.busy_after.lock().unwrap(), [Some(Duration::from_millis(100))]);
}

#[tokio::test]
async fn result_200_never_busy_with_no_busy_or_without_a_threshold() {
    let with_threshold = served(&[("busy_threshold", "100")]);
    for query in ["no-busy=1", "no-busy=", "no-busy"] {
        with_threshold.get(&format!("/result/M?process-id=busy&{query}")).await.is(200, DONE);
    }
    served(&[]).get("/result/M?process-id=busy").await.is(200, DONE);
}

#[tokio::test]
async fn dry_run_202_busy_with_an_empty_body() {
    let got = served(&[("busy_threshold", "100")]).dry_run("?process-id=busy", MESSAGE).await;
    assert_eq!((got.status.as_u16(), got.body.len()), (202, 0));
}

#[tokio::test]
async fn preflight_204_reflects_the_headers_asked_for() {
    for path in ["/dry-run?process-id=P", "/result/M", "/nowhere"] {
        let request = Request::options(path)
            .header("origin", "http://x")
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "content-type,x-max-age");
        let got = served(&[]).send(request.body(Body::empty()).unwrap()).await;
        assert_eq!((got.status.as_u16(), got.body.len()), (204, 0), "{path}");
        assert_eq!(got.header("access-control-allow-origin"), Some("*"));
        assert_eq!(got.header("access-control-allow-methods"), Some("GET,HEAD,PUT,PATCH,POST,DELETE"));
        assert_eq!(got.header("access-control-allow-headers"), Some("content-type,x-max-age"));
        assert_eq!(got.header("access-control-expose-headers"), None);
    }
}

#[tokio::test]
async fn every_answer_has_the_cors_and_helmet_headers_and_no_cache_headers() {
    let served = served(&[]);
    for path in ["/", "/result/M?process-id=P", "/result/M", "/nowhere", "/%"] {
        let got = served.get(path).await;
        for (name, value) in [
            ("access-control-allow-origin", "*"),
            ("cross-origin-resource-policy", "same-origin"),
            ("strict-transport-security", "max-age=31536000; includeSubDomains"),
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "SAMEORIGIN"),
        ] {
            assert_eq!(got.header(name), Some(value), "{path} {name}");
        }
        assert!(got.header("content-security-policy").unwrap().starts_with("default-src 'self';"));
        assert!(got.headers.get(header::ETAG).is_none() && got.headers.get(header::CACHE_CONTROL).is_none(), "{path}");
    }
}

#[tokio::test]
async fn head_mirrors_get() {
    let served = served(&[]);
    for path in ["/", "/result/M?process-id=P", "/result/M", "/state/P", "/docs"] {
        let get = served.get(path).await;
        let head = served.send(Request::head(path).body(Body::empty()).unwrap()).await;
        assert_eq!((head.status, head.header("content-type")), (get.status, get.header("content-type")), "{path}");
        assert!(head.body.is_empty(), "{path}");
        assert_eq!(head.header("content-length"), Some(get.body.len().to_string().as_str()), "{path}");
    }
}
