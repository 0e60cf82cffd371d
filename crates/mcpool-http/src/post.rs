//! Sending a POST.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use mcpool_core::{RequestId, Result};
use mcpool_http_pool::{PeerRequest, Response, drain, http::Method, read_refusal};

use crate::{
    link::Link,
    refusal::{self, Refusal, SessionState},
    session::Session,
};

/// One POST in a session.
pub(crate) struct Post<'a> {
    pub(crate) session: &'a Session,
    /// Headers beside those of the session.
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    /// The message, as text.
    pub(crate) body: Bytes,
    /// Whether running it twice does no harm.
    pub(crate) repeatable: bool,
}

impl<'a> Post<'a> {
    /// A message that wants no answer.
    pub(crate) fn one_way(session: &'a Session, body: impl Into<Bytes>) -> Self {
        Self {
            session,
            headers: Vec::new(),
            body: body.into(),
            repeatable: false,
        }
    }

    /// Sends it and gives the answer, whatever its status. `sending` is called each time before a
    /// byte of it may be written.
    ///
    /// # Errors
    /// What went wrong, after it was found out whether the server is gone.
    pub(crate) async fn send(
        self,
        link: &Link,
        sending: &(dyn Fn() + Send + Sync),
    ) -> Result<Response> {
        link.sending(&self.body);
        let mut request = PeerRequest::new(Method::POST, link.peer.url().clone())
            .with_base(Arc::clone(&self.session.posts))
            .with_body(self.body)
            .with_repeatable(self.repeatable);
        request.headers = self.headers;
        match link.peer.send_noting(&request, sending).await {
            Ok(response) => {
                link.heard();
                Ok(response)
            }
            Err(error) => {
                link.notes.error(&error);
                Box::pin(link.verify(&error)).await;
                Err(error)
            }
        }
    }

    /// Sends it and waits until the server has accepted it.
    ///
    /// # Errors
    /// As [`send`](Self::send), and what the server says instead.
    pub(crate) async fn accepted(self, link: &Link) -> Result<(), Refusal> {
        let state = self.session.state();
        let response = self.send(link, &|| {}).await?;
        if !response.status().is_success() {
            return Err(Box::pin(refusal_of(link, response, state, None)).await);
        }
        // 202 by the book; some servers say 200 and more.
        link.answered(response.status(), &[]);
        drain(response).await;
        Ok(())
    }
}

/// Reads an answer with an error status, as [`refusal::read`] does.
pub(crate) async fn refusal_of(
    link: &Link,
    response: Response,
    state: SessionState,
    asked: Option<RequestId>,
) -> Refusal {
    let status = response.status();
    let headers = response.headers().clone();
    let body = read_refusal(response).await;
    let refusal = refusal::read(status, &headers, body.as_deref(), state, asked);
    link.answered(status, &body.unwrap_or_default());
    if !refusal.lost.is_said() {
        link.notes.error(&refusal.error);
    }
    refusal
}
