//! A request that is dropped half-way does no harm, and its delivery is known exactly.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use mcpool_core::RequestClass;
use serde_json::json;

use crate::{
    Behavior,
    contract::{
        ContractTarget, Verdict, Violation,
        drive::{Drive, Heard, Recorder, ask, text, violated},
    },
    eventually,
    leaks::Marker,
};

/// Dropping a request that the server has notifies the server.
///
/// # Errors
/// The violation.
pub async fn dropping_a_request_cancels_it(target: &dyn ContractTarget) -> Verdict {
    let check = "dropping_a_request_cancels_it";
    let drive = Drive::connect(check, target).await?;
    for round in 1..=3 {
        let before = drive.seen("calls").await?;
        let hang = json!({"name": "hang", "arguments": {}});
        let hanging = ask(
            &*drive.transport,
            "tools/call",
            hang,
            RequestClass::Call,
            None,
        );
        tokio::select! {
            ended = hanging => return violated(check, format!("hang ended: {ended:?}")),
            reached = drive.until("calls", |calls, asked| calls > before + asked) => reached?,
        }
        drive
            .until("cancelled", |cancelled, _| cancelled >= round)
            .await?;
    }
    let echo = drive.call("echo", json!({"message": "and on"})).await?;
    if text(&echo) != "and on" {
        return violated(check, format!("after it: {echo}"));
    }
    Ok(())
}

/// `initialize` is never cancelled in words (MCP, "Cancellation").
///
/// # Errors
/// The violation.
pub async fn the_handshake_is_never_cancelled_in_words(target: &dyn ContractTarget) -> Verdict {
    let check = "the_handshake_is_never_cancelled_in_words";
    let behavior = Behavior::new().with(|behavior| behavior.answer_delay_ms = 500);
    let fixture = target.start(behavior).await;
    let connector = target.connector();
    let connect = connector.connect(fixture.request());
    let transport = match tokio::time::timeout(target.patience(), connect).await {
        Ok(Ok(transport)) => transport,
        other => return violated(check, format!("connect: {other:?}")),
    };
    let sink = Arc::new(Recorder::default());
    let hello = json!({
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "dropped", "version": "1"},
    });
    let asking = ask(
        &*transport,
        "initialize",
        hello,
        RequestClass::Handshake,
        Some(Arc::clone(&sink) as _),
    );
    let sent = || sink.heard().contains(&Heard::Sent);
    tokio::select! {
        // A relay answers by itself, at once: the request is dropped as soon as it was sent.
        biased;
        ended = asking => return violated(check, format!("it was not to be answered: {ended:?}")),
        in_time = eventually(target.patience(), sent) => if !in_time {
            return violated(check, "it was not sent");
        },
    }
    let drive = Drive {
        check,
        patience: target.patience(),
        transport,
        fixture,
    };
    drive.shake_hands().await?;
    let state = drive.call("state", json!({})).await?;
    let words = &state["structuredContent"]["methods"]["notifications/cancelled"];
    if !words.is_null() {
        return violated(check, format!("the server heard {words} cancellations"));
    }
    Ok(())
}

/// Requests that are dropped at every point leave their message sent or unsent, never half sent;
/// what was not said to be sent has not run and never will.
///
/// # Errors
/// The violation.
pub async fn dropped_requests_break_nothing(target: &dyn ContractTarget) -> Verdict {
    const ROUNDS: usize = 80;
    let check = "dropped_requests_break_nothing";
    let marker = Marker::new();
    let effects = marker.dir().join("effects");
    let file = effects.to_string_lossy().into_owned();
    let behavior = Behavior::new().with(|behavior| behavior.effects_file = Some(file));
    let fixture = target.start(behavior).await;
    let drive = Drive::connect_to(check, target, fixture).await?;
    let mut sent = BTreeMap::new();
    for round in 0..ROUNDS {
        let key = format!("key-{round}");
        let sink = Arc::new(Recorder::default());
        // A large one takes many writes, each a point to drop at.
        let padding = if round % 4 == 0 { 512 * 1024 } else { 10 };
        let arguments = json!({"key": key, "padding": "p".repeat(padding)});
        let params = json!({"name": "count", "arguments": arguments});
        let asking = ask(
            &*drive.transport,
            "tools/call",
            params,
            RequestClass::Call,
            Some(Arc::clone(&sink) as _),
        );
        drop_after(asking, round).await;
        sent.insert(key, sink.heard().contains(&Heard::Sent));
    }
    for _ in 0..10 {
        let echo = drive
            .call("echo", json!({"message": "still whole"}))
            .await?;
        if text(&echo) != "still whole" {
            return violated(check, format!("after dropped requests: {echo}"));
        }
    }
    drive.close(Duration::from_secs(10)).await?;
    drop(drive);
    let ran = std::fs::read_to_string(&effects).unwrap_or_default();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for key in ran.lines() {
        *counts.entry(key).or_default() += 1;
    }
    for (key, count) in counts {
        match sent.get(key) {
            None => return violated(check, format!("{key:?} was never asked")),
            Some(false) => return violated(check, format!("{key} ran and was not sent")),
            Some(true) if count > 1 => return violated(check, format!("{key} ran {count} times")),
            Some(true) => {}
        }
    }
    if sent.values().all(|sent| *sent) || !sent.values().any(|sent| *sent) {
        return violated(check, "nothing was checked: all were sent, or none");
    }
    Ok(())
}

/// Drops a future before its first poll, after so many polls, or after some time.
async fn drop_after(future: impl Future, round: usize) {
    let mut future = Box::pin(future);
    match round % 10 {
        polls @ 0..=5 => {
            for _ in 0..polls {
                if futures::poll!(future.as_mut()).is_ready() {
                    return;
                }
                tokio::task::yield_now().await;
            }
        }
        pause => {
            let pause = Duration::from_micros((pause * round * 25) as u64);
            let _ = tokio::time::timeout(pause, future).await;
        }
    }
}

impl Drive {
    /// How often the server has seen this.
    async fn seen(&self, what: &str) -> Result<u64, Violation> {
        let state = self.call("state", json!({})).await?;
        Ok(state["structuredContent"][what]
            .as_u64()
            .unwrap_or_default())
    }

    /// Asks the server until it has seen this often enough; gives how often it was asked for that.
    async fn until(&self, what: &str, enough: impl Fn(u64, u64) -> bool) -> Verdict {
        let since = tokio::time::Instant::now();
        for asked in 1.. {
            let seen = self.seen(what).await?;
            if enough(seen, asked) {
                break;
            }
            if since.elapsed() > self.patience {
                return violated(self.check, format!("{what} stay at {seen}"));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }
}
