//! Requests and their answers, and what the server says unasked.

use std::sync::Arc;

use mcpool_core::{
    Delivery, Error, ErrorKind, Raw, RawObject, Request, Requester, ServerNotice, Verbs,
    model::{LoggingLevel, ReadResourceResult, ResourceContents},
};
use serde_json::{Value, json};

use crate::{call, support::*, text};

#[tokio::test(start_paused = true)]
async fn a_result_arrives_untouched() {
    let result = r#"{"content":[{"type":"smell","of":"tea"}],"n":12345678901234567890123,
        "structuredContent":{"z":1.50,"a":[null]},"isError":true,"_meta":{"vendor":1},
        "toolResult":"\ud800"}"#;
    let (client, _) = connect_legacy(move |mut end| async move {
        let request = end.expect("tools/call").await;
        assert_eq!(request["params"]["name"], "echo");
        assert_eq!(request["params"]["arguments"], json!({"x": {"y": [1, 2]}}));
        assert_eq!(request["params"]["_meta"]["progressToken"], request["id"]);
        end.send_text(&format!(r#"{{"id":{},"result":{result}}}"#, request["id"]));
        end.recv().await;
    })
    .await;
    let arguments = json!({"x": {"y": [1, 2]}});
    let got = client.call_tool("echo", arguments).await.unwrap();
    assert_eq!(got.is_error, Some(true));
    assert_eq!(got.odd().len(), 1, "{:?}", got.odd());
    assert_eq!(got.raw().get(), result.replace('\n', " "));
}

#[tokio::test(start_paused = true)]
async fn parameters_of_an_old_server_are_sent_as_they_are() {
    let (client, _) = connect_legacy(|mut end| async move {
        end.serve(|request| {
            assert_eq!(request["wire"]["version"], "2025-11-25");
            assert_eq!(
                request["wire"]["name"],
                Value::Null,
                "headers are a later era's"
            );
            let meta = &request["params"]["_meta"];
            assert_eq!(meta.as_object().unwrap().len(), 1, "{meta}");
            Reply::Result(request["params"].clone())
        })
        .await;
    })
    .await;
    let request = Request::new("vendor/thing")
        .with_params(&json!({"k": 7}))
        .unwrap();
    let raw = client.request(&request, &options()).await.unwrap();
    let value: Value = raw.parse().unwrap();
    assert_eq!(value["k"], 7);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_an_rpc_error_with_its_code() {
    let (client, _) = connect_legacy(|mut end| async move {
        end.serve(|_| Reply::Error(-32602)).await;
    })
    .await;
    let error = client.call_tool("x", ()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Rpc);
    assert_eq!(error.rpc().unwrap().code, -32602);
    assert_eq!(error.delivery(), Delivery::Answered);
    assert_eq!(error.operation(), Some("tools/call"));
    assert_eq!(error.server().unwrap().as_str(), "script");
}

#[tokio::test(start_paused = true)]
async fn answers_out_of_order_and_twice_find_their_calls() {
    let (client, _) = connect_legacy(|mut end| async move {
        let mut calls = Vec::new();
        for _ in 0..10 {
            calls.push(end.expect("tools/call").await);
        }
        for request in calls.into_iter().rev() {
            let name = request["params"]["name"].as_str().unwrap().to_owned();
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
            let result = client.call_tool(&name, ()).await.unwrap();
            assert_eq!(result.content[0].as_text().unwrap().text, name);
        }
    });
    futures::future::join_all(calls).await;
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
                other => panic!("{other}"),
            })
        })
        .await;
    })
    .await;
    assert_eq!(client.list_prompts().await.unwrap().items[0].name, "p");
    let prompt = client.get_prompt("p", json!({"n": "1"})).await.unwrap();
    assert_eq!(prompt.messages.len(), 1);
    let templates = client.list_resource_templates().await.unwrap();
    assert_eq!(templates.items.len(), 1);
    let resource = client.read_resource("a:b").await.unwrap();
    let ReadResourceResult { contents, .. } = resource.into_inner();
    assert!(
        matches!(&contents[0], ResourceContents::TextResourceContents { text, .. } if text == "c")
    );
    let params = serde_json::from_value(json!({
        "ref": {"type": "ref/prompt", "name": "p"}, "argument": {"name": "n", "value": ""},
    }));
    let completion = client.complete(params.unwrap()).await.unwrap();
    assert_eq!(completion.completion.values, ["x"]);
    client.set_log_level(LoggingLevel::Warning).await.unwrap();
    client.subscribe("a:b").await.unwrap();
    client.unsubscribe("a:b").await.unwrap();
    for own in ["initialize", "subscriptions/listen"] {
        let refused = client.request(&Request::new(own), &options()).await;
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
}

#[tokio::test(start_paused = true)]
async fn the_callers_meta_travels_with_the_request() {
    for modern in [false, true] {
        let script = move |mut end: ServerEnd| async move {
            let request = end.expect("tools/call").await;
            let meta = &request["params"]["_meta"];
            assert_eq!(meta["traceparent"], "00-1");
            assert_eq!(meta["progressToken"], request["id"]);
            let version = &meta["io.modelcontextprotocol/protocolVersion"];
            // What a header repeats is not the caller's, and an older server knows nothing of it.
            let wanted = if modern {
                json!("2026-07-28")
            } else {
                Value::Null
            };
            assert_eq!(*version, wanted);
            end.reply(&request, text("ok"));
            end.recv().await;
        };
        let (client, _) = if modern {
            connect_modern(script).await
        } else {
            connect_legacy(script).await
        };
        let mut meta = RawObject::new();
        meta.insert("traceparent", Raw::of("00-1").unwrap());
        let version = "io.modelcontextprotocol/protocolVersion";
        meta.insert(version, Raw::of("mine").unwrap());
        let options = options().with_meta(meta);
        client
            .with_options(&options)
            .call_tool("x", ())
            .await
            .unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_the_transport_lost_is_of_unknown_delivery() {
    let (client, _) = connect_legacy(|mut end| async move {
        let request = end.expect("tools/call").await;
        end.fail(
            &request,
            Error::new(ErrorKind::ConnectionLost, "the stream broke"),
        );
        end.recv().await;
    })
    .await;
    let error = client.call_tool("x", ()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionLost);
    assert_eq!(error.delivery(), Delivery::Unknown);
    assert_eq!(error.operation(), Some("tools/call"));
    assert!(
        !client.is_closed(),
        "one answer was lost, not the connection"
    );
}

#[tokio::test(start_paused = true)]
async fn notices_come_in_order_and_a_slow_reader_learns_what_it_missed() {
    let (client, _) = connect_legacy(|mut end| async move {
        end.expect("tools/call").await;
        for n in 0..200 {
            end.notify("notifications/message", json!({"level": "info", "data": n}));
        }
        end.renew();
        end.notify("notifications/tools/list_changed", json!({}));
        end.recv().await;
    })
    .await;
    let mut quick = client.notices();
    let mut slow = client.notices();
    let _call = call(&client);
    for n in 0..200 {
        let Some(ServerNotice::Log { data, .. }) = quick.next().await else {
            panic!("a log message");
        };
        assert_eq!(data.get(), n.to_string());
    }
    assert_eq!(quick.next().await, Some(ServerNotice::SessionRenewed));
    assert_eq!(quick.next().await, Some(ServerNotice::ToolsChanged));
    let missed = slow.next().await.unwrap();
    assert_eq!(missed, ServerNotice::Missed { count: 202 - 32 });
}
