//! The factory against real processes and sockets, good and bad.
#![cfg(all(unix, feature = "stdio", feature = "sse", feature = "http"))]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{sync::Arc, time::Duration};

use mcpool_client::StandardFactory;
use mcpool_core::{
    Client, ClientFactory, CloseReason, Delivery, Error, ErrorKind, HttpSpec, RequestOptions,
    ServerNotice, ServerSpec, TransportKind,
    model::{JsonObject, ServerPeerInfo},
};
use mcpool_testkit::{
    Behavior, DiscoverReaction, Era, eventually,
    fixtures::{
        http::{HttpFixture, HttpOptions, Refusal},
        sse::SseFixture,
        stdio::StdioFixture,
    },
};
use serde_json::{Value, json};

/// Far above what anything here takes on a loaded machine.
const LONG: Duration = Duration::from_secs(60);

fn arguments(value: Value) -> Option<JsonObject> {
    value.as_object().cloned()
}

fn patient(mut spec: ServerSpec) -> ServerSpec {
    spec.policy.timeouts.startup = LONG;
    spec.policy.timeouts.request = LONG;
    spec
}

async fn echo(client: &dyn Client, text: &str) -> String {
    let arguments = arguments(json!({"message": text}));
    let options = RequestOptions::new();
    let result = client.call_tool("echo", arguments, &options).await.unwrap();
    result.content[0].as_text().unwrap().text.clone()
}

async fn left(fixture: &StdioFixture) -> bool {
    eventually(LONG, || fixture.marker().processes().is_empty()).await
}

fn name(info: &ServerPeerInfo) -> &str {
    &info.server_info.as_ref().unwrap().name
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
        let client = StandardFactory::new().connect(&spec).await;
        let client = client.unwrap_or_else(|error| panic!("{reaction:?}: {error:?}"));
        assert_eq!(
            client.info().protocol.as_str(),
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
        let client = factory
            .connect(&patient(fixture.spec("new")))
            .await
            .unwrap();
        assert_eq!(client.info().protocol.as_str(), "2026-07-28");
        assert_eq!(name(&client.info().peer), "fixture");
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
    let client = factory
        .connect(&patient(fixture.spec("odd")))
        .await
        .unwrap();
    let listing = client.list_tools(&RequestOptions::new()).await.unwrap();
    assert!(listing.tools.iter().any(|tool| tool.name == "echo"));
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
        let error = StandardFactory::new().connect(&spec).await.unwrap_err();
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
    let error = StandardFactory::new().connect(&missing).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CommandNotFound);
}

#[tokio::test]
async fn calls_end_when_the_process_is_killed() {
    let fixture = StdioFixture::new(Behavior::new().with(|b| b.hang_on_call = Some(1)));
    let factory = StandardFactory::new();
    let client = factory
        .connect(&patient(fixture.spec("dies")))
        .await
        .unwrap();
    let caller = Arc::clone(&client);
    let call =
        tokio::spawn(async move { caller.call_tool("echo", None, &RequestOptions::new()).await });
    // The call was written; an answer to a later one shows that it was read as well.
    let before = client.diagnostics().sent;
    assert!(eventually(LONG, || client.diagnostics().sent > before).await);
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
    let client = factory
        .connect(&patient(fixture.spec("dropped")))
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
    let connect = factory.connect(&spec);
    let started = eventually(LONG, || !fixture.marker().processes().is_empty());
    tokio::select! {
        _ = connect => panic!("it never answers"),
        started = started => assert!(started),
    }
    assert!(left(&fixture).await);
}

#[tokio::test]
async fn a_legacy_sse_server_is_used_as_such() {
    let fixture = SseFixture::start(Behavior::new()).unwrap();
    let spec = patient(ServerSpec::sse("sse", HttpSpec::new(fixture.url())).unwrap());
    let client = StandardFactory::new().connect(&spec).await.unwrap();
    assert_eq!(client.info().transport, TransportKind::Sse);
    assert_eq!(echo(&*client, "hi").await, "hi");
    client.probe(LONG).await.unwrap();
    fixture.kill();
    assert!(matches!(client.closed().await, CloseReason::Lost(_)));
}

// Streamable HTTP

fn http(url: String) -> ServerSpec {
    patient(ServerSpec::http("http", HttpSpec::new(url)).unwrap())
}

#[tokio::test]
async fn every_kind_of_old_server_connects_over_http() {
    for reaction in [
        DiscoverReaction::MethodNotFound,
        DiscoverReaction::InvalidParams,
        DiscoverReaction::EmptyResult,
        DiscoverReaction::Poisoned,
        DiscoverReaction::ServerError,
    ] {
        let behavior = Behavior::new().with(|b| b.discover = reaction);
        let fixture = HttpFixture::start(behavior).unwrap();
        let client = StandardFactory::new().connect(&http(fixture.url())).await;
        let client = client.unwrap_or_else(|error| panic!("{reaction:?}: {error:?}"));
        assert_eq!(
            client.info().protocol.as_str(),
            "2025-11-25",
            "{reaction:?}"
        );
        assert_eq!(echo(&*client, "hi").await, "hi");
        client.probe(LONG).await.unwrap();
        client.close().await;
        assert_eq!(
            fixture.session_count(),
            0,
            "{reaction:?}: the session was ended"
        );
    }
}

#[tokio::test]
async fn a_modern_server_over_http_lists_calls_and_tells_of_changes() {
    let fixture = HttpFixture::start(Behavior::new().with(|b| {
        b.era = Era::Modern;
        b.list_changed_after_call = true;
        b.bad_schemas = true;
    }))
    .unwrap();
    let client = StandardFactory::new()
        .connect(&http(fixture.url()))
        .await
        .unwrap();
    assert_eq!(client.info().protocol.as_str(), "2026-07-28");
    assert_eq!(client.info().transport, TransportKind::Http);
    let listing = client.list_tools(&RequestOptions::new()).await.unwrap();
    assert!(listing.tools.iter().any(|tool| tool.name == "echo"));
    assert!(!listing.rejected.is_empty());
    let mut notices = client.notices();
    // The listen stream may not be open yet when the first call is answered.
    let told = async {
        loop {
            assert_eq!(echo(&*client, "hi").await, "hi");
            let next = tokio::time::timeout(Duration::from_millis(200), notices.recv());
            if let Ok(Ok(ServerNotice::ToolsChanged)) = next.await {
                break;
            }
        }
    };
    tokio::time::timeout(LONG, told).await.unwrap();
    client.probe(LONG).await.unwrap();
    client.close().await;
}

#[tokio::test]
async fn the_transport_of_a_url_is_found_out() {
    let factory = StandardFactory::new();
    let sse = SseFixture::start(Behavior::new()).unwrap();
    let spec = patient(ServerSpec::url("auto", sse.url()).unwrap());
    for _ in 0..2 {
        let client = factory.connect(&spec).await.unwrap();
        assert_eq!(client.info().transport, TransportKind::Sse);
        assert_eq!(echo(&*client, "hi").await, "hi");
    }
    let http = HttpFixture::start(Behavior::new()).unwrap();
    let spec = patient(ServerSpec::url("auto", http.url()).unwrap());
    let client = factory.connect(&spec).await.unwrap();
    assert_eq!(client.info().transport, TransportKind::Http);

    // A GET that is refused says nothing: it is optional.
    let mut options = HttpOptions::default();
    options.no_get = true;
    let http = HttpFixture::start_with(Behavior::new(), options).unwrap();
    let spec = patient(ServerSpec::url("auto", http.url()).unwrap());
    let client = factory.connect(&spec).await.unwrap();
    assert_eq!(client.info().transport, TransportKind::Http);
    assert_eq!(echo(&*client, "hi").await, "hi");
}

#[tokio::test]
async fn refusals_keep_their_kind_and_status() {
    let mut options = HttpOptions::default();
    options.token = Some("secret".into());
    let closed = HttpFixture::start_with(Behavior::new(), options).unwrap();
    for spec in [
        http(closed.url()),
        patient(ServerSpec::url("auto", closed.url()).unwrap()),
    ] {
        let error = StandardFactory::new().connect(&spec).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AuthRequired, "{error:?}");
        assert_eq!(error.http_status(), Some(401));
    }
    let fixture = HttpFixture::start(Behavior::new()).unwrap();
    fixture.refuse(Some(Refusal::new(503)));
    let error = StandardFactory::new()
        .connect(&http(fixture.url()))
        .await
        .unwrap_err();
    assert_eq!(error.http_status(), Some(503), "{error:?}");
    fixture.refuse(Some(Refusal::new(404)));
    let spec = patient(ServerSpec::url("auto", fixture.url()).unwrap());
    let error = StandardFactory::new().connect(&spec).await.unwrap_err();
    assert_eq!(error.http_status(), Some(404), "{error:?}");
}
