//! Finds out whether a server is alive, and never from a cache.
//!
//! Up to MCP 2025-11-25 the question is `ping`, from 2026-07-28 on `server/discover`. Only what a
//! living session answers is a sign of life: a result, or that there is no such method. Healthy
//! servers are known that drop a `ping` in silence, or refuse it; so `tools/list` is asked as
//! well, at once when the first question was refused, else when half of the time is over.

use std::{pin::pin, time::Duration};

use futures::future::Either;
use mcpool_core::{
    Delivery, Error, ErrorKind, ProbeMethod, ProbeReport, Result, RpcError, WireRequest,
};
use tokio::time::Instant;

use crate::{
    clock::{Clock, add},
    link::{Ask, Link, no_runtime},
};

pub(crate) async fn probe(link: &Link, timeout: Duration) -> Result<ProbeReport> {
    if tokio::runtime::Handle::try_current().is_err() {
        return Err(no_runtime().with_server(&link.server));
    }
    let started = Instant::now();
    let deadline = add(started, timeout);
    let (method, name) = if link.is_modern() {
        (ProbeMethod::Discover, "server/discover")
    } else {
        (ProbeMethod::Ping, "ping")
    };
    let mut first = pin!(ask(link, name, method, started, deadline));
    let early = tokio::time::timeout_at(add(started, timeout / 2), &mut first).await;
    let list = ask(
        link,
        "tools/list",
        ProbeMethod::ListTools,
        started,
        deadline,
    );
    match early {
        Ok(Ok(report)) => Ok(report),
        Ok(Err(error))
            if error.delivery() == Delivery::Answered || error.http_status().is_some() =>
        {
            // What was said to the question itself says more than the answer to the other.
            list.await.map_err(|_| error)
        }
        Ok(Err(error)) => Err(error),
        Err(_) => {
            let second = pin!(list);
            match futures::future::select(first, second).await {
                Either::Left((Ok(report), _)) | Either::Right((Ok(report), _)) => Ok(report),
                // Both end at the deadline, so the other one is not far.
                Either::Left((Err(_), other)) => other.await,
                Either::Right((Err(_), other)) => other.await,
            }
        }
    }
}

async fn ask(
    link: &Link,
    name: &'static str,
    method: ProbeMethod,
    started: Instant,
    deadline: Instant,
) -> Result<ProbeReport> {
    let meta = link.meta(None);
    let wire = WireRequest::new(name, None)
        .with_meta(meta.as_deref())
        .with_version(link.version());
    let mut ask = Ask::new(wire);
    ask.quiet = true;
    match link.ask(ask, &Clock::until(deadline), name).await {
        Ok(_) => {}
        Err(error) if is_unknown_method(&error) => {}
        Err(error) if error.kind() == ErrorKind::Timeout => {
            let waited = started.elapsed();
            return Err(error.wrap(
                ErrorKind::Timeout,
                format!("the server did not answer a probe within {waited:?}"),
            ));
        }
        Err(error) => return Err(error),
    }
    Ok(ProbeReport::new(started.elapsed(), method))
}

/// A server that knows its methods lives.
fn is_unknown_method(error: &Error) -> bool {
    error
        .rpc()
        .is_some_and(|rpc| rpc.code == RpcError::METHOD_NOT_FOUND)
}
