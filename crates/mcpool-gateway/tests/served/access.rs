//! Who may use the gateway, and what is kept of what they do.

use mcpool_core::ToolFilter;
use mcpool_gateway::{
    AccessKeys, AuditOutcome, Gateway, Grant, HttpOptions, HttpServer, Profile, SealingKeys,
};
use mcpool_testkit::Era;
use reqwest::StatusCode;
use serde_json::json;

use crate::support::{Served, audited, by_hand, initialize, ping, status, tool_call};

#[tokio::test]
async fn a_key_is_asked_for_and_a_session_is_its_owners() {
    let served = Served::one(Era::Legacy).await;
    let (ada, of_ada) = AccessKeys::issue(&Grant::new("ada").unwrap());
    let (bob, of_bob) = AccessKeys::issue(&Grant::new("bob").unwrap());
    let keys = AccessKeys::read(&format!("{of_ada}\n{of_bob}")).unwrap();
    let (gateway, entries) = audited(Gateway::builder(served.manager.clone()));
    let gateway = gateway.with_keys(SealingKeys::random()).build();
    let options = HttpOptions::new().with_keys(keys);
    let served = Served::on_socket(gateway, served.manager.clone(), served.servers, options).await;
    for key in ["", "mcpool_guess"] {
        let refused = served
            .post("/mcp", key, &initialize())
            .send()
            .await
            .unwrap();
        assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(
            refused.headers()["www-authenticate"],
            "Bearer realm=\"mcpool\""
        );
    }
    let session = served.token("/mcp", ada.expose()).await;
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
        "name": "files__fail", "arguments": {"message": "no"}}});
    let with = |key: &str| {
        served
            .post("/mcp", key, &call)
            .header("mcp-session-id", &session)
    };
    // A stolen token is nothing to another principal.
    let stolen = with(bob.expose()).send().await.unwrap();
    assert_eq!(stolen.status(), StatusCode::NOT_FOUND);
    let answer = with(ada.expose()).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    answer.bytes().await.unwrap();
    let entries = entries.lock().unwrap();
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].outcome, AuditOutcome::ToolError);
    let written = serde_json::to_value(&entries[0]).unwrap();
    assert_eq!(written["principal"], "ada");
    assert_eq!(
        (&written["server"], &written["name"]),
        (&json!("files"), &json!("fail"))
    );
    assert!(
        written["ms"].is_u64() && written["bytes_out"].as_u64() > Some(20),
        "{written}"
    );
}

#[tokio::test]
async fn a_name_of_any_length_is_a_short_entry() {
    let served = Served::one(Era::Legacy).await;
    let (gateway, entries) = audited(Gateway::builder(served.manager.clone()));
    let (gateway, options) = (gateway.build(), HttpOptions::new());
    let served = Served::on_socket(gateway, served.manager.clone(), served.servers, options).await;
    let path = "/servers/files/mcp";
    let session = served.token(path, "").await;
    let call = tool_call(1, &"x".repeat(100_000), json!({}));
    let call = served.post(path, "", &call);
    let answer = call.header("mcp-session-id", &session).send().await;
    answer.unwrap().bytes().await.unwrap();
    let entries = entries.lock().unwrap();
    assert_eq!(entries.len(), 1);
    let written = serde_json::to_string(&entries[0]).unwrap();
    assert!(written.len() < 2_000, "{} bytes", written.len());
}

#[tokio::test]
async fn keys_that_are_taken_away_are_refused_from_the_next_request_on() {
    let served = Served::one(Era::Legacy).await;
    let (ada, line) = AccessKeys::issue(&Grant::new("ada").unwrap());
    let keys = AccessKeys::read(&line).unwrap();
    let options = HttpOptions::new().with_keys(keys.clone());
    let served = served.again(options, HttpServer::new()).await;
    let session = served.token("/mcp", ada.expose()).await;
    let with = |key: &str| {
        let request = served.post("/mcp", key, &ping());
        status(request.header("mcp-session-id", &session))
    };
    assert_eq!(with(ada.expose()).await, StatusCode::OK);
    // None at all is not the same as not asking for any.
    keys.replace(&AccessKeys::default());
    assert_eq!(with(ada.expose()).await, StatusCode::UNAUTHORIZED);
    assert_eq!(with("").await, StatusCode::UNAUTHORIZED);
    let (new, line) = AccessKeys::issue(&Grant::new("ada").unwrap());
    keys.replace(&AccessKeys::read(&line).unwrap());
    assert_eq!(with(new.expose()).await, StatusCode::OK);
    assert_eq!(with(ada.expose()).await, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_key_with_a_profile_opens_that_alone() {
    let served = Served::one(Era::Legacy).await;
    let grant = Grant::new("ada").unwrap().with_profile("reading").unwrap();
    let (key, line) = AccessKeys::issue(&grant);
    let lost = Grant::new("bob").unwrap().with_profile("gone").unwrap();
    let (lost, other) = AccessKeys::issue(&lost);
    let echo = ToolFilter::allow(["files__echo"]);
    let keys = AccessKeys::read(&format!("{line}\n{other}")).unwrap();
    let profiles = [
        Profile::new("reading").with_tools(echo),
        Profile::new("writing"),
    ];
    let served = served
        .with_profiles(
            profiles.into_iter().collect(),
            HttpOptions::new().with_keys(keys),
            HttpServer::new(),
        )
        .await;
    for path in ["/mcp/writing", "/servers/files/mcp"] {
        let request = served.post(path, key.expose(), &initialize());
        assert_eq!(status(request).await, StatusCode::FORBIDDEN, "{path}");
    }
    // Without a key nothing says which names there are.
    for path in [
        "/mcp/writing",
        "/mcp/none",
        "/servers/files/mcp",
        "/servers/none/mcp",
    ] {
        let request = served.post(path, "", &initialize());
        assert_eq!(status(request).await, StatusCode::UNAUTHORIZED, "{path}");
    }
    let request = served.post("/mcp", lost.expose(), &initialize());
    assert_eq!(status(request).await, StatusCode::FORBIDDEN);
    for path in ["/mcp", "/mcp/reading"] {
        let session = served.token(path, key.expose()).await;
        let list = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"});
        let list = served.post(path, key.expose(), &list);
        let list = list
            .header("mcp-session-id", &session)
            .send()
            .await
            .unwrap();
        let list: serde_json::Value = list.json().await.unwrap();
        let tools = list["result"]["tools"].as_array().unwrap();
        assert_eq!(tools.len(), 1, "{path}: {list}");
        assert_eq!(tools[0]["name"], "files__echo");
    }
}

#[tokio::test]
async fn probes_are_answered_without_a_key() {
    let served = Served::one(Era::Legacy).await;
    let get = async |path: &str| {
        let request = by_hand().get(served.url(path)).header("host", "10.0.0.7");
        request.send().await.unwrap().status()
    };
    assert_eq!(get("/healthz").await, StatusCode::OK);
    assert_eq!(get("/readyz").await, StatusCode::OK);
    let report = served
        .manager
        .shutdown(std::time::Duration::from_secs(5))
        .await;
    drop(report);
    assert_eq!(get("/healthz").await, StatusCode::OK);
    assert_eq!(get("/readyz").await, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn who_guesses_keys_is_slowed_down_and_nobody_who_has_one() {
    let served = Served::one(Era::Legacy).await;
    let (ada, line) = AccessKeys::issue(&Grant::new("ada").unwrap());
    let options = HttpOptions::new()
        .with_keys(AccessKeys::read(&line).unwrap())
        .with_trusted_proxies("127.0.0.1")
        .unwrap();
    let served = served.again(options, HttpServer::new()).await;
    let guess = async |from: &'static str, key: &str| {
        let request = served.post("/mcp", key, &initialize());
        request
            .header("x-forwarded-for", from)
            .send()
            .await
            .unwrap()
    };
    let guesses = (0..40).map(|_| guess("203.0.113.9", "mcpool_guess"));
    let answers = futures::future::join_all(guesses).await;
    let slowed: Vec<_> = answers
        .iter()
        .filter(|answer| answer.status() == StatusCode::TOO_MANY_REQUESTS)
        .collect();
    // One more place comes free every two seconds.
    assert!(slowed.len() >= 9 && slowed.len() <= 10, "{}", slowed.len());
    for answer in slowed {
        assert!(answer.headers().contains_key("retry-after"));
        assert!(!answer.headers().contains_key("www-authenticate"));
    }
    // A good key counts from anywhere, a guess from elsewhere too, and none at all is no guess.
    assert_eq!(
        guess("203.0.113.9", ada.expose()).await.status(),
        StatusCode::OK
    );
    for (from, key) in [("203.0.113.8", "mcpool_guess"), ("203.0.113.9", "")] {
        assert_eq!(guess(from, key).await.status(), StatusCode::UNAUTHORIZED);
    }
}

#[tokio::test]
async fn the_audit_says_where_a_request_came_from() {
    let served = Served::one(Era::Legacy).await;
    let (manager, servers) = (served.manager.clone(), served.servers);
    let mut servers = Some(servers);
    for (proxies, peer) in [(None, "127.0.0.1"), (Some("127.0.0.0/8"), "203.0.113.9")] {
        let (gateway, entries) = audited(Gateway::builder(manager.clone()));
        let options = HttpOptions::new();
        let options = match proxies {
            Some(proxies) => options.with_trusted_proxies(proxies).unwrap(),
            None => options,
        };
        let servers_now = servers.take().unwrap();
        let served =
            Served::on_socket(gateway.build(), manager.clone(), servers_now, options).await;
        let session = served.token("/mcp", "").await;
        let call = tool_call(1, "files__echo", json!({"message": "hi"}));
        let call = served
            .post("/mcp", "", &call)
            .header("mcp-session-id", session)
            .header("x-forwarded-for", "198.51.100.7, 203.0.113.9");
        assert_eq!(status(call).await, StatusCode::OK);
        let entry = serde_json::to_value(&entries.lock().unwrap()[0]).unwrap();
        assert_eq!(entry["peer"], peer);
        servers = Some(served.servers);
    }
}
