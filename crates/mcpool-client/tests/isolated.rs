//! Clients that belong to one caller.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::{sync::Arc, time::Duration};

use mcpool_client::IsolatedClient;
use mcpool_core::{Client, CloseReason, ErrorKind, Requester, ServerNotice, Verbs};
use serde_json::json;
use support::*;

fn echo() -> Scripted {
    Scripted::stdio(|mut end: ServerEnd| async move {
        tokio::time::sleep(Duration::from_secs(1)).await;
        end.initialize().await;
        let (nth, fresh) = (end.nth, end.fresh);
        while let Some(message) = end.recv().await {
            match message["method"].as_str() {
                Some("tools/list") if message["params"].get("cursor").is_some() => {
                    end.reply(&message, json!({"tools": [tool("c")]}));
                }
                Some("tools/list") => {
                    let tools = json!([tool("a"), tool("b")]);
                    end.reply(&message, json!({"tools": tools, "nextCursor": "2"}));
                }
                Some("tools/call") if message["params"]["name"] == "die" => return,
                Some("tools/call") => {
                    let text = json!({"type": "text", "text": format!("{nth} {fresh}")});
                    end.reply(&message, json!({"content": [text]}));
                }
                Some("resources/subscribe") => {
                    end.reply(&message, json!({}));
                    let uri = &message["params"]["uri"];
                    end.notify("notifications/resources/updated", json!({"uri": uri}));
                }
                Some(_) if message.get("id").is_some() => end.reply(&message, json!({})),
                _ => {}
            }
        }
    })
}

async fn who(client: &IsolatedClient) -> String {
    let result = client.call_tool("who", ()).await;
    result.unwrap().content[0].as_text().unwrap().text.clone()
}

#[tokio::test(start_paused = true)]
async fn clients_share_nothing() {
    let (factory, connector) = echo().factory();
    let one = factory.isolated(&spec()).await.unwrap();
    let two = factory.isolated(&spec()).await.unwrap();
    assert_ne!(who(&one).await, who(&two).await);
    one.close().await;
    assert!(one.is_closed() && !two.is_closed());
    assert_eq!(who(&two).await, "2 false");
    assert!(matches!(one.closed().await, CloseReason::Requested));
    drop((one, two));
    connector.all_dropped().await;
}

#[tokio::test(start_paused = true)]
async fn it_is_a_client() {
    let (factory, _) = echo().factory();
    let client: Arc<dyn Client> = Arc::new(factory.isolated(&spec()).await.unwrap());
    let mut notices = client.notices();
    client.subscribe("a:b").await.unwrap();
    let updated = ServerNotice::ResourceUpdated {
        uri: "a:b".to_owned(),
    };
    assert_eq!(notices.next().await, Some(updated));
    client.probe(Duration::from_secs(5)).await.unwrap();
    assert_eq!(client.server().as_str(), "script");
    assert_eq!(client.info().unwrap().peer.name, "script");
    assert!(client.snapshot().connected.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_lazy_client_connects_once_for_all_its_first_users() {
    let (factory, connector) = echo().factory();
    let client = Arc::new(factory.isolated_lazy(&spec()));
    assert!(client.info().is_none() && client.is_enabled() && client.tool_count().is_none());
    assert_eq!(connector.opened(), 0);
    let users: Vec<_> = (0..1000)
        .map(|_| {
            let client = Arc::clone(&client);
            tokio::spawn(async move { who(&client).await })
        })
        .collect();
    // The first user of all, who triggered the connect, leaves.
    tokio::time::sleep(Duration::from_millis(500)).await;
    users[0].abort();
    for (n, user) in users.into_iter().enumerate() {
        match user.await {
            Ok(who) => assert_eq!(who, "1 false"),
            Err(aborted) => assert!(n == 0 && aborted.is_cancelled()),
        }
    }
    assert_eq!(connector.opened(), 1);
    for _ in 0..2 {
        client.list_tools().await.unwrap();
        assert_eq!(client.tool_count(), Some(3), "all pages, once");
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_loss_the_next_use_connects_again() {
    let (factory, connector) = echo().factory();
    let client = Arc::new(factory.isolated(&spec()).await.unwrap());
    client.subscribe("a:b").await.unwrap();
    client.subscribe("c:d").await.unwrap();
    client.unsubscribe("c:d").await.unwrap();
    let mut notices = client.notices();
    let error = client.call_tool("die", ()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionLost);
    // That is not its end.
    assert!(!client.is_closed() && client.info().is_none());
    assert_eq!(connector.opened(), 1, "nothing connects that is not used");
    let users = (0..10).map(|_| {
        let client = Arc::clone(&client);
        async move { assert_eq!(who(&client).await, "2 true") }
    });
    futures::future::join_all(users).await;
    assert_eq!(connector.opened(), 2);
    assert!(client.info().is_some());
    // What was set up is set up again, and the gap is reported.
    let updated = ServerNotice::ResourceUpdated {
        uri: "a:b".to_owned(),
    };
    let mut said = vec![notices.next().await.unwrap(), notices.next().await.unwrap()];
    said.sort_by_key(|notice| *notice == updated);
    assert_eq!(said, [ServerNotice::SessionRenewed, updated]);
    client.close().await;
    drop(client);
    connector.all_dropped().await;
}

#[tokio::test(start_paused = true)]
async fn a_connect_that_nobody_waits_for_is_released_and_made_again() {
    let (factory, connector) = echo().factory();
    let client = factory.isolated_lazy(&spec());
    let short = tokio::time::timeout(Duration::from_millis(500), client.connect()).await;
    assert!(short.is_err());
    connector.all_dropped().await;
    client.connect().await.unwrap();
    assert_eq!(connector.opened(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_failed_connect_fails_all_that_wait_and_is_tried_again_later() {
    let (factory, connector) = Scripted::stdio(|mut end: ServerEnd| async move {
        if end.nth <= 2 {
            // Once on the probe, once on `initialize`.
            end.recv().await;
            return;
        }
        end.initialize().await;
        end.recv().await;
        end.recv().await;
    })
    .factory();
    let client = factory.isolated_lazy(&spec());
    let outcomes = futures::future::join_all((0..10).map(|_| client.connect())).await;
    for outcome in outcomes {
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::ConnectionLost);
    }
    assert_eq!(connector.opened(), 2);
    client.connect().await.unwrap();
    assert_eq!(connector.opened(), 3);
}

#[tokio::test(start_paused = true)]
async fn it_may_be_closed_from_another_task_also_while_it_connects() {
    let (factory, connector) = echo().factory();
    let client = Arc::new(factory.isolated_lazy(&spec()));
    let user = Arc::clone(&client);
    let user = tokio::spawn(async move { user.connect().await });
    tokio::time::sleep(Duration::from_millis(500)).await;
    let closer = Arc::clone(&client);
    tokio::spawn(async move { closer.close().await })
        .await
        .unwrap();
    assert_eq!(user.await.unwrap().unwrap_err().kind(), ErrorKind::Closed);
    connector.all_dropped().await;
    let error = client.connect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    assert_eq!(connector.opened(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_disabled_spec_makes_a_client_that_refuses() {
    let (factory, connector) = echo().factory();
    let client = factory.isolated_lazy(&spec().with_enabled(false));
    assert!(!client.is_enabled());
    let error = client.connect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Disabled);
    assert_eq!(connector.opened(), 0);
}
