//! Sending, receiving, closing.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use mcpool_core::{
    Delivery, Error, ErrorKind, IncomingMessage, OutgoingMessage, Result, Transport,
    TransportMonitor,
    model::{ClientRequest, CustomRequest, ErrorCode, JsonRpcMessage},
};
use mcpool_http_pool::HttpPeer;
use rmcp::transport::{
    Transport as _,
    common::client_side_sse::ExponentialBackoff,
    streamable_http_client::{
        StreamableHttpClientTransport, StreamableHttpClientTransportConfig,
        StreamableHttpClientWorker, StreamableHttpError,
    },
    worker::WorkerTransport,
};
use tokio::{sync::mpsc, time::timeout};

use crate::{
    client::{Course, NeverSent, PooledClient, never_sent_id},
    link::{Bounds, Link},
};

/// Messages that wait in the worker's queues, each way.
const QUEUE: usize = 1_024;

/// How a broken stream is resumed: soon, then less often, then not at all. A server that is gone
/// altogether is noticed apart from that.
const RESUME_BASE: Duration = Duration::from_millis(100);
const RESUME_CAP: Duration = Duration::from_secs(10);
const RESUME_TIMES: usize = 10;

/// What rmcp's worker answers in the server's name: to requests that were in flight when it made a
/// session anew, and to one whose stream ended and could not be resumed.
const LOST_WITH_SESSION: &str =
    "streamable HTTP session was re-initialized before the response arrived";
const LOST_WITH_STREAM: &str = "streamable HTTP response stream closed before its final response";

type Worker = StreamableHttpClientTransport<PooledClient>;

/// A Streamable HTTP connection.
pub(crate) struct HttpTransport {
    link: Arc<Link>,
    worker: Mutex<Worker>,
    local: mpsc::UnboundedReceiver<IncomingMessage>,
}

impl HttpTransport {
    /// Starts the worker.
    ///
    /// The worker treats the first message in a special way: it cannot be cancelled, nothing else
    /// is sent before its answer, and a failure ends the worker without a word. So that this
    /// never meets a message of ours, the first message is one that [`PooledClient`] answers
    /// itself. What follows may come in any order: `initialize`, `server/discover` and then
    /// `initialize`, or neither.
    pub(crate) async fn open(peer: HttpPeer, bounds: Bounds, max_in_flight: usize) -> Result<Self> {
        let (sender, local) = mpsc::unbounded_channel();
        let mut config = StreamableHttpClientTransportConfig::with_uri(peer.url().as_str())
            .max_concurrent_requests(max_in_flight)
            .max_sse_event_size(bounds.message);
        config.channel_buffer_capacity = QUEUE;
        let mut resume = ExponentialBackoff::default();
        resume.base_duration = RESUME_BASE;
        resume.max_delay = Some(RESUME_CAP);
        resume.max_times = Some(RESUME_TIMES);
        config.retry_config = Arc::new(resume);
        let link = Arc::new(Link::new(peer, bounds, sender));
        let worker = StreamableHttpClientWorker::new(PooledClient(Arc::clone(&link)), config);
        let mut worker = WorkerTransport::spawn_with_ct(worker, link.ended.clone());

        let mut first = CustomRequest::new("mcpool/never_sent", None);
        first.extensions.insert(NeverSent);
        let first = ClientRequest::CustomRequest(first);
        let sent = worker.send(OutgoingMessage::request(first, never_sent_id()));
        if sent.await.is_err() || worker.receive().await.is_none() {
            return Err(Error::new(
                ErrorKind::Internal,
                "the worker of the HTTP session did not start",
            ));
        }
        Ok(Self {
            link,
            worker: Mutex::new(worker),
            local,
        })
    }

    fn worker(&mut self) -> &mut Worker {
        self.worker
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Transport for HttpTransport {
    fn send(&self, mut message: OutgoingMessage) -> BoxFuture<'static, Result<()>> {
        let link = Arc::clone(&self.link);
        if link.ended.is_cancelled() {
            return async move { Err(link.ended_error(Delivery::NotSent)) }.boxed();
        }
        let is_request = matches!(message, JsonRpcMessage::Request(_));
        if is_initialize(&message) && !link.first_initialize() {
            // The worker would not take the second session for its own.
            let error = Error::new(
                ErrorKind::InvalidArgument,
                "a connection is initialized once; open another for a second try",
            );
            return async move { Err(error) }.boxed();
        }
        let course = Course::attach(&mut message);
        let sending = self
            .worker
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .send(message);
        async move {
            match sending.await {
                // Cut off by the end of the connection: the worker takes that for a cancellation.
                Ok(()) if link.ended.is_cancelled() && !course.is_accepted() => {
                    Err(link.ended_error(course.delivery()))
                }
                Ok(()) => {
                    link.count_sent();
                    Ok(())
                }
                Err(error) => {
                    let error = send_error(&link, error, &course, is_request);
                    Err(error.with_server(link.peer.server()))
                }
            }
        }
        .boxed()
    }

    fn receive(&mut self) -> BoxFuture<'_, Option<IncomingMessage>> {
        async move {
            let worker = self
                .worker
                .get_mut()
                .unwrap_or_else(PoisonError::into_inner);
            let message = tokio::select! {
                biased;
                Some(message) = self.local.recv() => message,
                message = worker.receive() => match message {
                    Some(message) => name_what_is_lost(message),
                    None => {
                        self.link.worker_ended();
                        return None;
                    }
                },
            };
            self.link.count_received();
            Some(message)
        }
        .boxed()
    }

    fn close(&mut self) -> BoxFuture<'_, Result<()>> {
        async move {
            self.link.close();
            let bound = self.link.bounds.close;
            let worker = self.worker();
            let closing = async {
                // A worker that waits for room in its queue does not see the end.
                while worker.receive().await.is_some() {}
                worker.close().await
            };
            match timeout(bound, closing).await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => Err(Error::new(
                    ErrorKind::Internal,
                    "the worker of the HTTP session failed",
                )
                .with_server(self.link.peer.server())
                .with_source(error)),
                Err(_) => Err(Error::new(
                    ErrorKind::Timeout,
                    format!("the HTTP session did not end within {bound:?}"),
                )
                .with_server(self.link.peer.server())),
            }
        }
        .boxed()
    }

    fn monitor(&self) -> Arc<dyn TransportMonitor> {
        Arc::clone(&self.link) as Arc<dyn TransportMonitor>
    }
}

impl Drop for HttpTransport {
    fn drop(&mut self) {
        self.link.abandon();
    }
}

fn is_initialize(message: &OutgoingMessage) -> bool {
    match message {
        JsonRpcMessage::Request(request) => {
            matches!(request.request, ClientRequest::InitializeRequest(_))
        }
        _ => false,
    }
}

/// An error that the worker gave in the server's name becomes one that says what is known.
fn name_what_is_lost(message: IncomingMessage) -> IncomingMessage {
    let JsonRpcMessage::Error(mut answer) = message else {
        return message;
    };
    let lost = match &*answer.error.message {
        _ if answer.error.code != ErrorCode::INTERNAL_ERROR => None,
        LOST_WITH_SESSION => Some("the server lost the session while the request was under way"),
        LOST_WITH_STREAM => Some("the answer's event stream broke and could not be resumed"),
        _ => None,
    };
    if let Some(lost) = lost {
        answer.error = Error::new(ErrorKind::ConnectionLost, lost).to_rpc();
    }
    JsonRpcMessage::Error(answer)
}

/// Finds our own error in rmcp's, and says of rmcp's own errors what they mean.
fn send_error(
    link: &Link,
    error: StreamableHttpError<Error>,
    course: &Course,
    is_request: bool,
) -> Error {
    let lost = |message: &str, delivery| {
        Error::new(ErrorKind::ConnectionLost, message).with_delivery(delivery)
    };
    match error {
        StreamableHttpError::Client(error) => error,
        StreamableHttpError::TransportChannelClosed => link.ended_error(course.delivery()),
        StreamableHttpError::SessionExpired => {
            let error = lost("the server does not know the session", Delivery::Rejected);
            // Making it anew was tried and did not help, or is not for messages like this.
            if is_request {
                link.fail(error.clone());
            }
            error
        }
        StreamableHttpError::ReinitializationFailed(answer) => {
            let error = lost(
                "the server lost the session and refused a new one",
                Delivery::Rejected,
            )
            .with_source(Error::from_rpc(answer));
            link.fail(error.clone());
            error
        }
        StreamableHttpError::SessionRecoveryTimeout => lost(
            "the server lost the session while the request was under way",
            Delivery::Unknown,
        ),
        StreamableHttpError::ControlRequestTimeout => Error::new(
            ErrorKind::Timeout,
            "the server did not accept the message in time",
        )
        .with_delivery(Delivery::Unknown),
        other => Error::new(ErrorKind::Protocol, "the server broke Streamable HTTP")
            .with_delivery(Delivery::Unknown)
            .with_source(other),
    }
}
