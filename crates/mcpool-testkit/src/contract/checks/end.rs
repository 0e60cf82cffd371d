//! A transport that is closed or dropped: all ends in time, and nothing is left.

use std::{sync::Arc, time::Duration};

use mcpool_core::{ConnectRequest, Connector, Delivery, ErrorKind, RequestClass, Transport};
use serde_json::{Value, json};

use crate::{
    Behavior,
    contract::{
        ContractTarget, Footprint, RunningFixture, Verdict,
        drive::{AT_ONCE, Answer, Drive, ask, handshake, request, violated},
    },
    eventually, eventually_blocking, leaks,
};

fn call(
    transport: &Arc<dyn Transport>,
    tool: &str,
    arguments: Value,
) -> impl Future<Output = Answer> + Send + use<> {
    let transport = Arc::clone(transport);
    let params = json!({"name": tool, "arguments": arguments});
    async move { ask(&*transport, "tools/call", params, RequestClass::Call, None).await }
}

/// `close` may be called twice and at the same time; what is in flight ends as closed and unknown;
/// after it nothing is received, nothing sent, nothing left.
///
/// # Errors
/// The violation.
pub async fn close_is_idempotent(target: &dyn ContractTarget) -> Verdict {
    let check = "close_is_idempotent";
    let drive = Drive::connect(check, target).await?;
    let mut incoming = drive.transport.incoming();
    let hanging = tokio::spawn(call(&drive.transport, "hang", json!({})));
    let sent = || drive.transport.monitor().diagnostics().sent >= 3;
    if !eventually(drive.patience, sent).await {
        return violated(check, "the request was not sent");
    }
    let bound = Duration::from_secs(2) + AT_ONCE;
    let (first, second) = tokio::join!(drive.close(bound), drive.close(bound));
    first.and(second)?;
    drive.close(AT_ONCE).await?;
    match tokio::time::timeout(AT_ONCE, hanging).await {
        Ok(Ok(Err(error)))
            if (error.kind(), error.delivery()) == (ErrorKind::Closed, Delivery::Unknown) => {}
        Ok(other) => return violated(check, format!("what was in flight ended as {other:?}")),
        Err(_) => return violated(check, "what was in flight does not end"),
    }
    if let Some(incoming) = &mut incoming {
        let rest = async { while incoming.next().await.is_some() {} };
        if tokio::time::timeout(AT_ONCE, rest).await.is_err() {
            return violated(check, "the inbox does not end");
        }
    }
    let echo = json!({"name": "echo", "arguments": {}});
    let error = drive.failure("tools/call", echo, AT_ONCE).await?;
    if (error.kind(), error.delivery()) != (ErrorKind::Closed, Delivery::NotSent) {
        return violated(check, format!("a request after close: {error:?}"));
    }
    match tokio::time::timeout(AT_ONCE, drive.transport.closed()).await {
        Ok(None) => {}
        other => return violated(check, format!("an orderly close is reported as {other:?}")),
    }
    if !drive.transport.is_closed() {
        return violated(check, "it says that it lives");
    }
    if let Some(failure) = drive.transport.monitor().failure() {
        return violated(
            check,
            format!("an orderly close reports a failure: {failure}"),
        );
    }
    no_process_is_left(check, drive.fixture.as_ref())
}

fn no_process_is_left(check: &'static str, fixture: &dyn RunningFixture) -> Verdict {
    match fixture.footprint() {
        Some(left) if left.processes > 0 => {
            violated(check, format!("after close {left:?} are left"))
        }
        _ => Ok(()),
    }
}

/// `close` keeps to the shutdown policy's bound while requests are stuck because the server does
/// not read, and the requests end.
///
/// # Errors
/// The violation.
pub async fn close_is_bounded_while_a_send_is_stuck(target: &dyn ContractTarget) -> Verdict {
    let check = "close_is_bounded_while_a_send_is_stuck";
    let drive = Drive::connect(check, target).await?;
    drive.call("stop_reading", json!({})).await?;
    let large = "z".repeat(4 * 1024 * 1024);
    let mut stuck = tokio::task::JoinSet::new();
    for _ in 0..4 {
        stuck.spawn(call(&drive.transport, "echo", json!({"message": large})));
    }
    // A server may read one or two more before it stops. At least one must be stuck, or the check
    // shows nothing.
    let all_answered = async { while stuck.join_next().await.is_some() {} };
    if tokio::time::timeout(Duration::from_millis(500), all_answered)
        .await
        .is_ok()
    {
        return violated(
            check,
            "every request ended although the server does not read",
        );
    }
    drive.close(Duration::from_secs(2) + AT_ONCE).await?;
    drive.close(AT_ONCE).await?;
    let mut closed = 0;
    loop {
        match tokio::time::timeout(AT_ONCE, stuck.join_next()).await {
            Ok(None) => break,
            Ok(Some(Ok(Err(error)))) if error.kind() == ErrorKind::Closed => closed += 1,
            // One of those that it read before it stopped, on a busy machine.
            Ok(Some(Ok(Ok(_)))) => {}
            Ok(Some(other)) => return violated(check, format!("a stuck request: {other:?}")),
            Err(_) => return violated(check, "a stuck request did not end with close"),
        }
    }
    if closed == 0 {
        return violated(check, "no request was stuck");
    }
    no_process_is_left(check, drive.fixture.as_ref())
}

/// Dropping a transport in the middle of its work leaves no task, socket, pipe, process.
///
/// # Errors
/// The violation.
pub async fn drop_leaves_nothing(target: &dyn ContractTarget) -> Verdict {
    let check = "drop_leaves_nothing";
    let mut fixture = target.start(Behavior::new()).await;
    let tasks_before = leaks::task_count();
    for round in 0..3 {
        let drive = Drive::connect_to(check, target, fixture).await?;
        drive.call("echo", json!({"message": "hi"})).await?;
        if drive.fixture.footprint().is_some_and(Footprint::is_nothing) {
            return violated(check, "the fixture sees no connection: nothing is checked");
        }
        let mut pending = vec![tokio::spawn(call(&drive.transport, "hang", json!({})))];
        if round > 0 {
            drive.call("echo", json!({"message": "hi"})).await?;
        }
        if round > 1 {
            let large = json!({"message": "w".repeat(2 * 1024 * 1024)});
            pending.push(tokio::spawn(call(&drive.transport, "echo", large)));
            tokio::task::yield_now().await;
        }
        // Each holds a reference, of which the last is dropped by its task.
        for pending in &pending {
            pending.abort();
        }
        drop(drive.transport);
        for pending in pending {
            let _ = pending.await;
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
        fixture = drive.fixture;
    }
    Ok(())
}

/// Dropping a transport leaves nothing, and does not panic, when its runtime has ended and when
/// nobody drives it any more.
///
/// # Errors
/// The violation.
pub async fn drop_outside_a_runtime_leaves_nothing(target: &dyn ContractTarget) -> Verdict {
    let check = "drop_outside_a_runtime_leaves_nothing";
    for ended in [true, false] {
        let fixture: Arc<dyn RunningFixture> = target.start(Behavior::new()).await.into();
        let connector = target.connector();
        let connect_to = request(fixture.as_ref());
        let (report, reported) = tokio::sync::oneshot::channel();
        let thread = std::thread::spawn(move || {
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                drop_without_its_runtime(check, connector, connect_to, fixture.as_ref(), ended)
            }));
            let outcome = outcome.unwrap_or_else(|_| violated(check, "dropping panicked"));
            let _ = report.send(outcome);
        });
        match tokio::time::timeout(target.patience(), reported).await {
            Ok(Ok(outcome)) => {
                let _ = thread.join();
                outcome?;
            }
            _ => return violated(check, "dropping outside a runtime does not end"),
        }
    }
    Ok(())
}

fn drop_without_its_runtime(
    check: &'static str,
    connector: Arc<dyn Connector>,
    connect_to: ConnectRequest,
    fixture: &dyn RunningFixture,
    ended: bool,
) -> Verdict {
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return violated(check, error.to_string()),
    };
    let connected = runtime.block_on(async {
        let transport = match connector.connect(connect_to).await {
            Ok(transport) => transport,
            Err(error) => return violated(check, format!("connect: {error}")),
        };
        if let Err(error) = handshake(&*transport).await {
            return violated(check, format!("the handshake: {error}"));
        }
        // A request whose future lives on, polled once, when the runtime is gone.
        let large = json!({"message": "v".repeat(4 * 1024 * 1024)});
        let mut pending = Box::pin(call(&transport, "echo", large));
        let _ = futures::poll!(pending.as_mut());
        Ok((transport, pending))
    });
    let (transport, pending) = connected?;
    if fixture.footprint().is_some_and(Footprint::is_nothing) {
        return violated(check, "the fixture sees no connection: nothing is checked");
    }
    let mut runtime = Some(runtime);
    if ended && let Some(runtime) = runtime.take() {
        runtime.shutdown_timeout(Duration::from_secs(5));
    }
    drop(transport);
    drop(pending);
    drop(connector);
    // What a pool of sockets holds is its runtime's, and goes with it.
    let gone =
        |footprint: Footprint| footprint.is_nothing() || (!ended && footprint.processes == 0);
    if !eventually_blocking(AT_ONCE, || fixture.footprint().is_none_or(gone)) {
        let how = if ended { "has ended" } else { "stands still" };
        return violated(
            check,
            format!("the runtime {how}: {:?} left", fixture.footprint()),
        );
    }
    Ok(())
}
