//! The server dies, the connection breaks, the runtime goes: what waits ends at once, with the
//! reason and with what is known of it.

use std::{sync::Arc, time::Duration};

use mcpool_core::{Delivery, Error, ErrorKind, Recovery, RequestClass, Transport};
use serde_json::json;

use crate::{
    Behavior,
    contract::{
        ContractTarget, RunningFixture, Verdict,
        drive::{AT_ONCE, Answer, Drive, ask, handshake, request, violated},
    },
};

fn hang(transport: &Arc<dyn Transport>) -> tokio::task::JoinHandle<Answer> {
    let transport = Arc::clone(transport);
    tokio::spawn(async move {
        let hang = json!({"name": "hang", "arguments": {}});
        ask(&*transport, "tools/call", hang, RequestClass::Call, None).await
    })
}

/// An error that says that the connection is gone, and not that somebody closed it.
fn is_loss(error: &Error) -> bool {
    error.recovery() == Recovery::Reconnect
        && !matches!(error.kind(), ErrorKind::Closed | ErrorKind::Internal)
}

/// When the server dies, every pending request ends at once as lost and unknown, whatever is asked
/// afterwards fails as not sent or rejected, and the transport says why.
///
/// # Errors
/// The violation.
pub async fn death_ends_everything(target: &dyn ContractTarget) -> Verdict {
    let check = "death_ends_everything";
    let drive = Drive::connect(check, target).await?;
    let mut incoming = drive.transport.incoming();
    let hanging: Vec<_> = (0..3).map(|_| hang(&drive.transport)).collect();
    // The server has them when it says so.
    let asked = tokio::time::Instant::now();
    loop {
        if asked.elapsed() > drive.patience {
            return violated(check, "the calls did not reach the server");
        }
        let state = drive.call("state", json!({})).await?;
        if state["structuredContent"]["most_running"].as_u64() >= Some(4) {
            break;
        }
    }
    drive.fixture.kill();
    let killed = tokio::time::Instant::now();
    for hanging in hanging {
        match tokio::time::timeout_at(killed + AT_ONCE, hanging).await {
            Err(_) => return violated(check, "a request hangs after the death"),
            Ok(Err(error)) => return violated(check, format!("a request: {error}")),
            Ok(Ok(Ok(answer))) => {
                return violated(check, format!("an answer from the dead: {answer}"));
            }
            Ok(Ok(Err(error))) if !is_loss(&error) || error.delivery() != Delivery::Unknown => {
                return violated(check, format!("a request ended with {error:?}"));
            }
            Ok(Ok(Err(_))) => {}
        }
    }
    let echo = json!({"name": "echo", "arguments": {}});
    let refused = drive.failure("tools/call", echo, AT_ONCE).await?;
    if !is_loss(&refused) {
        return violated(check, format!("a request after the death: {refused:?}"));
    }
    if target.has_connection() {
        // It may meet the end on its way: a relay says then that it did not take it.
        if !matches!(refused.delivery(), Delivery::NotSent | Delivery::Rejected) {
            return violated(check, format!("after the end it was sent: {refused:?}"));
        }
        let closed = tokio::time::timeout(AT_ONCE, drive.transport.closed()).await;
        let reason = match closed {
            Ok(Some(reason)) if is_loss(&reason) => reason,
            other => return violated(check, format!("the end is reported as {other:?}")),
        };
        if !drive.transport.is_closed() {
            return violated(check, "it says that it lives");
        }
        match drive.transport.monitor().failure() {
            Some(failure) if failure.kind() == reason.kind() => {}
            other => return violated(check, format!("the monitor says {other:?}")),
        }
        if let Some(incoming) = &mut incoming {
            let rest = async { while incoming.next().await.is_some() {} };
            if tokio::time::timeout(AT_ONCE, rest).await.is_err() {
                return violated(check, "the inbox does not end");
            }
        }
    }
    drive.close(Duration::from_secs(2) + AT_ONCE).await
}

/// A connection that breaks in the middle of an answer loses that answer: it may have run.
///
/// # Errors
/// The violation.
pub async fn a_broken_answer_fails_its_request(target: &dyn ContractTarget) -> Verdict {
    let check = "a_broken_answer_fails_its_request";
    let drive = Drive::connect(check, target).await?;
    let tear = json!({"name": "tear", "arguments": {}});
    let error = drive.failure("tools/call", tear, AT_ONCE).await?;
    if !is_loss(&error) || error.delivery() != Delivery::Unknown {
        return violated(check, format!("it ended with {error:?}"));
    }
    Ok(())
}

/// When the runtime of the connect is gone, what waits elsewhere ends at once, and so does what is
/// asked afterwards.
///
/// # Errors
/// The violation.
pub async fn requests_end_with_their_runtime(target: &dyn ContractTarget) -> Verdict {
    let check = "requests_end_with_their_runtime";
    let fixture: Arc<dyn RunningFixture> = target.start(Behavior::new()).await.into();
    let connector = target.connector();
    let connect_to = request(fixture.as_ref());
    let (connected, connects) = tokio::sync::oneshot::channel();
    let (end, ends) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| error.to_string());
        let transport = runtime.as_ref().map_err(Clone::clone).and_then(|runtime| {
            runtime.block_on(async {
                let connect = connector.connect(connect_to);
                let transport = connect.await.map_err(|error| error.to_string())?;
                let shaken = handshake(&*transport).await;
                shaken.map_err(|error| error.to_string())?;
                Ok(transport)
            })
        });
        let _ = connected.send(transport);
        if let Ok(runtime) = runtime {
            // It is driven until it goes.
            runtime.block_on(async {
                while let Err(std::sync::mpsc::TryRecvError::Empty) = ends.try_recv() {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            });
        }
    });
    let transport = match tokio::time::timeout(target.patience(), connects).await {
        Ok(Ok(Ok(transport))) => transport,
        Ok(Ok(Err(error))) => return violated(check, format!("connect: {error}")),
        _ => return violated(check, "connect did not end"),
    };
    let waiting = hang(&transport);
    let reached = crate::eventually(target.patience(), || {
        transport.monitor().diagnostics().sent >= 3
    });
    if !reached.await {
        return violated(check, "the request was not sent");
    }
    drop(end);
    let joined = tokio::task::spawn_blocking(move || thread.join()).await;
    if !matches!(joined, Ok(Ok(()))) {
        return violated(check, "the runtime did not end");
    }
    let late = {
        let transport = Arc::clone(&transport);
        tokio::spawn(async move {
            let echo = json!({"name": "echo", "arguments": {}});
            ask(&*transport, "tools/call", echo, RequestClass::Call, None).await
        })
    };
    for (which, request) in [("a pending", waiting), ("a late", late)] {
        match tokio::time::timeout(AT_ONCE, request).await {
            Ok(Ok(Err(error))) if error.kind() != ErrorKind::Rpc => {}
            Ok(other) => return violated(check, format!("{which} request: {other:?}")),
            Err(_) => return violated(check, format!("{which} request hangs")),
        }
    }
    let closed = tokio::time::timeout(Duration::from_secs(2) + AT_ONCE, transport.close()).await;
    if closed.is_err() {
        return violated(check, "close hangs");
    }
    Ok(())
}
