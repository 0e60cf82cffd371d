//! Answers as servers give them.

use std::{
    io::Write as _,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    body::Body,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use flate2::{Compression, write::GzEncoder};
use mcpool_core::{
    ConnectRequest, Delivery, Direction, ErrorKind, HttpSpec, Incoming, RequestClass,
    TransportSpec, WireEvent, WireTap,
};
use mcpool_testkit::{
    Behavior,
    fixtures::http::{AnswerMode, HttpFixture, HttpOptions},
};
use serde_json::json;

use crate::{
    drive::{Ask, Drive, Recorder, connect, failed, initialize_params},
    server::{Seen, Server, body, error, event, events, open_events, text},
};

/// A client of a server that answers `tools/call` so.
async fn calling(special: impl Fn(&Seen) -> Response + Send + Sync + 'static) -> (Server, Drive) {
    let server = Server::except(move |seen| (seen.rpc() == "tools/call").then(|| special(seen)));
    let server = server.await;
    let drive = Drive::initialized(&server.url).await;
    (server, drive)
}

const RESULT: &str = r#"{"n":12345678901234567890123,"x":1.50,"vendor":{"a":null}}"#;

fn exact(seen: &Seen) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":{},"result":{RESULT}}}"#,
        seen.message["id"]
    )
}

#[tokio::test]
async fn a_result_is_given_as_it_came_however_it_is_wrapped() {
    type Wrap = fn(&Seen) -> Response;
    let wraps: [(Wrap, &str); 9] = [
        (|seen| body("application/json", exact(seen)), ""),
        (
            |seen| body("application/json; charset=utf-8", exact(seen)),
            "",
        ),
        (|seen| body("application/vnd.x+json", exact(seen)), ""),
        (
            |seen| Body::from(exact(seen)).into_response(),
            "does not say that it is JSON",
        ),
        (|seen| body("text/plain", exact(seen)), "\"text/plain\""),
        (
            |seen| body("application/json", format!("\u{feff}{}", exact(seen))),
            "byte-order mark",
        ),
        (
            |seen| body("application/json", format!("[{}]", exact(seen))),
            "",
        ),
        (|seen| events(&[&event(&exact(seen))]), ""),
        (
            |seen| {
                let id = &seen.message["id"];
                let text = exact(seen).replace(&format!(":{id},"), &format!(":\"{id}\","));
                body("application/json", text)
            },
            "",
        ),
    ];
    for (at, (wrap, odd)) in wraps.into_iter().enumerate() {
        let (_server, drive) = calling(wrap).await;
        let result = drive.raw("tools/call", json!({}), Ask::default()).await;
        assert_eq!(result.unwrap().get(), RESULT, "{at}");
        let oddities = drive.diagnostics().oddities.join("; ");
        assert!(oddities.contains(odd), "{at}: {oddities}");
        assert_eq!(oddities.is_empty(), odd.is_empty(), "{at}: {oddities}");
    }
}

#[tokio::test]
async fn a_pretty_printed_answer_is_put_on_one_line() {
    let (_server, drive) = calling(|seen| {
        let id = &seen.message["id"];
        body(
            "application/json",
            format!("{{\r\n  \"id\": {id},\n  \"result\": {{\n    \"a\": [1,\n 2]\n  }}\n}}\n"),
        )
    })
    .await;
    let result = drive.raw("tools/call", json!({}), Ask::default()).await;
    let result = result.unwrap();
    assert!(!result.get().contains('\n'));
    assert_eq!(
        result.parse::<serde_json::Value>().unwrap(),
        json!({"a": [1, 2]})
    );
}

#[tokio::test]
async fn what_cannot_be_read_may_have_run() {
    type Bad = fn(&Seen) -> Response;
    let bad: [(Bad, &str); 12] = [
        (|_| body("application/json", ""), "empty body"),
        (
            |_| StatusCode::ACCEPTED.into_response(),
            "did not answer it",
        ),
        (
            |_| body("application/json", "<html>"),
            "no JSON-RPC message",
        ),
        (|_| body("text/html", "<html>"), "\"text/html\""),
        (
            |_| {
                body(
                    "application/json",
                    r#"{"jsonrpc":"2.0","id":1,"result":NaN}"#,
                )
            },
            "no JSON-RPC",
        ),
        (
            |_| body("application/json", r#"{"jsonrpc":"2.0"}"#),
            "no JSON-RPC message",
        ),
        (
            |seen| {
                body(
                    "application/json",
                    format!("{{\"id\":{},\"result\":\"\u{1}\"}}", seen.message["id"]),
                )
            },
            "no JSON-RPC",
        ),
        (
            |_| events(&["data: {\"id\":1,\"result\":NaN}\n\n"]),
            "cannot be read",
        ),
        (
            |_| {
                let mut response = body("application/json", "x");
                response
                    .headers_mut()
                    .insert("content-encoding", "br".parse().unwrap());
                response
            },
            "\"br\"",
        ),
        (
            |seen| body("application/json", seen.message.to_string()),
            "sends back what it is sent",
        ),
        (
            |seen| open_events(&[&event(&seen.message.to_string())]),
            "sends back what it is sent",
        ),
        (
            |_| open_events(&["event: endpoint\ndata: /messages?session=1\n\n"]),
            "legacy HTTP+SSE",
        ),
    ];
    for (answer, want) in bad {
        let (_server, drive) = calling(answer).await;
        let error = drive.refused("tools/call", json!({})).await;
        assert_eq!(error.kind(), ErrorKind::Protocol, "{want}: {error}");
        assert_eq!(error.delivery(), Delivery::Unknown, "{want}");
        assert!(error.to_string().contains(want), "{want}: {error}");
        drive.request("tools/list", json!({})).await.unwrap();
        assert!(drive.failure().is_none());
    }
}

#[tokio::test]
async fn an_answer_with_a_wrong_id_ends_its_exchange_at_once() {
    for streams in [false, true] {
        let (_server, drive) = calling(move |_| {
            let other = json!({"jsonrpc": "2.0", "id": 4711, "result": {}}).to_string();
            match streams {
                true => events(&[&event(&other)]),
                false => body("application/json", other),
            }
        })
        .await;
        let error = drive.refused("tools/call", json!({})).await;
        assert_eq!(error.delivery(), Delivery::Unknown, "{error}");
        assert!(error.to_string().contains("another request"), "{error}");
        assert!(
            drive.diagnostics().oddities[0].contains("no request"),
            "{:?}",
            drive.diagnostics().oddities
        );
    }
}

#[tokio::test]
async fn bytes_that_are_not_utf_8_are_replaced() {
    let (_server, drive) = calling(|seen| {
        let mut text = exact(seen).into_bytes();
        let at = text.len() - 2;
        text.splice(at..at, b",\"s\":\"\xff\"".iter().copied());
        body("application/json", text)
    })
    .await;
    let result = drive.request("tools/call", json!({})).await.unwrap();
    assert_eq!(result["s"], "\u{fffd}");
    assert_eq!(drive.diagnostics().oddities, ["an answer is not UTF-8"]);
}

/// A server whose answers are encoded with gzip.
async fn zipping() -> (Server, Drive) {
    calling(|seen| {
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        packed
            .write_all(text(seen, json!({"zipped": true})).as_bytes())
            .unwrap();
        let mut response = body("application/json", packed.finish().unwrap());
        let gzip = "gzip".parse().unwrap();
        response.headers_mut().insert("content-encoding", gzip);
        response
    })
    .await
}

#[cfg(feature = "gzip")]
#[tokio::test]
async fn gzip_that_nobody_asked_for_is_unpacked() {
    let (server, drive) = zipping().await;
    let result = drive.request("tools/call", json!({})).await.unwrap();
    assert_eq!(result, json!({"zipped": true}));
    assert_eq!(server.seen("tools/call")[0].header("accept-encoding"), None);
}

#[cfg(not(feature = "gzip"))]
#[tokio::test]
async fn gzip_is_refused_with_the_name_of_the_feature() {
    let (server, drive) = zipping().await;
    let error = drive.refused("tools/call", json!({})).await;
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert_eq!(error.delivery(), Delivery::Unknown);
    assert!(error.message().contains("the feature `gzip`"), "{error}");
    assert_eq!(server.seen("tools/call")[0].header("accept-encoding"), None);
}

#[tokio::test]
async fn errors_are_answers_whatever_their_shape() {
    let (_server, drive) = calling(|seen| {
        let id = &seen.message["id"];
        body(
            "application/json",
            format!(r#"{{"id":{id},"error":"it broke"}}"#),
        )
    })
    .await;
    let error = drive.refused("tools/call", json!({})).await;
    assert_eq!(error.kind(), ErrorKind::Rpc);
    assert_eq!(error.delivery(), Delivery::Answered);
    assert_eq!(error.rpc().unwrap().message, "it broke");

    // Without an id it can only mean this request.
    let (_server, drive) =
        calling(|_| body("application/json", r#"{"id":null,"error":{"code":-5}}"#)).await;
    assert_eq!(
        drive
            .refused("tools/call", json!({}))
            .await
            .rpc()
            .unwrap()
            .code,
        -5
    );
    let (_server, drive) = calling(|_| body("application/json", r#"{"result":{"a":1}}"#)).await;
    let result = drive.request("tools/call", json!({})).await.unwrap();
    assert_eq!(result, json!({"a": 1}));
    assert_eq!(drive.diagnostics().oddities, ["an answer has no id"]);
}

#[tokio::test]
async fn a_batch_gives_everything_it_holds_and_progress_before_the_answer() {
    let (_server, drive) = calling(|seen| {
        let token = &seen.message["params"]["_meta"]["progressToken"];
        let progress = |n: u32| {
            let params = json!({"progressToken": token, "progress": n});
            json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})
        };
        let log = json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {}});
        let answer: serde_json::Value =
            serde_json::from_str(&text(seen, json!({"done": true}))).unwrap();
        let batch = json!([progress(1), 5, log, answer, progress(2)]);
        body("application/json", batch.to_string())
    })
    .await;
    let sink = Arc::new(Recorder::default());
    let ask = Ask {
        sink: Some(sink.clone()),
        ..Ask::default()
    };
    let result = drive.ask("tools/call", json!({}), ask).await.unwrap();
    assert_eq!(result, json!({"done": true}));
    let told = [
        "assigned",
        "sent",
        "progress 1",
        "notifications/message",
        "progress 2",
    ];
    assert_eq!(sink.events(), told);
    drive.notification("notifications/message").await;
    assert_eq!(drive.diagnostics().skipped_lines, 1);
}

#[tokio::test]
async fn what_comes_on_the_stream_of_a_request_belongs_to_it() {
    for keeps in [false, true] {
        let (_server, drive) = calling(|seen| {
            let token = &seen.message["params"]["_meta"]["progressToken"];
            let progress = json!({
                "jsonrpc": "2.0",
                "method": "notifications/progress",
                "params": {"progressToken": token.to_string(), "progress": 0.5},
            });
            let log = json!({"jsonrpc": "2.0", "method": "notifications/message"});
            let question = json!({"jsonrpc": "2.0", "id": "q-1", "method": "roots/list"});
            events(&[
                ": hello\n\n",
                "event: something\nid: 1\n",
                &event(&progress.to_string()),
                &event("what is this"),
                &event(&log.to_string()),
                &event(&question.to_string()),
                &event(&text(seen, json!({}))),
            ])
        })
        .await;
        let sink = match keeps {
            true => Recorder::keeping(),
            false => Arc::new(Recorder::default()),
        };
        let ask = Ask {
            sink: Some(sink.clone()),
            ..Ask::default()
        };
        drive.ask("tools/call", json!({}), ask).await.unwrap();
        let told = ["assigned", "sent", "progress 0.5", "notifications/message"];
        assert_eq!(sink.events(), told);
        if !keeps {
            drive.notification("notifications/message").await;
        }
        match drive.next().await {
            Some(Incoming::Request(question)) => {
                assert_eq!(question.id.get(), "\"q-1\"");
                assert_eq!(question.related.unwrap().get(), 2);
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(drive.diagnostics().skipped_samples, ["what is this"]);
    }
}

#[tokio::test]
async fn a_stream_that_ends_after_its_answer_leaves_a_connection_to_use_again() {
    let fixture = HttpFixture::start_with(Behavior::new(), {
        let mut options = HttpOptions::default();
        options.answers = AnswerMode::Sse;
        options.no_get = true;
        options
    });
    let fixture = fixture.unwrap();
    let drive = Drive::initialized(&fixture.url()).await;
    for _ in 0..50 {
        drive.echo("hi").await;
    }
    // A few more than one, where a request came before the end of the stream before it.
    let connections = fixture.connection_count();
    assert!(connections <= 10, "{connections}");
}

#[tokio::test]
async fn what_is_said_after_an_answer_is_heard() {
    let (_server, drive) = calling(|seen| {
        let changed = json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"});
        events(&[&event(&text(seen, json!({}))), &event(&changed.to_string())])
    })
    .await;
    let sink = Recorder::keeping();
    let ask = Ask {
        sink: Some(sink.clone()),
        ..Ask::default()
    };
    drive.ask("tools/call", json!({}), ask).await.unwrap();
    drive.notification("notifications/tools/list_changed").await;
    assert_eq!(sink.events(), ["assigned", "sent"]);
}

#[tokio::test]
async fn a_listen_stream_stays_open_and_its_events_are_its_own() {
    let server = Server::except(|seen| {
        (seen.rpc() == "subscriptions/listen").then(|| {
            let changed = |what: &str| {
                event(&json!({"jsonrpc": "2.0", "method": what, "params": {}}).to_string())
            };
            open_events(&[
                &changed("notifications/subscriptions/acknowledged"),
                &changed("notifications/tools/list_changed"),
            ])
        })
    })
    .await;
    let drive = Drive::modern(&server.url).await;
    let sink = Recorder::keeping();
    let ask = Ask {
        class: RequestClass::Listen,
        sink: Some(sink.clone()),
        ..Ask::default()
    };
    let listening = drive.start_with("subscriptions/listen", json!({}), ask);
    sink.until("notifications/tools/list_changed").await;
    drive.request("tools/list", json!({})).await.unwrap();
    assert!(!listening.is_finished());
    drive.close().await;
    let error = failed(listening).await;
    assert_eq!(error.kind(), ErrorKind::Closed);
    assert!(drive.next().await.is_none(), "nothing went to the inbox");
}

#[tokio::test]
async fn a_modern_request_has_its_headers() {
    let server = Server::except(|_| None).await;
    let drive = Drive::modern(&server.url).await;
    let ask = Ask {
        name: Some("größe"),
        ..Ask::default()
    };
    drive.ask("tools/call", json!({}), ask).await.unwrap();
    drive.request("tools/list", json!({})).await.unwrap();
    drive.close().await;
    let discover = &server.seen("server/discover")[0];
    assert_eq!(discover.header("mcp-method"), Some("server/discover"));
    for seen in [
        &server.seen("tools/call")[0],
        &server.seen("tools/list")[0],
        discover,
    ] {
        assert_eq!(seen.header("mcp-protocol-version"), Some("2026-07-28"));
        assert_eq!(seen.header("mcp-method"), Some(seen.rpc()));
        assert_eq!(seen.session(), None);
    }
    let call = &server.seen("tools/call")[0];
    assert_eq!(call.header("mcp-name"), Some("=?base64?Z3LDtsOfZQ==?="));
    assert_eq!(call.header("content-type"), Some("application/json"));
    let accept = call.header("accept").unwrap();
    assert!(accept.contains("application/json") && accept.contains("text/event-stream"));
    assert!(server.seen("GET").is_empty() && server.seen("DELETE").is_empty());
}

#[derive(Debug, Default)]
struct Tapped(Mutex<Vec<(Direction, Option<u16>, String)>>);

impl WireTap for Tapped {
    fn event(&self, event: &WireEvent<'_>) {
        let text = event.text.chars().take(40).collect();
        self.0
            .lock()
            .unwrap()
            .push((event.direction, event.status, text));
    }
}

#[tokio::test]
async fn the_tap_sees_every_message_with_its_status() {
    let server = Server::except(|seen| match seen.rpc() {
        "tools/call" => Some(error(400, seen, -32602, "no")),
        "ping" => Some(events(&[&event("what"), &event(&text(seen, json!({})))])),
        _ => None,
    })
    .await;
    let tap = Arc::new(Tapped::default());
    let request: ConnectRequest = connect(&server.url).with_tap(tap.clone());
    let mut drive = Drive::connected(request).await;
    drive.initialize().await;
    // The first request waits for the answer to the GET.
    drive.refused("tools/call", json!({})).await;
    drive.request("ping", json!({})).await.unwrap();
    let seen: Vec<String> = tap
        .0
        .lock()
        .unwrap()
        .iter()
        .map(|(direction, status, text)| {
            let status = status.map_or(String::new(), |status| status.to_string());
            format!("{direction:?} {status} {text}")
        })
        .collect();
    let starts = [
        "Sent  {\"jsonrpc\":\"2.0\",\"id\":1",
        "Received 200 {",
        "Sent  {\"jsonrpc\":\"2.0\",\"method\":\"notifications",
        "Received 202 ",
        "Received 405 ",
        "Sent  {\"jsonrpc\":\"2.0\",\"id\":2",
        "Received 400 {",
        "Sent  {\"jsonrpc\":\"2.0\",\"id\":3",
        "Skipped 200 what",
        "Received 200 {",
    ];
    assert_eq!(seen.len(), starts.len(), "{seen:#?}");
    for (seen, start) in seen.iter().zip(starts) {
        assert!(seen.starts_with(start), "{seen} {start}");
    }
    let diagnostics = drive.diagnostics();
    assert_eq!((diagnostics.sent, diagnostics.received), (4, 2));
}

#[tokio::test]
async fn a_body_that_stops_is_ended_by_the_idle_timeout() {
    let server = Server::except(|seen| {
        (seen.rpc() == "tools/call").then(|| open_events(&[": and then nothing\n\n"]))
    })
    .await;
    let idle = Duration::from_millis(200);
    let spec = HttpSpec::new(&server.url).with_read_idle_timeout(idle);
    let target = TransportSpec::Http(spec);
    let request = ConnectRequest::new("idle".parse().unwrap(), target);
    let mut drive = Drive::connected(request).await;
    drive.initialize().await;
    let error = drive.refused("tools/call", json!({})).await;
    assert_eq!(error.delivery(), Delivery::Unknown);
    assert!(error.to_string().contains("read_idle_timeout"), "{error}");
    assert!(drive.failure().is_none(), "{:?}", drive.failure());
}

#[tokio::test]
async fn a_handshake_that_is_only_accepted_is_no_handshake() {
    let server = Server::except(|seen| {
        (seen.rpc() == "initialize").then(|| StatusCode::ACCEPTED.into_response())
    })
    .await;
    let drive = Drive::open(&server.url).await;
    let error = drive.handshake("initialize", initialize_params()).await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Protocol);
}
