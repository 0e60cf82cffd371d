//! Lists: pages, bad items, what is not declared.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use mcpool_core::{ClientFactory, ErrorKind};
use serde_json::{Value, json};

use crate::{options, support::*};

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
