//! The gateway and the bundler, asked as clients and units ask them.

use serde_json::{Value, json};

use lockstep_cu::item::{DataItem, Draft, Tag, bundle, parse_id, to_base64url};

use crate::devnet::Devnet;
use crate::devnet::clock::FIRST_HEIGHT;
use crate::devnet::testkit::{Answer, ask, eventually, get, network, post, tags, text, user};

async fn query(devnet: &Devnet, query: &str, variables: Value) -> Answer {
    let body = json!({ "query": query, "variables": variables }).to_string();
    post(&devnet.urls().gateway, "/graphql", body.into_bytes()).await
}

/// Ids of the transactions found.
async fn ids(devnet: &Devnet, arguments: &str) -> Vec<String> {
    let answer =
        query(devnet, &format!("{{ transactions({arguments}) {{ edges {{ node {{ id }} }} }} }}"), Value::Null).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let found = answer.json();
    let edges = found["data"]["transactions"]["edges"].as_array().unwrap();
    edges.iter().map(|edge| edge["node"]["id"].as_str().unwrap().to_owned()).collect()
}

fn item(data: &[u8], pairs: &[(&str, &str)]) -> DataItem {
    user().sign(Draft { tags: tags(pairs), data: data.to_vec(), ..Draft::default() }).unwrap()
}

async fn upload(devnet: &Devnet, item: &DataItem) -> Answer {
    post(&devnet.urls().bundler, "/tx/arweave", item.to_bytes()).await
}

/// Uploads items named by their data.
async fn with_items(datas: &[&str]) -> (Devnet, Vec<String>) {
    let devnet = network(None).await;
    let mut ids = Vec::new();
    for data in datas {
        let item = item(data.as_bytes(), &[("Kind", "Test"), ("Name", data), ("Content-Type", "text/plain")]);
        assert_eq!(upload(&devnet, &item).await.status, 200);
        ids.push(item.id_text());
    }
    (devnet, ids)
}

#[tokio::test]
async fn everything_a_transaction_has_can_be_asked() {
    let devnet = network(None).await;
    let draft = Draft {
        target: Some([5; 32]),
        anchor: Some([6; 32]),
        tags: tags(&[("Content-Type", "a/b")]),
        data: b"12345".to_vec(),
    };
    let item = user().sign(draft).unwrap();
    upload(&devnet, &item).await;
    let asked = "query ($id: [ID!]!, $skip: Boolean!) { transactions(ids: $id) { pageInfo { hasNextPage } edges { cursor node {
        id anchor signature recipient owner { address key } fee { winston ar } quantity { winston ar } data { size type }
        tags @skip(if: $skip) { name value } block { id timestamp height previous } parent { id } bundledIn { id } } } } }";
    let answer = query(&devnet, asked, json!({ "id": [item.id_text()], "skip": false })).await.json();
    let node = &answer["data"]["transactions"]["edges"][0]["node"];
    assert_eq!(answer["data"]["transactions"]["pageInfo"]["hasNextPage"], false);
    assert_eq!(node["id"], item.id_text());
    assert_eq!(node["recipient"], text(&[5; 32]));
    assert_eq!(node["anchor"], text(&[6; 32]));
    assert_eq!(node["owner"]["address"], text(user().address()));
    assert_eq!(node["data"], json!({ "size": "5", "type": "a/b" }));
    assert_eq!(node["fee"], json!({ "winston": "0", "ar": "0.000000000000" }));
    assert_eq!(node["tags"], json!([{ "name": "Content-Type", "value": "a/b" }]));
    assert!(node["block"]["height"].as_u64().unwrap() >= FIRST_HEIGHT);
    assert_eq!((&node["parent"], &node["bundledIn"]), (&Value::Null, &Value::Null));
    let skipped = query(&devnet, asked, json!({ "id": [item.id_text()], "skip": true })).await.json();
    assert!(skipped["data"]["transactions"]["edges"][0]["node"].get("tags").is_none());
}

#[tokio::test]
async fn the_schedulers_place_is_found_by_its_owner() {
    let devnet = network(None).await;
    let asked = r#"query Where ($owner: String!) { transactions (owners: [$owner], sort: HEIGHT_DESC, first: 1,
        tags: [{ name: "Data-Protocol", values: ["ao"] }, { name: "Type", values: ["Scheduler-Location"] }])
        { edges { node { tags { name value } } } } }"#;
    let answer = query(&devnet, asked, json!({ "owner": devnet.scheduler().address() })).await.json();
    let tags: Vec<Tag> =
        serde_json::from_value(answer["data"]["transactions"]["edges"][0]["node"]["tags"].clone()).unwrap();
    let url = tags.iter().find(|tag| tag.name == "Url").unwrap().value.clone();
    assert_eq!(format!("{url}/"), devnet.urls().scheduler.to_string());
    assert!(tags.iter().any(|tag| tag.name == "Time-To-Live"));
    let none = query(&devnet, asked, json!({ "owner": text(&[1; 32]) })).await.json();
    assert_eq!(none["data"]["transactions"]["edges"], json!([]));
}

#[tokio::test]
async fn filters_on_tags_owners_and_recipients_all_have_to_hold() {
    let (devnet, all) = with_items(&["a", "b", "c"]).await;
    let kind = r#"{ name: "Kind", values: ["Test"] }"#;
    assert_eq!(ids(&devnet, &format!("tags: [{kind}], sort: HEIGHT_ASC")).await, all);
    let named =
        |op: &str| format!(r#"tags: [{kind}, {{ name: "Name", values: ["a", "c"], op: {op} }}], sort: HEIGHT_ASC"#);
    assert_eq!(ids(&devnet, &named("EQ")).await, [all[0].clone(), all[2].clone()]);
    assert_eq!(ids(&devnet, &named("NEQ")).await, [all[1].clone()]);
    let owner = text(user().address());
    assert_eq!(ids(&devnet, &format!(r#"tags: [{kind}], owners: ["{owner}"]"#)).await.len(), 3);
    assert_eq!(ids(&devnet, &format!(r#"tags: [{kind}], owners: "nobody""#)).await.len(), 0);
    assert_eq!(ids(&devnet, &format!(r#"tags: [{kind}], recipients: ["nobody"]"#)).await.len(), 0);
    assert_eq!(
        ids(&devnet, &format!(r#"tags: [{kind}], block: {{ min: {}, max: 99999999 }}"#, FIRST_HEIGHT)).await.len(),
        3
    );
    assert_eq!(ids(&devnet, &format!(r#"tags: [{kind}], block: {{ max: 5 }}"#)).await.len(), 0);
    assert_eq!(
        ids(&devnet, &format!(r#"ids: ["{}", "{}"], tags: [{kind}]"#, all[1], text(&[3; 32]))).await,
        [all[1].clone()]
    );
}

#[tokio::test]
async fn pages_follow_one_another_in_both_directions_without_loss_or_repeat() {
    let names: Vec<String> = (0..7).map(|n| n.to_string()).collect();
    let (devnet, all) = with_items(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    for (sort, mut expected) in [("HEIGHT_ASC", all.clone()), ("HEIGHT_DESC", all.into_iter().rev().collect())] {
        for with_ids in [false, true] {
            let only = if with_ids { format!("ids: {expected:?}") } else { String::new() };
            let (mut found, mut after) = (Vec::new(), String::new());
            for page in 0.. {
                let asked = format!(
                    "{{ transactions(first: 3, after: {after:?}, sort: {sort}, {only} tags: {{ name: \"Kind\", values: \"Test\" }})
                    {{ pageInfo {{ hasNextPage }} edges {{ cursor node {{ id }} }} }} }}"
                );
                let answer = query(&devnet, &asked, Value::Null).await.json();
                let edges = answer["data"]["transactions"]["edges"].as_array().unwrap().clone();
                found.extend(edges.iter().map(|edge| edge["node"]["id"].as_str().unwrap().to_owned()));
                assert_eq!(answer["data"]["transactions"]["pageInfo"]["hasNextPage"], page < 2);
                if page == 2 {
                    break;
                }
                after = edges.last().unwrap()["cursor"].as_str().unwrap().to_owned();
            }
            assert_eq!(found, expected, "{sort} {with_ids}");
        }
        expected.clear();
    }
}

#[tokio::test]
async fn blocks_are_listed_from_a_height_on_and_come_with_time() {
    let devnet = network(None).await;
    let asked = "query Some ($min: Int!, $limit: Int!) { blocks(height: { min: $min }, first: $limit, sort: HEIGHT_ASC)
        { pageInfo { hasNextPage } edges { node { timestamp height } } } }";
    let found = eventually("the third block", async || {
        let answer = query(&devnet, asked, json!({ "min": FIRST_HEIGHT, "limit": 2 })).await.json();
        (answer["data"]["blocks"]["pageInfo"]["hasNextPage"] == true).then_some(answer)
    })
    .await;
    let heights: Vec<_> = found["data"]["blocks"]["edges"]
        .as_array()
        .unwrap()
        .iter()
        .map(|edge| edge["node"]["height"].clone())
        .collect();
    assert_eq!(heights, [FIRST_HEIGHT, FIRST_HEIGHT + 1]);
    assert!(found["data"]["blocks"]["edges"][0]["node"]["timestamp"].as_u64().unwrap() > 1_600_000_000);
    let future = query(&devnet, asked, json!({ "min": FIRST_HEIGHT * 2, "limit": 2 })).await.json();
    assert_eq!(future["data"]["blocks"]["edges"], json!([]));
}

#[tokio::test]
async fn queries_that_cannot_be_answered_are_400_with_a_message() {
    let devnet = network(None).await;
    let many = format!("{{ {} }}", "a: transactions { edges { cursor } } ".repeat(2_100));
    let endless = "{ ...a } fragment a on Query { ...a }";
    for (asked, part) in [
        ("{", "Syntax Error"),
        ("mutation { x }", "found `mutation`"),
        ("{ nothing }", "Cannot query field \"nothing\" on type \"Query\""),
        ("{ transactions(tags: 5) { edges { cursor } } }", "Argument \"tags\""),
        ("{ transactions(first: \"x\") { edges { cursor } } }", "Argument \"first\""),
        ("{ transactions(after: \"%%\") { edges { cursor } } }", "Argument \"after\""),
        ("{ transactions(sort: SIDEWAYS) { edges { cursor } } }", "Argument \"sort\""),
        ("{ ...gone }", "Unknown fragment"),
        (endless, "2000 fields"),
        (&many, "Syntax Error"),
    ] {
        let answer = query(&devnet, asked, Value::Null).await;
        assert_eq!(answer.status, 400, "{asked}");
        let message = answer.json()["errors"][0]["message"].as_str().unwrap().to_owned();
        assert!(message.contains(part) || asked == many, "{asked}: {message}");
    }
    assert_eq!(post(&devnet.urls().gateway, "/graphql", b"not json".to_vec()).await.status, 400);
    assert_eq!(post(&devnet.urls().gateway, "/graphql", b"[]".to_vec()).await.status, 400);
}

#[tokio::test]
async fn data_is_given_with_its_content_type_and_unknown_ids_are_404() {
    let (devnet, all) = with_items(&["hello"]).await;
    for path in [format!("/raw/{}", all[0]), format!("/{}", all[0])] {
        let answer = get(&devnet.urls().gateway, &path).await;
        assert_eq!((answer.status, answer.kind.as_str(), answer.text.as_str()), (200, "text/plain", "hello"));
        let head = ask("HEAD", &devnet.urls().gateway, &path, None).await;
        assert_eq!((head.status, head.text.as_str()), (200, ""));
    }
    for path in
        [format!("/raw/{}", text(&[1; 32])), "/raw/x".into(), "/x/y/z".into(), format!("/tx/{}", text(&[1; 32]))]
    {
        assert_eq!(get(&devnet.urls().gateway, &path).await.status, 404, "{path}");
    }
    let status = get(&devnet.urls().gateway, &format!("/tx/{}/status", all[0])).await.json();
    assert!(status["block_height"].as_u64().unwrap() >= FIRST_HEIGHT && status["number_of_confirmations"].is_u64());
    let described = get(&devnet.urls().gateway, &format!("/tx/{}", all[0])).await.json();
    assert_eq!((&described["id"], &described["data_size"]), (&json!(all[0]), &json!("5")));
}

#[tokio::test]
async fn every_part_says_that_it_is_a_development_network() {
    let devnet = network(None).await;
    let urls = devnet.urls();
    for url in [&urls.gateway, &urls.bundler, &urls.messenger, &urls.scheduler] {
        let answer = get(url, "/").await;
        assert_eq!(answer.status, 200);
        assert!(answer.text.contains("development network"), "{}", answer.text);
    }
}

#[tokio::test]
async fn the_bundler_takes_signed_items_once_and_refuses_the_rest() {
    let devnet = network(None).await;
    let item = item(b"x", &[]);
    for _ in 0..2 {
        let answer = upload(&devnet, &item).await;
        assert_eq!((answer.status, &answer.json()["id"]), (200, &json!(item.id_text())));
        assert!(answer.json()["timestamp"].is_u64());
    }
    let mut forged = item.to_bytes();
    *forged.last_mut().unwrap() ^= 1;
    let answer = post(&devnet.urls().bundler, "/tx", forged).await;
    assert_eq!((answer.status, answer.json()), (400, json!({ "error": "Signature verification failed" })));
    let answer = post(&devnet.urls().bundler, "/tx", b"rubbish".to_vec()).await;
    assert_eq!(answer.status, 400);
    assert!(answer.text.contains("unknown signature type"), "{}", answer.text);
    assert_eq!(post(&devnet.urls().bundler, "/other", Vec::new()).await.status, 404);
    assert_eq!(post(&devnet.urls().gateway, "/tx", item.to_bytes()).await.status, 200);
}

#[tokio::test]
async fn what_is_in_a_bundle_is_found_and_forged_parts_of_it_are_not() {
    let devnet = network(None).await;
    let (good, bad) = (item(b"inside", &[]), item(b"forged", &[]));
    let mut forged = bad.to_bytes();
    *forged.last_mut().unwrap() ^= 1;
    let data = bundle::write(&[good.clone(), DataItem::parse(&forged).unwrap()]);
    let carrier = item(&data, &[("Bundle-Format", "binary"), ("Bundle-Version", "2.0.0")]);
    let broken = item(b"no bundle", &[("Bundle-Format", "binary"), ("Bundle-Version", "2.0.0")]);
    for item in [&carrier, &broken] {
        assert_eq!(upload(&devnet, item).await.status, 200);
    }
    assert_eq!(get(&devnet.urls().gateway, &format!("/raw/{}", good.id_text())).await.text, "inside");
    assert_eq!(get(&devnet.urls().gateway, &format!("/raw/{}", bad.id_text())).await.status, 404);
    assert_eq!(ids(&devnet, &format!("bundledIn: [\"{}\"]", carrier.id_text())).await, [good.id_text()]);
}

#[tokio::test]
async fn bodies_above_the_bound_are_413() {
    let devnet = network(None).await;
    let body = vec![0; crate::devnet::http::BODY_BYTES_MAX + 1];
    for url in [&devnet.urls().bundler, &devnet.urls().gateway] {
        let answer = post(url, "/tx", body.clone()).await;
        assert_eq!(answer.status, 413, "{}", answer.text);
        assert!(answer.text.contains("67108864"), "{}", answer.text);
    }
}

#[tokio::test]
async fn base_layer_transactions_are_checked_and_found() {
    let golden: Value = serde_json::from_str(include_str!("../../../../tests/items/transactions.json")).unwrap();
    let devnet = network(None).await;
    for (name, transaction) in golden["transactions"].as_object().unwrap() {
        let mut transaction = transaction.clone();
        if transaction.get("data").is_none() {
            let length = transaction["data_size"].as_str().unwrap().parse().unwrap();
            transaction["data"] = json!(to_base64url(&vec![7; length]));
        }
        let transaction = &transaction;
        let send = async |transaction: &Value| {
            let client = reqwest::Client::builder().no_proxy().build().unwrap();
            let url = devnet.urls().gateway.join("tx").unwrap();
            let answer = client.post(url).json(transaction).send().await.unwrap();
            (answer.status().as_u16(), answer.text().await.unwrap())
        };
        assert_eq!(send(transaction).await, (200, "OK".into()), "{name}");
        let id = transaction["id"].as_str().unwrap();
        let stored = devnet.scheduler().ledger().get(&parse_id(id).unwrap()).unwrap();
        assert_eq!(stored.data().len().to_string(), transaction["data_size"], "{name}");
        let changed = |member: &str, value: Value| {
            let mut transaction = transaction.clone();
            transaction[member] = value;
            transaction
        };
        for (member, value, part) in [
            ("reward", json!("1"), "verification failed"),
            ("id", json!(text(&[1; 32])), "SHA-256"),
            ("format", json!(1), "format 2"),
            ("format", json!(300), "JSON"),
            ("quantity", json!("x"), "quantity"),
            ("target", json!("AA"), "target"),
            ("owner", json!("!"), "owner"),
            ("data_root", json!("AA"), "data_root"),
            ("data_size", json!("99999999"), "chunks"),
            ("tags", json!([{ "name": "!", "value": "" }]), "tags"),
        ] {
            let (status, text) = send(&changed(member, value)).await;
            assert_eq!(status, 400, "{name} {member}");
            assert!(text.contains(part), "{name} {member}: {text}");
        }
    }
}
