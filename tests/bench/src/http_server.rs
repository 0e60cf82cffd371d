//! A Streamable HTTP server that does as little as a server can: reads a body, answers it.

use std::{convert::Infallible, net::SocketAddr};

use http_body_util::{BodyExt as _, Full};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::{
    Outcome,
    stdio_server::{Asked, answer},
};

/// Serves until it is killed; says its address on stdout.
pub(crate) fn serve() -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
        println!("{}", listener.local_addr()?);
        loop {
            let (socket, _) = listener.accept().await?;
            socket.set_nodelay(true)?;
            tokio::spawn(async move {
                // A client that goes away is no fault of the server's.
                let _ = http1::Builder::new()
                    .serve_connection(TokioIo::new(socket), service_fn(respond))
                    .await;
            });
        }
    })
}

async fn respond(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let status = |status| {
        let mut response = Response::new(Full::default());
        *response.status_mut() = status;
        response
    };
    if request.method() != Method::POST {
        return Ok(status(StatusCode::METHOD_NOT_ALLOWED));
    }
    let in_events = request.uri().path() == "/events";
    let Ok(body) = request.into_body().collect().await else {
        return Ok(status(StatusCode::BAD_REQUEST));
    };
    let body = body.to_bytes();
    let Ok(asked) = serde_json::from_slice::<Asked<'_>>(&body) else {
        return Ok(status(StatusCode::BAD_REQUEST));
    };
    match answer(&asked) {
        Some(answer) => {
            let (kind, answer) = match in_events {
                true => ("text/event-stream", format!("data: {answer}\n\n")),
                false => ("application/json", answer),
            };
            let mut response = Response::new(Full::new(Bytes::from(answer)));
            response
                .headers_mut()
                .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
            Ok(response)
        }
        None => Ok(status(StatusCode::ACCEPTED)),
    }
}
