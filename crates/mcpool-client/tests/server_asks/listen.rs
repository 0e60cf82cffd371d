//! Listen streams.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use mcpool_core::{ClientFactory, ErrorKind, Request, Requester, ServerNotice, Verbs};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::*;

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

/// How a server ends a stream.
#[derive(Clone, Copy)]
enum Ending {
    Answer,
    Cancel,
    Error,
}

#[tokio::test(start_paused = true)]
async fn a_listen_stream_tells_of_changes_and_is_opened_again() {
    let cases = [
        (Ending::Answer, true),
        (Ending::Cancel, true),
        (Ending::Error, true),
        (Ending::Answer, false),
        (Ending::Cancel, false),
    ];
    for (ending, knows_streams) in cases {
        let mut script = Scripted::stdio(move |mut end: ServerEnd| async move {
            discover_changing(&mut end).await;
            let listen = end.expect("subscriptions/listen").await;
            // Only what the server declares is asked for.
            assert_eq!(
                listen["params"]["notifications"],
                json!({"toolsListChanged": true, "resourcesListChanged": true})
            );
            assert_eq!(listen["wire"]["version"], "2026-07-28");
            assert_eq!(listen["wire"]["class"], "Listen");
            assert!(listen["params"]["_meta"].get("progressToken").is_none());
            grant(&end, &listen);
            tokio::time::sleep(Duration::from_secs(3600)).await;
            tell(&end, &listen, "notifications/tools/list_changed", json!({}));
            let meta = json!({"io.modelcontextprotocol/subscriptionId": listen["id"]});
            match ending {
                Ending::Answer => {
                    end.reply(&listen, json!({"resultType": "complete", "_meta": meta}));
                }
                Ending::Cancel => {
                    end.notify(
                        "notifications/cancelled",
                        json!({"requestId": listen["id"]}),
                    );
                }
                Ending::Error => end.error(&listen, -32603, Value::Null),
            }
            let again = end.expect("subscriptions/listen").await;
            grant(&end, &again);
            end.recv().await;
        });
        if !knows_streams {
            script = script.ignorant_of_streams();
        }
        let (factory, connector) = script.factory();
        let client = factory.connect(&spec(), &connecting()).await.unwrap();
        let mut notices = client.notices();
        assert_eq!(notices.next().await, Some(ServerNotice::ToolsChanged));
        let told = Instant::now();
        // After the gap everything may have changed.
        assert_eq!(notices.next().await, Some(ServerNotice::ToolsChanged));
        assert_eq!(notices.next().await, Some(ServerNotice::ResourcesChanged));
        assert!(
            told.elapsed() <= Duration::from_millis(500),
            "{:?}",
            told.elapsed()
        );
        // Nothing of it keeps the connection alive.
        drop(client);
        connector.all_dropped().await;
    }
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
    let client = factory.connect(&spec(), &connecting()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    assert!(!client.is_closed());
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_breaks_at_once_is_not_opened_in_a_hot_loop() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let (factory, _) = Scripted::stdio(move |mut end: ServerEnd| {
        let count = Arc::clone(&count);
        async move {
            discover_changing(&mut end).await;
            end.serve(|_| {
                count.fetch_add(1, Ordering::SeqCst);
                Reply::Result(json!({"resultType": "complete"}))
            })
            .await;
        }
    })
    .factory();
    let _client = factory.connect(&spec(), &connecting()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let asked = asked.load(Ordering::SeqCst);
    // Full jitter below 30 s: every 15 s on average.
    assert!((100..500).contains(&asked), "{asked}");
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
        // And one that says nothing.
        end.expect("subscriptions/listen").await;
        end.recv().await;
    })
    .await;
    let mut notices = client.notices();
    client.subscribe("a:b").await.unwrap();
    let updated = ServerNotice::ResourceUpdated {
        uri: "a:b".to_owned(),
    };
    assert_eq!(notices.next().await, Some(updated));
    client.unsubscribe("a:b").await.unwrap();
    let error = client.subscribe("c:d").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert_eq!(error.operation(), Some("subscriptions/listen"));
    let error = client.subscribe("e:f").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Rpc);
    let started = Instant::now();
    let error = client.subscribe("g:h").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!(started.elapsed(), Duration::from_secs(30));
    client.unsubscribe("never").await.unwrap();
    let request = Request::new("resources/subscribe");
    let error = client.request(&request, &options()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
}

#[tokio::test(start_paused = true)]
async fn subscriptions_are_bounded() {
    let (client, _) = connect_modern(|mut end| async move {
        while let Some(message) = end.recv().await {
            if message["method"] == "subscriptions/listen" {
                grant(&end, &message);
            }
        }
    })
    .await;
    for n in 0..256 {
        client.subscribe(&format!("a:{n}")).await.unwrap();
    }
    let error = client.subscribe("a:256").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overloaded);
    client.subscribe("a:7").await.unwrap();
    client.unsubscribe("a:7").await.unwrap();
    client.subscribe("a:256").await.unwrap();
}
