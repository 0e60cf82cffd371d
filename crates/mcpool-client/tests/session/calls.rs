//! Requests and their answers, and what the server says unasked.

use std::sync::Arc;

use mcpool_core::{
    Delivery, Error, ErrorKind, ServerNotice,
    model::{LoggingLevel, ReadResourceResult, ResourceContents},
};
use serde_json::{Value, json};

use crate::{args, call, options, support::*, text};

#[tokio::test(start_paused = true)]
async fn a_result_arrives_untouched() {
    let result = json!({
        "content": [
            {"type": "text", "text": "a", "annotations": {"audience": ["user"]}},
            {"type": "image", "data": "AAAA", "mimeType": "image/png"},
            {"type": "resource_link", "uri": "a:b", "name": "b"},
        ],
        "structuredContent": {"z": 1, "a": [null]},
        "isError": true,
        "_meta": {"vendor": 1},
    });
    let sent = result.clone();
    let (client, _) = connect_legacy(move |mut end| {
        let sent = sent.clone();
        async move {
            let request = end.expect("tools/call").await;
            assert_eq!(request["params"]["name"], "echo");
            assert_eq!(request["params"]["arguments"], json!({"x": {"y": [1, 2]}}));
            assert!(request["params"]["_meta"]["progressToken"].is_number());
            end.reply(&request, sent);
            end.recv().await;
        }
    })
    .await;
    let arguments = args(json!({"x": {"y": [1, 2]}}));
    let got = client
        .call_tool("echo", arguments, &options())
        .await
        .unwrap();
    assert_eq!(got.is_error, Some(true));
    assert_eq!(serde_json::to_value(got).unwrap(), result);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_content_block_is_kept_as_text() {
    let (client, _) = connect_legacy(|mut end| async move {
        end.serve(|_| Reply::Result(json!({"content": [{"type": "smell", "of": "tea"}]})))
            .await;
    })
    .await;
    let result = client.call_tool("x", None, &options()).await.unwrap();
    let block = &result.content[0].as_text().unwrap().text;
    assert_eq!(
        serde_json::from_str::<Value>(block).unwrap(),
        json!({"type": "smell", "of": "tea"})
    );
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_an_rpc_error_with_its_code() {
    let (client, _) = connect_legacy(|mut end| async move {
        end.serve(|_| Reply::Error(-32602)).await;
    })
    .await;
    let error = client.call_tool("x", None, &options()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Rpc);
    assert_eq!(error.rpc().unwrap().code.0, -32602);
    assert_eq!(error.delivery(), Delivery::Answered);
    assert_eq!(error.operation(), Some("tools/call"));
    assert_eq!(error.server().unwrap().as_str(), "script");
}

#[tokio::test(start_paused = true)]
async fn answers_out_of_order_twice_and_with_string_ids_find_their_calls() {
    let (client, _) = connect_legacy(|mut end| async move {
        let mut calls = Vec::new();
        for _ in 0..10 {
            calls.push(end.expect("tools/call").await);
        }
        for mut request in calls.into_iter().rev() {
            let name = request["params"]["name"].as_str().unwrap().to_owned();
            request["id"] = json!(request["id"].to_string());
            end.reply(&request, text(&name));
            end.reply(&request, text("twice"));
        }
        end.recv().await;
    })
    .await;
    let calls = (0..10).map(|n| {
        let client = Arc::clone(&client);
        async move {
            let name = format!("t{n}");
            let result = client.call_tool(&name, None, &options()).await.unwrap();
            assert_eq!(result.content[0].as_text().unwrap().text, name);
        }
    });
    futures::future::join_all(calls).await;
}

#[tokio::test(start_paused = true)]
async fn an_error_without_an_id_ends_the_only_call() {
    let (client, _) = connect_legacy(|mut end| async move {
        end.expect("tools/call").await;
        let error = json!({"code": -32700, "message": "cannot parse"});
        end.send(json!({"jsonrpc": "2.0", "id": null, "error": error}));
        end.recv().await;
    })
    .await;
    let error = client.call_tool("x", None, &options()).await.unwrap_err();
    assert_eq!(error.rpc().unwrap().code.0, -32700);
}

#[tokio::test(start_paused = true)]
async fn the_other_requests_go_through() {
    let (client, _) = connect_legacy(|mut end| async move {
        end.serve(|request| {
            Reply::Result(match request["method"].as_str().unwrap() {
                "prompts/list" => json!({"prompts": [{"name": "p"}]}),
                "prompts/get" => {
                    assert_eq!(request["params"]["arguments"], json!({"n": "1"}));
                    json!({"messages": [
                        {"role": "user", "content": {"type": "text", "text": "hi"}},
                        {"role": "user", "content": {"type": "smell"}},
                    ]})
                }
                "resources/templates/list" => {
                    json!({"resourceTemplates": [{"uriTemplate": "a:{b}", "name": "t"}]})
                }
                "resources/read" => json!({"contents": [{"uri": "a:b", "text": "c"}]}),
                "completion/complete" => json!({"completion": {"values": ["x"]}}),
                "logging/setLevel" => {
                    assert_eq!(request["params"]["level"], "warning");
                    json!({})
                }
                "resources/subscribe" | "resources/unsubscribe" => json!({}),
                "vendor/thing" => json!({"got": request["params"]["k"], "nested": {"a": [1]}}),
                other => panic!("{other}"),
            })
        })
        .await;
    })
    .await;
    let o = &options();
    assert_eq!(client.list_prompts(o).await.unwrap()[0].name, "p");
    let prompt = client
        .get_prompt("p", args(json!({"n": "1"})), o)
        .await
        .unwrap();
    assert_eq!(prompt.messages.len(), 2);
    assert_eq!(client.list_resource_templates(o).await.unwrap().len(), 1);
    let ReadResourceResult { contents, .. } = client.read_resource("a:b", o).await.unwrap();
    assert!(
        matches!(&contents[0], ResourceContents::TextResourceContents { text, .. } if text == "c")
    );
    let params = serde_json::from_value(json!({
        "ref": {"type": "ref/prompt", "name": "p"}, "argument": {"name": "n", "value": ""},
    }));
    let completion = client.complete(params.unwrap(), o).await.unwrap();
    assert_eq!(completion.completion.values, ["x"]);
    client.set_log_level(LoggingLevel::Warning).await.unwrap();
    client.subscribe("a:b").await.unwrap();
    client.unsubscribe("a:b").await.unwrap();
    let params = Some(json!({"k": 7}));
    let raw = client.request("vendor/thing", params, o).await.unwrap();
    assert_eq!(raw, json!({"got": 7, "nested": {"a": [1]}}));
    let refused = client.request("initialize", None, o).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidArgument);
}

#[tokio::test(start_paused = true)]
async fn the_callers_meta_travels_with_the_request() {
    let (client, _) = connect_legacy(|mut end| async move {
        let request = end.expect("tools/call").await;
        assert_eq!(request["params"]["_meta"]["traceparent"], "00-1");
        assert!(request["params"]["_meta"]["progressToken"].is_number());
        end.reply(&request, text("ok"));
        end.recv().await;
    })
    .await;
    let meta = args(json!({"traceparent": "00-1"})).unwrap();
    let options = options().with_meta(meta);
    client.call_tool("x", None, &options).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_the_transport_lost_is_of_unknown_delivery() {
    let (client, _) = connect_legacy(|mut end| async move {
        let request = end.expect("tools/call").await;
        let lost = Error::new(ErrorKind::ConnectionLost, "the stream broke");
        let error = serde_json::to_value(lost.to_rpc()).unwrap();
        end.send(json!({"jsonrpc": "2.0", "id": request["id"], "error": error}));
        end.recv().await;
    })
    .await;
    let error = client.call_tool("x", None, &options()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionLost);
    assert_eq!(error.delivery(), Delivery::Unknown);
    assert!(
        !client.is_closed(),
        "one answer was lost, not the connection"
    );
}

#[tokio::test(start_paused = true)]
async fn notices_come_in_order_and_a_slow_reader_learns_what_it_missed() {
    let (client, _) = connect_legacy(|mut end| async move {
        end.expect("tools/call").await;
        for n in 0..300 {
            end.notify("notifications/message", json!({"level": "info", "data": n}));
        }
        end.notify("notifications/tools/list_changed", json!({}));
        end.recv().await;
    })
    .await;
    let mut quick = client.notices();
    let mut slow = client.notices();
    let _call = call(&client);
    for n in 0..300 {
        let ServerNotice::Log { data, .. } = quick.recv().await.unwrap() else {
            panic!("a log message");
        };
        assert_eq!(data, json!(n));
    }
    assert!(matches!(
        quick.recv().await.unwrap(),
        ServerNotice::ToolsChanged
    ));
    let missed = slow.recv().await.unwrap_err();
    assert!(format!("{missed:?}").contains("45"), "{missed:?}");
}
