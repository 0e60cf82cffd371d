//! The layers of this crate, around real requests of a scripted server.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
    time::Duration,
};

use mcpool_client::{AuditLog, TimeoutCap};
use mcpool_core::{ErrorKind, Layered, Progress, RequestOptions, Verbs};
use serde_json::json;
use support::*;
use tokio::time::Instant;

#[tokio::test(start_paused = true)]
async fn a_cap_bounds_a_request_whatever_its_progress() {
    let (client, _) = connect_legacy(|mut end| async move {
        let call = end.expect("tools/call").await;
        let token = call["params"]["_meta"]["progressToken"].clone();
        for step in 0.. {
            tokio::time::sleep(Duration::from_secs(5)).await;
            end.notify(
                "notifications/progress",
                json!({"progressToken": token, "progress": step}),
            );
        }
    })
    .await;
    let capped = Layered::new(client, TimeoutCap::new(Duration::from_secs(20)));
    let options = RequestOptions::new().with_progress(|_: Progress| {});
    let begun = Instant::now();
    let error = capped
        .with_options(&options)
        .call_tool("slow", ())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!(begun.elapsed().as_secs(), 20);
}

/// What was logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn the_audit_has_one_line_for_each_request_and_no_arguments() {
    let (client, _) = connect_legacy(|mut end| async move {
        let call = end.expect("tools/call").await;
        end.reply(&call, json!({"content": [], "isError": true}));
        end.expect("tools/call").await;
        end.recv().await;
        end.recv().await;
    })
    .await;
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let guard = tracing::subscriber::set_default(subscriber);
    let audited = Layered::new(client, AuditLog::new());
    let secret = json!({"password": "canary"});
    audited.call_tool("a\u{202e}b", &secret).await.unwrap();
    let dropped = tokio::time::timeout(Duration::from_secs(1), audited.call_tool("slow", &secret));
    assert!(dropped.await.is_err());
    drop(guard);
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("mcpool::audit"))
        .collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(lines[0].contains(r"name=a\u{202e}b"), "{text}");
    assert!(lines[0].contains("outcome=\"tool_error\""), "{text}");
    assert!(lines[1].contains("outcome=\"cancelled\""), "{text}");
    assert!(lines[1].contains("elapsed_ms=1000"), "{text}");
    assert!(!text.contains("canary"), "{text}");
}
