//! Sending, receiving, closing.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use mcpool_core::{
    Delivery, Error, ErrorKind, IncomingMessage, OutgoingMessage, Result, ServerPolicy, Transport,
    TransportMonitor, model::JsonRpcMessage,
};
use mcpool_http_pool::{
    HttpPeer, PeerRequest, drain,
    reqwest::{
        Method,
        header::{CONTENT_TYPE, HeaderValue},
    },
    status_error,
};
use tokio::{sync::mpsc, time::timeout};
use tokio_util::task::AbortOnDropHandle;
use url::Url;

use crate::stream::{Events, Link, read};

/// Messages that wait to be received; more stay in the socket, which slows the server down.
const RECEIVE_BUFFER: usize = 64;

/// A legacy HTTP+SSE connection.
pub(crate) struct SseTransport {
    peer: HttpPeer,
    endpoint: Url,
    link: Arc<Link>,
    messages: mpsc::Receiver<IncomingMessage>,
    reader: Option<AbortOnDropHandle<()>>,
    /// The bounds of the POST of a request, and of any other message.
    patience: (Duration, Duration),
    close_within: Duration,
}

impl SseTransport {
    pub(crate) fn new(
        peer: HttpPeer,
        endpoint: Url,
        policy: &ServerPolicy,
        events: Events,
    ) -> Self {
        let link = Arc::new(Link::new(peer.server().clone()));
        let (sender, messages) = mpsc::channel(RECEIVE_BUFFER);
        let reader = tokio::spawn(read(Arc::clone(&link), events, sender));
        Self {
            peer,
            endpoint,
            link,
            messages,
            reader: Some(AbortOnDropHandle::new(reader)),
            patience: (policy.timeouts.request_max, policy.timeouts.request),
            close_within: policy.shutdown.total,
        }
    }
}

impl Transport for SseTransport {
    fn send(&self, message: OutgoingMessage) -> BoxFuture<'static, Result<()>> {
        let peer = self.peer.clone();
        let endpoint = self.endpoint.clone();
        let link = Arc::clone(&self.link);
        let patience = match message {
            // Some servers run the request before they answer its POST.
            JsonRpcMessage::Request(_) => self.patience.0,
            _ => self.patience.1,
        };
        async move {
            if link.ended.is_cancelled() {
                return Err(ended(&link, Delivery::NotSent));
            }
            let result = tokio::select! {
                biased;
                posted = timeout(patience, post(&peer, &endpoint, &message)) => {
                    posted.unwrap_or_else(|_| Err(not_in_time(patience)))
                }
                () = link.ended.cancelled() => Err(ended(&link, Delivery::Unknown)),
            };
            match &result {
                Ok(()) => link.count_sent(),
                // The stream belongs to a session that the server does not know any more.
                Err(error) if matches!(error.http_status(), Some(404 | 410)) => {
                    link.fail(error.clone());
                }
                Err(_) => {}
            }
            result.map_err(|error| error.with_server(&link.server))
        }
        .boxed()
    }

    fn receive(&mut self) -> BoxFuture<'_, Option<IncomingMessage>> {
        self.messages.recv().boxed()
    }

    fn close(&mut self) -> BoxFuture<'_, Result<()>> {
        async move {
            self.link.close();
            self.messages.close();
            let Some(reader) = self.reader.take() else {
                return Ok(());
            };
            match timeout(self.close_within, reader).await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => Err(Error::new(
                    ErrorKind::Internal,
                    "the reader of the event stream failed",
                )
                .with_server(&self.link.server)
                .with_source(error)),
                Err(_) => Err(Error::new(
                    ErrorKind::Timeout,
                    format!(
                        "the event stream did not end within {:?}",
                        self.close_within
                    ),
                )
                .with_server(&self.link.server)),
            }
        }
        .boxed()
    }

    fn monitor(&self) -> Arc<dyn TransportMonitor> {
        Arc::clone(&self.link) as Arc<dyn TransportMonitor>
    }
}

impl Drop for SseTransport {
    fn drop(&mut self) {
        // Ends the pending sends, which may outlive the transport.
        self.link.close();
    }
}

async fn post(peer: &HttpPeer, endpoint: &Url, message: &OutgoingMessage) -> Result<()> {
    let body = serde_json::to_vec(message).map_err(|error| {
        Error::new(ErrorKind::InvalidArgument, "the message is not valid JSON")
            .with_delivery(Delivery::NotSent)
            .with_source(error)
    })?;
    let request = PeerRequest::new(Method::POST, endpoint.clone())
        .with_header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
        .with_body(body);
    let response = peer.send(request).await?;
    let status = response.status();
    let error = (!status.is_success()).then(|| status_error(status, response.headers()));
    drain(response).await;
    error.map_or(Ok(()), Err)
}

/// The error of a send on a connection that has ended.
fn ended(link: &Link, delivery: Delivery) -> Error {
    match link.failure() {
        Some(failure) => failure.with_delivery(delivery),
        None => Error::new(ErrorKind::Closed, "the connection was closed").with_delivery(delivery),
    }
}

fn not_in_time(patience: Duration) -> Error {
    Error::new(
        ErrorKind::Timeout,
        format!("the server did not accept the message within {patience:?}"),
    )
    .with_delivery(Delivery::Unknown)
}
