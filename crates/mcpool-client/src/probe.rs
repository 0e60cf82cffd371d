//! Finds out whether a server is alive, and never from a cache.
//!
//! Up to MCP 2025-11-25 the question is `ping`, from 2026-07-28 on `server/discover`. Healthy
//! servers are known that drop a `ping` in silence, so when half of the time is over `tools/list`
//! is asked as well. Any JSON-RPC answer, an error too, proves life.

use std::{pin::pin, time::Duration};

use futures::future::Either;
use mcpool_core::{
    Delivery, Error, ErrorKind, ProbeMethod, ProbeReport, Result,
    model::{ClientRequest, DiscoverRequest, DiscoverRequestParams, ListToolsRequest, PingRequest},
};
use tokio::time::Instant;

use crate::peer::{Ask, Peer};

pub(crate) async fn probe(peer: &Peer, timeout: Duration) -> Result<ProbeReport> {
    let started = Instant::now();
    let deadline = started + timeout.min(MAX);
    let (method, request) = if peer.shared.is_modern() {
        let request = DiscoverRequest::new(DiscoverRequestParams {});
        (ProbeMethod::Discover, request.into())
    } else {
        let request = PingRequest {
            method: Default::default(),
            extensions: Default::default(),
        };
        (ProbeMethod::Ping, request.into())
    };
    let mut first = pin!(ask(peer, request, method, started, deadline));
    if let Ok(outcome) = tokio::time::timeout(timeout / 2, &mut first).await {
        return outcome;
    }
    let list = ClientRequest::ListToolsRequest(ListToolsRequest::default());
    let second = pin!(ask(peer, list, ProbeMethod::ListTools, started, deadline));
    match futures::future::select(first, second).await {
        Either::Left((Ok(report), _)) | Either::Right((Ok(report), _)) => Ok(report),
        // Both end at the deadline, so the other one is not far.
        Either::Left((Err(_), other)) => other.await,
        Either::Right((Err(_), other)) => other.await,
    }
}

const MAX: Duration = Duration::from_secs(60 * 60);

async fn ask(
    peer: &Peer,
    request: ClientRequest,
    method: ProbeMethod,
    started: Instant,
    deadline: Instant,
) -> Result<ProbeReport> {
    match peer.ask(Ask::new(request).deadline(deadline).probe()).await {
        Ok(_) => {}
        // An error object, or an answer that the transport had to refuse: the server lives.
        Err(error) if error.delivery() == Delivery::Answered => {}
        Err(error) if error.kind() == ErrorKind::Timeout => {
            return Err(Error::new(
                ErrorKind::Timeout,
                format!(
                    "the server did not answer a probe within {:?}",
                    deadline - started
                ),
            ));
        }
        Err(error) => return Err(error),
    }
    Ok(ProbeReport::new(started.elapsed(), method))
}
