//! Which era a process speaks, and how a connect to it fails.

use std::time::Duration;

use mcpool_client::{ClientInfo, ConnectFailure};
use mcpool_core::{ClientFactory, ErrorKind, ProtocolChoice, ProtocolVersion, Verbs};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{info, support::*, tried, version};

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
    assert_eq!(info(&*client).peer.name, "script");
    let tools = client.list_tools().await.unwrap();
    assert_eq!(tools.items.len(), 1);
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
        let client = factory.connect(&spec(), &connecting()).await.unwrap();
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
    let client = factory.connect(&spec(), &connecting()).await.unwrap();
    assert_eq!(version(&*client), "2025-11-25");
    assert_eq!(
        tried(&*client),
        [
            "stdio server/discover: the answer is not a DiscoverResult",
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
    let client = factory.connect(&spec(), &connecting()).await.unwrap();
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
    let client = factory.connect(&spec(), &connecting()).await.unwrap();
    assert_eq!(version(&*client), "2025-03-26");
    assert_eq!(connector.opened(), 2);
    // It is remembered: the next connect goes straight to `initialize`.
    let again = factory.connect(&spec(), &connecting()).await.unwrap();
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
    let client = factory.connect(&spec(), &connecting()).await.unwrap();
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
        let client = factory.connect(&spec(), &connecting()).await.unwrap();
        assert_eq!(started.elapsed().as_secs(), 20);
        let want = if modern { "2026-07-28" } else { "2025-11-25" };
        assert_eq!(version(&*client), want);
        assert_eq!(connector.opened(), 1);
        // The late answers of the handshake confuse nobody.
        let tools = client.list_tools().await.unwrap();
        assert_eq!(tools.items[0].name, "late");
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
    let client = factory.connect(&spec(), &connecting()).await.unwrap();
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
    let client = factory.connect(&spec(), &connecting()).await.unwrap();
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
        version(&*factory.connect(&spec(), &connecting()).await.unwrap()),
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
    let error = factory.connect(&spec(), &connecting()).await.unwrap_err();
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
        let error = factory.connect(&spec(), &connecting()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Rpc);
        assert_eq!(error.rpc().unwrap().code, code);
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
    let error = factory.connect(&spec(), &connecting()).await.unwrap_err();
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
        .connect(&spec().with_protocol(ProtocolChoice::Legacy), &connecting())
        .await
        .unwrap();
    assert_eq!(version(&*client), "2025-11-25");

    let (factory, _) = legacy("initialize");
    let pinned = ProtocolChoice::Pinned(ProtocolVersion::V_2025_03_26);
    let client = factory
        .connect(&spec().with_protocol(pinned), &connecting())
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
        .connect(&spec().with_protocol(pinned), &connecting())
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
            .connect(&spec().with_protocol(protocol), &connecting())
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
        end.error(&hello, -32601, Value::Null);
        let hello = end.expect("initialize").await;
        end.reply(&hello, initialized("2025-11-25"));
        end.recv().await;
        end.recv().await;
    })
    .factory();
    let client = factory.connect(&spec(), &connecting()).await.unwrap();
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
    let factory = factory.with_client_info(ClientInfo::new("agent", "7"));
    factory.connect(&spec(), &connecting()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_mute_server_fails_within_the_startup_time_and_nothing_is_left() {
    let (factory, connector) = Scripted::stdio(|mut end: ServerEnd| async move {
        end.stderr("waiting for a database");
        end.stdout("Listening on http://0.0.0.0:8000");
        for method in ["server/discover", "initialize"] {
            let request = end.expect(method).await;
            assert_eq!(request["wire"]["class"], "Handshake");
        }
        assert_eq!(end.recv().await, None, "`initialize` is not cancelled");
    })
    .factory();
    let started = Instant::now();
    let error = factory.connect(&spec(), &connecting()).await.unwrap_err();
    assert_eq!(started.elapsed().as_secs(), 30);
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!(error.stderr_tail()[0].text, "waiting for a database");
    let said = "its stdout began with \"Listening on http://0.0.0.0:8000\"";
    assert!(error.message().contains(said), "{error}");
    let evidence = ConnectFailure::evidence_of(&error).unwrap();
    assert_eq!(evidence.skipped_lines, 1);
    assert_eq!(evidence.skipped_samples.len(), 1);
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
    let error = factory.connect(&spec(), &connecting()).await.unwrap_err();
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
    let (spec, options) = (spec(), connecting());
    let connect = factory.connect(&spec, &options);
    assert!(
        tokio::time::timeout(Duration::from_secs(5), connect)
            .await
            .is_err()
    );
    assert_eq!(connector.opened(), 1);
    assert_eq!(connector.living(), 0, "at once");
}

#[tokio::test(start_paused = true)]
async fn odd_words_cost_no_server() {
    let odd = [
        json!({"tools": []}),
        json!({"tools": [{"name": "echo"}]}),
        json!({"tools": true}),
        json!({"tools": {"listChanged": "true"}}),
        json!([]),
        json!("none"),
        Value::Null,
    ];
    for capabilities in odd {
        for server in [json!({"name": "n", "version": 1}), json!("n"), Value::Null] {
            let mut answer = initialized("2025-11-25");
            answer["capabilities"] = capabilities.clone();
            answer["serverInfo"] = server;
            let shown = answer.to_string();
            let (factory, _) = Scripted::stdio(move |mut end: ServerEnd| {
                let answer = answer.clone();
                async move {
                    let probe = end.expect("server/discover").await;
                    end.error(&probe, -32601, Value::Null);
                    let hello = end.expect("initialize").await;
                    end.reply(&hello, answer);
                    end.serve(|_| Reply::Result(json!({"tools": [tool("echo")]})))
                        .await;
                }
            })
            .factory();
            let client = factory.connect(&spec(), &connecting()).await;
            let client = client.unwrap_or_else(|error| panic!("{shown}: {error}"));
            assert!(!info(&*client).peer.odd.is_empty(), "{shown}");
            assert_eq!(client.list_tools().await.unwrap().items.len(), 1, "{shown}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_disabled_server_is_not_connected() {
    let (factory, connector) = Scripted::stdio(|_| async {}).factory();
    let error = factory
        .connect(&spec().with_enabled(false), &connecting())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Disabled);
    assert_eq!(connector.opened(), 0);
}
