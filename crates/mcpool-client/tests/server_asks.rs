//! A server that asks its client: requests of its own, multi-round-trip results, listen streams.
#![allow(clippy::unwrap_used, clippy::expect_used, deprecated)]

mod support;

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use mcpool_core::{
    Client, ClientFactory, ErrorKind, RequestOptions, ServerName, ServerNotice,
    ServerRequestHandler,
    model::{
        CallToolResult, ClientCapabilities, ElicitRequestParams, ElicitResult, ElicitationAction,
        ErrorData, ListRootsResult, LoggingLevel, Root,
    },
};
use serde_json::{Value, json};
use support::*;
use tokio::{sync::Notify, time::Instant};

/// An application with one root, whose person takes `thinks` to accept.
struct Application {
    thinks: Duration,
    gone: Arc<Notify>,
}

/// Tells when a question is no longer being answered, answered or not.
struct Gone(Arc<Notify>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

#[async_trait]
impl ServerRequestHandler for Application {
    fn capabilities(&self, server: &ServerName) -> ClientCapabilities {
        assert_eq!(server.as_str(), "script");
        ClientCapabilities::builder()
            .enable_roots()
            .enable_elicitation()
            .build()
    }

    async fn list_roots(&self, _server: &ServerName) -> Result<ListRootsResult, ErrorData> {
        Ok(ListRootsResult::new(vec![Root::new("file:///work")]))
    }

    async fn elicit(
        &self,
        server: &ServerName,
        params: ElicitRequestParams,
    ) -> Result<ElicitResult, ErrorData> {
        assert_eq!(server.as_str(), "script");
        let ElicitRequestParams::FormElicitationParams { message, .. } = params else {
            panic!("a form");
        };
        if message == "panic" {
            panic!("on purpose");
        }
        let _gone = Gone(Arc::clone(&self.gone));
        tokio::time::sleep(self.thinks).await;
        Ok(ElicitResult::new(ElicitationAction::Accept).with_content(json!({"said": message})))
    }
}

fn application(thinks: Duration) -> (Arc<Application>, Arc<Notify>) {
    let gone = Arc::new(Notify::new());
    let application = Application {
        thinks,
        gone: Arc::clone(&gone),
    };
    (Arc::new(application), gone)
}

async fn connect<F, Fut>(
    modern: bool,
    application: Arc<Application>,
    script: F,
) -> (Arc<dyn Client>, Arc<Scripted>)
where
    F: Fn(ServerEnd) -> Fut + Send + Sync + Clone + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let (factory, connector) = Scripted::stdio(move |mut end: ServerEnd| {
        let script = script.clone();
        async move {
            if modern {
                end.discover().await;
            } else {
                let hello = end.initialize().await;
                let declared = &hello["params"]["capabilities"];
                assert!(declared["roots"].is_object() && declared["elicitation"].is_object());
                end.expect("notifications/initialized").await;
            }
            script(end).await;
        }
    })
    .factory();
    let client = factory.with_handler(application).connect(&spec()).await;
    (client.unwrap(), connector)
}

async fn call_tool(client: &dyn Client) -> mcpool_core::Result<CallToolResult> {
    client.call_tool("x", None, &RequestOptions::new()).await
}

fn question(message: &str) -> Value {
    json!({
        "method": "elicitation/create",
        "params": {
            "mode": "form", "message": message,
            "requestedSchema": {"type": "object", "properties": {}},
        },
    })
}

/// Asks the client and gives its answer.
async fn ask(end: &mut ServerEnd, id: Value, mut request: Value) -> Value {
    request["jsonrpc"] = json!("2.0");
    request["id"] = id.clone();
    end.send(request);
    loop {
        let message = end.recv().await.unwrap();
        if message["id"] == id && message.get("method").is_none() {
            return message;
        }
    }
}

fn text(text: &str) -> Value {
    json!({"resultType": "complete", "content": [{"type": "text", "text": text}]})
}

#[tokio::test(start_paused = true)]
async fn the_application_answers_what_the_server_asks() {
    let (application, _) = application(Duration::ZERO);
    let (client, _) = connect(false, application, |mut end| async move {
        let call = end.expect("tools/call").await;
        let roots = ask(&mut end, json!("r"), json!({"method": "roots/list"})).await;
        assert_eq!(roots["result"]["roots"][0]["uri"], "file:///work");
        let answer = ask(&mut end, json!("e"), question("sure?")).await;
        assert_eq!(answer["result"]["action"], "accept");
        assert_eq!(answer["result"]["content"]["said"], "sure?");
        // What it does not offer.
        let sampling = json!({
            "method": "sampling/createMessage",
            "params": {"messages": [], "maxTokens": 1},
        });
        let refused = ask(&mut end, json!("s"), sampling).await;
        assert_eq!(refused["error"]["code"], -32601);
        let refused = ask(&mut end, json!("v"), json!({"method": "vendor/ask"})).await;
        assert_eq!(refused["error"]["code"], -32601);
        // A handler that panics.
        let failed = ask(&mut end, json!("p"), question("panic")).await;
        assert_eq!(failed["error"]["code"], -32603);
        end.reply(&call, text("done"));
        end.recv().await;
    })
    .await;
    call_tool(&*client).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_clock_of_a_call_stands_still_while_a_person_thinks() {
    let (application, _) = application(Duration::from_secs(300));
    let (client, _) = connect(false, application, |mut end| async move {
        let call = end.expect("tools/call").await;
        ask(&mut end, json!(1), question("sure?")).await;
        end.reply(&call, text("done"));
        end.recv().await;
    })
    .await;
    let started = Instant::now();
    call_tool(&*client).await.unwrap();
    assert_eq!(started.elapsed(), Duration::from_secs(300));
}

#[tokio::test(start_paused = true)]
async fn a_question_that_the_server_takes_back_is_dropped() {
    let (application, gone) = application(Duration::from_secs(300));
    let (client, _) = connect(false, application, |mut end| async move {
        let mut request = question("sure?");
        request["jsonrpc"] = json!("2.0");
        request["id"] = json!(1);
        end.send(request);
        tokio::time::sleep(Duration::from_secs(1)).await;
        end.notify("notifications/cancelled", json!({"requestId": 1}));
        end.serve(|request| {
            assert!(request.get("method").is_some(), "no answer is sent");
            Reply::Result(text("ok"))
        })
        .await;
    })
    .await;
    let started = Instant::now();
    gone.notified().await;
    assert_eq!(started.elapsed(), Duration::from_secs(1));
    call_tool(&*client).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_open_question_does_not_outlive_the_connection() {
    let (application, gone) = application(Duration::from_secs(300));
    let (client, connector) = connect(false, application, |mut end| async move {
        ask(&mut end, json!(1), question("sure?")).await;
    })
    .await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let started = Instant::now();
    client.close().await;
    gone.notified().await;
    assert_eq!(started.elapsed(), Duration::ZERO);
    connector.all_dropped().await;
}

#[tokio::test(start_paused = true)]
async fn a_modern_server_may_ask_only_during_a_request() {
    let (application, _) = application(Duration::ZERO);
    let (client, _) = connect(true, application, |mut end| async move {
        // The client knows by now in which era it speaks.
        tokio::time::sleep(Duration::from_millis(1)).await;
        let refused = ask(&mut end, json!("r"), json!({"method": "roots/list"})).await;
        assert_eq!(refused["error"]["code"], -32602);
        let call = end.expect("tools/call").await;
        let roots = ask(&mut end, json!("r"), json!({"method": "roots/list"})).await;
        assert!(roots["result"]["roots"].is_array());
        end.reply(&call, text("done"));
        end.recv().await;
    })
    .await;
    // The first question is answered before the call is made.
    tokio::time::sleep(Duration::from_secs(1)).await;
    call_tool(&*client).await.unwrap();
}

// Multi-round-trip

#[tokio::test(start_paused = true)]
async fn rounds_are_answered_and_the_state_comes_back_untouched() {
    let (application, _) = application(Duration::from_secs(300));
    let (client, _) = connect(true, application, |mut end| async move {
        for (method, result) in [
            ("tools/call", text("done")),
            (
                "prompts/get",
                json!({"resultType": "complete", "messages": []}),
            ),
            (
                "resources/read",
                json!({"resultType": "complete", "contents": []}),
            ),
        ] {
            let first = end.expect(method).await;
            assert!(first["params"].get("inputResponses").is_none());
            end.reply(
                &first,
                json!({
                    "resultType": "input_required",
                    "inputRequests": {
                        "a": question("one"), "b": question("two"), "c": {"method": "roots/list"},
                    },
                    "requestState": "s1 {\"opaque\"}",
                }),
            );
            let second = end.expect(method).await;
            assert_ne!(second["id"], first["id"]);
            let params = &second["params"];
            assert_eq!(params["requestState"], "s1 {\"opaque\"}");
            let responses = &params["inputResponses"];
            assert_eq!(responses["a"]["content"]["said"], "one");
            assert_eq!(responses["b"]["content"]["said"], "two");
            assert_eq!(responses["c"]["roots"][0]["uri"], "file:///work");
            // A round with nothing but state.
            end.reply(
                &second,
                json!({"resultType": "input_required", "requestState": "s2"}),
            );
            let third = end.expect(method).await;
            assert_eq!(third["params"]["requestState"], "s2");
            assert!(third["params"].get("inputResponses").is_none());
            end.reply(&third, result);
        }
        end.recv().await;
    })
    .await;
    // The person needs longer than the idle time-out, and less than the maximum.
    let options = RequestOptions::new().with_max_total(Duration::from_secs(3600));
    client.call_tool("x", None, &options).await.unwrap();
    client.get_prompt("p", None, &options).await.unwrap();
    client.read_resource("a:b", &options).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn rounds_are_capped() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let (application, _) = application(Duration::ZERO);
    let (client, _) = connect(true, application, move |mut end| {
        let count = Arc::clone(&count);
        async move {
            end.serve(|_| {
                count.fetch_add(1, Ordering::SeqCst);
                Reply::Result(json!({"resultType": "input_required", "requestState": "again"}))
            })
            .await;
        }
    })
    .await;
    let error = call_tool(&*client).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert_eq!(asked.load(Ordering::SeqCst), 10);
}

#[tokio::test(start_paused = true)]
async fn the_hard_maximum_holds_over_all_rounds() {
    let (application, gone) = application(Duration::from_secs(3600));
    let (client, _) = connect(true, application, |mut end| async move {
        end.serve(|_| {
            Reply::Result(json!({
                "resultType": "input_required", "inputRequests": {"a": question("sure?")},
            }))
        })
        .await;
    })
    .await;
    let started = Instant::now();
    let error = call_tool(&*client).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!(started.elapsed(), Duration::from_secs(600), "the default");
    gone.notified().await;
}

#[tokio::test(start_paused = true)]
async fn input_required_is_unknown_to_the_old_era() {
    let (application, _) = application(Duration::ZERO);
    let (client, _) = connect(false, application, |mut end| async move {
        end.serve(|_| Reply::Result(json!({"resultType": "input_required", "requestState": "s"})))
            .await;
    })
    .await;
    let error = call_tool(&*client).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
}

#[tokio::test(start_paused = true)]
async fn a_header_mismatch_lists_the_tools_again_and_retries_once() {
    let (client, _) = connect_modern(|mut end| async move {
        let mut listed = false;
        end.serve(|request| match request["method"].as_str() {
            Some("tools/list") => {
                listed = true;
                Reply::Result(json!({"resultType": "complete", "tools": []}))
            }
            _ if listed => Reply::Result(text("ok")),
            _ => Reply::Error(-32020),
        })
        .await;
    })
    .await;
    call_tool(&*client).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_log_level_travels_with_each_request_of_the_new_era() {
    let (client, _) = connect_modern(|mut end| async move {
        let call = end.expect("tools/call").await;
        assert_eq!(
            call["params"]["_meta"]["io.modelcontextprotocol/logLevel"],
            "debug"
        );
        end.reply(&call, text("ok"));
        end.recv().await;
    })
    .await;
    client.set_log_level(LoggingLevel::Debug).await.unwrap();
    call_tool(&*client).await.unwrap();
}

// Listen streams

/// Answers `server/discover` of a server whose lists change.
async fn discover_changing(end: &mut ServerEnd) {
    let request = end.expect("server/discover").await;
    let mut answer = discovered();
    answer["capabilities"] = json!({
        "tools": {"listChanged": true}, "prompts": {},
        "resources": {"listChanged": true, "subscribe": true},
    });
    end.reply(&request, answer);
}

fn grant(end: &ServerEnd, listen: &Value) {
    let params = json!({
        "notifications": listen["params"]["notifications"],
        "_meta": {"io.modelcontextprotocol/subscriptionId": listen["id"]},
    });
    end.notify("notifications/subscriptions/acknowledged", params);
}

fn tell(end: &ServerEnd, listen: &Value, method: &str, mut params: Value) {
    params["_meta"] = json!({"io.modelcontextprotocol/subscriptionId": listen["id"]});
    end.notify(method, params);
}

#[tokio::test(start_paused = true)]
async fn a_listen_stream_tells_of_changes_and_is_opened_again() {
    let (factory, connector) = Scripted::stdio(|mut end: ServerEnd| async move {
        discover_changing(&mut end).await;
        let listen = end.expect("subscriptions/listen").await;
        // Only what the server declares is asked for.
        assert_eq!(
            listen["params"]["notifications"],
            json!({"toolsListChanged": true, "resourcesListChanged": true})
        );
        grant(&end, &listen);
        tokio::time::sleep(Duration::from_secs(3600)).await;
        tell(&end, &listen, "notifications/tools/list_changed", json!({}));
        // The server ends the stream.
        end.reply(
            &listen,
            json!({
                "resultType": "complete",
                "_meta": {"io.modelcontextprotocol/subscriptionId": listen["id"]},
            }),
        );
        let again = end.expect("subscriptions/listen").await;
        grant(&end, &again);
        end.recv().await;
    })
    .factory();
    let client = factory.connect(&spec()).await.unwrap();
    let mut notices = client.notices();
    assert!(matches!(
        notices.recv().await.unwrap(),
        ServerNotice::ToolsChanged
    ));
    let told = Instant::now();
    // After the gap everything may have changed.
    assert!(matches!(
        notices.recv().await.unwrap(),
        ServerNotice::ToolsChanged
    ));
    assert!(matches!(
        notices.recv().await.unwrap(),
        ServerNotice::ResourcesChanged
    ));
    assert!(
        told.elapsed() <= Duration::from_millis(500),
        "{:?}",
        told.elapsed()
    );
    // Nothing of it keeps the connection alive.
    drop(client);
    connector.all_dropped().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_refuses_to_listen_is_left_alone() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let (factory, _) = Scripted::stdio(move |mut end: ServerEnd| {
        let count = Arc::clone(&count);
        async move {
            discover_changing(&mut end).await;
            end.serve(|request| {
                if request["method"] == "subscriptions/listen" {
                    count.fetch_add(1, Ordering::SeqCst);
                }
                Reply::Error(-32601)
            })
            .await;
        }
    })
    .factory();
    let client = factory.connect(&spec()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    assert!(!client.is_closed());
}

#[tokio::test(start_paused = true)]
async fn a_subscription_is_a_stream_of_its_own() {
    let (client, _) = connect_modern(|mut end| async move {
        let listen = end.expect("subscriptions/listen").await;
        assert_eq!(
            listen["params"]["notifications"],
            json!({"resourceSubscriptions": ["a:b"]})
        );
        grant(&end, &listen);
        tokio::time::sleep(Duration::from_secs(1)).await;
        tell(
            &end,
            &listen,
            "notifications/resources/updated",
            json!({"uri": "a:b"}),
        );
        let cancelled = end.expect("notifications/cancelled").await;
        assert_eq!(cancelled["params"]["requestId"], listen["id"]);
        // A server that grants nothing.
        let listen = end.expect("subscriptions/listen").await;
        let mut nothing = listen.clone();
        nothing["params"]["notifications"] = json!({});
        grant(&end, &nothing);
        // And one that refuses.
        let listen = end.expect("subscriptions/listen").await;
        end.error(&listen, -32602, Value::Null);
        end.recv().await;
    })
    .await;
    let mut notices = client.notices();
    client.subscribe("a:b").await.unwrap();
    let notice = notices.recv().await.unwrap();
    assert!(matches!(notice, ServerNotice::ResourceUpdated { uri } if uri == "a:b"));
    client.unsubscribe("a:b").await.unwrap();
    let error = client.subscribe("c:d").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
    let error = client.subscribe("e:f").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Rpc);
}
