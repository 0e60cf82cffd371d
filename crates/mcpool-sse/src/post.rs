//! The half that writes: each message is a POST of its own, with an outcome of its own.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use async_trait::async_trait;
use futures::future::BoxFuture;
use mcpool_core::{
    Delivery, Error, ErrorKind, Message, ParsedLine, ResponseId, Result, RpcError, parse_line,
};
use mcpool_duplex::{Departure, Outgoing, WriteError, WriteHalf};
use mcpool_http_pool::{
    Events, HttpPeer, PeerRequest, Response,
    http::{
        Method, StatusCode,
        header::{ACCEPT, CONTENT_TYPE, HeaderValue},
    },
    read_capped, read_refusal, refusal_error, says_lost_session,
};
use tokio::{
    runtime::Handle,
    sync::{Semaphore, mpsc},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::stream::{EventReader, Said};

/// How long a message that waits for no answer may take: nobody else bounds it.
const MESSAGE_TIME: Duration = Duration::from_secs(30);
/// How long a POST may go on after its caller is gone, and how many do.
const LEFT_TIME: Duration = Duration::from_secs(10);
const MAX_LEFT: usize = 256;
/// Event streams in the answers of POSTs that are read at once.
const MAX_STREAMS: usize = 64;
/// How long the body of an answer may pause.
const BODY_PAUSE: Duration = Duration::from_secs(30);

type Posted = std::result::Result<(), WriteError>;

/// POSTs the messages of one connection.
pub(crate) struct SseWriter(Arc<PostSide>);

struct PostSide {
    peer: HttpPeer,
    endpoint: Url,
    limit: usize,
    /// Takes what came in answers.
    answers: mpsc::Sender<Said>,
    streams: Arc<Semaphore>,
    runtime: Handle,
    left: AtomicUsize,
    /// Whether the last answer was that the session is not known.
    unknown_session: AtomicBool,
    /// Cancelled when the connection is closed or dropped.
    closed: CancellationToken,
}

impl SseWriter {
    /// Needs a runtime.
    pub(crate) fn new(
        peer: HttpPeer,
        endpoint: Url,
        limit: usize,
        answers: mpsc::Sender<Said>,
    ) -> Self {
        Self(Arc::new(PostSide {
            peer,
            endpoint,
            limit,
            answers,
            streams: Arc::new(Semaphore::new(MAX_STREAMS)),
            runtime: Handle::current(),
            left: AtomicUsize::new(0),
            unknown_session: AtomicBool::new(false),
            closed: CancellationToken::new(),
        }))
    }
}

#[async_trait]
impl WriteHalf for SseWriter {
    async fn write(&self, message: Outgoing) -> Posted {
        let shared = &self.0;
        let bounded = !message.awaits_answer();
        let (text, departure) = message.split();
        let posting = Posting {
            post: Some(Box::pin(post(Arc::clone(shared), text, departure.clone()))),
            departure: departure.clone(),
            shared: Arc::clone(shared),
        };
        let posted = async {
            if !bounded {
                return posting.await;
            }
            timeout(MESSAGE_TIME, posting).await.unwrap_or_else(|_| {
                let message =
                    format!("the server did not take the message within {MESSAGE_TIME:?}");
                let error = Error::new(ErrorKind::Timeout, message);
                Err(WriteError::alone(error.with_delivery(Delivery::Unknown)))
            })
        };
        tokio::select! {
            biased;
            posted = posted => posted,
            () = shared.closed.cancelled() => Err(WriteError::closed(departure.delivery())),
        }
    }

    async fn close(&self) -> Result<()> {
        self.0.closed.cancel();
        Ok(())
    }

    fn abandon(&self) {
        self.0.closed.cancel();
    }
}

/// A POST on its caller's task. When its caller is gone before anything was sent, so is the POST;
/// else it is finished on the runtime of the connection, so that the message is whole and its
/// socket can be used again.
struct Posting {
    /// `None` once it has ended.
    post: Option<BoxFuture<'static, Posted>>,
    departure: Departure,
    shared: Arc<PostSide>,
}

impl Future for Posting {
    type Output = Posted;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Posted> {
        let Some(post) = &mut self.post else {
            return Poll::Pending;
        };
        let posted = std::task::ready!(post.as_mut().poll(cx));
        self.post = None;
        Poll::Ready(posted)
    }
}

impl Drop for Posting {
    fn drop(&mut self) {
        let Some(post) = self.post.take().filter(|_| self.departure.has_departed()) else {
            return;
        };
        struct Left(Arc<PostSide>);
        impl Drop for Left {
            fn drop(&mut self) {
                self.0.left.fetch_sub(1, Ordering::Relaxed);
            }
        }
        let before = self.shared.left.fetch_add(1, Ordering::Relaxed);
        let left = Left(Arc::clone(&self.shared));
        if before >= MAX_LEFT {
            return;
        }
        self.shared.runtime.spawn(async move {
            tokio::select! {
                // Nobody asks for its outcome any more.
                _ = timeout(LEFT_TIME, post) => {}
                () = left.0.closed.cancelled() => {}
            }
        });
    }
}

async fn post(shared: Arc<PostSide>, text: String, departure: Departure) -> Posted {
    let request = PeerRequest::new(Method::POST, shared.endpoint.clone())
        .with_header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
        .with_header(
            ACCEPT,
            HeaderValue::from_static("application/json, text/event-stream"),
        )
        .with_body(text.clone());
    let sent = shared
        .peer
        .send_noting(&request, &|| departure.mark(&text))
        .await;
    let response = sent.map_err(WriteError::alone)?;
    let status = response.status();
    if !status.is_success() {
        return Err(shared.refused(response).await);
    }
    shared.unknown_session.store(false, Ordering::Relaxed);
    shared.read_body(response).await.map_err(WriteError::alone)
}

impl PostSide {
    /// The error for a POST that was refused, in the words of the server where it has some.
    ///
    /// A server that does not know the session that its stream belongs to says 404, or says so in
    /// words. Once may be an accident of something in between; twice in a row it is the end of the
    /// connection.
    async fn refused(&self, response: Response) -> WriteError {
        let (status, headers) = (response.status(), response.headers().clone());
        let body = read_refusal(response).await.unwrap_or_default();
        let text = String::from_utf8_lossy(&body);
        let error = refusal_error(status, &headers, &text);
        let rpc = rpc_error(&text);
        let says = rpc.as_ref().map_or(&*text, |rpc| &*rpc.message);
        let is_lost = matches!(status, StatusCode::NOT_FOUND | StatusCode::GONE)
            || (status.is_client_error() && says_lost_session(says));
        if !is_lost {
            self.unknown_session.store(false, Ordering::Relaxed);
            return WriteError::alone(match rpc {
                Some(rpc) => Error::from_rpc(rpc).with_http_status(status.as_u16()),
                None => error,
            });
        }
        if !self.unknown_session.swap(true, Ordering::Relaxed) {
            return WriteError::alone(error.with_delivery(Delivery::Rejected));
        }
        let lost = error.wrap(
            ErrorKind::ConnectionLost,
            "the server does not know this session any more",
        );
        WriteError::ended(lost.with_delivery(Delivery::Rejected))
    }

    /// Reads what an answer holds beside its status: by the book nothing that matters, but some
    /// servers put their messages there.
    async fn read_body(self: &Arc<Self>, response: Response) -> Result<()> {
        if response.content_length() == Some(0) {
            return Ok(());
        }
        if media_type(&response) == "text/event-stream" {
            self.read_stream(response);
            return Ok(());
        }
        // JSON, whatever it is said to be.
        let is_json = media_type(&response) == "application/json";
        let body = match read_capped(response, self.limit, Some(BODY_PAUSE)).await {
            Ok(body) => body,
            // Words that cannot be unpacked: the answer comes over the stream all the same.
            Err(error) if error.kind() == ErrorKind::Protocol && !is_json => return Ok(()),
            Err(error) => return Err(error),
        };
        if may_be_message(&body) {
            // It fails only when nobody reads any more.
            let _ = self.answers.send(Said::Text(body)).await;
        }
        Ok(())
    }

    /// Reads an event stream to its end in a task of its own.
    fn read_stream(self: &Arc<Self>, response: Response) {
        let Ok(permit) = Arc::clone(&self.streams).try_acquire_owned() else {
            tracing::debug!(
                server = %self.peer.server(),
                transport = "sse",
                "too many event streams in the answers of POSTs; one is not read"
            );
            return;
        };
        let shared = Arc::clone(self);
        self.runtime.spawn(async move {
            let _permit = permit;
            let events = Events::new(response, shared.limit, None);
            let mut reader = EventReader::new(events, shared.limit);
            let pass_on = async {
                // An error of such a stream is not one of the connection.
                while let Some(Ok(said)) = reader.next().await {
                    if shared.answers.send(said).await.is_err() {
                        break;
                    }
                }
            };
            tokio::select! {
                () = pass_on => {}
                () = shared.closed.cancelled() => {}
            }
        });
    }
}

/// The JSON-RPC error that a body holds.
fn rpc_error(text: &str) -> Option<RpcError> {
    match parse_line(text) {
        Ok(ParsedLine::One(Ok(Message::Response {
            id: ResponseId::Ours(_) | ResponseId::Null,
            outcome: Err(rpc),
        }))) => Some(rpc),
        _ => None,
    }
}

/// Whether a body begins as a message does; others say "Accepted", or nothing.
fn may_be_message(body: &[u8]) -> bool {
    let body = body.strip_prefix("\u{feff}".as_bytes()).unwrap_or(body);
    matches!(body.trim_ascii_start().first(), Some(b'{' | b'['))
}

/// The media type of an answer in lower case, without parameters.
pub(crate) fn media_type(response: &Response) -> String {
    response
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase()
}
