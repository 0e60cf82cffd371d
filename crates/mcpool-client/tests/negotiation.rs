//! Every row of "which era does a server speak", on a paused clock.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::time::Duration;

use mcpool_client::{ConnectFailure, StandardFactory};
use mcpool_core::{
    Client, ClientFactory, Error, ErrorKind, ProtocolChoice, ServerSpec, TransportKind,
    model::{Implementation, ProtocolVersion},
};
use serde_json::{Value, json};
use support::*;
use tokio::time::Instant;

fn version(client: &dyn Client) -> &str {
    client.info().protocol.as_str()
}

/// What was tried, as one line each.
fn tried(client: &dyn Client) -> Vec<String> {
    let attempts = &client.info().evidence.attempts;
    let attempts = attempts.iter().filter(|attempt| attempt.tried != "open");
    attempts
        .map(|attempt| {
            format!(
                "{} {}: {}",
                attempt.transport, attempt.tried, attempt.outcome
            )
        })
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_modern_server_is_found_by_discover() {
    let (client, connector) = connect_modern(|mut end| async move {
        let list = end.expect("tools/list").await;
        let meta = &list["params"]["_meta"];
        assert_eq!(
            meta["io.modelcontextprotocol/protocolVersion"],
            "2026-07-28"
        );
        assert_eq!(meta["io.modelcontextprotocol/clientInfo"]["name"], "mcpool");
        assert!(meta["io.modelcontextprotocol/clientCapabilities"].is_object());
        end.reply(
            &list,
            json!({"resultType": "complete", "tools": [tool("a")]}),
        );
        end.recv().await;
    })
    .await;
    assert_eq!(version(&*client), "2026-07-28");
    assert_eq!(tried(&*client), ["stdio server/discover: 2026-07-28"]);
    assert_eq!(
        client.info().peer.server_info.as_ref().unwrap().name,
        "script"
    );
    let tools = client.list_tools(&Default::default()).await.unwrap();
    assert_eq!(tools.tools.len(), 1);
    assert_eq!(connector.opened(), 1);
}

#[tokio::test(start_paused = true)]
async fn any_other_error_to_discover_means_initialize_on_the_same_connection() {
    for code in [-32601, -32602, -32001, -32600, -32000] {
        let (factory, connector) = Scripted::stdio(move |mut end: ServerEnd| async move {
            let probe = end.expect("server/discover").await;
            end.error(&probe, code, Value::Null);
            let hello = end.expect("initialize").await;
            assert_eq!(hello["params"]["protocolVersion"], "2025-11-25");
            assert_eq!(hello["params"]["clientInfo"]["name"], "mcpool");
            end.reply(&hello, initialized("2025-06-18"));
            end.expect("notifications/initialized").await;
            end.recv().await;
        })
        .factory();
        let client = factory.connect(&spec()).await.unwrap();
        assert_eq!(version(&*client), "2025-06-18");
        assert_eq!(connector.opened(), 1, "{code}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_empty_result_is_no_discover_result() {
    let (factory, connector) = Scripted::stdio(|mut end: ServerEnd| async move {
        let probe = end.expect("server/discover").await;
        end.reply(&probe, json!({}));
        end.initialize().await;
        end.recv().await;
    })
    .factory();
    let client = factory.connect(&spec()).await.unwrap();
    assert_eq!(version(&*client), "2025-11-25");
    assert_eq!(
        tried(&*client),
        [
            "stdio server/discover: the answer is no DiscoverResult",
            "stdio initialize: 2025-11-25",
        ]
    );
    assert_eq!(connector.opened(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_silent_old_server_is_initialized_after_the_discover_time() {
    let (factory, connector) = Scripted::stdio(|mut end: ServerEnd| async move {
        end.expect("server/discover").await;
        let hello = end.expect("initialize").await;
        end.reply(&hello, initialized("2024-11-05"));
        end.expect("notifications/initialized").await;
        // Neither the probe nor anything else was cancelled by a notification.
        assert_eq!(end.recv().await, None);
    })
    .factory();
    let started = Instant::now();
    let client = factory.connect(&spec()).await.unwrap();
    assert_eq!(started.elapsed().as_secs(), 2);
    assert_eq!(version(&*client), "2024-11-05");
    assert_eq!(connector.opened(), 1);
    client.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_exits_on_the_probe_is_started_again_without_it() {
    let (factory, connector) = Scripted::stdio(|mut end: ServerEnd| async move {
        let first = end.recv().await.unwrap();
        if first["method"] != "initialize" {
            end.exit_status("exit status: 1");
            return;
        }
        end.reply(&first, initialized("2025-03-26"));
        end.expect("notifications/initialized").await;
        end.recv().await;
    })
    .factory();
    let client = factory.connect(&spec()).await.unwrap();
    assert_eq!(version(&*client), "2025-03-26");
    assert_eq!(connector.opened(), 2);
    // It is remembered: the next connect goes straight to `initialize`.
    let again = factory.connect(&spec()).await.unwrap();
    assert_eq!(tried(&*again), ["stdio initialize: 2025-03-26"]);
    assert_eq!(connector.opened(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_refuses_initialize_after_the_probe_is_started_again() {
    let (factory, connector) = Scripted::stdio(|mut end: ServerEnd| async move {
        let first = end.recv().await.unwrap();
        if first["method"] == "initialize" {
            end.reply(&first, initialized("2025-11-25"));
            end.expect("notifications/initialized").await;
            end.recv().await;
            return;
        }
        end.error(&first, -32601, Value::Null);
        let second = end.expect("initialize").await;
        end.send(json!({
            "jsonrpc": "2.0", "id": second["id"],
            "error": {"code": -32600, "message": "already initialized"},
        }));
        end.recv().await;
    })
    .factory();
    let client = factory.connect(&spec()).await.unwrap();
    assert_eq!(version(&*client), "2025-11-25");
    assert_eq!(connector.opened(), 2);
}

#[tokio::test(start_paused = true)]
async fn servers_that_start_slowly_connect_in_both_eras() {
    for modern in [false, true] {
        let (factory, connector) = Scripted::stdio(move |mut end: ServerEnd| async move {
            tokio::time::sleep(Duration::from_secs(20)).await;
            if modern {
                end.discover().await;
                let hello = end.expect("initialize").await;
                end.error(&hello, -32601, Value::Null);
            } else {
                end.initialize().await;
            }
            end.serve(|_| Reply::Result(json!({"tools": [tool("late")]})))
                .await;
        })
        .factory();
        let started = Instant::now();
        let client = factory.connect(&spec()).await.unwrap();
        assert_eq!(started.elapsed().as_secs(), 20);
        let want = if modern { "2026-07-28" } else { "2025-11-25" };
        assert_eq!(version(&*client), want);
        assert_eq!(connector.opened(), 1);
        // The late answers of the handshake confuse nobody.
        let tools = client.list_tools(&Default::default()).await.unwrap();
        assert_eq!(tools.tools[0].name, "late");
    }
}

#[tokio::test(start_paused = true)]
async fn a_late_discover_result_wins_over_a_refused_initialize() {
    let (factory, connector) = Scripted::stdio(|mut end: ServerEnd| async move {
        let probe = end.expect("server/discover").await;
        let hello = end.expect("initialize").await;
        end.error(&hello, -32601, Value::Null);
        tokio::time::sleep(Duration::from_secs(1)).await;
        end.reply(&probe, discovered());
        end.recv().await;
    })
    .factory();
    let client = factory.connect(&spec()).await.unwrap();
    assert_eq!(version(&*client), "2026-07-28");
    assert_eq!(connector.opened(), 1);
}

#[tokio::test(start_paused = true)]
async fn another_modern_version_is_tried_where_the_server_names_one() {
    // The server refuses the first question and names the same version: once more.
    let (factory, _) = Scripted::stdio(|mut end: ServerEnd| async move {
        let probe = end.expect("server/discover").await;
        end.error(
            &probe,
            -32022,
            json!({"supported": ["2099-01-01", "2026-07-28"]}),
        );
        end.discover().await;
        end.recv().await;
    })
    .factory();
    let client = factory.connect(&spec()).await.unwrap();
    assert_eq!(version(&*client), "2026-07-28");

    // It names older versions only.
    let (factory, connector) = Scripted::stdio(|mut end: ServerEnd| async move {
        let probe = end.expect("server/discover").await;
        end.error(&probe, -32022, json!({"supported": ["2025-06-18"]}));
        end.initialize().await;
        end.recv().await;
    })
    .factory();
    assert_eq!(
        version(&*factory.connect(&spec()).await.unwrap()),
        "2025-11-25"
    );
    assert_eq!(connector.opened(), 1);

    // Nothing in common.
    let (factory, _) = Scripted::stdio(|mut end: ServerEnd| async move {
        let probe = end.expect("server/discover").await;
        end.error(&probe, -32022, json!({"supported": ["2099-01-01"]}));
        end.recv().await;
    })
    .factory();
    let error = factory.connect(&spec()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::VersionMismatch);
    assert!(error.message().contains("2099-01-01"));
}

#[tokio::test(start_paused = true)]
async fn a_modern_error_is_no_reason_to_fall_back() {
    for code in [-32020, -32021] {
        let (factory, connector) = Scripted::stdio(move |mut end: ServerEnd| async move {
            let probe = end.expect("server/discover").await;
            end.error(&probe, code, Value::Null);
            assert_eq!(end.recv().await, None, "nothing more is asked");
        })
        .factory();
        let error = factory.connect(&spec()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Rpc);
        assert_eq!(i64::from(error.rpc().unwrap().code.0), code);
        assert_eq!(connector.opened(), 1);
        connector.all_dropped().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_unknown_version_is_refused() {
    let (factory, connector) = Scripted::stdio(|mut end: ServerEnd| async move {
        let probe = end.expect("server/discover").await;
        end.error(&probe, -32601, Value::Null);
        let hello = end.expect("initialize").await;
        end.reply(&hello, initialized("1999-01-01"));
        end.recv().await;
    })
    .factory();
    let error = factory.connect(&spec()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::VersionMismatch);
    assert!(error.is_permanent());
    assert!(error.message().contains("1999-01-01"), "{error}");
    assert_eq!(connector.opened(), 1);
    connector.all_dropped().await;
}

#[tokio::test(start_paused = true)]
async fn a_pinned_protocol_is_not_probed_for() {
    let legacy = |first: &'static str| {
        Scripted::stdio(move |mut end: ServerEnd| async move {
            let request = end.recv().await.unwrap();
            assert_eq!(request["method"], first);
            let offered = request["params"]["protocolVersion"].clone();
            end.reply(&request, initialized(offered.as_str().unwrap()));
            end.recv().await;
            end.recv().await;
        })
        .factory()
    };
    let (factory, _) = legacy("initialize");
    let client = factory
        .connect(&spec().with_protocol(ProtocolChoice::Legacy))
        .await
        .unwrap();
    assert_eq!(version(&*client), "2025-11-25");

    let (factory, _) = legacy("initialize");
    let pinned = ProtocolChoice::Pinned(ProtocolVersion::V_2025_03_26);
    let client = factory
        .connect(&spec().with_protocol(pinned))
        .await
        .unwrap();
    assert_eq!(version(&*client), "2025-03-26");

    // The server chooses another one.
    let (factory, _) = Scripted::stdio(|mut end: ServerEnd| async move {
        end.initialize().await;
        end.recv().await;
    })
    .factory();
    let pinned = ProtocolChoice::Pinned(ProtocolVersion::V_2025_03_26);
    let error = factory
        .connect(&spec().with_protocol(pinned))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::VersionMismatch);

    // Modern: no fallback.
    let (factory, connector) = Scripted::stdio(|mut end: ServerEnd| async move {
        let probe = end.expect("server/discover").await;
        end.error(&probe, -32601, Value::Null);
        assert_eq!(end.recv().await, None);
    })
    .factory();
    for protocol in [
        ProtocolChoice::Modern,
        ProtocolChoice::Pinned(ProtocolVersion::V_2026_07_28),
    ] {
        let error = factory
            .connect(&spec().with_protocol(protocol))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::VersionMismatch);
    }
    assert_eq!(connector.opened(), 2);
}

#[tokio::test(start_paused = true)]
async fn pings_and_noise_before_the_answer_are_answered_and_ignored() {
    let (factory, _) = Scripted::stdio(|mut end: ServerEnd| async move {
        let hello = end.expect("server/discover").await;
        end.send(json!({"jsonrpc": "2.0", "id": "p1", "method": "ping"}));
        let pong = end.recv().await.unwrap();
        assert_eq!(pong, json!({"jsonrpc": "2.0", "id": "p1", "result": {}}));
        end.notify(
            "notifications/message",
            json!({"level": "info", "data": "starting"}),
        );
        end.notify("notifications/vendor", json!({}));
        // An answer to a question that was never asked.
        end.send(json!({"jsonrpc": "2.0", "id": 999, "result": {}}));
        // The id as a string.
        let id = hello["id"].to_string();
        end.send(json!({"jsonrpc": "2.0", "id": id, "error": {"code": -32601, "message": ""}}));
        let hello = end.expect("initialize").await;
        let id = hello["id"].to_string();
        end.send(json!({"jsonrpc": "2.0", "id": id, "result": initialized("2025-11-25")}));
        end.recv().await;
        end.recv().await;
    })
    .factory();
    let client = factory.connect(&spec()).await.unwrap();
    assert_eq!(version(&*client), "2025-11-25");
}

#[tokio::test(start_paused = true)]
async fn the_client_says_who_it_is() {
    let (factory, _) = Scripted::stdio(|mut end: ServerEnd| async move {
        let hello = end.initialize().await;
        assert_eq!(hello["params"]["clientInfo"]["name"], "agent");
        assert_eq!(hello["params"]["clientInfo"]["version"], "7");
        end.recv().await;
        end.recv().await;
    })
    .factory();
    let factory = factory.with_client_info(Implementation::new("agent", "7"));
    factory.connect(&spec()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_mute_server_fails_within_the_startup_time_and_nothing_is_left() {
    let (factory, connector) = Scripted::stdio(|mut end: ServerEnd| async move {
        end.stderr("waiting for a database");
        while end.recv().await.is_some() {}
    })
    .factory();
    let started = Instant::now();
    let error = factory.connect(&spec()).await.unwrap_err();
    assert_eq!(started.elapsed().as_secs(), 30);
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!(error.stderr_tail()[0].text, "waiting for a database");
    let evidence = ConnectFailure::evidence_of(&error).unwrap();
    let outcomes: Vec<_> = evidence
        .attempts
        .iter()
        .map(|attempt| (attempt.tried.as_str(), attempt.outcome.as_str()))
        .collect();
    assert!(
        outcomes.contains(&("server/discover", "no answer")),
        "{outcomes:?}"
    );
    assert!(
        outcomes.contains(&("initialize", "no answer")),
        "{outcomes:?}"
    );
    connector.all_dropped().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_exits_says_why_with_status_and_stderr() {
    let (factory, connector) = Scripted::stdio(|mut end: ServerEnd| async move {
        end.recv().await;
        end.stderr("usage: script TOKEN");
        end.exit_status("exit status: 2");
    })
    .factory();
    let error = factory.connect(&spec()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ProcessExited);
    assert!(error.message().contains("exit status: 2"), "{error}");
    assert_eq!(error.stderr_tail()[0].text, "usage: script TOKEN");
    assert_eq!(error.server().unwrap().as_str(), "script");
    // The attempts stand in the source, readable.
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("server/discover over stdio"), "{source}");
    assert!(source.contains("initialize over stdio"), "{source}");
    assert_eq!(connector.opened(), 2);
    connector.all_dropped().await;
}

#[tokio::test(start_paused = true)]
async fn dropping_a_connect_releases_everything() {
    let (factory, connector) =
        Scripted::stdio(|mut end: ServerEnd| async move { while end.recv().await.is_some() {} })
            .factory();
    let spec = spec();
    let connect = factory.connect(&spec);
    assert!(
        tokio::time::timeout(Duration::from_secs(5), connect)
            .await
            .is_err()
    );
    assert_eq!(connector.opened(), 1);
    connector.all_dropped().await;
}

#[tokio::test(start_paused = true)]
async fn a_disabled_server_is_not_connected() {
    let (factory, connector) = Scripted::stdio(|_| async {}).factory();
    let error = factory
        .connect(&spec().with_enabled(false))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Disabled);
    assert_eq!(connector.opened(), 0);
}

// Streamable HTTP

fn http(script: fn(ServerEnd) -> futures::future::BoxFuture<'static, ()>) -> Scripted {
    Scripted::new(TransportKind::Http, script)
}

fn legacy_script(mut end: ServerEnd) -> futures::future::BoxFuture<'static, ()> {
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
    factory.with_connector(std::sync::Arc::new(Scripted::new(
        TransportKind::Sse,
        legacy_script,
    )))
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
    let factory = factory.with_connector(std::sync::Arc::new(sse));
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
    let spec = ServerSpec::sse("script", mcpool_core::HttpSpec::new("http://localhost/sse"))
        .unwrap()
        .with_protocol(ProtocolChoice::Modern);
    let error = factory.connect(&spec).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidSpec);
}
