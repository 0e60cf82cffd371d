//! The least that a gateway can do on tokio and hyper: it reads a body, gives the request an id of
//! its own, writes it to a server over stdio, and answers with what comes back under the caller's
//! id. No session, no access, no deadline, no cancellation, no bound.

use std::{convert::Infallible, net::SocketAddr, sync::Arc};

use http_body_util::{BodyExt as _, Full};
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    header::{CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::net::TcpListener;

use crate::{Outcome, tokio_limit::TokioLimit};

#[derive(Serialize, Deserialize)]
struct Asked<'a> {
    jsonrpc: &'a str,
    id: u64,
    method: &'a str,
    #[serde(borrow)]
    params: &'a RawValue,
}

#[derive(Serialize, Deserialize)]
struct Answered<'a> {
    jsonrpc: &'a str,
    id: u64,
    #[serde(borrow)]
    result: &'a RawValue,
}

/// Serves until it is killed; says its address on stdout.
pub(crate) fn serve() -> Outcome {
    // As many threads as the gateway has.
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let server = TokioLimit::start().await?;
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
        println!("{}", listener.local_addr()?);
        loop {
            let (socket, _) = listener.accept().await?;
            socket.set_nodelay(true)?;
            let server = Arc::clone(&server);
            tokio::spawn(async move {
                let service = service_fn(|request| respond(&server, request));
                // A client that goes away is no fault of the relay's.
                let _ = http1::Builder::new()
                    .serve_connection(TokioIo::new(socket), service)
                    .await;
            });
        }
    })
}

async fn respond(
    server: &TokioLimit,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let relayed = relay(server, request).await;
    let failed = relayed.is_err();
    let body = relayed.unwrap_or_else(|error| error.to_string());
    let mut response = Response::new(Full::new(Bytes::from(body)));
    if failed {
        *response.status_mut() = hyper::StatusCode::BAD_GATEWAY;
    }
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    Ok(response)
}

async fn relay(server: &TokioLimit, request: Request<Incoming>) -> Outcome<String> {
    let body = request.into_body().collect().await?.to_bytes();
    let mut asked: Asked<'_> = serde_json::from_slice(&body)?;
    let (callers, ours) = (asked.id, server.next_id());
    asked.id = ours;
    let mut line = serde_json::to_string(&asked)?;
    line.push('\n');
    let answer = server.exchange(ours, &line).await?;
    let mut answered: Answered<'_> = serde_json::from_str(&answer)?;
    answered.id = callers;
    Ok(serde_json::to_string(&answered)?)
}
