//! A legacy HTTP+SSE server for tests, which can misbehave.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use futures::StreamExt;
use mcpool_core::{
    ConnectRequest, Connector, HttpSpec, Raw, Result, Transport, TransportSpec, WireRequest,
};
use mcpool_http_pool::HttpPool;
use mcpool_sse::SseConnector;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::UnboundedReceiverStream;

/// Nothing in these tests takes this long on a machine that works at all.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What the server does. The default is to behave, and to echo.
#[derive(Clone)]
pub(crate) struct Behaviour {
    /// The data of the endpoint event; `None` sends none.
    pub(crate) endpoint: Option<String>,
    /// Answers the GET with this instead of a stream.
    pub(crate) get_answer: Option<(StatusCode, &'static str, &'static str)>,
    /// Answers each POST with this status, once the message was handled.
    pub(crate) post_status: StatusCode,
    /// How the answer of each POST is said to be encoded.
    pub(crate) post_coding: &'static str,
    /// Refuses these POSTs, counted from 1, and does not handle them.
    pub(crate) lost: &'static [usize],
    /// How it refuses them.
    pub(crate) lost_answer: (StatusCode, &'static str),
    /// Never answers a POST.
    pub(crate) post_hangs: bool,
    /// Where its answers go.
    pub(crate) answers: Answers,
    /// An event before the endpoint.
    pub(crate) first: &'static str,
    /// Wants this in the `authorization` header.
    pub(crate) token: Option<&'static str>,
}

/// Where the answers to requests go.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Answers {
    /// By the book: over the stream.
    Stream,
    /// Into the answer of the POST, which says that it is this, with something before it.
    Body(&'static str, &'static str),
    /// Into the answer of the POST, as an event stream.
    BodyStream,
    /// Nowhere: the test answers.
    Nowhere,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            endpoint: Some("/messages?session=1".into()),
            get_answer: None,
            post_status: StatusCode::ACCEPTED,
            post_coding: "identity",
            lost: &[],
            lost_answer: (StatusCode::NOT_FOUND, ""),
            post_hangs: false,
            answers: Answers::Stream,
            first: "",
            token: None,
        }
    }
}

pub(crate) struct Server {
    pub(crate) url: String,
    shared: Arc<Shared>,
}

struct Shared {
    behaviour: Behaviour,
    stream: std::sync::Mutex<Option<mpsc::UnboundedSender<Bytes>>>,
    open_streams: watch::Sender<usize>,
    posts: watch::Sender<Vec<Value>>,
    gets: AtomicUsize,
}

impl Server {
    pub(crate) async fn start(behaviour: Behaviour) -> Self {
        let shared = Arc::new(Shared {
            behaviour,
            stream: std::sync::Mutex::default(),
            open_streams: watch::Sender::new(0),
            posts: watch::Sender::new(Vec::new()),
            gets: AtomicUsize::new(0),
        });
        let app = Router::new()
            .route("/sse", get(open_stream))
            .route("/messages", post(accept_message))
            .layer(axum::extract::DefaultBodyLimit::disable())
            .with_state(Arc::clone(&shared));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/sse", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, shared }
    }

    /// Sends raw bytes on the open stream.
    pub(crate) fn raw(&self, bytes: impl Into<Bytes>) {
        let stream = self.shared.stream.lock().unwrap();
        stream.as_ref().unwrap().send(bytes.into()).unwrap();
    }

    /// Ends the open stream in the orderly way.
    pub(crate) fn end_stream(&self) {
        self.shared.stream.lock().unwrap().take();
    }

    pub(crate) async fn wait_for_posts(&self, count: usize) -> Vec<Value> {
        let mut posts = self.shared.posts.subscribe();
        let seen = tokio::time::timeout(PATIENCE, posts.wait_for(|posts| posts.len() >= count));
        seen.await.expect("the POSTs arrive").unwrap().clone()
    }

    pub(crate) async fn wait_for_open_streams(&self, count: usize) {
        let mut open = self.shared.open_streams.subscribe();
        tokio::time::timeout(PATIENCE, open.wait_for(|open| *open == count))
            .await
            .expect("the number of open streams is reached")
            .unwrap();
    }

    pub(crate) fn gets(&self) -> usize {
        self.shared.gets.load(Ordering::SeqCst)
    }

    pub(crate) fn spec(&self) -> HttpSpec {
        HttpSpec::new(&self.url)
    }
}

struct StreamGuard(Arc<Shared>);

impl Drop for StreamGuard {
    fn drop(&mut self) {
        self.0.open_streams.send_modify(|open| *open -= 1);
    }
}

async fn open_stream(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    shared.gets.fetch_add(1, Ordering::SeqCst);
    if let Some(refusal) = refusal(&shared, &headers) {
        return refusal;
    }
    if let Some((status, content_type, body)) = shared.behaviour.get_answer {
        return (status, [(header::CONTENT_TYPE, content_type)], body).into_response();
    }
    let (sender, receiver) = mpsc::unbounded_channel();
    if let Some(endpoint) = &shared.behaviour.endpoint {
        let first = shared.behaviour.first;
        let event = format!("{first}event: endpoint\r\ndata: {endpoint}\r\n\r\n");
        sender.send(Bytes::from(event)).unwrap();
    }
    *shared.stream.lock().unwrap() = Some(sender);
    shared.open_streams.send_modify(|open| *open += 1);
    let guard = StreamGuard(Arc::clone(&shared));
    let stream = UnboundedReceiverStream::new(receiver).map(move |bytes| {
        let _ = &guard;
        Ok::<_, Infallible>(bytes)
    });
    (
        [(header::CONTENT_TYPE, "text/event-stream; charset=utf-8")],
        Body::from_stream(stream),
    )
        .into_response()
}

async fn accept_message(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if let Some(refusal) = refusal(&shared, &headers) {
        return refusal;
    }
    let message: Value = serde_json::from_slice(&body).unwrap();
    let id = message.get("id").cloned();
    shared.posts.send_modify(|posts| posts.push(message));
    let count = shared.posts.borrow().len();
    if shared.behaviour.lost.contains(&count) {
        return shared.behaviour.lost_answer.into_response();
    }
    if shared.behaviour.post_hangs {
        std::future::pending::<()>().await;
    }
    let coding = shared.behaviour.post_coding;
    if let (Some(id), true) = (id, shared.behaviour.post_status.is_success()) {
        let answer = json!({"jsonrpc": "2.0", "id": id, "result": {}}).to_string();
        let event = format!("event: message\ndata: {answer}\n\n");
        match shared.behaviour.answers {
            Answers::Stream => {
                let stream = shared.stream.lock().unwrap().clone();
                let _ = stream.unwrap().send(Bytes::from(event));
            }
            Answers::Body(kind, before) => {
                let body = Body::from(format!("{before}{answer}"));
                let response = Response::builder().header(header::CONTENT_TYPE, kind);
                let response = response.header(header::CONTENT_ENCODING, coding);
                return response.body(body).unwrap();
            }
            Answers::BodyStream => {
                let events = [(header::CONTENT_TYPE, "text/event-stream")];
                return (events, event).into_response();
            }
            Answers::Nowhere => {}
        }
    }
    let coding = [(header::CONTENT_ENCODING, coding)];
    (shared.behaviour.post_status, coding, "some text").into_response()
}

fn refusal(shared: &Shared, headers: &HeaderMap) -> Option<Response> {
    let token = shared.behaviour.token?;
    if headers.get("authorization").is_some_and(|got| got == token) {
        return None;
    }
    let challenge = [(header::WWW_AUTHENTICATE, "Bearer realm=\"test\"")];
    Some((StatusCode::UNAUTHORIZED, challenge).into_response())
}

pub(crate) fn request(spec: HttpSpec) -> ConnectRequest {
    ConnectRequest::new("fixture".parse().unwrap(), TransportSpec::Sse(spec))
}

pub(crate) async fn connect(spec: HttpSpec) -> Result<Arc<dyn Transport>> {
    open(request(spec)).await
}

pub(crate) async fn open(request: ConnectRequest) -> Result<Arc<dyn Transport>> {
    within(SseConnector::new(HttpPool::new()).connect(request)).await
}

pub(crate) async fn ping(transport: &dyn Transport) -> Result<Raw> {
    within(transport.request(WireRequest::new("ping", None), None)).await
}

pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("it ends in time")
}
