//! Opening the event stream.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use mcpool_core::{
    ConnectRequest, Connector, Error, ErrorKind, Result, Transport, TransportKind, TransportSpec,
    Untrusted,
};
use mcpool_duplex::Duplex;
use mcpool_http_pool::{
    Events, HttpPeer, HttpPool, PeerRequest, Response, StreamItem, drain,
    http::{
        Method,
        header::{ACCEPT, CACHE_CONTROL, HeaderValue},
    },
    read_refusal, refusal_error,
};
use tokio::{sync::mpsc, time::timeout};

use crate::{
    endpoint,
    post::{SseWriter, media_type},
    stream::{EventReader, SseReader},
};

/// The longest wait for the stream's head and then for its endpoint event. Servers send both at
/// once; a fallback from Streamable HTTP must be distinguished from a slow server in time.
const ENDPOINT_TIMEOUT: Duration = Duration::from_secs(10);
/// Messages from the answers of POSTs that may wait to be read; more wait in their sockets.
const ANSWERS: usize = 64;

/// Opens legacy HTTP+SSE connections (MCP 2024-11-05, "HTTP with SSE").
///
/// A connect is over when the server has said where to POST. It takes at most the spec's
/// `connect_timeout`, 10 s for the stream's head, and 10 s for the `endpoint` event; events before
/// that one are skipped. An open stream has no total timeout; a silence longer than the spec's
/// `read_idle_timeout` ends it.
///
/// Errors of `connect`:
/// - [`ErrorKind::InvalidSpec`]: the URL, a header, the CA file or the proxy is wrong;
/// - [`ErrorKind::Connect`]: nobody answers there;
/// - [`ErrorKind::AuthRequired`], [`ErrorKind::Forbidden`], [`ErrorKind::RateLimited`],
///   [`ErrorKind::HttpStatus`]: the GET was answered so;
/// - [`ErrorKind::Protocol`]: the answer is no event stream, ends before an `endpoint` event, or
///   the endpoint is on another origin;
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

    async fn connect(&self, request: ConnectRequest) -> Result<Arc<dyn Transport>> {
        open(&self.pool, &request)
            .await
            .map_err(|error| error.with_server(&request.server).with_operation("connect"))
    }
}

async fn open(pool: &HttpPool, request: &ConnectRequest) -> Result<Arc<dyn Transport>> {
    let (TransportSpec::Sse(http) | TransportSpec::Auto(http)) = &*request.target else {
        return Err(Error::new(
            ErrorKind::InvalidSpec,
            format!(
                "the spec is for {}, not for legacy SSE",
                request.target.as_str()
            ),
        ));
    };
    let peer = HttpPeer::new(pool, request, http).await?;
    let get = PeerRequest::new(Method::GET, peer.url().clone())
        .with_header(ACCEPT, HeaderValue::from_static("text/event-stream"))
        .with_header(CACHE_CONTROL, HeaderValue::from_static("no-store"))
        .with_repeatable(true);
    let response = within(
        ENDPOINT_TIMEOUT.saturating_add(http.connect_timeout),
        "the server did not answer the GET of the event stream",
        peer.send(&get),
    )
    .await??;
    let response = check_head(response).await?;
    let limit = request.limits.max_message_bytes;
    let mut events = Events::new(response, limit, http.read_idle_timeout);
    let url = within(
        ENDPOINT_TIMEOUT,
        "the server opened the event stream, but sent no endpoint event",
        first_endpoint(&peer, &mut events),
    )
    .await??;
    tracing::debug!(server = %peer.server(), transport = "sse", "event stream open");
    let (sender, answers) = mpsc::channel(ANSWERS);
    let reader = SseReader::new(EventReader::new(events, limit), answers);
    let writer = SseWriter::new(peer, url, limit, sender);
    let duplex = Duplex::new(request, TransportKind::Sse, reader, writer)?;
    Ok(Arc::new(duplex))
}

async fn within<T>(patience: Duration, what: &str, work: impl Future<Output = T>) -> Result<T> {
    timeout(patience, work)
        .await
        .map_err(|_| Error::new(ErrorKind::Timeout, format!("{what} within {patience:?}")))
}

async fn check_head(response: Response) -> Result<Response> {
    let status = response.status();
    if !status.is_success() {
        let headers = response.headers().clone();
        let body = read_refusal(response).await.unwrap_or_default();
        let error = refusal_error(status, &headers, &String::from_utf8_lossy(&body));
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
    let media_type = media_type(&response);
    if media_type == "text/event-stream" {
        return Ok(response);
    }
    let error = Error::new(
        ErrorKind::Protocol,
        format!(
            "the server answered the GET with {} (HTTP {}) and not with an event stream: it is \
             not the URL of a legacy HTTP+SSE server",
            match &*media_type {
                "" => "no content type".to_owned(),
                media_type => Untrusted::line(media_type).clip(40).quoted().to_string(),
            },
            status.as_u16()
        ),
    )
    .with_http_status(status.as_u16());
    drain(response).await;
    Err(error)
}

/// Waits for the endpoint. Servers send other events before it, so that the stream is flushed.
async fn first_endpoint(peer: &HttpPeer, events: &mut Events) -> Result<url::Url> {
    let mut other = None;
    loop {
        match events.next().await {
            Some(Ok(StreamItem::Event(event))) if event.kind == "endpoint" => {
                return endpoint::resolve(peer.url(), &event.data);
            }
            Some(Ok(StreamItem::Event(event))) => {
                other.get_or_insert(event.kind);
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(error),
            None => {
                let came = other.map_or_else(String::new, |kind| {
                    format!(
                        " (its first event is {})",
                        Untrusted::line(kind).clip(40).quoted()
                    )
                });
                return Err(Error::new(
                    ErrorKind::Protocol,
                    format!(
                        "the server ended the event stream without an endpoint event{came}: it \
                         does not speak HTTP+SSE of MCP 2024-11-05"
                    ),
                ));
            }
        }
    }
}
