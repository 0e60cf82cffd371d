//! What clients must not be able to do.

use mcpool_gateway::{Gateway, HttpOptions, Limits, SealingKeys};
use mcpool_testkit::{Behavior, Era};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::{PATIENCE, Served, by_hand, initialize, ping, status, tool_call};

#[tokio::test]
async fn foreign_names_are_refused() {
    let served = Served::one(Era::Legacy).await;
    for (header, value) in [("host", "evil.example"), ("origin", "http://evil.example")] {
        let request = served.post("/mcp", "", &initialize()).header(header, value);
        assert_eq!(status(request).await, StatusCode::FORBIDDEN, "{header}");
    }
    let request = served
        .post("/mcp", "", &initialize())
        .header("origin", "http://localhost:1");
    assert_eq!(status(request).await, StatusCode::OK);
}

#[tokio::test]
async fn a_session_is_good_where_it_was_made_and_until_it_is_ended() {
    let served = Served::one(Era::Legacy).await;
    let token = served.token("/mcp", "").await;
    let with = |token: &str, path: &str| {
        served
            .post(path, "", &ping())
            .header("mcp-session-id", token)
    };
    assert_eq!(status(with(&token, "/mcp")).await, StatusCode::OK);
    // Another part of the pool, a changed token, none.
    assert_eq!(
        status(with(&token, "/servers/files/mcp")).await,
        StatusCode::NOT_FOUND
    );
    let changed = format!("A{}", &token[1..]);
    let changed = if changed == token {
        format!("B{}", &token[1..])
    } else {
        changed
    };
    assert_eq!(status(with(&changed, "/mcp")).await, StatusCode::NOT_FOUND);
    assert_eq!(
        status(served.post("/mcp", "", &ping())).await,
        StatusCode::BAD_REQUEST
    );
    // Another gateway with the same key goes on with it; one with another key does not.
    for (key, wanted) in [("07", StatusCode::OK), ("08", StatusCode::NOT_FOUND)] {
        let keys = SealingKeys::from_text(&key.repeat(32)).unwrap();
        let gateway = Gateway::builder(served.manager.clone())
            .with_keys(keys)
            .build();
        let other = Served::on_socket(
            gateway,
            served.manager.clone(),
            Vec::new(),
            HttpOptions::new(),
        )
        .await;
        let request = other
            .post("/mcp", "", &ping())
            .header("mcp-session-id", &token);
        assert_eq!(status(request).await, wanted, "{key}");
    }
    let standing = by_hand()
        .get(served.url("/mcp"))
        .header("accept", "text/event-stream")
        .header("mcp-session-id", &token);
    let standing = standing.send().await.unwrap();
    assert_eq!(standing.status(), StatusCode::OK);
    let delete = by_hand()
        .delete(served.url("/mcp"))
        .header("mcp-session-id", &token);
    assert_eq!(status(delete).await, StatusCode::NO_CONTENT);
    // The stream of the session ends with it.
    standing.bytes().await.unwrap();
    assert_eq!(status(with(&token, "/mcp")).await, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn bodies_are_bounded_and_of_one_type() {
    let served = Served::one(Era::Legacy).await;
    let gateway = served.gateway.clone();
    let options = HttpOptions::new().with_limits(Limits::new().with_max_body_bytes(1_000));
    let small = Served::on_socket(gateway, served.manager.clone(), Vec::new(), options).await;
    let mut long = initialize();
    long["params"]["clientInfo"]["name"] = json!("x".repeat(2_000));
    let request = small.post("/mcp", "", &long);
    assert_eq!(status(request).await, StatusCode::PAYLOAD_TOO_LARGE);
    let plain = by_hand().post(small.url("/mcp"));
    let request = plain
        .header("content-type", "text/plain")
        .body(initialize().to_string());
    assert_eq!(status(request).await, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    for (coding, wanted) in [
        ("gzip", StatusCode::UNSUPPORTED_MEDIA_TYPE),
        ("identity, br", StatusCode::UNSUPPORTED_MEDIA_TYPE),
        ("Identity", StatusCode::OK),
    ] {
        let request = small.post("/mcp", "", &initialize());
        let request = request.header("content-encoding", coding);
        assert_eq!(status(request).await, wanted, "{coding}");
    }
    let plain = by_hand().post(small.url("/mcp"));
    let request = plain
        .header("content-type", "application/json; charset=utf-8")
        .header("accept", "text/html")
        .body("{}");
    assert_eq!(status(request).await, StatusCode::NOT_ACCEPTABLE);
    for (body, wanted) in [
        ("{", -32700),
        ("[]", -32600),
        ("5", -32600),
        ("[[]]", -32600),
        (r#"{"jsonrpc":"2.0","id":{},"method":"ping"}"#, -32600),
        (r#"{"jsonrpc":"2.0","id":true,"method":"ping"}"#, -32600),
    ] {
        let request = by_hand()
            .post(small.url("/mcp"))
            .header("content-type", "application/json")
            .body(body);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{body}");
        let answer: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
        assert_eq!(answer["error"]["code"], wanted, "{body}");
        assert_eq!(answer["id"], Value::Null, "{body}");
    }
}

#[tokio::test]
async fn headers_that_contradict_each_other_are_refused() {
    let served = Served::one(Era::Legacy).await;
    let session = served.token("/mcp", "").await;
    let other = served.token("/mcp", "").await;
    for (header, first, second) in [
        ("authorization", "Bearer a", "Bearer b"),
        ("mcp-session-id", &*session, &*other),
        ("mcp-protocol-version", "2025-11-25", "2025-06-18"),
    ] {
        for (again, wanted) in [(first, StatusCode::OK), (second, StatusCode::BAD_REQUEST)] {
            let request = served.post("/mcp", "", &ping());
            let request = match header {
                "mcp-session-id" => request,
                _ => request.header("mcp-session-id", &session),
            };
            let request = request.header(header, first).header(header, again);
            assert_eq!(status(request).await, wanted, "{header}: {again}");
        }
    }
}

#[tokio::test]
async fn paths_lead_to_what_is_there() {
    let served = Served::one(Era::Legacy).await;
    for path in [
        "/servers/other/mcp",
        "/mcp/profile",
        "/servers/%2e%2e%2fmcp/mcp",
    ] {
        let request = served.post(path, "", &initialize());
        assert_eq!(status(request).await, StatusCode::NOT_FOUND, "{path}");
    }
    let put = by_hand().put(served.url("/mcp"));
    assert_eq!(status(put).await, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn a_server_that_floods_holds_up_nobody() {
    let served = Served::one(Era::Legacy).await;
    let session = served.token("/mcp", "").await;
    let with = |body: &Value| {
        let request = served.post("/mcp", "", body);
        request.header("mcp-session-id", &session)
    };
    let flood = tool_call(1, "files__burst", json!({"count": 20_000}));
    // Its client reads nothing of it for now.
    let unread = with(&flood).send().await.unwrap();
    let token = served.token("/mcp", "").await;
    let echo = tool_call(1, "files__echo", json!({"message": "hi"}));
    let other = served.post("/mcp", "", &echo);
    let other = other.header("mcp-session-id", token);
    let answer = tokio::time::timeout(PATIENCE, other.send()).await.unwrap();
    assert_eq!(answer.unwrap().status(), StatusCode::OK);
    // What was too much is dropped; the answer is not.
    let text = tokio::time::timeout(PATIENCE, unread.text()).await.unwrap();
    let text = text.unwrap();
    let mut events = text.lines().filter_map(|line| line.strip_prefix("data: "));
    // Without anything said before it the answer is the whole body.
    let last: Value = serde_json::from_str(events.next_back().unwrap_or(&text)).unwrap();
    assert_eq!(last["id"], 1);
    assert!(last["result"].is_object(), "{last}");
}

#[tokio::test]
async fn names_that_collide_on_purpose_lead_each_to_its_own_server() {
    let pool = [("a", Behavior::new()), ("a__b", Behavior::new())];
    let served = Served::with(&pool).await;
    let session = served.token("/mcp", "").await;
    let ask = async |body: Value| {
        let request = served.post("/mcp", "", &body);
        let answer = request.header("mcp-session-id", &session).send().await;
        answer.unwrap().text().await.unwrap()
    };
    let list = async || {
        let list = ask(json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"})).await;
        let list: Value = serde_json::from_str(&list).unwrap();
        let tools = list["result"]["tools"].as_array().unwrap().iter();
        tools
            .map(|tool| tool["name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let before = list().await;
    // `a` now has a tool that is called as one of `a__b` is.
    for (path, name) in [
        ("/servers/a/mcp", "b__echo"),
        ("/servers/a/mcp", "x\u{1b}[2J"),
    ] {
        let token = served.token(path, "").await;
        let add = served.post(path, "", &tool_call(1, "add_tool", json!({ "name": name })));
        let added = add.header("mcp-session-id", token).send().await.unwrap();
        assert_eq!(added.status(), StatusCode::OK);
        added.bytes().await.unwrap();
    }
    let new = async {
        loop {
            let names = list().await;
            if names.len() == before.len() + 2 {
                break names;
            }
        }
    };
    let names = tokio::time::timeout(PATIENCE, new).await.unwrap();
    let unique: std::collections::BTreeSet<&String> = names.iter().collect();
    assert_eq!(unique.len(), names.len(), "{names:?}");
    assert!(!names.concat().contains(char::is_control), "{names:?}");
    let echo = names.iter().filter(|name| name.contains("b__echo"));
    let echo: Vec<&String> = echo.collect();
    assert_eq!(echo.len(), 2, "{names:?}");
    let calls = || [0, 1].map(|at: usize| served.servers[at].seen()["calls"].as_u64().unwrap());
    let before = calls();
    for name in echo {
        ask(tool_call(1, name, json!({"message": "hi"}))).await;
    }
    let after = calls();
    assert_eq!([after[0] - before[0], after[1] - before[1]], [1, 1]);
}

/// A batch is refused before any of it is run, or not at all.
#[tokio::test]
async fn a_batch_that_is_refused_has_run_nothing() {
    let served = Served::one(Era::Legacy).await;
    let begin = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
        "protocolVersion": "2025-03-26", "capabilities": {},
        "clientInfo": {"name": "t", "version": "1"}}});
    let begun = served.post("/mcp", "", &begin).send().await.unwrap();
    let session = begun.headers()["mcp-session-id"]
        .to_str()
        .unwrap()
        .to_owned();
    let send = async |body: serde_json::Value| {
        let request = served.post("/mcp", "", &body);
        let answer = request.header("mcp-session-id", &session).send().await;
        let answer = answer.unwrap();
        (answer.status(), answer.text().await.unwrap())
    };
    let call = |id| tool_call(id, "files__echo", json!({"message": "ran"}));
    for last in [json!({"foo": 1}), begin.clone()] {
        let (refused, text) = send(json!([call(1), call(2), last])).await;
        assert_eq!(refused, StatusCode::BAD_REQUEST, "{text}");
    }
    assert_eq!(send(json!([])).await.0, StatusCode::BAD_REQUEST);
    assert_eq!(served.servers[0].seen()["calls"], json!(0));
    let (good, text) = send(json!([call(1), call(2)])).await;
    assert_eq!(good, StatusCode::OK);
    assert_eq!(text.matches("ran").count(), 2, "{text}");
    assert_eq!(served.servers[0].seen()["calls"], json!(2));
}

#[tokio::test]
async fn a_version_that_nobody_knows_is_refused() {
    let served = Served::one(Era::Legacy).await;
    let session = served.token("/mcp", "").await;
    let request = || {
        let request = served.post("/mcp", "", &ping());
        request.header("mcp-protocol-version", "banana")
    };
    assert_eq!(status(request()).await, StatusCode::BAD_REQUEST);
    let of_session = request().header("mcp-session-id", &session);
    let refused = of_session.send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
    let text = refused.text().await.unwrap();
    assert!(text.contains("not the version of this session"), "{text}");
}
