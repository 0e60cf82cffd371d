//! Which era a server behind a URL speaks, and over which transport.

use std::sync::Arc;

use futures::future::BoxFuture;
use mcpool_client::StandardFactory;
use mcpool_core::{
    ClientFactory, Error, ErrorKind, HttpSpec, ProtocolChoice, ServerSpec, TransportKind,
};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{support::*, tried, version};

fn http(script: fn(ServerEnd) -> BoxFuture<'static, ()>) -> Scripted {
    Scripted::new(TransportKind::Http, script)
}

fn legacy_script(mut end: ServerEnd) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        end.initialize().await;
        end.serve(|_| Reply::Result(json!({"tools": []}))).await;
    })
}

fn refuse_discover(error: fn() -> Error) -> impl Fn(usize, &Value) -> Option<Error> {
    move |_, message| (message["method"] == "server/discover").then(error)
}

#[tokio::test(start_paused = true)]
async fn http_4xx_on_the_probe_means_initialize() {
    let refusals: [fn() -> Error; 4] = [
        || http_status(400),
        || http_status(404),
        || http_status(405),
        || http_status(422),
    ];
    for refusal in refusals {
        let (factory, _) = http(legacy_script)
            .refusing(refuse_discover(refusal))
            .factory();
        let client = factory.connect(&http_spec()).await.unwrap();
        assert_eq!(version(&*client), "2025-11-25");
        // Remembered.
        let client = factory.connect(&http_spec()).await.unwrap();
        assert_eq!(tried(&*client), ["http initialize: 2025-11-25"]);
    }
}

#[tokio::test(start_paused = true)]
async fn statuses_that_say_nothing_of_the_era_end_the_connect() {
    let refusals: [(fn() -> Error, ErrorKind); 5] = [
        (
            || Error::new(ErrorKind::AuthRequired, "401").with_http_status(401),
            ErrorKind::AuthRequired,
        ),
        (
            || Error::new(ErrorKind::Forbidden, "403").with_http_status(403),
            ErrorKind::Forbidden,
        ),
        (
            || Error::new(ErrorKind::RateLimited, "429").with_http_status(429),
            ErrorKind::RateLimited,
        ),
        (|| http_status(503), ErrorKind::HttpStatus),
        (
            || Error::new(ErrorKind::Connect, "refused"),
            ErrorKind::Connect,
        ),
    ];
    for (refusal, kind) in refusals {
        let (factory, connector) = http(legacy_script)
            .refusing(refuse_discover(refusal))
            .factory();
        let error = factory.connect(&http_spec()).await.unwrap_err();
        assert_eq!(error.kind(), kind);
        assert_eq!(connector.opened(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn an_http_server_that_is_silent_on_the_probe_is_initialized_elsewhere() {
    let (factory, connector) = http(|mut end| {
        Box::pin(async move {
            let first = end.recv().await.unwrap();
            if first["method"] == "initialize" {
                end.reply(&first, initialized("2025-11-25"));
                end.recv().await;
            }
            end.recv().await;
        })
    })
    .factory();
    let started = Instant::now();
    let client = factory.connect(&http_spec()).await.unwrap();
    assert_eq!(started.elapsed().as_secs(), 10);
    assert_eq!(version(&*client), "2025-11-25");
    assert_eq!(connector.opened(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_contradicted_memory_is_forgotten_and_probed_again() {
    // The server is replaced by a newer one after the first connection.
    let (factory, _) = http(|mut end| {
        Box::pin(async move {
            let modern = end.nth >= 2;
            while let Some(message) = end.recv().await {
                match message["method"].as_str() {
                    Some("server/discover") if modern => end.reply(&message, discovered()),
                    Some("initialize") if !modern => {
                        end.reply(&message, initialized("2025-11-25"));
                    }
                    Some(_) if message.get("id").is_some() => {
                        end.error(&message, -32601, Value::Null);
                    }
                    _ => {}
                }
            }
        })
    })
    .factory();
    let client = factory.connect(&http_spec()).await.unwrap();
    assert_eq!(version(&*client), "2025-11-25");
    let client = factory.connect(&http_spec()).await.unwrap();
    assert_eq!(version(&*client), "2026-07-28");
    assert_eq!(
        tried(&*client),
        [
            "http initialize: the server answered -32601: no",
            "http server/discover: 2026-07-28",
        ]
    );
}

// A URL of unknown transport

fn with_sse(factory: StandardFactory) -> StandardFactory {
    factory.with_connector(Arc::new(Scripted::new(TransportKind::Sse, legacy_script)))
}

#[tokio::test(start_paused = true)]
async fn streamable_http_is_tried_first() {
    let (factory, _) = http(legacy_script).factory();
    let client = with_sse(factory).connect(&auto_spec()).await.unwrap();
    assert_eq!(client.info().transport, TransportKind::Http);
}

#[tokio::test(start_paused = true)]
async fn http_400_404_405_on_both_posts_mean_legacy_sse() {
    for status in [400, 404, 405] {
        let (factory, connector) = http(legacy_script)
            .refusing(move |_, _| Some(http_status(status)))
            .factory();
        let factory = with_sse(factory);
        let client = factory.connect(&auto_spec()).await.unwrap();
        assert_eq!(client.info().transport, TransportKind::Sse);
        assert!(tried(&*client).contains(&"sse initialize: 2025-11-25".to_owned()));
        connector.all_dropped().await;
        // Remembered: Streamable HTTP is not asked again.
        let opened = connector.opened();
        factory.connect(&auto_spec()).await.unwrap();
        assert_eq!(connector.opened(), opened);
    }
}

#[tokio::test(start_paused = true)]
async fn a_json_rpc_error_of_the_old_era_leaves_sse_possible_and_the_first_error_stands() {
    let refuse = |mut end: ServerEnd| async move {
        while let Some(message) = end.recv().await {
            end.error(&message, -32000, Value::Null);
        }
    };
    let (factory, _) = Scripted::new(TransportKind::Http, refuse).factory();
    let client = with_sse(factory).connect(&auto_spec()).await.unwrap();
    assert_eq!(client.info().transport, TransportKind::Sse);

    // Where that fails too, the first error is told.
    let (factory, _) = Scripted::new(TransportKind::Http, refuse).factory();
    let sse = Scripted::new(TransportKind::Sse, legacy_script);
    let sse = sse.refusing(|_, _| Some(http_status(404)));
    let factory = factory.with_connector(Arc::new(sse));
    let error = factory.connect(&auto_spec()).await.unwrap_err();
    assert_eq!(error.rpc().unwrap().code.0, -32000);
}

#[tokio::test(start_paused = true)]
async fn other_failures_do_not_lead_to_sse() {
    for error in [
        || http_status(500),
        || Error::new(ErrorKind::AuthRequired, "401").with_http_status(401),
        || Error::new(ErrorKind::Connect, "refused"),
    ] as [fn() -> Error; 3]
    {
        let (factory, _) = http(legacy_script)
            .refusing(move |_, _| Some(error()))
            .factory();
        let failure = with_sse(factory).connect(&auto_spec()).await.unwrap_err();
        assert_eq!(failure.kind(), error().kind());
    }
}

#[tokio::test(start_paused = true)]
async fn sse_cannot_be_modern() {
    let (factory, _) = Scripted::new(TransportKind::Sse, legacy_script).factory();
    let spec = ServerSpec::sse("script", HttpSpec::new("http://localhost/sse"))
        .unwrap()
        .with_protocol(ProtocolChoice::Modern);
    let error = factory.connect(&spec).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidSpec);
}
