//! HTTP servers, of both kinds.

use std::time::Duration;

use mcpool_client::StandardFactory;
use mcpool_core::{
    CloseReason, ErrorKind, HttpSpec, ServerNotice, ServerSpec, TransportKind, Verbs,
};
use mcpool_testkit::{
    Behavior, DiscoverReaction, Era,
    fixtures::{
        http::{HttpFixture, HttpOptions, Refusal},
        sse::{SseFixture, SseOptions},
    },
};

use crate::{LONG, connect, echo, info, patient};

#[tokio::test]
async fn a_legacy_sse_server_is_used_as_such() {
    let fixture = SseFixture::start(Behavior::new()).unwrap();
    let spec = patient(ServerSpec::sse("sse", HttpSpec::new(fixture.url())).unwrap());
    let client = connect(&StandardFactory::new(), &spec).await.unwrap();
    assert_eq!(info(&*client).transport, TransportKind::Sse);
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
        let client = connect(&StandardFactory::new(), &http(fixture.url())).await;
        let client = client.unwrap_or_else(|error| panic!("{reaction:?}: {error:?}"));
        assert_eq!(
            info(&*client).protocol.as_str(),
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
    let client = connect(&StandardFactory::new(), &http(fixture.url()))
        .await
        .unwrap();
    assert_eq!(info(&*client).protocol.as_str(), "2026-07-28");
    assert_eq!(info(&*client).transport, TransportKind::Http);
    let listing = client.list_tools().await.unwrap();
    assert!(listing.values().any(|tool| tool.name == "echo"));
    assert!(!listing.rejected.is_empty());
    let mut notices = client.notices();
    // The listen stream may not be open yet when the first call is answered.
    let told = async {
        loop {
            assert_eq!(echo(&*client, "hi").await, "hi");
            let next = tokio::time::timeout(Duration::from_millis(200), notices.next());
            if let Ok(Some(ServerNotice::ToolsChanged)) = next.await {
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
        let client = connect(&factory, &spec).await.unwrap();
        assert_eq!(info(&*client).transport, TransportKind::Sse);
        assert_eq!(echo(&*client, "hi").await, "hi");
    }
    // A server that takes the POST for its GET never answers there.
    let mut options = SseOptions::default();
    options.post_opens_stream = true;
    let sse = SseFixture::start_with(Behavior::new(), options).unwrap();
    let spec = patient(ServerSpec::url("auto", sse.url()).unwrap());
    let client = connect(&factory, &spec).await.unwrap();
    assert_eq!(info(&*client).transport, TransportKind::Sse);
    assert_eq!(echo(&*client, "hi").await, "hi");
    let spec = ServerSpec::http("http", HttpSpec::new(sse.url())).unwrap();
    let error = connect(&factory, &patient(spec)).await.unwrap_err();
    assert!(error.message().contains("its type is sse"), "{error}");

    let http = HttpFixture::start(Behavior::new()).unwrap();
    let spec = patient(ServerSpec::url("auto", http.url()).unwrap());
    let client = connect(&factory, &spec).await.unwrap();
    assert_eq!(info(&*client).transport, TransportKind::Http);

    // A GET that is refused says nothing: it is optional.
    let mut options = HttpOptions::default();
    options.no_get = true;
    let http = HttpFixture::start_with(Behavior::new(), options).unwrap();
    let spec = patient(ServerSpec::url("auto", http.url()).unwrap());
    let client = connect(&factory, &spec).await.unwrap();
    assert_eq!(info(&*client).transport, TransportKind::Http);
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
        let error = connect(&StandardFactory::new(), &spec).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AuthRequired, "{error:?}");
        assert_eq!(error.http_status(), Some(401));
    }
    let fixture = HttpFixture::start(Behavior::new()).unwrap();
    fixture.refuse(Some(Refusal::new(503)));
    let error = connect(&StandardFactory::new(), &http(fixture.url()))
        .await
        .unwrap_err();
    assert_eq!(error.http_status(), Some(503), "{error:?}");
    fixture.refuse(Some(Refusal::new(404)));
    let spec = patient(ServerSpec::url("auto", fixture.url()).unwrap());
    let error = connect(&StandardFactory::new(), &spec).await.unwrap_err();
    assert_eq!(error.http_status(), Some(404), "{error:?}");
}
