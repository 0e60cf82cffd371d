//! Processes.

use std::{sync::Arc, time::Duration};

use mcpool_client::StandardFactory;
use mcpool_core::{CloseReason, Delivery, Error, ErrorKind, ServerSpec, Verbs};
use mcpool_testkit::{Behavior, DiscoverReaction, Era, eventually, fixtures::stdio::StdioFixture};

use crate::{LONG, connect, echo, info, patient};

async fn left(fixture: &StdioFixture) -> bool {
    eventually(LONG, || fixture.marker().processes().is_empty()).await
}

#[tokio::test]
async fn every_kind_of_old_server_connects_over_stdio() {
    let reactions = [
        DiscoverReaction::MethodNotFound,
        DiscoverReaction::InvalidParams,
        DiscoverReaction::Silent,
        DiscoverReaction::Exit,
        DiscoverReaction::EmptyResult,
        DiscoverReaction::Poisoned,
        DiscoverReaction::ServerError,
    ];
    let connects = reactions.map(|reaction| async move {
        let fixture = StdioFixture::new(Behavior::new().with(|b| b.discover = reaction));
        let spec = patient(fixture.spec("old"));
        let client = connect(&StandardFactory::new(), &spec).await;
        let client = client.unwrap_or_else(|error| panic!("{reaction:?}: {error:?}"));
        assert_eq!(
            info(&*client).protocol.as_str(),
            "2025-11-25",
            "{reaction:?}"
        );
        assert_eq!(echo(&*client, "hi").await, "hi");
        client.close().await;
        assert!(left(&fixture).await, "{reaction:?}");
    });
    futures::future::join_all(connects).await;
}

#[tokio::test]
async fn modern_servers_connect_over_stdio() {
    for era in [Era::Modern, Era::Both] {
        let fixture = StdioFixture::new(Behavior::new().with(|b| b.era = era));
        let factory = StandardFactory::new();
        let client = connect(&factory, &patient(fixture.spec("new")))
            .await
            .unwrap();
        assert_eq!(info(&*client).protocol.as_str(), "2026-07-28");
        assert_eq!(info(&*client).peer.name, "fixture");
        assert_eq!(echo(&*client, "hi").await, "hi");
        client.probe(LONG).await.unwrap();
        client.close().await;
        assert!(left(&fixture).await);
    }
}

#[tokio::test]
async fn a_slow_noisy_server_connects() {
    let fixture = StdioFixture::new(Behavior::new().with(|b| {
        b.start_delay_ms = 4_000;
        b.discover = DiscoverReaction::Silent;
        b.noise = true;
        b.crlf = true;
        b.string_ids = true;
        b.answer_twice = true;
        b.ping_every_ms = 100;
        b.bad_schemas = true;
        b.duplicate_tools = true;
        b.pages = 3;
        b.empty_cursor = true;
    }));
    let factory = StandardFactory::new();
    let client = connect(&factory, &patient(fixture.spec("odd")))
        .await
        .unwrap();
    let listing = client.list_tools().await.unwrap();
    assert!(listing.values().any(|tool| tool.name == "echo"));
    assert!(
        listing.rejected.iter().any(|item| item.name == "echo"),
        "the second"
    );
    assert!(listing.rejected.len() >= 4, "{:?}", listing.rejected);
    assert_eq!(echo(&*client, "hi").await, "hi");
    client.close().await;
    assert!(left(&fixture).await);
}

#[tokio::test]
async fn servers_that_cannot_be_used_say_why_and_leave_nothing() {
    async fn refused(behavior: Behavior, startup: Option<Duration>) -> Error {
        let fixture = StdioFixture::new(behavior);
        let mut spec = patient(fixture.spec("bad"));
        if let Some(startup) = startup {
            spec.policy.timeouts.startup = startup;
        }
        let error = connect(&StandardFactory::new(), &spec).await.unwrap_err();
        assert!(left(&fixture).await, "{error:?}");
        error
    }
    let exits = Behavior::new().with(|b| b.exit_at_start = Some(3));
    let version = Behavior::new().with(|b| b.protocol_version = Some("1999-01-01".into()));
    let mute = Behavior::new().with(|b| b.never_answer = true);
    let garbage = Behavior::new().with(|b| b.garbage_only = true);
    let (exits, version, mute, garbage) = tokio::join!(
        refused(exits, None),
        refused(version, None),
        refused(mute, Some(Duration::from_secs(5))),
        refused(garbage, Some(Duration::from_secs(5)))
    );
    assert_eq!(exits.kind(), ErrorKind::ProcessExited, "{exits:?}");
    assert!(exits.message().contains('3'), "{exits:?}");
    let stderr = exits.stderr_tail().iter().map(|line| line.text.as_str());
    assert!(
        stderr
            .into_iter()
            .any(|line| line.contains("TOKEN is not set"))
    );
    assert_eq!(version.kind(), ErrorKind::VersionMismatch);
    assert_eq!(mute.kind(), ErrorKind::Timeout);
    assert_eq!(garbage.kind(), ErrorKind::Timeout);
    assert!(!garbage.stderr_tail().is_empty());

    let missing = ServerSpec::stdio("no", mcpool_core::StdioSpec::new("/no/such/command")).unwrap();
    let error = connect(&StandardFactory::new(), &missing)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CommandNotFound);
}

#[tokio::test]
async fn calls_end_when_the_process_is_killed() {
    let fixture = StdioFixture::new(Behavior::new().with(|b| b.hang_on_call = Some(1)));
    let factory = StandardFactory::new();
    let client = connect(&factory, &patient(fixture.spec("dies")))
        .await
        .unwrap();
    let caller = Arc::clone(&client);
    let call = tokio::spawn(async move { caller.call_tool("echo", ()).await });
    // The call was written; an answer to a later one shows that it was read as well.
    let before = client.snapshot().diagnostics.sent;
    assert!(eventually(LONG, || client.snapshot().diagnostics.sent > before).await);
    echo(&*client, "after").await;
    fixture.kill();
    let error = call.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ProcessExited, "{error:?}");
    assert_eq!(error.delivery(), Delivery::Unknown);
    assert!(matches!(client.closed().await, CloseReason::Lost(_)));
    assert!(left(&fixture).await);
}

#[tokio::test]
async fn dropping_a_client_or_a_connect_leaves_no_process() {
    let fixture = StdioFixture::new(Behavior::new().with(|b| b.wrapper = true));
    let factory = StandardFactory::new();
    let client = connect(&factory, &patient(fixture.spec("dropped")))
        .await
        .unwrap();
    assert_eq!(echo(&*client, "hi").await, "hi");
    drop(client);
    assert!(left(&fixture).await);

    let fixture = StdioFixture::new(Behavior::new().with(|b| {
        b.never_answer = true;
        b.ignore_sigterm = true;
        b.ignore_eof = true;
    }));
    let spec = patient(fixture.spec("dropped"));
    let connect = connect(&factory, &spec);
    let started = eventually(LONG, || !fixture.marker().processes().is_empty());
    tokio::select! {
        _ = connect => panic!("it never answers"),
        started = started => assert!(started),
    }
    assert!(left(&fixture).await);
}
