//! A future that is dropped half-way does no harm.

use std::{collections::BTreeSet, time::Duration};

use futures::FutureExt;
use serde_json::json;

use super::in_order;
use crate::contract::{
    ContractTarget, Verdict,
    drive::{Drive, PATIENCE, as_json, outgoing, text, tool_call, violated},
};

/// Dropping the future of `receive`, at any point, under load, loses nothing.
///
/// # Errors
/// The violation.
pub async fn receive_is_cancel_safe(target: &dyn ContractTarget) -> Verdict {
    const COUNT: u64 = 2000;
    let check = "receive_is_cancel_safe";
    let mut drive = Drive::connect(check, target).await?;
    // A large answer first: it is received in many reads, each a point to drop at.
    let large = "x".repeat(3 * 1024 * 1024);
    drive.send(tool_call(1, "echo", json!({"message": large})));
    drive.send(tool_call(2, "burst", json!({"count": COUNT})));
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let mut seen = Vec::new();
    let mut dropped = 0_u64;
    let mut attempt = 0_u64;
    let mut open = BTreeSet::from([1, 2]);
    while !open.is_empty() {
        if tokio::time::Instant::now() > deadline {
            let count = seen.len();
            return violated(
                check,
                format!("answers {open:?} are missing after {count} messages and {dropped} drops"),
            );
        }
        attempt += 1;
        let received = match attempt % 3 {
            0 => drive.transport.receive().now_or_never(),
            1 => {
                let pause = Duration::from_micros(attempt % 11 * 37);
                tokio::time::timeout(pause, drive.transport.receive())
                    .await
                    .ok()
            }
            _ => {
                let yields = attempt % 5;
                tokio::select! {
                    biased;
                    received = drive.transport.receive() => Some(received),
                    () = yield_times(yields) => None,
                }
            }
        };
        match received {
            None => {
                dropped += 1;
                tokio::task::yield_now().await;
            }
            Some(None) => return violated(check, "the connection ended"),
            Some(Some(message)) => {
                let message = as_json(&message);
                if let Some(id) = message["id"].as_u64() {
                    open.remove(&id);
                    if id == 1 && text(&message) != large {
                        return violated(check, "the large answer is damaged");
                    }
                }
                seen.push(message);
            }
        }
    }
    if dropped == 0 {
        return violated(check, "no receive was ever pending: nothing was checked");
    }
    in_order(check, &seen, COUNT)?;
    drive.finish_sends().await
}

async fn yield_times(count: u64) {
    for _ in 0..count {
        tokio::task::yield_now().await;
    }
}

/// A send whose future is dropped leaves the message sent or unsent, never half sent.
///
/// # Errors
/// The violation.
pub async fn dropped_sends_break_nothing(target: &dyn ContractTarget) -> Verdict {
    let check = "dropped_sends_break_nothing";
    let mut drive = Drive::connect(check, target).await?;
    let large = "y".repeat(1024 * 1024);
    for id in 1..=20_u64 {
        let message = outgoing(tool_call(id, "length", json!({"message": large})));
        let send = drive.transport.send(message);
        // Dropped after no poll, one poll, or some time.
        match id % 4 {
            0 => drop(send),
            1 => drop(send.now_or_never()),
            pause => {
                let pause = Duration::from_micros(pause * id * 50);
                let _ = tokio::time::timeout(pause, send).await;
            }
        }
    }
    // What was sent after them must arrive whole. Answers to the others may come or not.
    for id in 100..110 {
        let answer = drive
            .call(id, "echo", json!({"message": "still whole"}))
            .await?;
        if answer.last().map(text) != Some("still whole") {
            return violated(check, format!("after dropped sends: {answer:?}"));
        }
        let length = large.len().to_string();
        let damaged = answer.iter().find(|answer| {
            answer["id"].as_u64().is_some_and(|id| id <= 20) && text(answer) != length
        });
        if let Some(damaged) = damaged {
            return violated(check, format!("a message arrived damaged: {damaged}"));
        }
    }
    drive.finish_sends().await
}
