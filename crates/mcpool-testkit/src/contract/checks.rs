//! The checks, each a rule of the contract. A check gives the first violation that it sees.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::FutureExt;
use mcpool_core::Transport;
use serde_json::{Value, json};

use super::{
    ContractTarget, Footprint, Verdict,
    drive::{AT_ONCE, Drive, PATIENCE, as_json, outgoing, request, text, tool_call, violated},
};
use crate::{Behavior, eventually, eventually_blocking, leaks};

/// A handshake, a list and a call go through, and the monitor counts them.
///
/// # Errors
/// The violation.
pub async fn answers_a_call(target: &dyn ContractTarget) -> Verdict {
    let check = "answers_a_call";
    let mut drive = Drive::connect(check, target).await?;
    drive.send(json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}));
    let listed = drive.receive_until(|message| message["id"] == 1).await?;
    let tools = listed.last().map_or(0, |answer| {
        answer["result"]["tools"].as_array().map_or(0, Vec::len)
    });
    if tools == 0 {
        return violated(check, format!("no tools: {listed:?}"));
    }
    let message = "hi, \u{1f980} \"quoted\"\nand a second line\r\n\u{2028}";
    let answer = drive.call(2, "echo", json!({"message": message})).await?;
    if answer.last().map(text) != Some(message) {
        return violated(check, format!("echo gave {answer:?}"));
    }
    drive.finish_sends().await?;
    let monitor = drive.transport.monitor();
    if let Some(failure) = monitor.failure() {
        return violated(
            check,
            format!("a live transport reports a failure: {failure}"),
        );
    }
    let counted = monitor.diagnostics();
    if counted.sent < 4 || counted.received < 3 {
        return violated(check, format!("the counters are wrong: {counted:?}"));
    }
    drive.close(AT_ONCE + Duration::from_secs(2)).await
}

/// Messages that are sent one after the other arrive in that order.
///
/// # Errors
/// The violation.
pub async fn keeps_order_of_sends(target: &dyn ContractTarget) -> Verdict {
    const COUNT: u64 = 200;
    let check = "keeps_order_of_sends";
    let mut drive = Drive::connect(check, target).await?;
    for number in 0..COUNT {
        drive
            .send_now(json!({
                "jsonrpc": "2.0",
                "method": "notifications/sequence",
                "params": {"number": number},
            }))
            .await?;
    }
    let answer = drive.call(1, "state", json!({})).await?;
    let arrived = answer
        .last()
        .map(|a| a["result"]["structuredContent"]["sequence"].clone());
    let sent: Vec<u64> = (0..COUNT).collect();
    if arrived != Some(json!(sent)) {
        return violated(check, format!("arrived as {arrived:?}"));
    }
    Ok(())
}

/// Messages of the server are received in the order in which it sent them.
///
/// # Errors
/// The violation.
pub async fn keeps_order_of_receives(target: &dyn ContractTarget) -> Verdict {
    let check = "keeps_order_of_receives";
    let mut drive = Drive::connect(check, target).await?;
    let seen = drive.call(1, "burst", json!({"count": 1000})).await?;
    in_order(check, &seen, 1000)
}

fn in_order(check: &'static str, seen: &[Value], count: u64) -> Verdict {
    let numbers: Vec<u64> = seen
        .iter()
        .filter(|message| message["method"] == "notifications/burst")
        .filter_map(|message| message["params"]["number"].as_u64())
        .collect();
    let expected: Vec<u64> = (0..count).collect();
    if numbers == expected {
        return Ok(());
    }
    let wrong = numbers.iter().zip(&expected).position(|(a, b)| a != b);
    violated(
        check,
        format!(
            "{} of {count} came; the first wrong one is {wrong:?}",
            numbers.len()
        ),
    )
}

/// A thousand sends that run at once are all carried, and each request gets its answer.
///
/// # Errors
/// The violation.
pub async fn sends_concurrently(target: &dyn ContractTarget) -> Verdict {
    const COUNT: u64 = 1000;
    let check = "sends_concurrently";
    let mut drive = Drive::connect(check, target).await?;
    for id in 1..=COUNT {
        drive.send(tool_call(
            id,
            "echo",
            json!({"message": format!("message {id}")}),
        ));
    }
    let mut open: BTreeSet<u64> = (1..=COUNT).collect();
    let mut wrong = None;
    drive
        .receive_until(|message| {
            if let Some(id) = message["id"].as_u64() {
                let twice = !open.remove(&id);
                if twice || text(message) != format!("message {id}") {
                    wrong = Some(message.clone());
                }
            }
            open.is_empty() || wrong.is_some()
        })
        .await?;
    if let Some(wrong) = wrong {
        return violated(check, format!("a wrong answer: {wrong}"));
    }
    drive.finish_sends().await
}

/// Twenty megabytes go through in both directions.
///
/// # Errors
/// The violation.
pub async fn carries_large_messages(target: &dyn ContractTarget) -> Verdict {
    const SIZE: usize = 20 * 1024 * 1024;
    let check = "carries_large_messages";
    let mut drive = Drive::connect(check, target).await?;
    let message: String = ('a'..='z').cycle().take(SIZE).collect();
    let answer = drive.call(1, "echo", json!({"message": message})).await?;
    if answer.last().map(text) != Some(message.as_str()) {
        let size = answer.last().map(|a| text(a).len());
        return violated(
            check,
            format!("{SIZE} bytes came back as {size:?}, or changed"),
        );
    }
    drive.finish_sends().await
}

/// The server may notify, and ask, while a call runs; the client's answer reaches it.
///
/// # Errors
/// The violation.
pub async fn passes_notifications_and_requests_of_the_server(
    target: &dyn ContractTarget,
) -> Verdict {
    let check = "passes_notifications_and_requests_of_the_server";
    let mut drive = Drive::connect(check, target).await?;
    let logged = drive
        .call(1, "log", json!({"level": "warning", "data": "careful"}))
        .await?;
    let log = logged
        .iter()
        .find(|message| message["method"] == "notifications/message");
    if log.is_none_or(|log| log["params"]["data"] != "careful") {
        return violated(check, format!("the notification did not come: {logged:?}"));
    }
    drive.send(tool_call(2, "ask", json!({"method": "roots/list"})));
    let asked = drive
        .receive_until(|message| message["method"] == "roots/list")
        .await?;
    let id = asked
        .last()
        .map(|request| request["id"].clone())
        .unwrap_or_default();
    let roots = json!({"roots": [{"uri": "file:///srv", "name": "srv"}]});
    drive
        .send_now(json!({"jsonrpc": "2.0", "id": id, "result": roots}))
        .await?;
    let answer = drive.receive_until(|message| message["id"] == 2).await?;
    let heard = answer
        .last()
        .map(|a| a["result"]["structuredContent"]["result"].clone());
    if heard.as_ref().map(|heard| &heard["roots"][0]["uri"]) != Some(&json!("file:///srv")) {
        return violated(check, format!("the server heard {heard:?}"));
    }
    drive.finish_sends().await
}

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

/// `close` may be called twice; after it nothing is received, nothing sent, nothing left.
///
/// # Errors
/// The violation.
pub async fn close_is_idempotent(target: &dyn ContractTarget) -> Verdict {
    let check = "close_is_idempotent";
    let mut drive = Drive::connect(check, target).await?;
    drive.call(1, "echo", json!({"message": "hi"})).await?;
    drive.finish_sends().await?;
    let bound = Duration::from_secs(2) + AT_ONCE;
    drive.close(bound).await?;
    drive.close(AT_ONCE).await?;
    if let Ok(Some(message)) = tokio::time::timeout(AT_ONCE, drive.transport.receive()).await {
        return violated(
            check,
            format!("received after close: {:?}", as_json(&message)),
        );
    }
    match tokio::time::timeout(AT_ONCE, drive.transport.receive()).await {
        Ok(None) => {}
        Ok(Some(_)) => return violated(check, "received after close"),
        Err(_) => return violated(check, "receive after close does not end"),
    }
    let send = drive
        .transport
        .send(outgoing(tool_call(2, "echo", json!({}))));
    match tokio::time::timeout(AT_ONCE, send).await {
        Ok(Err(_)) => {}
        Ok(Ok(())) => return violated(check, "a send after close was good"),
        Err(_) => return violated(check, "a send after close does not end"),
    }
    if let Some(failure) = drive.transport.monitor().failure() {
        return violated(
            check,
            format!("an orderly close reports a failure: {failure}"),
        );
    }
    let fixture = drive.fixture;
    if let Some(left) = fixture.footprint()
        && left.processes > 0
    {
        return violated(check, format!("after close {left:?} are left"));
    }
    Ok(())
}

/// `close` keeps to the shutdown policy's bound while sends are stuck because the server does
/// not read, and the sends end.
///
/// # Errors
/// The violation.
pub async fn close_is_bounded_while_a_send_is_stuck(target: &dyn ContractTarget) -> Verdict {
    let check = "close_is_bounded_while_a_send_is_stuck";
    let mut drive = Drive::connect(check, target).await?;
    drive.call(1, "stop_reading", json!({})).await?;
    drive.finish_sends().await?;
    let large = "z".repeat(4 * 1024 * 1024);
    for id in 2..6 {
        drive.send(tool_call(id, "echo", json!({"message": large})));
    }
    // At least one must be stuck, or the check shows nothing.
    let all_sent = async { while drive.sends.join_next().await.is_some() {} };
    if tokio::time::timeout(Duration::from_millis(500), all_sent)
        .await
        .is_ok()
    {
        return violated(check, "every send ended although the server does not read");
    }
    drive.close(Duration::from_secs(2) + AT_ONCE).await?;
    drive.close(AT_ONCE).await?;
    loop {
        match tokio::time::timeout(AT_ONCE, drive.sends.join_next()).await {
            Ok(None) => break,
            Ok(Some(Ok((_, Err(_))))) => {}
            Ok(Some(Ok((id, Ok(()))))) => {
                return violated(check, format!("the stuck send of {id} ended as good"));
            }
            Ok(Some(Err(error))) => return violated(check, format!("a send: {error}")),
            Err(_) => return violated(check, "a stuck send did not end with close"),
        }
    }
    if let Some(left) = drive.fixture.footprint()
        && left.processes > 0
    {
        return violated(check, format!("after close {left:?} are left"));
    }
    Ok(())
}

/// When the server dies, every pending call ends at once, and the transport says why.
///
/// # Errors
/// The violation.
pub async fn death_ends_everything(target: &dyn ContractTarget) -> Verdict {
    let check = "death_ends_everything";
    let mut drive = Drive::connect(check, target).await?;
    drive.call(1, "echo", json!({"message": "alive"})).await?;
    for id in 2..5_u64 {
        drive.send(tool_call(id, "hang", json!({})));
    }
    // The server has them when it says so.
    let asked = tokio::time::Instant::now();
    loop {
        if asked.elapsed() > PATIENCE {
            return violated(check, "the calls did not reach the server");
        }
        let answer = drive.call(100, "state", json!({})).await?;
        let calls = answer
            .last()
            .and_then(|a| a["result"]["structuredContent"]["most_running"].as_u64());
        if calls >= Some(4) {
            break;
        }
    }
    let mut open: BTreeSet<u64> = (2..5).collect();
    drive.fixture.kill();
    let killed = tokio::time::Instant::now();
    let mut ended = false;
    let mut sending = true;
    while !open.is_empty() && !ended {
        let event = tokio::time::timeout_at(killed + AT_ONCE, async {
            tokio::select! {
                received = drive.transport.receive() => {
                    Event::Received(received.as_ref().map(as_json))
                }
                sent = drive.sends.join_next(), if sending => Event::Sent(sent),
            }
        });
        match event.await {
            Err(_) => return violated(check, format!("calls {open:?} hang after the death")),
            Ok(Event::Received(None)) => ended = true,
            Ok(Event::Received(Some(message))) => {
                if let Some(id) = message["id"].as_u64() {
                    open.remove(&id);
                    if message.get("error").is_none() && (2..5).contains(&id) {
                        return violated(check, format!("an answer from the dead: {message}"));
                    }
                }
            }
            Ok(Event::Sent(None)) => sending = false,
            Ok(Event::Sent(Some(Ok((id, Err(_)))))) => {
                open.remove(&id.as_u64().unwrap_or_default());
            }
            Ok(Event::Sent(Some(_))) => {}
        }
    }
    // Sends that are still pending end as well.
    let all_sent = async { while drive.sends.join_next().await.is_some() {} };
    if tokio::time::timeout(AT_ONCE, all_sent).await.is_err() {
        return violated(check, "a send hangs after the death");
    }
    let send = drive
        .transport
        .send(outgoing(tool_call(200, "echo", json!({"message": "hi"}))));
    let refused = match tokio::time::timeout(AT_ONCE, send).await {
        Err(_) => return violated(check, "a send after the death hangs"),
        Ok(sent) => sent.is_err(),
    };
    if ended && !refused {
        return violated(check, "a send after the end of the connection was good");
    }
    if !refused && drive.transport.monitor().failure().is_none() {
        return violated(check, "nothing says that the connection failed");
    }
    drive.close(Duration::from_secs(2) + AT_ONCE).await
}

enum Event {
    Received(Option<Value>),
    Sent(Option<std::result::Result<(Value, mcpool_core::Result<()>), tokio::task::JoinError>>),
}

/// Dropping a transport in the middle of its work leaves no task, socket, pipe, process.
///
/// # Errors
/// The violation.
pub async fn drop_leaves_nothing(target: &dyn ContractTarget) -> Verdict {
    let check = "drop_leaves_nothing";
    let fixture = target.start(Behavior::new()).await;
    let tasks_before = leaks::task_count();
    let mut fixture = Some(fixture);
    for round in 0..3 {
        let Some(running) = fixture.take() else { break };
        let mut drive = Drive::connect_to(check, target, running).await?;
        drive.call(1, "echo", json!({"message": "hi"})).await?;
        if drive.fixture.footprint().is_some_and(Footprint::is_nothing) {
            return violated(check, "the fixture sees no connection: nothing is checked");
        }
        drive.send(tool_call(2, "hang", json!({})));
        if round > 0 {
            drive.call(3, "echo", json!({"message": "hi"})).await?;
        }
        if round > 1 {
            let large = "w".repeat(2 * 1024 * 1024);
            drive.send(tool_call(4, "echo", json!({"message": large})));
            tokio::task::yield_now().await;
        }
        drop(drive.transport);
        // A send that outlives its transport must end, with an error or not.
        let sends = async { while drive.sends.join_next().await.is_some() {} };
        if tokio::time::timeout(AT_ONCE, sends).await.is_err() {
            return violated(check, "a send outlives the transport for ever");
        }
        let gone = || drive.fixture.footprint().is_none_or(Footprint::is_nothing);
        if !eventually(AT_ONCE, gone).await {
            let left = drive.fixture.footprint();
            return violated(check, format!("round {round}: {left:?} left after drop"));
        }
        if !eventually(AT_ONCE, || leaks::task_count() <= tasks_before).await {
            let now = leaks::task_count();
            return violated(
                check,
                format!("round {round}: {tasks_before} tasks became {now}"),
            );
        }
        fixture = Some(drive.fixture);
    }
    Ok(())
}

/// Dropping a transport after its runtime has ended leaves nothing, and does not panic.
///
/// # Errors
/// The violation.
pub async fn drop_outside_a_runtime_leaves_nothing(target: &dyn ContractTarget) -> Verdict {
    let check = "drop_outside_a_runtime_leaves_nothing";
    let fixture: Arc<dyn super::RunningFixture> = target.start(Behavior::new()).await.into();
    let connector = target.connector();
    let connect_to = request(fixture.as_ref());
    let (report, reported) = tokio::sync::oneshot::channel();
    let seen = Arc::clone(&fixture);
    let thread = std::thread::spawn(move || {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            drop_after_its_runtime(check, connector, connect_to, seen.as_ref())
        }));
        let outcome = outcome.unwrap_or_else(|_| violated(check, "dropping panicked"));
        let _ = report.send(outcome);
    });
    let outcome = tokio::time::timeout(PATIENCE, reported).await;
    match outcome {
        Ok(Ok(outcome)) => {
            let _ = thread.join();
            outcome
        }
        _ => violated(check, "dropping outside a runtime does not end"),
    }
}

fn drop_after_its_runtime(
    check: &'static str,
    connector: Arc<dyn mcpool_core::Connector>,
    connect_to: mcpool_core::ConnectRequest,
    fixture: &dyn super::RunningFixture,
) -> Verdict {
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return violated(check, error.to_string()),
    };
    let connected = runtime.block_on(async {
        let mut transport: Box<dyn Transport> = match connector.connect(connect_to).await {
            Ok(transport) => transport,
            Err(error) => return violated(check, format!("connect: {error}")),
        };
        let hello = outgoing(json!({
            "jsonrpc": "2.0",
            "id": 0,
            "method": "initialize",
            "params": {
                "protocolVersion": "2025-11-25",
                "capabilities": {},
                "clientInfo": {"name": "contract", "version": "1"},
            },
        }));
        let sent = tokio::spawn(transport.send(hello));
        match tokio::time::timeout(PATIENCE, transport.receive()).await {
            Ok(Some(_)) => {}
            _ => return violated(check, "no answer to initialize"),
        }
        let _ = sent.await;
        // A send whose future lives on, polled once, when the runtime is gone.
        let large = "v".repeat(4 * 1024 * 1024);
        let mut pending = transport.send(outgoing(tool_call(1, "echo", json!({"message": large}))));
        let _ = futures::poll!(pending.as_mut());
        Ok((transport, pending))
    });
    let (transport, pending) = connected?;
    if fixture.footprint().is_some_and(Footprint::is_nothing) {
        return violated(check, "the fixture sees no connection: nothing is checked");
    }
    runtime.shutdown_timeout(Duration::from_secs(5));
    drop(transport);
    drop(pending);
    drop(connector);
    let gone = || fixture.footprint().is_none_or(Footprint::is_nothing);
    if !eventually_blocking(AT_ONCE, gone) {
        return violated(check, format!("{:?} left", fixture.footprint()));
    }
    Ok(())
}
