//! What a live session promises, on a scripted transport and a paused clock.
#![allow(clippy::unwrap_used, clippy::expect_used, deprecated)]

mod support;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use mcpool_core::{
    Client, ClientFactory, CloseReason, Delivery, Error, ErrorKind, ProbeMethod, Progress,
    RequestOptions, ServerNotice, TransportKind,
    model::{JsonObject, LoggingLevel, ReadResourceResult, ResourceContents},
};
use serde_json::{Value, json};
use support::*;
use tokio::{sync::oneshot, time::Instant};

fn options() -> RequestOptions {
    RequestOptions::new()
}

fn args(value: Value) -> Option<JsonObject> {
    match value {
        Value::Object(object) => Some(object),
        _ => panic!("arguments are an object"),
    }
}

fn text(text: &str) -> Value {
    json!({"content": [{"type": "text", "text": text}]})
}

/// Calls `echo` in a task of its own.
fn call(client: &Arc<dyn Client>) -> tokio::task::JoinHandle<mcpool_core::Result<Value>> {
    let client = Arc::clone(client);
    tokio::spawn(async move {
        let result = client.call_tool("echo", None, &options()).await?;
        Ok(serde_json::to_value(result).unwrap())
    })
}

// Calls

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

// Time-outs, progress, cancelling

#[tokio::test(start_paused = true)]
async fn a_request_times_out_and_the_server_is_told() {
    let (told, hears) = oneshot::channel();
    let told = Arc::new(Mutex::new(Some(told)));
    let (client, _) = connect_legacy(move |mut end| {
        let told = Arc::clone(&told);
        async move {
            let request = end.expect("tools/call").await;
            let cancelled = end.expect("notifications/cancelled").await;
            assert_eq!(cancelled["params"]["requestId"], request["id"]);
            let told = told.lock().unwrap().take().unwrap();
            told.send(Instant::now()).unwrap();
            // The late answer is dropped; the session goes on.
            end.reply(&request, text("late"));
            end.serve(|_| Reply::Result(text("fresh"))).await;
        }
    })
    .await;
    let started = Instant::now();
    let error = client.call_tool("x", None, &options()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!(error.delivery(), Delivery::Unknown);
    assert_eq!(started.elapsed(), Duration::from_secs(30), "the default");
    assert_eq!(hears.await.unwrap() - started, Duration::from_secs(30));
    let result = client.call_tool("x", None, &options()).await.unwrap();
    assert_eq!(result.content[0].as_text().unwrap().text, "fresh");
}

#[tokio::test(start_paused = true)]
async fn progress_extends_the_time_out_and_comes_in_order() {
    let (client, _) = connect_legacy(|mut end| async move {
        let request = end.expect("tools/call").await;
        let token = request["params"]["_meta"]["progressToken"].clone();
        for n in 1..=50 {
            tokio::time::sleep(Duration::from_secs(9)).await;
            let params =
                json!({"progressToken": token, "progress": n, "total": 50, "message": "m"});
            end.notify("notifications/progress", params);
        }
        end.reply(&request, text("done"));
        end.recv().await;
    })
    .await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&seen);
    let options = options()
        .with_timeout(Duration::from_secs(10))
        .with_progress(move |progress| sink.lock().unwrap().push(progress));
    client.call_tool("x", None, &options).await.unwrap();
    let want: Vec<_> = (1..=50)
        .map(|n| Progress::new(f64::from(n), Some(50.0), Some("m".into())))
        .collect();
    assert_eq!(*seen.lock().unwrap(), want);
}

#[tokio::test(start_paused = true)]
async fn the_hard_maximum_holds_whatever_the_progress() {
    let (client, _) = connect_legacy(|mut end| async move {
        let request = end.expect("tools/call").await;
        let token = request["params"]["_meta"]["progressToken"].clone();
        for n in 0.. {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let params = json!({"progressToken": token, "progress": n});
            end.notify("notifications/progress", params);
        }
    })
    .await;
    let started = Instant::now();
    let short = options().with_max_total(Duration::from_secs(45));
    let error = client.call_tool("x", None, &short).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!(started.elapsed(), Duration::from_secs(45));
}

#[tokio::test(start_paused = true)]
async fn a_panicking_progress_callback_harms_nobody() {
    let (client, _) = connect_legacy(|mut end| async move {
        let request = end.expect("tools/call").await;
        let token = request["params"]["_meta"]["progressToken"].clone();
        end.notify(
            "notifications/progress",
            json!({"progressToken": token, "progress": 1}),
        );
        end.reply(&request, text("done"));
        end.recv().await;
    })
    .await;
    let options = options().with_progress(|_| panic!("on purpose"));
    client.call_tool("x", None, &options).await.unwrap();
    assert!(!client.is_closed());
}

#[tokio::test(start_paused = true)]
async fn dropping_a_call_cancels_it() {
    let (told, hears) = oneshot::channel();
    let told = Arc::new(Mutex::new(Some(told)));
    let (client, _) = connect_legacy(move |mut end| {
        let told = Arc::clone(&told);
        async move {
            let request = end.expect("tools/call").await;
            let cancelled = end.expect("notifications/cancelled").await;
            assert_eq!(cancelled["params"]["requestId"], request["id"]);
            told.lock().unwrap().take().unwrap().send(()).unwrap();
            end.recv().await;
        }
    })
    .await;
    let options = options();
    let call = client.call_tool("x", None, &options);
    assert!(
        tokio::time::timeout(Duration::from_secs(1), call)
            .await
            .is_err()
    );
    hears.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_dropped_before_it_was_sent_is_never_sent() {
    let (client, _) = connect_legacy(|mut end| async move {
        let request = end.expect("tools/call").await;
        assert_eq!(request["params"]["name"], "second");
        end.reply(&request, text("ok"));
        end.recv().await;
    })
    .await;
    let options = options();
    {
        let first = client.call_tool("first", None, &options);
        tokio::pin!(first);
        // Polled once: it is queued, and the driver had no chance to run.
        assert!(futures::poll!(first.as_mut()).is_pending());
    }
    client.call_tool("second", None, &options).await.unwrap();
}

// The end of a connection

#[tokio::test(start_paused = true)]
async fn calls_in_flight_end_at_once_when_the_server_dies() {
    let (client, connector) = connect_legacy(|mut end| async move {
        for _ in 0..100 {
            end.expect("tools/call").await;
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
        end.stderr("panic: out of cheese");
        end.exit_status("signal: 9 (SIGKILL)");
    })
    .await;
    let calls: Vec<_> = (0..100).map(|_| call(&client)).collect();
    let started = Instant::now();
    for outcome in futures::future::join_all(calls).await {
        let error = outcome.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ProcessExited);
        assert_eq!(error.delivery(), Delivery::Unknown);
        assert!(error.message().contains("SIGKILL"));
        assert_eq!(error.stderr_tail()[0].text, "panic: out of cheese");
    }
    assert_eq!(
        started.elapsed(),
        Duration::from_secs(5),
        "not a moment later"
    );
    assert!(client.is_closed());
    match client.closed().await {
        CloseReason::Lost(error) => assert_eq!(error.kind(), ErrorKind::ProcessExited),
        other => panic!("{other:?}"),
    }
    // What comes now was not sent.
    let error = client.call_tool("x", None, &options()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ProcessExited);
    assert_eq!(error.delivery(), Delivery::NotSent);
    connector.all_dropped().await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_close_of_a_dead_connection_holds_up_no_call() {
    let (factory, connector) = Scripted::stdio(|mut end: ServerEnd| async move {
        end.initialize().await;
        end.expect("tools/call").await;
    })
    .close_takes(Duration::from_secs(4))
    .factory();
    let client = factory.connect(&spec()).await.unwrap();
    let started = Instant::now();
    let error = client.call_tool("x", None, &options()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionLost);
    assert!(
        started.elapsed() <= Duration::from_millis(200),
        "{:?}",
        started.elapsed()
    );
    client.close().await;
    assert_eq!(connector.orderly.load(Ordering::SeqCst), 1);
    connector.all_dropped().await;
}

#[tokio::test(start_paused = true)]
async fn a_send_that_breaks_says_what_became_of_its_request() {
    let (client, _) = connect_legacy(|mut end| async move {
        end.expect("tools/call").await;
        end.stop_reading();
        tokio::time::sleep(Duration::from_secs(2)).await;
    })
    .await;
    let sent = call(&client);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let stuck = call(&client);
    let error = sent.await.unwrap().unwrap_err();
    assert_eq!(error.delivery(), Delivery::Unknown);
    let error = stuck.await.unwrap().unwrap_err();
    assert_eq!(error.delivery(), Delivery::NotSent);
    assert_eq!(error.message(), "broken pipe");
}

#[tokio::test(start_paused = true)]
async fn a_refused_send_fails_its_request_alone() {
    let (factory, _) = Scripted::new(TransportKind::Http, |mut end: ServerEnd| async move {
        end.initialize().await;
        end.serve(|_| Reply::Result(text("fine"))).await;
    })
    .refusing(|_, message| (message["params"]["name"] == "limited").then(|| http_status(429)))
    .factory();
    let client = factory.connect(&http_spec()).await.unwrap();
    let error = client
        .call_tool("limited", None, &options())
        .await
        .unwrap_err();
    assert_eq!(error.http_status(), Some(429));
    assert_eq!(error.delivery(), Delivery::Rejected);
    client.call_tool("other", None, &options()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stuck_send_does_not_hold_up_close() {
    let (client, connector) = connect_legacy(|mut end| async move {
        end.stop_reading();
        std::future::pending::<()>().await;
        end.recv().await;
    })
    .await;
    let calls: Vec<_> = (0..10).map(|_| call(&client)).collect();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let started = Instant::now();
    client.close().await;
    assert_eq!(started.elapsed(), Duration::ZERO);
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap_err().kind(), ErrorKind::Closed);
    }
    assert!(matches!(client.closed().await, CloseReason::Requested));
    connector.all_dropped().await;
    client.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_transport_that_never_closes_is_dropped_in_time() {
    let (factory, connector) = Scripted::stdio(|mut end: ServerEnd| async move {
        end.initialize().await;
        while end.recv().await.is_some() {}
    })
    .close_takes(Duration::from_secs(3600))
    .factory();
    let client = factory.connect(&spec()).await.unwrap();
    let started = Instant::now();
    client.close().await;
    assert_eq!(
        started.elapsed(),
        Duration::from_secs(6),
        "5 s and a margin"
    );
    connector.all_dropped().await;
}

#[tokio::test(start_paused = true)]
async fn closing_from_several_tasks_is_one_close() {
    let (client, connector) =
        connect_legacy(|mut end| async move { while end.recv().await.is_some() {} }).await;
    let closes = (0..5).map(|_| {
        let client = Arc::clone(&client);
        tokio::spawn(async move { client.close().await })
    });
    for close in futures::future::join_all(closes).await {
        close.unwrap();
    }
    assert_eq!(connector.orderly.load(Ordering::SeqCst), 1);
    let error = client.call_tool("x", None, &options()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_last_reference_closes_without_waiting() {
    let (client, connector) =
        connect_modern(|mut end| async move { while end.recv().await.is_some() {} }).await;
    let other = Arc::clone(&client);
    drop(client);
    assert!(!other.is_closed());
    drop(other);
    connector.all_dropped().await;
    assert_eq!(
        connector.orderly.load(Ordering::SeqCst),
        1,
        "in the orderly way"
    );
}

#[test]
fn a_runtime_that_goes_away_takes_the_transport_with_it() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (client, connector) = runtime.block_on(connect_legacy(|mut end| async move {
        while end.recv().await.is_some() {}
    }));
    drop(runtime);
    assert_eq!(connector.living.load(Ordering::SeqCst), 0);
    assert!(client.is_closed());
    // Nobody hangs on it.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let error = client.call_tool("x", None, &options()).await.unwrap_err();
        assert_eq!(error.delivery(), Delivery::NotSent);
        assert!(matches!(client.closed().await, CloseReason::Lost(_)));
        client.close().await;
    });
}

// Lists

#[tokio::test(start_paused = true)]
async fn every_list_goes_to_the_server() {
    // A page that says it is fresh for an hour is asked for again all the same.
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let (client, _) = connect_modern(move |mut end| {
        let count = Arc::clone(&count);
        async move {
            end.serve(move |request| {
                if request["method"] == "tools/list" {
                    count.fetch_add(1, Ordering::SeqCst);
                }
                Reply::Result(json!({
                    "resultType": "complete", "tools": [tool("a")],
                    "ttlMs": 3_600_000, "cacheScope": "public",
                }))
            })
            .await;
        }
    })
    .await;
    for _ in 0..3 {
        let listing = client.list_tools(&options()).await.unwrap();
        assert_eq!(listing.ttl, Some(Duration::from_secs(3600)));
    }
    assert_eq!(asked.load(Ordering::SeqCst), 3);
    client.close().await;
    assert!(client.list_tools(&options()).await.is_err());
}

fn pages(total: usize) -> impl Fn(&Value) -> Reply + Clone {
    move |request: &Value| {
        // The first cursor is the empty string.
        let at = match request["params"]["cursor"].as_str() {
            None => 0,
            Some("") => 1,
            Some(text) => text.parse().unwrap(),
        };
        let next = match at {
            0 => json!(""),
            _ => json!((at + 1).to_string()),
        };
        let mut page = json!({"tools": [tool(&format!("t{at}"))]});
        if at + 1 < total {
            page["nextCursor"] = next;
        }
        Reply::Result(page)
    }
}

#[tokio::test(start_paused = true)]
async fn five_hundred_pages_are_one_list() {
    let (client, _) = connect_legacy(|mut end| async move { end.serve(pages(500)).await }).await;
    let listing = client.list_tools(&options()).await.unwrap();
    let names: Vec<_> = listing
        .tools
        .iter()
        .map(|tool| tool.name.to_string())
        .collect();
    let want: Vec<_> = (0..500).map(|n| format!("t{n}")).collect();
    assert_eq!(names, want);
}

#[tokio::test(start_paused = true)]
async fn a_list_without_end_is_an_error() {
    let (client, _) =
        connect_legacy(|mut end| async move { end.serve(pages(usize::MAX)).await }).await;
    let error = client.list_tools(&options()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert!(error.message().contains("1000 pages"), "{error}");

    let (client, _) = connect_legacy(|mut end| async move {
        end.serve(|_| Reply::Result(json!({"tools": [tool("a")], "nextCursor": "again"})))
            .await;
    })
    .await;
    let error = client.list_tools(&options()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert!(error.message().contains("\"again\""), "{error}");
    assert_eq!(error.operation(), Some("tools/list"));
}

#[tokio::test(start_paused = true)]
async fn bad_and_duplicate_tools_are_reported_and_the_good_ones_listed() {
    let (client, _) = connect_legacy(|mut end| async move {
        end.serve(|_| {
            let mut twice = tool("echo");
            twice["description"] = json!("the second");
            Reply::Result(json!({"tools": [
                tool("echo"), {"name": "broken", "inputSchema": null}, twice, tool("add"),
            ]}))
        })
        .await;
    })
    .await;
    let listing = client.list_tools(&options()).await.unwrap();
    let names: Vec<_> = listing.tools.iter().map(|tool| &*tool.name).collect();
    assert_eq!(names, ["echo", "add"]);
    assert_eq!(listing.tools[0].description, None, "the first is kept");
    let rejected: Vec<_> = listing.rejected.iter().map(|item| &*item.name).collect();
    assert_eq!(rejected, ["broken", "echo"]);
}

#[tokio::test(start_paused = true)]
async fn what_a_server_does_not_declare_is_an_empty_list() {
    let (factory, _) = Scripted::stdio(|mut end: ServerEnd| async move {
        let probe = end.expect("server/discover").await;
        end.error(&probe, -32601, Value::Null);
        let hello = end.expect("initialize").await;
        let mut answer = initialized("2025-11-25");
        answer["capabilities"] = json!({"resources": {}});
        end.reply(&hello, answer);
        end.serve(|request| match request["method"].as_str() {
            Some("resources/list") => {
                Reply::Result(json!({"resources": [{"uri": "a:b", "name": "b"}]}))
            }
            Some("prompts/list") => panic!("not declared, not asked"),
            _ => Reply::Error(-32601),
        })
        .await;
    })
    .factory();
    let client = factory.connect(&spec()).await.unwrap();
    assert!(
        client
            .list_tools(&options())
            .await
            .unwrap()
            .tools
            .is_empty()
    );
    assert!(client.list_prompts(&options()).await.unwrap().is_empty());
    assert_eq!(client.list_resources(&options()).await.unwrap().len(), 1);
    let templates = client.list_resource_templates(&options()).await.unwrap();
    assert!(templates.is_empty());
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

// Notices

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

// Probes and activity

#[tokio::test(start_paused = true)]
async fn a_probe_is_a_ping_in_the_old_era_and_discover_in_the_new() {
    let (client, _) = connect_legacy(|mut end| async move {
        let ping = end.expect("ping").await;
        tokio::time::sleep(Duration::from_millis(3)).await;
        end.reply(&ping, json!({}));
        let ping = end.expect("ping").await;
        end.error(&ping, -32601, Value::Null);
        end.recv().await;
    })
    .await;
    let connected = client.times().last_activity;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let report = client.probe(Duration::from_secs(5)).await.unwrap();
    assert_eq!(report.method, ProbeMethod::Ping);
    assert_eq!(report.latency, Duration::from_millis(3));
    // An error is an answer.
    client.probe(Duration::from_secs(5)).await.unwrap();
    assert_eq!(
        client.times().last_activity,
        connected,
        "a probe is no activity"
    );

    let (client, _) = connect_modern(|mut end| async move {
        let probe = end.expect("server/discover").await;
        assert!(probe["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"].is_string());
        end.reply(&probe, discovered());
        end.recv().await;
    })
    .await;
    let report = client.probe(Duration::from_secs(5)).await.unwrap();
    assert_eq!(report.method, ProbeMethod::Discover);
}

#[tokio::test(start_paused = true)]
async fn a_healthy_server_that_ignores_pings_is_alive() {
    let (client, _) = connect_legacy(|mut end| async move {
        end.serve(|request| match request["method"].as_str() {
            Some("tools/list") => Reply::Result(json!({"tools": []})),
            _ => Reply::Nothing,
        })
        .await;
    })
    .await;
    let report = client.probe(Duration::from_secs(4)).await.unwrap();
    assert_eq!(report.method, ProbeMethod::ListTools);
    assert_eq!(report.latency, Duration::from_secs(2));
}

#[tokio::test(start_paused = true)]
async fn a_dead_server_fails_the_probe_in_time() {
    let (client, _) =
        connect_legacy(|mut end| async move { while end.recv().await.is_some() {} }).await;
    let started = Instant::now();
    let error = client.probe(Duration::from_secs(5)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!(started.elapsed(), Duration::from_secs(5));
    assert!(!client.is_closed(), "a probe judges nothing");
}

#[tokio::test(start_paused = true)]
async fn traffic_is_activity() {
    let (client, _) = connect_legacy(|mut end| async move {
        end.serve(|_| Reply::Result(text("x"))).await;
    })
    .await;
    let before = client.times().last_activity;
    tokio::time::sleep(Duration::from_secs(60)).await;
    client.call_tool("x", None, &options()).await.unwrap();
    let after = client.times().last_activity;
    assert!(after - before >= Duration::from_secs(60));
    let times = client.times();
    assert!(after - times.connected >= Duration::from_secs(60));
}

// Errors that the HTTP worker makes up

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
