//! A transport that is closed, dropped, or whose server dies: all ends in time, and nothing is left.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use mcpool_core::{ConnectRequest, Connector, Transport};
use serde_json::{Value, json};

use crate::{
    Behavior,
    contract::{
        ContractTarget, Footprint, RunningFixture, Verdict,
        drive::{AT_ONCE, Drive, PATIENCE, as_json, outgoing, request, tool_call, violated},
    },
    eventually, eventually_blocking, leaks,
};

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
    let fixture: Arc<dyn RunningFixture> = target.start(Behavior::new()).await.into();
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
    connector: Arc<dyn Connector>,
    connect_to: ConnectRequest,
    fixture: &dyn RunningFixture,
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
