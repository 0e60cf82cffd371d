//! Opening a transport.

use std::sync::Arc;

use async_trait::async_trait;
use mcpool_core::{
    ConnectRequest, Connector, Error, ErrorKind, Result, Transport, TransportKind, TransportSpec,
};
use mcpool_http_pool::{HttpPeer, HttpPool};
use tokio::runtime::Handle;

use crate::{link::Bounds, transport::HttpTransport};

/// Opens Streamable HTTP transports (MCP 2025-03-26 and later).
///
/// Opening one checks the spec and sends nothing: the first message makes the first connection.
/// Connections are taken from the pool and go back to it; they are closed with the last transport
/// that uses them, and while one lives after the pool's idle timeout.
///
/// What bounds what:
/// - a request has no timeout here: dropping it ends it;
/// - a notification, and an answer to a request of the server, must be accepted within 30 s; a
///   server that asks and does not take the answer loses the connection;
/// - an event stream has no total timeout; a silence longer than the spec's `read_idle_timeout`
///   ends it, as it does any other body;
/// - an answer over `limits.max_message_bytes` fails its request with [`ErrorKind::TooLarge`];
/// - at most 256 exchanges that nobody waits for run at once: cancellations, refusals of what the
///   server asks too much of;
/// - a close takes at most the shutdown policy's `total`.
///
/// A lost session is begun again once for all requests, within 30 s: 404, 410, or any refusal that
/// says so in words, or two refusals in a row that say nothing. The log level and the resource
/// subscriptions that the session held are set up again, then the refused request is sent once
/// more, and [`Incoming::SessionRenewed`](mcpool_core::Incoming::SessionRenewed) says so. When a
/// connection fails and no new one can be made, the transport ends.
///
/// With [`ConnectRequest::fresh`], and after each broken connection, idle connections to the
/// server are closed and not used.
#[derive(Clone, Debug)]
pub struct HttpConnector {
    pool: HttpPool,
}

impl HttpConnector {
    /// A connector on this pool.
    #[must_use]
    pub fn new(pool: HttpPool) -> Self {
        Self { pool }
    }
}

impl Default for HttpConnector {
    /// A connector on the pool of the process.
    fn default() -> Self {
        Self::new(HttpPool::shared())
    }
}

#[async_trait]
impl Connector for HttpConnector {
    fn kind(&self) -> TransportKind {
        TransportKind::Http
    }

    async fn connect(&self, request: ConnectRequest) -> Result<Arc<dyn Transport>> {
        open(&self.pool, &request)
            .await
            .map_err(|error| error.with_server(&request.server).with_operation("connect"))
    }
}

async fn open(pool: &HttpPool, request: &ConnectRequest) -> Result<Arc<dyn Transport>> {
    let (TransportSpec::Http(http) | TransportSpec::Auto(http)) = &*request.target else {
        return Err(Error::new(
            ErrorKind::InvalidSpec,
            format!(
                "the spec is for {}, not for Streamable HTTP",
                request.target.as_str()
            ),
        ));
    };
    let runtime = Handle::try_current().map_err(|error| {
        Error::new(
            ErrorKind::Internal,
            "an HTTP connection was made outside a tokio runtime",
        )
        .with_source(error.to_string())
    })?;
    let bounds = Bounds::new(request, http.read_idle_timeout);
    let peer = HttpPeer::new(pool, request, http).await?;
    let transport = HttpTransport::open(peer, bounds, runtime, request.tap.clone());
    Ok(Arc::new(transport))
}
