//! Everything that is refused or fails: 400 to 503. The reference answers 500 to most of what is 400 here; the texts are
//! its own.

use super::*;

#[tokio::test]
async fn result_400_without_a_usable_process_id() {
    let served = served(&[]);
    served.get("/result/M").await.is(400, r#"{"error":"'processId': Required."}"#);
    let twice = r#"{"error":"'processId': Expected string, received array."}"#;
    served.get("/result/M?process-id=P&process-id=Q").await.is(400, twice);
    let empty = r#"{"error":"'processId': an ao process id is required."}"#;
    served.get("/result/M?process-id=").await.is(400, empty);
    assert_eq!(served.fake.0.calls.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn results_400_for_a_bad_sort_limit_or_bound() {
    let served = served(&[]);
    for (query, error) in [
        ("sort=UP".to_owned(), "'sort': Invalid enum value. Expected 'ASC' | 'DESC', received 'UP'."),
        ("sort=ASC&sort=DESC".to_owned(), "'sort': Expected 'ASC' | 'DESC', received array."),
        ("limit=abc".to_owned(), "'limit': Expected number, received nan."),
        ("limit=2.5".to_owned(), "'limit': Expected integer, received float."),
        ("limit=9007199254740982".to_owned(), "'limit': Number must be less than or equal to 9007199254740981."),
        ("from=yesterday".to_owned(), "Invalid Arguments 'from': Expected number, received nan."),
        ("to=x&to=y".to_owned(), "Invalid Arguments 'to': Expected number, received nan."),
        (format!("from={}", cursor("7")), "Invalid Arguments 'from': Expected object, received number."),
        (format!("to={}", cursor("null")), "Invalid Arguments 'to': Expected object, received null."),
    ] {
        let body = json!({ "error": error }).to_string();
        served.get(&format!("/results/P?{query}")).await.is(400, &body);
    }
    assert_eq!(served.get("/results/P?limit=9007199254740981").await.status, 200);
}

#[tokio::test]
async fn cron_400_for_a_limit_above_1000_or_a_bad_bound() {
    let served = served(&[]);
    let body = r#"{"error":"'limit': Number must be less than or equal to 1000."}"#;
    served.get("/cron/P?limit=1001").await.is(400, body);
    let body = r#"{"error":"Invalid Arguments 'to': Expected number, received nan."}"#;
    served.get("/cron/P?to=soon").await.is(400, body);
}

#[tokio::test]
async fn state_400_for_a_to_that_is_no_number() {
    served(&[]).get("/state/P?to=soon").await.is(400, r#"{"error":"'to': Expected number, received nan."}"#);
}

#[tokio::test]
async fn dry_run_400_for_a_body_of_the_wrong_shape() {
    let served = served(&[]);
    let post = async |query: &str, headers: &[(&str, &str)], body: &str, error: &str| {
        served.post(query, headers, body).await.is(400, &json!({ "error": error }).to_string());
    };
    let json_type = [("content-type", "application/json")];
    post("?process-id=P", &[], "", "'dryRun': Required.").await;
    post("", &json_type, MESSAGE, "'processId': Required.").await;
    post("?process-id=", &json_type, MESSAGE, "'processId': a process-id query parameter is required.").await;
    post("?process-id=P&to=", &json_type, MESSAGE, "'messageTxId': to must be a transaction id.").await;
    post("?process-id=P", &json_type, "{}", "'Owner': Required. | 'From': Required. | 'Tags': Required.").await;
    post("?process-id=P", &[("content-type", "text/plain")], "hi", "'dryRun': Expected object, received string.").await;
    let aged = [("content-type", "application/json"), ("x-max-age", "old")];
    post("?process-id=P", &aged, MESSAGE, "'maxProcessAge': Expected number, received nan.").await;
    assert_eq!(served.fake.0.calls.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn dry_run_400_for_an_empty_json_body() {
    let body = r#"{"statusCode":400,"code":"FST_ERR_CTP_EMPTY_JSON_BODY","error":"Bad Request","message":"Body cannot be empty when content-type is set to 'application/json'"}"#;
    served(&[]).dry_run("?process-id=P", "").await.is(400, body);
}

#[tokio::test]
async fn dry_run_400_for_a_body_that_is_not_json_or_holds_a_prototype() {
    let served = served(&[]);
    let got = served.dry_run("?process-id=P", "{nope").await;
    let start = r#"{"statusCode":400,"error":"Bad Request","message":"The request body is not valid JSON: "#;
    assert!(got.status == 400 && got.text().starts_with(start), "{}", got.text());
    let body = r#"{"statusCode":400,"error":"Bad Request","message":"Object contains forbidden prototype property"}"#;
    served.dry_run("?process-id=P", r#"{"Owner":"o","Tags":[],"Data":{"__proto__":1}}"#).await.is(400, body);
    served.dry_run("?process-id=P", r#"{"a":[{"constructor":{"prototype":1}}]}"#).await.is(400, body);
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(served.dry_run("?process-id=P", &deep).await.status, 400);
}

#[tokio::test]
async fn dry_run_200_for_what_only_javascript_takes_for_json() {
    let served = served(&[]);
    let body = "\u{feff}{\"Owner\":\"o\",\"Tags\":[],\"Data\":\"\\ud800\"}";
    served.dry_run("?process-id=P", body).await.is(200, DONE);
    assert_eq!(served.fake.0.dry_runs.lock().unwrap()[0].body["Data"], "\u{fffd}");
}

#[tokio::test]
async fn any_path_400_if_it_is_not_encoded_utf_8() {
    for path in ["/result/%zz?process-id=P", "/nowhere/%", "/state/%ff"] {
        let body = format!(
            r#"{{"error":"Bad Request","code":"FST_ERR_BAD_URL","message":"'{path}' is not a valid url component","statusCode":400}}"#
        );
        served(&[]).get(path).await.is(400, &body);
    }
}

#[tokio::test]
async fn every_process_route_403_for_a_restricted_process() {
    let served = served(&[("restrict_processes", "bad, worse")]);
    let body = r#"{"error":"Access denied for process bad"}"#;
    for path in ["/result/M?process-id=bad", "/results/bad", "/cron/bad", "/state/bad"] {
        served.get(path).await.is(403, body);
        assert_eq!(served.get(&path.replace("bad", "good")).await.status, 200, "{path}");
    }
    served.dry_run("?process-id=bad", MESSAGE).await.is(403, body);
    assert_eq!(served.get("/").await.status, 200);
}

#[tokio::test]
async fn every_process_route_403_for_a_process_that_is_not_allowed() {
    let served = served(&[("allow_processes", "good,bad"), ("restrict_processes", "bad")]);
    let body = r#"{"error":"Access denied for process other"}"#;
    for path in ["/result/M?process-id=other", "/results/other", "/cron/other", "/state/other"] {
        served.get(path).await.is(403, body);
        assert_eq!(served.get(&path.replace("other", "good")).await.status, 200, "{path}");
        assert_eq!(served.get(&path.replace("other", "bad")).await.status, 403, "{path}");
    }
    served.get("/result/M").await.is(403, r#"{"error":"Access denied for process undefined"}"#);
    served.dry_run("", MESSAGE).await.is(403, r#"{"error":"Access denied for process undefined"}"#);
    let twice = served.get("/result/M?process-id=good&process-id=other").await;
    twice.is(403, body);
}

#[tokio::test]
async fn unknown_route_404_names_method_and_path() {
    let served = served(&[]);
    let shape = |method: &str, path: &str| {
        format!(r#"{{"message":"Route {method}:{path} not found","error":"Not Found","statusCode":404}}"#)
    };
    for path in ["/x", "/x?a=1", "/result", "/results/a/b", "/state/"] {
        served.get(path).await.is(404, &shape("GET", path));
    }
    let posted = served.send(Request::post("/result/M?process-id=P").body(Body::empty()).unwrap()).await;
    posted.is(404, &shape("POST", "/result/M?process-id=P"));
    served.get("/dry-run").await.is(404, &shape("GET", "/dry-run"));
}

#[tokio::test]
async fn path_parameter_404_beyond_100_characters() {
    let served = served(&[]);
    assert_eq!(served.get(&format!("/results/{}", "a".repeat(100))).await.status, 200);
    let path = format!("/results/{}", "a".repeat(101));
    let body = format!(r#"{{"message":"Route GET:{path} not found","error":"Not Found","statusCode":404}}"#);
    served.get(&path).await.is(404, &body);
}

#[tokio::test]
async fn ru_mode_404_text_on_all_but_dry_runs_and_operation() {
    let served = served(&[("unit_mode", "ru")]);
    for path in ["/result/M?process-id=P", "/results/P", "/cron/P", "/state/P"] {
        let got = served.get(path).await;
        assert_eq!((got.status.as_u16(), got.text()), (404, "Not Found"), "{path}");
        assert_eq!(got.header("content-type"), Some("text/plain; charset=utf-8"));
    }
    for path in ["/", "/metrics", "/status"] {
        assert_eq!(served.get(path).await.status, 200, "{path}");
    }
    served.dry_run("?process-id=P", MESSAGE).await.is(200, DONE);
}

#[tokio::test]
async fn metrics_404_as_any_unknown_route_when_switched_off() {
    let body = r#"{"message":"Route GET:/metrics not found","error":"Not Found","statusCode":404}"#;
    served(&[("enable_metrics_endpoint", "false")]).get("/metrics").await.is(404, body);
}

#[tokio::test]
async fn dry_run_413_beyond_one_mebibyte_and_not_at_it() {
    let served = served(&[NO_LIMIT]);
    let message = |bytes: usize| {
        let empty = r#"{"Owner":"o","Tags":[],"Data":""}"#.len();
        format!(r#"{{"Owner":"o","Tags":[],"Data":"{}"}}"#, "x".repeat(bytes - empty))
    };
    let too_large = r#"{"statusCode":413,"code":"FST_ERR_CTP_BODY_TOO_LARGE","error":"Payload Too Large","message":"Request body is too large"}"#;
    served.dry_run("?process-id=P", &message(1_048_576)).await.is(200, DONE);
    served.dry_run("?process-id=P", &message(1_048_577)).await.is(413, too_large);
    let chunks: Vec<Result<String, std::io::Error>> = vec![Ok(message(1_048_576)), Ok(" ".to_owned())];
    let request = Request::post("/dry-run?process-id=P")
        .header("content-type", "application/json")
        .header("transfer-encoding", "chunked")
        .body(Body::from_stream(futures::stream::iter(chunks)))
        .unwrap();
    served.send(request).await.is(413, too_large);
}

#[tokio::test]
async fn dry_run_415_for_other_types_and_for_a_body_without_one() {
    let served = served(&[]);
    let shape = |what: &str| {
        format!(
            r#"{{"statusCode":415,"code":"FST_ERR_CTP_INVALID_MEDIA_TYPE","error":"Unsupported Media Type","message":"Unsupported Media Type: {what}"}}"#
        )
    };
    served.post("?process-id=P", &[], MESSAGE).await.is(415, &shape("undefined"));
    let html = [("content-type", "text/html")];
    served.post("?process-id=P", &html, MESSAGE).await.is(415, &shape("text/html"));
    let form = [("content-type", "application/jsonx; q=1")];
    served.post("?process-id=P", &form, MESSAGE).await.is(415, &shape("application/jsonx; q=1"));
    let loud = [("content-type", "Application/JSON")];
    served.post("?process-id=P", &loud, MESSAGE).await.is(200, DONE);
}

#[tokio::test]
async fn errors_of_the_ao_room_have_their_status_on_every_route() {
    let served = served(&[NO_LIMIT]);
    for (process, status, text) in [
        ("Invalid", 400, "text of Invalid"),
        ("ProcessDenied", 403, "Access denied for process P"),
        ("OwnerDenied", 403, "Access denied for process owner O"),
        ("NotFound", 404, "text of NotFound"),
        ("LimitExceeded", 413, "text of LimitExceeded"),
        ("Unprocessable", 422, "text of Unprocessable"),
        ("TooEarly", 425, "text of TooEarly"),
        ("TooMany", 429, "text of TooMany"),
        ("Hydrating", 503, "text of Hydrating"),
        ("Upstream", 500, "text of Upstream"),
        ("Internal", 500, "text of Internal"),
    ] {
        let body = json!({ "error": text }).to_string();
        for path in ["/result/M?process-id=PID", "/results/PID", "/cron/PID", "/state/PID"] {
            served.get(&path.replace("PID", process)).await.is(status, &body);
        }
        served.dry_run(&format!("?process-id={process}"), MESSAGE).await.is(status, &body);
    }
}

#[tokio::test]
async fn state_500_for_a_process_without_memory() {
    let got = served(&[]).get("/state/no-memory").await;
    assert!(
        got.status == 500 && got.text().starts_with(r#"{"error":"process no-memory has no memory"#),
        "{}",
        got.text()
    );
}

#[tokio::test]
async fn a_handler_s_panic_is_a_500_and_the_next_request_is_answered() {
    let served = served(&[]);
    served.get("/result/M?process-id=panic").await.is(500, r#"{"error":"internal error"}"#);
    served.get("/result/M?process-id=P").await.is(200, DONE);
}
