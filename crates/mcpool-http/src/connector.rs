//! Opening a transport.

use async_trait::async_trait;
use mcpool_core::{
    ConnectRequest, Connector, Error, ErrorKind, Result, Transport, TransportKind, TransportSpec,
};
use mcpool_http_pool::{HttpPeer, HttpPool};

use crate::{link::Bounds, transport::HttpTransport};

/// Opens Streamable HTTP transports (MCP 2025-03-26 and later).
///
/// Opening one checks the spec and sends nothing: the first message makes the first connection.
/// Connections are taken from the pool and go back to it; they outlive the transport, up to the
/// pool's idle time-out.
///
/// What bounds what:
/// - a handshake (`initialize`, or the first `server/discover`) has the policy's `startup`
///   time-out, to the end of its answer; one that fails ends the transport;
/// - a message that is no request has the `request` time-out;
/// - a request ends when its send is dropped, when `notifications/cancelled` is sent for it, when
///   the transport ends, and as a backstop after `request_max`, or an hour if that is more;
/// - an event stream has no total time-out; a silence longer than the spec's `read_idle_timeout`
///   ends it;
/// - an answer over `limits.max_message_bytes` fails its request with [`ErrorKind::TooLarge`].
///
/// A lost session (404, or 400 where a server says so in words) is initialised anew and the
/// refused request repeated, as the specification wants; [`SESSION_RENEWED`](crate::SESSION_RENEWED)
/// tells. When a connection fails and no new one can be made, the transport ends.
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

#[async_trait]
impl Connector for HttpConnector {
    fn kind(&self) -> TransportKind {
        TransportKind::Http
    }

    async fn connect(&self, request: ConnectRequest) -> Result<Box<dyn Transport>> {
        open(&self.pool, &request).await.map_err(|error| {
            error
                .with_server(&request.spec.name)
                .with_operation("connect")
        })
    }
}

async fn open(pool: &HttpPool, request: &ConnectRequest) -> Result<Box<dyn Transport>> {
    let (TransportSpec::Http(http) | TransportSpec::Auto(http)) = &request.spec.transport else {
        return Err(Error::new(
            ErrorKind::InvalidSpec,
            format!(
                "the spec is for {}, not for Streamable HTTP",
                request.spec.transport.as_str()
            ),
        ));
    };
    let policy = &request.spec.policy;
    let bounds = Bounds::new(policy, http.read_idle_timeout);
    let peer = HttpPeer::new(pool, request, http).await?;
    let transport = HttpTransport::open(peer, bounds, policy.limits.max_in_flight).await?;
    Ok(Box::new(transport))
}
