//! The end of a connection: the server dies, a write breaks, somebody closes.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use mcpool_core::{ClientFactory, CloseReason, Delivery, ErrorKind, TransportKind, Verbs};
use tokio::time::Instant;

use crate::{call, support::*, text};

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
        CloseReason::Lost(error) => {
            assert_eq!(error.kind(), ErrorKind::ProcessExited);
            assert_eq!(error.server().unwrap().as_str(), "script");
            assert!(!error.stderr_tail().is_empty());
        }
        other => panic!("{other:?}"),
    }
    // What comes now was not sent.
    let error = client.call_tool("x", ()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ProcessExited);
    assert_eq!(error.delivery(), Delivery::NotSent);
    drop(client);
    assert_eq!(connector.living(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_slow_close_of_a_dead_connection_holds_up_no_call() {
    let (factory, connector) = Scripted::stdio(|mut end: ServerEnd| async move {
        end.initialize().await;
        end.expect("tools/call").await;
    })
    .close_takes(Duration::from_secs(4))
    .factory();
    let client = factory.connect(&spec(), &connecting()).await.unwrap();
    let started = Instant::now();
    let error = client.call_tool("x", ()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionLost);
    assert_eq!(started.elapsed(), Duration::ZERO);
    client.close().await;
    assert_eq!(connector.orderly.load(Ordering::SeqCst), 1);
    assert!(matches!(client.closed().await, CloseReason::Lost(_)));
}

#[tokio::test(start_paused = true)]
async fn a_write_that_breaks_says_what_became_of_its_request() {
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
}

#[tokio::test(start_paused = true)]
async fn a_refused_request_fails_alone() {
    let (factory, _) = Scripted::new(TransportKind::Http, |mut end: ServerEnd| async move {
        end.initialize().await;
        end.serve(|_| Reply::Result(text("fine"))).await;
    })
    .refusing(|_, message| (message["params"]["name"] == "limited").then(|| http_status(429)))
    .factory();
    let client = factory.connect(&http_spec(), &connecting()).await.unwrap();
    let error = client.call_tool("limited", ()).await.unwrap_err();
    assert_eq!(error.http_status(), Some(429));
    assert_eq!(error.delivery(), Delivery::Rejected);
    client.call_tool("other", ()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stuck_write_does_not_hold_up_close() {
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
    client.close().await;
    drop(client);
    connector.all_dropped().await;
}

#[tokio::test(start_paused = true)]
async fn a_transport_that_never_closes_is_not_waited_for() {
    let (factory, connector) = Scripted::stdio(|mut end: ServerEnd| async move {
        end.initialize().await;
        while end.recv().await.is_some() {}
    })
    .close_takes(Duration::from_secs(3600))
    .factory();
    let client = factory.connect(&spec(), &connecting()).await.unwrap();
    let started = Instant::now();
    client.close().await;
    assert_eq!(
        started.elapsed(),
        Duration::from_secs(6),
        "5 s and a margin"
    );
    assert!(client.is_closed());
    drop(client);
    connector.all_dropped().await;

    // Dropped without a close, it is given as long.
    let client = factory.connect(&spec(), &connecting()).await.unwrap();
    let started = Instant::now();
    drop(client);
    connector.all_dropped().await;
    assert!(started.elapsed() >= Duration::from_secs(6));
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
    let error = client.call_tool("x", ()).await.unwrap_err();
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

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

#[test]
fn a_client_whose_runtime_has_gone_hangs_nobody_and_its_drop_releases_everything() {
    let one = runtime();
    let (client, connector) = one.block_on(connect_legacy(|mut end| async move {
        while end.recv().await.is_some() {}
    }));
    drop(one);
    assert!(client.is_closed());
    runtime().block_on(async {
        let error = client.call_tool("x", ()).await.unwrap_err();
        assert_eq!(error.delivery(), Delivery::NotSent);
        assert!(matches!(client.closed().await, CloseReason::Lost(_)));
        client.close().await;
    });
    drop(client);
    assert_eq!(connector.living(), 0, "with no runtime");
}

#[test]
fn outside_a_runtime_a_request_is_an_error() {
    let one = runtime();
    let (client, _connector) = one.block_on(connect_legacy(|mut end| async move {
        while end.recv().await.is_some() {}
    }));
    let error = futures::executor::block_on(client.call_tool("x", ())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    let error = futures::executor::block_on(client.probe(Duration::from_secs(1))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
}
