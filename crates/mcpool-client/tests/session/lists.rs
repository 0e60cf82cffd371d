//! Lists go to the server, and their limits are the spec's.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use mcpool_core::{ClientFactory, ErrorKind, ServerNotice, Verbs};
use serde_json::json;

use crate::support::*;

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
        let listing = client.list_tools().await.unwrap();
        assert_eq!(listing.ttl, Some(Duration::from_secs(3600)));
    }
    assert_eq!(asked.load(Ordering::SeqCst), 3);
    client.close().await;
    assert!(client.list_tools().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn the_limits_of_the_spec_reach_the_lists() {
    let (factory, _) = Scripted::stdio(|mut end: ServerEnd| async move {
        end.initialize().await;
        end.serve(|_| Reply::Result(json!({"tools": [tool("a"), tool("b")]})))
            .await;
    })
    .factory();
    let mut spec = spec();
    spec.policy.limits.max_list_entries = 1;
    let client = factory.connect(&spec, &connecting()).await.unwrap();
    let error = client.list_tools().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert_eq!(error.operation(), Some("tools/list"));
}

#[tokio::test(start_paused = true)]
async fn what_a_server_said_before_it_was_connected_is_no_news() {
    let (factory, _) = Scripted::stdio(|mut end: ServerEnd| async move {
        let mut ready = false;
        while !ready {
            let message = end.recv().await.unwrap();
            ready = message["method"] == "initialize";
            if ready {
                // Its list is complete only now. It says more than is taken at a stretch.
                for _ in 0..200 {
                    end.notify("notifications/other", json!({}));
                }
                end.notify("notifications/tools/list_changed", json!({}));
                end.reply(&message, initialized("2025-11-25"));
            } else {
                end.error(&message, -32601, json!(null));
            }
        }
        let request = end.expect("tools/list").await;
        end.notify("notifications/burst", json!({}));
        end.reply(&request, json!({"tools": [tool("a")]}));
        end.recv().await;
    })
    .factory();
    let client = factory.connect(&spec(), &connecting()).await.unwrap();
    let mut notices = client.notices();
    assert_eq!(client.list_tools().await.unwrap().items.len(), 1);
    // The list that was read has it: to fetch it once more would be for nothing.
    let first = notices.next().await.unwrap();
    assert!(
        matches!(&first, ServerNotice::Other { method, .. } if method == "notifications/burst"),
        "{first:?}"
    );
}
