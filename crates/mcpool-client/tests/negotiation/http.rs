//! Which era a server behind a URL speaks, and over which transport.

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use mcpool_client::{ConnectFailure, StandardFactory};
use mcpool_core::{
    ClientFactory, Error, ErrorKind, HttpSpec, ProtocolChoice, Request, RequestOptions, Requester,
    ServerSpec, TransportKind,
};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{info, support::*, tried, version};

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

fn refusal(kind: ErrorKind, status: u16) -> Error {
    Error::new(kind, format!("HTTP {status}")).with_http_status(status)
}

#[tokio::test(start_paused = true)]
async fn any_refusal_of_the_probe_but_a_clear_401_means_initialize() {
    let refusals: [fn() -> Error; 10] = [
        || http_status(400),
        || http_status(404),
        || http_status(405),
        || http_status(422),
        || http_status(500),
        || http_status(501),
        || refusal(ErrorKind::Forbidden, 403),
        || refusal(ErrorKind::RateLimited, 429),
        // The same token may be good for `initialize`.
        || refusal(ErrorKind::AuthRequired, 401),
        || refusal(ErrorKind::Protocol, 200),
    ];
    for refusal in refusals {
        let (factory, connector) = http(legacy_script)
            .refusing(refuse_discover(refusal))
            .factory();
        let client = factory.connect(&http_spec(), &connecting()).await.unwrap();
        assert_eq!(version(&*client), "2025-11-25");
        assert_eq!(connector.opened(), 1, "on the same connection");
        // Remembered.
        let client = factory.connect(&http_spec(), &connecting()).await.unwrap();
        assert_eq!(tried(&*client), ["http initialize: 2025-11-25"]);
    }
}

#[tokio::test(start_paused = true)]
async fn what_asking_otherwise_would_not_mend_ends_the_connect() {
    let refusals: [fn() -> Error; 3] = [
        || refusal(ErrorKind::AuthRequired, 401).with_challenge("Bearer"),
        || Error::new(ErrorKind::AuthRequired, "no token"),
        || Error::new(ErrorKind::Connect, "refused"),
    ];
    for refusal in refusals {
        let (factory, connector) = http(legacy_script)
            .refusing(refuse_discover(refusal))
            .factory();
        let error = factory
            .connect(&http_spec(), &connecting())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), refusal().kind());
        assert_eq!(connector.opened(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn the_failure_that_was_nearest_to_success_is_shown() {
    for (probe, hello, shown) in [
        (403, 404, 403),
        (404, 403, 403),
        (500, 405, 500),
        (404, 405, 404),
    ] {
        let of = |status| match status {
            403 => refusal(ErrorKind::Forbidden, 403),
            status => http_status(status),
        };
        let (factory, _) = http(legacy_script)
            .refusing(move |_, message| {
                let status = match message["method"].as_str() {
                    Some("server/discover") => probe,
                    _ => hello,
                };
                Some(of(status))
            })
            .factory();
        let error = factory
            .connect(&http_spec(), &connecting())
            .await
            .unwrap_err();
        assert_eq!(error.http_status(), Some(shown));
    }
}

#[tokio::test(start_paused = true)]
async fn an_initialize_that_is_never_answered_ends_in_the_time_of_the_spec() {
    let mute = |mut end: ServerEnd| async move { while end.recv().await.is_some() {} };
    for (startup, request, wanted) in [(30, 30, 30), (4, 30, 4), (120, 30, 120), (30, 5, 5)] {
        let (factory, connector) = Scripted::new(TransportKind::Http, mute).factory();
        let mut spec = http_spec();
        spec.policy.timeouts.startup = Duration::from_secs(startup);
        spec.policy.timeouts.request = Duration::from_secs(request);
        let started = Instant::now();
        let error = factory.connect(&spec, &connecting()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert_eq!(started.elapsed().as_secs(), wanted);
        let evidence = ConnectFailure::evidence_of(&error).unwrap();
        let mut attempts = evidence.attempts.iter();
        assert!(attempts.any(|attempt| attempt.tried == "initialize"));
        connector.all_dropped().await;
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
    let client = factory.connect(&http_spec(), &connecting()).await.unwrap();
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
    let client = factory.connect(&http_spec(), &connecting()).await.unwrap();
    assert_eq!(version(&*client), "2025-11-25");
    let client = factory.connect(&http_spec(), &connecting()).await.unwrap();
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
    let client = with_sse(factory)
        .connect(&auto_spec(), &connecting())
        .await
        .unwrap();
    assert_eq!(info(&*client).transport, TransportKind::Http);
}

#[tokio::test(start_paused = true)]
async fn http_400_404_405_on_both_posts_mean_legacy_sse() {
    for status in [400, 404, 405] {
        let (factory, connector) = http(legacy_script)
            .refusing(move |_, _| Some(http_status(status)))
            .factory();
        let factory = with_sse(factory);
        let client = factory.connect(&auto_spec(), &connecting()).await.unwrap();
        assert_eq!(info(&*client).transport, TransportKind::Sse);
        assert!(tried(&*client).contains(&"sse initialize: 2025-11-25".to_owned()));
        connector.all_dropped().await;
        // Remembered: Streamable HTTP is not asked again.
        let opened = connector.opened();
        factory.connect(&auto_spec(), &connecting()).await.unwrap();
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
    let client = with_sse(factory)
        .connect(&auto_spec(), &connecting())
        .await
        .unwrap();
    assert_eq!(info(&*client).transport, TransportKind::Sse);

    // Where that fails too, the first error is reported.
    let (factory, _) = Scripted::new(TransportKind::Http, refuse).factory();
    let sse = Scripted::new(TransportKind::Sse, legacy_script);
    let sse = sse.refusing(|_, _| Some(http_status(404)));
    let factory = factory.with_connector(Arc::new(sse));
    let error = factory
        .connect(&auto_spec(), &connecting())
        .await
        .unwrap_err();
    assert_eq!(error.rpc().unwrap().code, -32000);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_no_message_leads_to_sse_at_once() {
    // Such as the event stream of a server that takes the POST for its GET.
    let (factory, _) = http(legacy_script)
        .refusing(|_, _| Some(refusal(ErrorKind::Protocol, 200)))
        .factory();
    let started = Instant::now();
    let factory = with_sse(factory);
    let client = factory.connect(&auto_spec(), &connecting()).await.unwrap();
    assert_eq!(info(&*client).transport, TransportKind::Sse);
    assert_eq!(started.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_login_that_either_transport_wants_is_shown() {
    let (factory, _) = http(legacy_script)
        .refusing(|_, _| Some(http_status(405)))
        .factory();
    let sse = Scripted::new(TransportKind::Sse, legacy_script)
        .refusing(|_, _| Some(refusal(ErrorKind::AuthRequired, 401)));
    let factory = factory.with_connector(Arc::new(sse));
    let error = factory
        .connect(&auto_spec(), &connecting())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AuthRequired);
}

#[tokio::test(start_paused = true)]
async fn other_failures_do_not_lead_to_sse() {
    for error in [
        || http_status(500),
        || refusal(ErrorKind::AuthRequired, 401),
        || Error::new(ErrorKind::Connect, "refused"),
    ] as [fn() -> Error; 3]
    {
        let (factory, _) = http(legacy_script)
            .refusing(move |_, _| Some(error()))
            .factory();
        let failure = with_sse(factory)
            .connect(&auto_spec(), &connecting())
            .await
            .unwrap_err();
        assert_eq!(failure.kind(), error().kind());
    }
}

#[tokio::test(start_paused = true)]
async fn sse_cannot_be_modern() {
    let (factory, _) = Scripted::new(TransportKind::Sse, legacy_script).factory();
    let spec = ServerSpec::sse("script", HttpSpec::new("http://localhost/sse"))
        .unwrap()
        .with_protocol(ProtocolChoice::Modern);
    let error = factory.connect(&spec, &connecting()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidSpec);
}

// What else a connect passes on

#[tokio::test(start_paused = true)]
async fn a_connect_after_a_failure_asks_for_fresh_sockets() {
    let (factory, _) = http(|mut end| {
        Box::pin(async move {
            end.initialize().await;
            let fresh = end.fresh;
            end.serve(|_| Reply::Result(json!({"fresh": fresh}))).await;
        })
    })
    .factory();
    for fresh in [false, true] {
        let options = connecting().with_fresh(fresh);
        let client = factory.connect(&http_spec(), &options).await.unwrap();
        let answer = client
            .request(&Request::new("x"), &RequestOptions::new())
            .await
            .unwrap();
        assert_eq!(answer.get(), format!(r#"{{"fresh":{fresh}}}"#));
    }
}

#[tokio::test(start_paused = true)]
async fn a_spec_names_its_own_connector_beside_servers_of_other_kinds() {
    let (factory, http) = http(legacy_script).factory();
    let own = Arc::new(Scripted::new(TransportKind::Custom, legacy_script));
    let spec = ServerSpec::custom("own", Arc::clone(&own) as _).unwrap();
    let client = factory.connect(&spec, &connecting()).await.unwrap();
    assert_eq!(info(&*client).transport, TransportKind::Custom);
    let other = factory.connect(&http_spec(), &connecting()).await.unwrap();
    assert_eq!(info(&*other).transport, TransportKind::Http);
    assert_eq!((own.opened(), http.opened()), (1, 1));
    // Its era is remembered, as any other's.
    let client = factory.connect(&spec, &connecting()).await.unwrap();
    assert_eq!(tried(&*client), ["custom initialize: 2025-11-25"]);
}
