//! Opening the event stream.

use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use mcpool_core::{
    ConnectRequest, Connector, Error, ErrorKind, Result, Transport, TransportKind, TransportSpec,
};
use mcpool_http_pool::{
    EventLines, HttpPeer, HttpPool, PeerRequest, drain,
    reqwest::{
        Method, Response,
        header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, HeaderValue},
    },
    status_error,
};
use tokio::time::timeout;

use crate::{
    endpoint,
    stream::{Events, events},
    transport::SseTransport,
};

/// The longest wait for the stream's head and then for its endpoint event. Servers send both at
/// once; a fallback from Streamable HTTP must be told apart from a slow server in time.
const ENDPOINT_TIMEOUT: Duration = Duration::from_secs(10);

/// Opens legacy HTTP+SSE connections (MCP 2024-11-05, "HTTP with SSE").
///
/// A connect is over when the server has said where to POST. It takes at most the spec's
/// `connect_timeout`, 10 s for the stream's head, and 10 s for the `endpoint` event, each cut to
/// the policy's `startup` time-out. An open stream has no total time-out; a silence longer than
/// the spec's `read_idle_timeout` ends it, and so does an event over `limits.max_message_bytes`.
///
/// Errors of `connect`:
/// - [`ErrorKind::InvalidSpec`]: the URL, a header, the CA file or the proxy is wrong;
/// - [`ErrorKind::Connect`]: nobody answers there;
/// - [`ErrorKind::AuthRequired`], [`ErrorKind::Forbidden`], [`ErrorKind::RateLimited`],
///   [`ErrorKind::HttpStatus`]: the GET was answered so;
/// - [`ErrorKind::Protocol`]: the answer is no event stream, does not begin with an `endpoint`
///   event, or the endpoint is on another origin;
/// - [`ErrorKind::Timeout`]: the head or the endpoint event did not come in time.
#[derive(Clone, Debug)]
pub struct SseConnector {
    pool: HttpPool,
}

impl SseConnector {
    /// A connector on this pool.
    #[must_use]
    pub fn new(pool: HttpPool) -> Self {
        Self { pool }
    }
}

#[async_trait]
impl Connector for SseConnector {
    fn kind(&self) -> TransportKind {
        TransportKind::Sse
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
    let (TransportSpec::Sse(http) | TransportSpec::Auto(http)) = &request.spec.transport else {
        return Err(Error::new(
            ErrorKind::InvalidSpec,
            format!(
                "the spec is for {}, not for legacy SSE",
                request.spec.transport.as_str()
            ),
        ));
    };
    let policy = &request.spec.policy;
    let patience = ENDPOINT_TIMEOUT.min(policy.timeouts.startup);
    let peer = HttpPeer::new(pool, request, http).await?;
    let get = PeerRequest::new(Method::GET, peer.url().clone())
        .with_header(ACCEPT, HeaderValue::from_static("text/event-stream"))
        .with_header(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let response = within(
        patience.saturating_add(http.connect_timeout),
        "the server did not answer the GET of the event stream",
        peer.send(get),
    )
    .await??;
    let response = check_head(response).await?;
    let lines = EventLines::new(
        response,
        policy.limits.max_message_bytes,
        http.read_idle_timeout,
    );
    let mut events = events(lines);
    let url = within(
        patience,
        "the server opened the event stream, but sent no endpoint event",
        first_endpoint(&peer, &mut events),
    )
    .await??;
    tracing::debug!(server = %peer.server(), transport = "sse", "event stream open");
    Ok(Box::new(SseTransport::new(peer, url, policy, events)))
}

async fn within<T>(patience: Duration, what: &str, work: impl Future<Output = T>) -> Result<T> {
    timeout(patience, work)
        .await
        .map_err(|_| Error::new(ErrorKind::Timeout, format!("{what} within {patience:?}")))
}

async fn check_head(response: Response) -> Result<Response> {
    let status = response.status();
    if !status.is_success() {
        let error = status_error(status, response.headers());
        drain(response).await;
        return Err(match status.as_u16() {
            404..=406 => {
                let message = format!(
                    "there is no event stream at this URL (HTTP {}): it is not the URL of a \
                     legacy HTTP+SSE server",
                    status.as_u16()
                );
                error.wrap(ErrorKind::HttpStatus, message)
            }
            _ => error,
        });
    }
    let content_type = response
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or("no content type");
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    if media_type.eq_ignore_ascii_case("text/event-stream") {
        return Ok(response);
    }
    let error = Error::new(
        ErrorKind::Protocol,
        format!(
            "the server answered the GET with {media_type:?} (HTTP {}) and not with an event \
             stream: it is not the URL of a legacy HTTP+SSE server",
            status.as_u16()
        ),
    )
    .with_http_status(status.as_u16());
    drain(response).await;
    Err(error)
}

async fn first_endpoint(peer: &HttpPeer, events: &mut Events) -> Result<url::Url> {
    match events.next().await {
        Some(Ok(event)) if event.event == "endpoint" => endpoint::resolve(peer.url(), &event.data),
        Some(Ok(event)) => Err(Error::new(
            ErrorKind::Protocol,
            format!(
                "the first event of the stream is {:?} and not \"endpoint\": the server does \
                 not speak HTTP+SSE of MCP 2024-11-05",
                event.event.chars().take(40).collect::<String>()
            ),
        )),
        Some(Err(error)) => Err(error),
        None => Err(Error::new(
            ErrorKind::Protocol,
            "the server ended the event stream without an endpoint event",
        )),
    }
}
