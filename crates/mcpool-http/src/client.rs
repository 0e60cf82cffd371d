//! The HTTP client that rmcp's worker drives.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
};

use http::{HeaderName, HeaderValue};
use mcpool_core::{
    Delivery, Error, ErrorKind, IncomingMessage, OutgoingMessage,
    model::{
        ClientNotification, ClientRequest, ErrorData, GetExtensions, JsonRpcMessage,
        ProtocolVersion, RequestId, ServerResult,
    },
};
use mcpool_http_pool::{
    PeerRequest, drain,
    reqwest::{
        Method, StatusCode,
        header::{ACCEPT, CONTENT_TYPE, HeaderMap},
    },
    status_error,
};
use rmcp::transport::streamable_http_client::{
    AuthRequiredError, StreamableHttpClient, StreamableHttpError, StreamableHttpPostResponse,
};

use crate::{
    answer::{self as post_answer, PostResult, Posted, SESSION_HEADER, media_type},
    link::{Link, bounded},
    stream::{Events, Purpose, Resumption, answer, events},
};

const EVENT_STREAM: &str = "text/event-stream";
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");

/// How often the stream of a handshake is resumed, and how soon if the server does not say.
const HANDSHAKE_ROUNDS: usize = 10;
const HANDSHAKE_PAUSE: std::time::Duration = std::time::Duration::from_millis(100);

/// Marks the message that is answered here and never sent: see
/// [`HttpTransport::open`](crate::transport::HttpTransport::open).
#[derive(Clone, Copy)]
pub(crate) struct NeverSent;

/// Notes how far a message has come, so that one that never left the queue is known to be unsent,
/// and one whose POST was cut off is not taken for sent: rmcp's worker says `Ok` to both.
#[derive(Clone, Default)]
pub(crate) struct Course(Arc<AtomicU8>);

const QUEUED: u8 = 0;
const STARTED: u8 = 1;
const ACCEPTED: u8 = 2;
const REJECTED: u8 = 3;

impl Course {
    /// Attaches a note to a message. rmcp keeps extensions off the wire.
    pub(crate) fn attach(message: &mut OutgoingMessage) -> Self {
        let course = Self::default();
        match message {
            JsonRpcMessage::Request(request) => {
                request.request.extensions_mut().insert(course.clone());
            }
            JsonRpcMessage::Notification(notification) => {
                let extensions = notification.notification.extensions_mut();
                extensions.insert(course.clone());
            }
            // Answers to the server carry no note.
            JsonRpcMessage::Response(_) | JsonRpcMessage::Error(_) => course.reach(STARTED),
        }
        course
    }

    fn of(message: &OutgoingMessage) -> Option<&Self> {
        match message {
            JsonRpcMessage::Request(request) => request.request.extensions().get(),
            JsonRpcMessage::Notification(note) => note.notification.extensions().get(),
            JsonRpcMessage::Response(_) | JsonRpcMessage::Error(_) => None,
        }
    }

    fn reach(&self, point: u8) {
        self.0.store(point, Ordering::Release);
    }

    /// What is known of a message that did not get through.
    pub(crate) fn delivery(&self) -> Delivery {
        match self.0.load(Ordering::Acquire) {
            QUEUED => Delivery::NotSent,
            REJECTED => Delivery::Rejected,
            _ => Delivery::Unknown,
        }
    }

    /// Whether the server took the message.
    pub(crate) fn is_accepted(&self) -> bool {
        self.0.load(Ordering::Acquire) == ACCEPTED
    }
}

/// POST, GET and DELETE for one connection, on the pooled client.
#[derive(Clone)]
pub(crate) struct PooledClient(pub(crate) Arc<Link>);

type ClientError = StreamableHttpError<Error>;
type Headers = HashMap<HeaderName, HeaderValue>;

impl PooledClient {
    fn request(&self, method: Method, session: Option<&str>, headers: Headers) -> PeerRequest {
        let mut request = PeerRequest::new(method, self.0.peer.url().clone());
        request.headers = HeaderMap::from_iter(headers);
        let id = session.and_then(|name| self.0.session_id(name));
        if let Some(Ok(id)) = id.map(HeaderValue::try_from) {
            request = request.with_header(HeaderName::from_static(SESSION_HEADER), id);
        }
        request
    }

    async fn post(
        &self,
        message: OutgoingMessage,
        session: Option<Arc<str>>,
        headers: Headers,
    ) -> PostResult {
        if let Some(answer) = never_sent(&message) {
            return answer;
        }
        let link = &self.0;
        let course = Course::of(&message).cloned().unwrap_or_default();
        let modern = headers
            .get(&PROTOCOL_VERSION)
            .and_then(|version| version.to_str().ok())
            .is_some_and(|version| version >= ProtocolVersion::NO_INITIALIZE.as_str());
        let posted = Posted {
            session_attached: session.is_some(),
            resumable: !modern,
            ..posted(&message, link.is_established())
        };
        // rmcp's worker opens the standing stream for a session, and does not wait for it.
        if posted.session_attached && posted.id.is_some() && !posted.handshake && !modern {
            link.standing_stream().await;
        }
        if link.ended.is_cancelled() {
            // The worker may begin with what is in its queue before it sees the end.
            let error = link.ended_error(Delivery::NotSent);
            return Err(StreamableHttpError::Client(error));
        }
        course.reach(STARTED);
        let (bound, what) = match &posted.id {
            Some(_) if posted.handshake => (
                link.bounds.handshake,
                "the server did not answer the handshake",
            ),
            Some(_) => (link.bounds.request, "the server did not answer"),
            None => (link.bounds.one_way, "the server did not accept the message"),
        };
        let body = serde_json::to_vec(&message).map_err(|error| {
            StreamableHttpError::Client(
                Error::new(ErrorKind::InvalidArgument, "the message is not valid JSON")
                    .with_delivery(Delivery::NotSent)
                    .with_source(error),
            )
        })?;
        let request = self
            .request(Method::POST, session.as_deref(), headers)
            .with_header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .with_header(
                ACCEPT,
                HeaderValue::from_static("application/json, text/event-stream"),
            )
            .with_body(body);
        let exchange = async {
            let response = link
                .peer
                .send(request)
                .await
                .map_err(StreamableHttpError::Client)?;
            let answer = post_answer::read(link, response, &posted).await?;
            match answer {
                StreamableHttpPostResponse::Sse(stream, session) if posted.handshake => {
                    self.finish_handshake(stream, session).await
                }
                answer => Ok(answer),
            }
        };
        let result = bounded(link, bound, what, exchange)
            .await
            .unwrap_or_else(|error| Err(StreamableHttpError::Client(error)));
        match &result {
            Ok(answer) => {
                course.reach(ACCEPTED);
                self.answered(&message, answer);
            }
            Err(StreamableHttpError::Client(error)) if !link.ended.is_cancelled() => {
                // Noted before the check below, in which this future may be dropped.
                course.reach(match error.delivery() {
                    Delivery::NotSent => QUEUED,
                    Delivery::Rejected => REJECTED,
                    _ => STARTED,
                });
                link.note(error);
                if posted.handshake {
                    link.fail(error.clone());
                } else if matches!(error.kind(), ErrorKind::Connect | ErrorKind::ConnectionLost) {
                    link.verify(error).await;
                }
            }
            Err(StreamableHttpError::SessionExpired) => course.reach(REJECTED),
            Err(_) => {}
        }
        result
    }

    /// Reads a handshake's event stream up to the answer. The worker would do so without a bound
    /// in time, and would not resume.
    async fn finish_handshake(&self, mut stream: Events, session: Option<String>) -> PostResult {
        let mut resumption = Resumption::default();
        for _ in 0..HANDSHAKE_ROUNDS {
            if let Some(message) = answer(&mut stream, &mut resumption).await {
                return Ok(StreamableHttpPostResponse::Json(message, session));
            }
            let Some(last_event_id) = resumption.last_event_id.clone() else {
                break;
            };
            tokio::time::sleep(resumption.retry.unwrap_or(HANDSHAKE_PAUSE)).await;
            let name = session.as_deref().map(Arc::from);
            stream = self.get(name, Some(last_event_id), Headers::new()).await?;
        }
        Err(StreamableHttpError::Client(Error::new(
            ErrorKind::Protocol,
            "the server's event stream ended without an answer to the handshake",
        )))
    }

    fn answered(&self, message: &OutgoingMessage, answer: &StreamableHttpPostResponse) {
        let link = &self.0;
        if let JsonRpcMessage::Notification(notification) = message {
            if let ClientNotification::InitializedNotification(_) = notification.notification {
                link.session_ready();
            }
            return;
        }
        let StreamableHttpPostResponse::Json(IncomingMessage::Response(response), _) = answer
        else {
            return;
        };
        match &response.result {
            ServerResult::InitializeResult(result) => {
                link.initialized(&result.capabilities);
            }
            ServerResult::DiscoverResult(_) => link.establish(),
            _ => {}
        }
    }

    async fn get(
        &self,
        session: Option<Arc<str>>,
        last_event_id: Option<String>,
        headers: Headers,
    ) -> Result<Events, ClientError> {
        let link = &self.0;
        let mut request = self
            .request(Method::GET, session.as_deref(), headers)
            .with_header(ACCEPT, HeaderValue::from_static(EVENT_STREAM));
        let resumes = last_event_id.is_some();
        if let Some(Ok(id)) = last_event_id.map(HeaderValue::try_from) {
            request = request.with_header(LAST_EVENT_ID, id);
        }
        let exchange = async {
            tokio::time::sleep(link.pacer.next_delay(resumes)).await;
            link.peer.send(request).await
        };
        // Some servers send the head of the stream with the first event only: no bound in time.
        let response = tokio::select! {
            biased;
            () = link.ended.cancelled() => Err(link.ended_error(Delivery::Unknown)),
            response = exchange => response,
        };
        if !resumes {
            link.standing.cancel();
        }
        let response = match response {
            Ok(response) => response,
            Err(error) => {
                link.note(&error);
                return Err(match error.kind() {
                    // The worker does not ask again after this one.
                    ErrorKind::AuthRequired | ErrorKind::Forbidden => {
                        let challenge = error.challenge().unwrap_or_default().to_owned();
                        StreamableHttpError::AuthRequired(AuthRequiredError::new(challenge))
                    }
                    _ => {
                        link.verify(&error).await;
                        StreamableHttpError::Client(error)
                    }
                });
            }
        };
        let status = response.status();
        if status.is_success() && media_type(response.headers()) == EVENT_STREAM {
            link.pacer.opened();
            return Ok(events(Arc::clone(link), response, Purpose::Standing));
        }
        let error = status_error(status, response.headers());
        drain(response).await;
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            link.note(&error);
            return Err(StreamableHttpError::Client(error));
        }
        // 405 by the book, but 404, 400 and web pages are seen as well. None of them says
        // anything of the POST side, nor of legacy SSE.
        tracing::debug!(
            server = %link.peer.server(),
            status = status.as_u16(),
            "the server offers no standing stream"
        );
        Err(StreamableHttpError::ServerDoesNotSupportSse)
    }

    async fn delete(&self, session: Arc<str>, headers: Headers) {
        let link = &self.0;
        let Some(bound) = link.delete_within() else {
            return;
        };
        let request = self.request(Method::DELETE, Some(&session), headers);
        let exchange = async {
            let response = link.peer.send(request).await?;
            let status = response.status();
            drain(response).await;
            Ok::<_, Error>(status)
        };
        // 405 says that a client may not end sessions; nothing depends on the answer.
        let outcome = tokio::time::timeout(bound, exchange).await;
        tracing::debug!(server = %link.peer.server(), ?outcome, "session deleted");
    }
}

/// What the answer of this message depends on.
fn posted(message: &OutgoingMessage, established: bool) -> Posted {
    let mut posted = Posted {
        id: None,
        handshake: false,
        discover: false,
        session_attached: false,
        resumable: true,
    };
    if let JsonRpcMessage::Request(request) = message {
        posted.id = Some(request.id.clone());
        posted.discover = matches!(request.request, ClientRequest::DiscoverRequest(_));
        let initialize = matches!(request.request, ClientRequest::InitializeRequest(_));
        posted.handshake = initialize || (posted.discover && !established);
    }
    posted
}

/// Answers the message that is never sent.
fn never_sent(message: &OutgoingMessage) -> Option<PostResult> {
    let JsonRpcMessage::Request(request) = message else {
        return None;
    };
    let extensions = request.request.extensions();
    extensions.get::<NeverSent>().map(|_| {
        let error = ErrorData::internal_error("never sent", None);
        let message = IncomingMessage::error(error, Some(request.id.clone()));
        Ok(StreamableHttpPostResponse::Json(message, None))
    })
}

/// The id of the message that is never sent.
pub(crate) fn never_sent_id() -> RequestId {
    RequestId::String("mcpool/never-sent".into())
}

// The URL, the size limit and the credentials are the link's; what the worker passes along for
// them is left alone.
impl StreamableHttpClient for PooledClient {
    type Error = Error;

    async fn post_message(
        &self,
        _uri: Arc<str>,
        message: OutgoingMessage,
        session_id: Option<Arc<str>>,
        _auth_header: Option<String>,
        custom_headers: Headers,
    ) -> PostResult {
        self.post(message, session_id, custom_headers).await
    }

    async fn delete_session(
        &self,
        _uri: Arc<str>,
        session_id: Arc<str>,
        _auth_header: Option<String>,
        custom_headers: Headers,
    ) -> Result<(), ClientError> {
        self.delete(session_id, custom_headers).await;
        Ok(())
    }

    async fn get_stream(
        &self,
        _uri: Arc<str>,
        session_id: Option<Arc<str>>,
        last_event_id: Option<String>,
        _auth_header: Option<String>,
        custom_headers: Headers,
    ) -> Result<Events, ClientError> {
        self.get(session_id, last_event_id, custom_headers).await
    }
}
