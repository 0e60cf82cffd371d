//! What servers ask reaches the client that made the call, in all four combinations of eras.

use std::sync::Arc;

use mcpool_core::{DeclineAll, ProtocolVersion};
use mcpool_testkit::Era;
use serde_json::json;

use crate::support::{Answers, BOTH, Served, by_hand, call};

#[tokio::test]
async fn an_older_server_asks_the_client_of_the_call() {
    let served = Served::one(Era::Legacy).await;
    for version in &BOTH {
        let client = served.client(version).await;
        for method in ["elicitation/create", "sampling/createMessage", "roots/list"] {
            let arguments = json!({"method": method, "params": {"mode": "form", "message": "?"}});
            let result = call(&*client, "files__ask", arguments).await;
            let answer = &result["structuredContent"]["result"];
            assert_eq!(answer["asked"], method, "{version}: {result}");
            assert_eq!(answer["by"], "files", "{version}: {result}");
        }
    }
}

#[tokio::test]
async fn a_newer_server_asks_the_client_of_the_call() {
    let served = Served::one(Era::Modern).await;
    for version in &BOTH {
        let client = served.client(version).await;
        let result = call(&*client, "files__need_input", json!({"rounds": 3})).await;
        let result = &result["structuredContent"];
        assert_eq!(result["rounds"], 3, "{version}: {result}");
        assert_eq!(
            result["answers"]["roots"]["asked"], "roots/list",
            "{version}: {result}"
        );
    }
}

#[tokio::test]
async fn a_client_that_cannot_answer_is_not_asked() {
    let served = Served::one(Era::Legacy).await;
    for version in &BOTH {
        let client = served
            .client_at("/mcp", version, Arc::new(DeclineAll))
            .await;
        let arguments = json!({"method": "elicitation/create", "params": {"message": "?"}});
        let result = call(&*client, "files__ask", arguments).await;
        assert_eq!(
            result["structuredContent"]["error"]["code"], -32601,
            "{version}: {result}"
        );
    }
}

#[tokio::test]
async fn two_clients_are_asked_what_is_theirs() {
    let served = Served::one(Era::Legacy).await;
    let mut calls = Vec::new();
    for version in BOTH.iter().cycle().take(8) {
        let client = served.client_at("/mcp", version, Arc::new(Answers)).await;
        calls.push(tokio::spawn(async move {
            let arguments = json!({"method": "elicitation/create", "params": {"message": "?"}});
            call(&*client, "files__ask", arguments).await
        }));
    }
    for call in calls {
        let result = call.await.unwrap();
        assert_eq!(
            result["structuredContent"]["result"]["asked"],
            "elicitation/create"
        );
    }
}

#[tokio::test]
async fn a_retry_that_is_not_ours_is_refused() {
    let served = Served::one(Era::Legacy).await;
    let http = by_hand();
    // As text: a client may write the same arguments in another way.
    let post_with = async |state: &str, name: &str, arguments: &str| -> serde_json::Value {
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
            "name": name,
            "arguments": "ARGUMENTS",
            "requestState": state,
            "inputResponses": {"question": {"roots": []}},
            "_meta": {
                "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientCapabilities": {"roots": {}},
            },
        }});
        let mut body = body;
        if state.is_empty() {
            body["params"]
                .as_object_mut()
                .unwrap()
                .remove("requestState");
        }
        let request = http
            .post(served.url("/mcp"))
            .header("accept", "application/json, text/event-stream")
            .header("mcp-protocol-version", ProtocolVersion::LATEST.as_str())
            .header("mcp-method", "tools/call")
            .header("mcp-name", name);
        let text = request
            .header("content-type", "application/json")
            .body(body.to_string().replace("\"ARGUMENTS\"", arguments))
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap();
        serde_json::from_str(&text).unwrap()
    };
    let arguments = r#"{"method":"roots/list","params":{"a":1}}"#;
    let post = async |state: &str, name: &str| post_with(state, name, arguments).await;
    let asked = post("", "files__ask").await;
    let state = asked["result"]["requestState"].as_str().unwrap().to_owned();
    assert_eq!(
        asked["result"]["inputRequests"]["question"]["method"],
        "roots/list"
    );
    assert_eq!(post("AAAA", "files__ask").await["error"]["code"], -32602);
    // Good for this request alone.
    assert_eq!(post(&state, "files__echo").await["error"]["code"], -32602);
    let other = r#"{"method":"roots/list","params":{"a":2}}"#;
    let refused = post_with(&state, "files__ask", other).await;
    assert_eq!(refused["error"]["code"], -32602, "{refused}");
    let same = r#"{ "params": {"\u0061": 1}, "method": "roots\/list" }"#;
    let done = post_with(&state, "files__ask", same).await;
    let roots = &done["result"]["structuredContent"]["result"]["roots"];
    assert_eq!(*roots, json!([]), "{done}");
    // And once.
    assert_eq!(post(&state, "files__ask").await["error"]["code"], -32602);
}
