//! The trace of a client: passed on to servers, and with spans of the gateway's own where those are
//! recorded.

use mcpool_testkit::Era;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::{Served, status, tool_call};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";

fn parent() -> String {
    format!("00-{TRACE}-{SPAN}-01")
}

/// The `traceparent` of the last call that the fixture got, in its body and in its headers.
fn traced(served: &Served) -> (String, String) {
    let requests = served.servers[0].requests();
    let call = requests.iter().rfind(|seen| seen.rpc == "tools/call");
    let call = call.unwrap();
    let body: Value = serde_json::from_str(&call.body).unwrap();
    let inside = body["params"]["_meta"]["traceparent"].as_str().unwrap();
    let header = call.headers["traceparent"].to_str().unwrap();
    (inside.to_owned(), header.to_owned())
}

#[tokio::test]
async fn the_trace_of_a_client_reaches_the_server() {
    for era in [Era::Legacy, Era::Modern] {
        let served = Served::one(era).await;
        let session = served.token("/mcp", "").await;
        let call = tool_call(1, "files__echo", json!({"message": "hi"}));
        let by_header = served
            .post("/mcp", "", &call)
            .header("traceparent", parent());
        let mut inside = call.clone();
        inside["params"]["_meta"] = json!({"traceparent": parent()});
        let by_meta = served.post("/mcp", "", &inside);
        for request in [by_header, by_meta] {
            let request = request.header("mcp-session-id", &session);
            assert_eq!(status(request).await, StatusCode::OK);
            let (inside, header) = traced(&served);
            assert_eq!(inside, header);
            assert!(inside.starts_with(&format!("00-{TRACE}-")), "{inside}");
            // Where spans are recorded, another test of this process may record them.
            if cfg!(not(feature = "otel")) {
                assert_eq!(inside, parent());
            }
        }
    }
}

#[cfg(feature = "otel")]
mod recorded {
    use std::sync::{Arc, Mutex};

    use axum::{Router, body::Bytes, extract::State, routing::post};
    use mcpool_gateway::Traces;
    use tokio::net::TcpListener;
    use tokio_util::task::AbortOnDropHandle;

    use super::*;

    /// What a collector got of a span.
    #[derive(Debug, Default)]
    struct Span {
        trace: String,
        id: String,
        parent: String,
        name: String,
        /// Its whole encoding, for words that must be in it.
        text: String,
    }

    /// The fields of a message of Protocol Buffers that have a length: number and content.
    fn fields(mut bytes: &[u8]) -> Vec<(u64, &[u8])> {
        fn varint(bytes: &mut &[u8]) -> u64 {
            let mut value = 0;
            for shift in (0..64).step_by(7) {
                let (byte, rest) = bytes.split_first().unwrap();
                *bytes = rest;
                value |= u64::from(byte & 0x7f) << shift;
                if byte & 0x80 == 0 {
                    break;
                }
            }
            value
        }
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let key = varint(&mut bytes);
            let skipped = match key & 7 {
                0 => {
                    varint(&mut bytes);
                    0
                }
                1 => 8,
                5 => 4,
                _ => {
                    let length = usize::try_from(varint(&mut bytes)).unwrap();
                    fields.push((key >> 3, &bytes[..length]));
                    length
                }
            };
            bytes = &bytes[skipped..];
        }
        fields
    }

    fn of<'a>(bytes: &'a [u8], number: u64) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let fields = fields(bytes).into_iter();
        fields
            .filter(move |field| field.0 == number)
            .map(|field| field.1)
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The spans of an `ExportTraceServiceRequest` (opentelemetry-proto, `trace.proto`).
    fn spans(body: &[u8]) -> Vec<Span> {
        let mut spans = Vec::new();
        for resource in of(body, 1) {
            for scope in of(resource, 2) {
                for span in of(scope, 2) {
                    let field = |number| of(span, number).next().unwrap_or_default().to_vec();
                    spans.push(Span {
                        trace: hex(&field(1)),
                        id: hex(&field(2)),
                        parent: hex(&field(4)),
                        name: String::from_utf8(field(5)).unwrap(),
                        text: String::from_utf8_lossy(span).into_owned(),
                    });
                }
            }
        }
        spans
    }

    type Bodies = Arc<Mutex<Vec<Bytes>>>;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_span_of_the_gateway_stands_between_client_and_server() {
        let bodies = Bodies::default();
        let take = async |State(bodies): State<Bodies>, body: Bytes| {
            bodies.lock().unwrap().push(body);
        };
        let router = Router::new()
            .route("/v1/traces", post(take))
            .with_state(Arc::clone(&bodies));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let collector = format!("http://{}", listener.local_addr().unwrap());
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let _serving = AbortOnDropHandle::new(serving);
        let traces = Traces::export_to(&collector).unwrap();

        let served = Served::one(Era::Legacy).await;
        let session = served.token("/mcp", "").await;
        let mut told = Vec::new();
        for (tool, header) in [("files__echo", true), ("files__fail", false)] {
            let mut call = tool_call(1, tool, json!({"message": "hi"}));
            if !header {
                call["params"]["_meta"] = json!({"traceparent": parent()});
            }
            let mut request = served
                .post("/mcp", "", &call)
                .header("mcp-session-id", &session);
            if header {
                request = request.header("traceparent", parent());
            }
            assert_eq!(status(request).await, StatusCode::OK);
            let (inside, header) = traced(&served);
            assert_eq!(inside, header);
            let own = inside.split('-').nth(2).unwrap().to_owned();
            assert_eq!(inside, format!("00-{TRACE}-{own}-01"));
            assert_ne!(own, SPAN);
            told.push((tool, own));
        }
        traces.shutdown().await;
        let bodies = bodies.lock().unwrap();
        let spans: Vec<Span> = bodies.iter().flat_map(|body| spans(body)).collect();
        for (tool, id) in told {
            let span = spans.iter().find(|span| span.id == id);
            let span = span.unwrap_or_else(|| panic!("{id} in {spans:?}"));
            assert_eq!((&*span.trace, &*span.parent), (TRACE, SPAN), "{span:?}");
            let own_name = tool.strip_prefix("files__").unwrap();
            assert_eq!(span.name, format!("tools/call {own_name}"));
            let outcome = if own_name == "fail" {
                "tool_error"
            } else {
                "good"
            };
            for word in ["mcpool.server", "files", "gen_ai.tool.name", outcome] {
                assert!(span.text.contains(word), "{word}: {span:?}");
            }
        }
        for wrong in ["", "localhost:4318", "ftp://h/"] {
            assert!(Traces::export_to(wrong).is_err(), "{wrong}");
        }
    }
}
