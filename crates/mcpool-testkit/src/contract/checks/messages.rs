//! What is sent arrives, whole and in order, both ways.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use mcpool_core::{Incoming, Notification, RequestClass};
use serde_json::{Value, json};

use crate::contract::{
    ContractTarget, Verdict, Violation,
    drive::{AT_ONCE, Drive, Heard, Recorder, ask, raw, text, violated},
};

/// A handshake, a list and a call go through; ids count up and are known before anything is sent; the
/// monitor counts.
///
/// # Errors
/// The violation.
pub async fn answers_a_call(target: &dyn ContractTarget) -> Verdict {
    let check = "answers_a_call";
    let drive = Drive::connect(check, target).await?;
    let listed = drive.ask("tools/list", json!({})).await?;
    if listed["tools"].as_array().is_none_or(Vec::is_empty) {
        return violated(check, format!("no tools: {listed}"));
    }
    let message = "hi, \u{1f980} \"quoted\"\nand a second line\r\n\u{2028}";
    let mut ids = Vec::new();
    for _ in 0..2 {
        let sink = Arc::new(Recorder::default());
        let params = json!({"name": "echo", "arguments": {"message": message}});
        let answer = drive.ask_with("tools/call", params, &sink).await?;
        if text(&answer) != message {
            return violated(check, format!("echo gave {answer}"));
        }
        let heard = sink.heard();
        let [Heard::Assigned(id), Heard::Sent] = heard[..] else {
            return violated(check, format!("the sink heard {heard:?}"));
        };
        ids.push(id);
    }
    if ids[0] >= ids[1] {
        return violated(check, format!("the ids do not count: {ids:?}"));
    }
    if drive.transport.is_closed() {
        return violated(check, "it says that it has ended");
    }
    let monitor = drive.transport.monitor();
    if let Some(failure) = monitor.failure() {
        return violated(
            check,
            format!("a live transport reports a failure: {failure}"),
        );
    }
    if monitor.kind() != target.connector().kind() {
        return violated(check, format!("it says that it is {}", monitor.kind()));
    }
    let counted = monitor.diagnostics();
    if counted.sent < 5 || counted.received < 4 {
        return violated(check, format!("the counters are wrong: {counted:?}"));
    }
    drive.close(AT_ONCE + Duration::from_secs(2)).await
}

/// A notification of the `sequence` that the server keeps.
fn numbered(number: u64) -> Notification {
    Notification::new(
        "notifications/sequence",
        Some(raw(&json!({"number": number}))),
    )
}

/// What the server has of the `sequence` is 0, 1, 2 …
async fn arrived_in_order(drive: &Drive, count: u64) -> Verdict {
    let state = drive.call("state", json!({})).await?;
    let arrived = &state["structuredContent"]["sequence"];
    let sent: Vec<u64> = (0..count).collect();
    if *arrived != json!(sent) {
        return violated(drive.check, format!("arrived as {arrived}"));
    }
    Ok(())
}

/// Messages that are sent one after the other arrive in that order.
///
/// # Errors
/// The violation.
pub async fn keeps_order_of_sends(target: &dyn ContractTarget) -> Verdict {
    const COUNT: u64 = 200;
    let check = "keeps_order_of_sends";
    if !target.passes_notifications() {
        return Ok(());
    }
    let drive = Drive::connect(check, target).await?;
    for number in 0..COUNT {
        drive.notify(&numbered(number)).await?;
    }
    arrived_in_order(&drive, COUNT).await
}

/// Messages that are begun one after the other arrive in that order, though nobody waits for the
/// end of one before the next is begun. Not asked of a carrier on which each message travels by
/// itself.
///
/// # Errors
/// The violation.
pub async fn keeps_order_of_concurrent_sends(target: &dyn ContractTarget) -> Verdict {
    const COUNT: u64 = 200;
    let check = "keeps_order_of_concurrent_sends";
    if !target.keeps_order() {
        return Ok(());
    }
    let drive = Drive::connect(check, target).await?;
    let notes: Vec<Notification> = (0..COUNT).map(numbered).collect();
    // They are polled in this order, all from one task.
    let sends = join_all(notes.iter().map(|note| drive.notify(note)));
    sends.await.into_iter().collect::<Result<Vec<()>, _>>()?;
    arrived_in_order(&drive, COUNT).await
}

/// Messages of the server are received in the order in which it sent them.
///
/// # Errors
/// The violation.
pub async fn keeps_order_of_receives(target: &dyn ContractTarget) -> Verdict {
    // The inbox holds as many notifications as this, so none is dropped.
    const COUNT: u64 = 200;
    let check = "keeps_order_of_receives";
    if !target.passes_notifications() {
        return Ok(());
    }
    let drive = Drive::connect(check, target).await?;
    let mut incoming = drive.incoming()?;
    drive.call("burst", json!({"count": COUNT})).await?;
    for expected in 0..COUNT {
        let number = loop {
            match tokio::time::timeout(drive.patience, incoming.next()).await {
                Ok(Some(Incoming::Notification(note))) if note.method == BURST => {
                    break params(note.params)["number"].as_u64();
                }
                Ok(Some(_)) => {}
                Ok(None) => return violated(check, "the connection ended"),
                Err(_) => return violated(check, format!("number {expected} did not come")),
            }
        };
        if number != Some(expected) {
            return violated(check, format!("instead of {expected} came {number:?}"));
        }
    }
    Ok(())
}

const BURST: &str = "notifications/burst";

fn params(raw: Option<mcpool_core::Raw>) -> Value {
    raw.and_then(|raw| raw.parse().ok()).unwrap_or_default()
}

/// A thousand requests that run at once, and are answered in another order, each get their own
/// answer.
///
/// # Errors
/// The violation.
pub async fn answers_a_thousand_out_of_order(target: &dyn ContractTarget) -> Verdict {
    const COUNT: usize = 1_000;
    const GROUP: usize = 25;
    let check = "answers_a_thousand_out_of_order";
    let drive = Drive::connect(check, target).await?;
    let mut calls = tokio::task::JoinSet::new();
    for number in 0..COUNT {
        let transport = Arc::clone(&drive.transport);
        let patience = drive.patience;
        calls.spawn(async move {
            let message = format!("message {number}");
            let arguments = json!({"count": GROUP, "message": message});
            let params = json!({"name": "gather", "arguments": arguments});
            let asking = ask(&*transport, "tools/call", params, RequestClass::Call, None);
            match tokio::time::timeout(patience, asking).await {
                Ok(Ok(answer)) if text(&answer) == message => Ok(()),
                Ok(Ok(answer)) => Err(format!("{message:?} got {answer}")),
                Ok(Err(error)) => Err(format!("{message:?}: {error}")),
                Err(_) => Err(format!("{message:?} was not answered")),
            }
        });
    }
    while let Some(called) = calls.join_next().await {
        match called {
            Ok(Ok(())) => {}
            Ok(Err(seen)) => return violated(check, seen),
            Err(error) => return violated(check, format!("a call: {error}")),
        }
    }
    Ok(())
}

/// Twenty megabytes go through in both directions.
///
/// # Errors
/// The violation.
pub async fn carries_large_messages(target: &dyn ContractTarget) -> Verdict {
    const SIZE: usize = 20 * 1024 * 1024;
    let check = "carries_large_messages";
    let drive = Drive::connect(check, target).await?;
    let message: String = ('a'..='z').cycle().take(SIZE).collect();
    let answer = drive.call("echo", json!({"message": message})).await?;
    if text(&answer) != message {
        let size = text(&answer).len();
        return violated(
            check,
            format!("{SIZE} bytes came back as {size}, or changed"),
        );
    }
    Ok(())
}

/// The server may notify, and ask, while a request runs; what it is answered reaches it, and what
/// it is asked is given once.
///
/// # Errors
/// The violation.
pub async fn passes_what_the_server_says_during_a_request(target: &dyn ContractTarget) -> Verdict {
    let check = "passes_what_the_server_says_during_a_request";
    let drive = Drive::connect(check, target).await?;
    let mut incoming = drive.incoming()?;
    if drive.transport.incoming().is_some() {
        return violated(check, "the inbox is given twice");
    }
    let log = json!({"level": "warning", "data": "careful"});
    drive.call("log", log).await?;
    let logged = drive
        .hear(&mut incoming, |said| match said {
            Incoming::Notification(note) if note.method == "notifications/message" => {
                Some(params(note.params))
            }
            _ => None,
        })
        .await?;
    if logged["data"] != "careful" {
        return violated(check, format!("the notification says {logged}"));
    }
    let answering = async {
        let asked = drive
            .hear(&mut incoming, |said| match said {
                Incoming::Request(request) => Some(request),
                _ => None,
            })
            .await?;
        if asked.method != "roots/list" {
            return violated(check, format!("it asks {}", asked.method));
        }
        let roots = json!({"roots": [{"uri": "file:///srv", "name": "srv"}]});
        let answered = drive.transport.respond(&asked, Ok(raw(&roots)));
        match tokio::time::timeout(drive.patience, answered).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => violated(check, format!("the answer was not sent: {error}")),
            Err(_) => violated(check, "the answer was not sent"),
        }
    };
    let asking = drive.call("ask", json!({"method": "roots/list"}));
    let (heard, answered) = tokio::join!(asking, answering);
    answered?;
    let heard = heard?;
    if heard["structuredContent"]["result"]["roots"][0]["uri"] != "file:///srv" {
        return violated(check, format!("the server heard {heard}"));
    }
    Ok(())
}

/// All that a server reports the progress of a request is heard, in order, before its answer,
/// though both come at once.
///
/// # Errors
/// The violation.
pub async fn tells_of_progress_before_the_answer(target: &dyn ContractTarget) -> Verdict {
    const STEPS: u32 = 50;
    let check = "tells_of_progress_before_the_answer";
    let drive = Drive::connect(check, target).await?;
    let wanted: Vec<Heard> = (1..=STEPS)
        .map(|step| Heard::Progress(f64::from(step)))
        .collect();
    for _ in 0..10 {
        let sink = Arc::new(Recorder::default());
        let arguments = json!({"steps": STEPS, "step_ms": 0});
        let params = json!({"name": "slow", "arguments": arguments});
        drive.ask_with("tools/call", params, &sink).await?;
        let heard = sink.heard();
        let progress = heard.get(2..).unwrap_or_default();
        let is_complete = progress == wanted || !target.keeps_progress();
        if !is_complete || !wanted.starts_with(progress) {
            return violated(check, format!("at the answer it had heard {heard:?}"));
        }
        drive.call("echo", json!({"message": "and"})).await?;
        if sink.heard() != heard {
            return violated(check, "progress came after the answer");
        }
    }
    Ok(())
}

impl Drive {
    async fn notify(&self, note: &Notification) -> Verdict {
        match tokio::time::timeout(self.patience, self.transport.notify(note)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => violated(self.check, format!("a notification failed: {error}")),
            Err(_) => violated(self.check, "a notification was not sent"),
        }
    }

    fn incoming(&self) -> Result<mcpool_core::Inbox, Violation> {
        match self.transport.incoming() {
            Some(inbox) => Ok(inbox),
            None => violated(self.check, "there is no inbox"),
        }
    }

    /// Waits for what the server says until it is the thing.
    async fn hear<T>(
        &self,
        incoming: &mut mcpool_core::Inbox,
        mut wanted: impl FnMut(Incoming) -> Option<T>,
    ) -> Result<T, Violation> {
        loop {
            match tokio::time::timeout(self.patience, incoming.next()).await {
                Ok(Some(said)) => {
                    if let Some(thing) = wanted(said) {
                        return Ok(thing);
                    }
                }
                Ok(None) => return violated(self.check, "the connection ended"),
                Err(_) => return violated(self.check, "what the server says does not come"),
            }
        }
    }
}
