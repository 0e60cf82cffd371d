//! What a malicious server tries on its client.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::time::Duration;

use mcpool_core::{ClientFactory, ServerSpec, StdioSpec, Verbs};
use serde_json::json;
use support::*;

#[tokio::test(start_paused = true)]
async fn what_is_answered_to_a_server_that_does_not_read_is_bounded() {
    let (client, _) = connect_legacy(|mut end| async move {
        end.stop_reading();
        for id in 0..1_000_000 {
            end.send(json!({"jsonrpc": "2.0", "id": id, "method": "ping"}));
            if id % 1_000 == 0 {
                tokio::task::yield_now().await;
            }
        }
        end.recv().await;
    })
    .await;
    tokio::time::timeout(Duration::from_secs(60), client.closed())
        .await
        .expect("it is closed");
}

#[tokio::test(start_paused = true)]
async fn a_list_has_a_bound_and_the_rest_is_unharmed() {
    let (client, _) = connect_legacy(|mut end| async move {
        end.serve(|request| match request["method"].as_str() {
            Some("tools/list") => {
                let tools: Vec<_> = (0..10_001).map(|n| tool(&format!("t{n}"))).collect();
                Reply::Result(json!({"tools": tools}))
            }
            _ => Reply::Result(json!({"prompts": []})),
        })
        .await;
    })
    .await;
    let error = client.list_tools().await.unwrap_err();
    assert!(error.message().contains("10000"), "{error}");
    assert_eq!(error.operation(), Some("tools/list"));
    assert!(client.list_prompts().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn what_was_not_offered_is_no_method() {
    let (client, _) = connect_legacy(|mut end| async move {
        let call = end.expect("tools/call").await;
        for request in [
            json!({"method": "elicitation/create", "params": {
                "mode": "form", "message": "sure?",
                "requestedSchema": {"type": "object", "properties": {}},
            }}),
            json!({"method": "sampling/createMessage", "params": {
                "messages": [], "maxTokens": 1,
            }}),
            json!({"method": "roots/list"}),
        ] {
            let mut request = request;
            request["jsonrpc"] = json!("2.0");
            request["id"] = json!("question");
            end.send(request.clone());
            let answer = end.recv().await.unwrap();
            assert_eq!(answer["error"]["code"], -32601, "{request}: {answer}");
        }
        end.reply(&call, json!({"content": []}));
        end.recv().await;
    })
    .await;
    client.call_tool("x", ()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_a_server_puts_into_its_error_is_masked() {
    const SECRET: &str = "canary-4711-value";
    let (factory, _) = Scripted::stdio(|mut end: ServerEnd| async move {
        end.initialize().await;
        end.expect("notifications/initialized").await;
        let call = end.expect("tools/call").await;
        end.send(json!({
            "jsonrpc": "2.0", "id": call["id"],
            "error": {"code": -32000, "message": format!("bad token {SECRET}"), "data": SECRET},
        }));
        end.recv().await;
    })
    .factory();
    let process = StdioSpec::new("script").with_env("TOKEN", SECRET);
    let spec = ServerSpec::stdio("script", process).unwrap();
    let client = factory.connect(&spec, &connecting()).await.unwrap();
    let error = client.call_tool("x", ()).await.unwrap_err();
    assert!(error.to_string().contains("bad token"), "{error}");
    assert!(!error.to_string().contains(SECRET), "{error}");
    assert!(!format!("{error:?}").contains(SECRET), "{error:?}");
}
