//! Who may use the gateway, and what is kept of what they do.

use std::sync::{Arc, Mutex};

use mcpool_gateway::{AccessKeys, AuditEntry, AuditOutcome, Gateway, HttpOptions, SealingKeys};
use mcpool_testkit::Era;
use reqwest::{RequestBuilder, StatusCode};
use serde_json::{Value, json};

use crate::support::{Served, by_hand};

fn post(served: &Served, key: &str, body: &Value) -> RequestBuilder {
    let request = by_hand()
        .post(served.url("/mcp"))
        .header("accept", "application/json, text/event-stream")
        .json(body);
    match key {
        "" => request,
        key => request.bearer_auth(key),
    }
}

fn initialize() -> Value {
    json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {},
        "clientInfo": {"name": "t", "version": "1"}}})
}

#[tokio::test]
async fn a_key_is_asked_for_and_a_session_is_its_owners() {
    let served = Served::one(Era::Legacy).await;
    let (ada, of_ada) = AccessKeys::issue("ada").unwrap();
    let (bob, of_bob) = AccessKeys::issue("bob").unwrap();
    let keys = AccessKeys::read(&format!("{of_ada}\n{of_bob}")).unwrap();
    let entries: Arc<Mutex<Vec<AuditEntry>>> = Arc::default();
    let kept = Arc::clone(&entries);
    let gateway = Gateway::builder(served.manager.clone())
        .with_keys(SealingKeys::random())
        .with_audit(move |entry| kept.lock().unwrap().push(entry))
        .build();
    let options = HttpOptions::new().with_keys(keys);
    let served = Served::on_socket(gateway, served.manager.clone(), served.servers, options).await;
    for key in ["", "mcpool_guess"] {
        let refused = post(&served, key, &initialize()).send().await.unwrap();
        assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(
            refused.headers()["www-authenticate"],
            "Bearer realm=\"mcpool\""
        );
    }
    let begun = post(&served, ada.expose(), &initialize())
        .send()
        .await
        .unwrap();
    let session = begun.headers()["mcp-session-id"]
        .to_str()
        .unwrap()
        .to_owned();
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
        "name": "files__fail", "arguments": {"message": "no"}}});
    let with = |key: &str| post(&served, key, &call).header("mcp-session-id", &session);
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
