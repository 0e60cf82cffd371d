//! One request that is being served: where the work on it is done, and how its answer goes out.

use std::{panic::AssertUnwindSafe, sync::Arc};

use axum::{http::StatusCode, response::Response};
use futures::{FutureExt as _, Stream, StreamExt as _, future::BoxFuture, stream};
use mcpool_core::{Raw, RpcError, ServerRequest, encode_response};
use tokio::{runtime::Handle, sync::mpsc};
use tokio_util::task::AbortOnDropHandle;

use super::{Front, post::status_of, reply};
use crate::{
    client::Client,
    flights::Flight,
    limits::{Turn, Unread},
    outlet::{MESSAGE_QUEUE, Outlet},
};

/// What came of a request; `None` when its client cancelled it.
type Outcome = Option<Answer>;

/// An answer, and that it waits to be read.
struct Answer {
    outcome: Result<Raw, RpcError>,
    unread: Option<Unread>,
}

impl Answer {
    /// An answer of a client that may be counted.
    fn of(outcome: Result<Raw, RpcError>, turn: Option<&Turn>) -> Self {
        let bytes = match &outcome {
            Ok(result) => result.get().len(),
            Err(error) => {
                let data = error.data.as_ref().map_or(0, |data| data.get().len());
                error.message.len() + data
            }
        };
        let unread = turn.map(|turn| turn.answered(bytes));
        Self { outcome, unread }
    }
}

/// A request that is being served.
///
/// Dropping it, when the connection breaks, cancels the request of a client of MCP 2026-07-28. That
/// of an older client goes on: a disconnect is no cancel up to 2025-11-25.
pub(super) struct Exchange {
    id: Raw,
    /// What is said in its course.
    messages: mpsc::Receiver<String>,
    work: Work,
    is_modern: bool,
}

/// The work on a request. The task of its connection does it while that waits for the answer: a
/// task of its own would be one more that the runtime has to wake, twice. It gets one where the
/// connection may stop to wait for it.
enum Work {
    Here(BoxFuture<'static, Outcome>),
    Apart(AbortOnDropHandle<Outcome>),
    /// This came of it; nothing, once that was taken.
    Ended(Outcome),
}

impl Work {
    /// Goes on in a task of its own.
    fn move_apart(&mut self) {
        *self = match self.take() {
            Self::Here(work) => Self::Apart(AbortOnDropHandle::new(tokio::spawn(work))),
            other => other,
        };
    }

    /// Waits for its end. Cancel-safe.
    async fn end(&mut self) {
        let outcome = match self {
            Self::Here(work) => work.await,
            // It caught its panic, and who aborts it does not wait.
            Self::Apart(task) => task.await.unwrap_or_else(|_| failed()),
            Self::Ended(_) => return,
        };
        *self = Self::Ended(outcome);
    }

    fn take(&mut self) -> Self {
        std::mem::replace(self, Self::Ended(None))
    }

    /// What came of it; nothing before its end.
    fn take_outcome(&mut self) -> Outcome {
        match self {
            Self::Ended(outcome) => outcome.take(),
            _ => None,
        }
    }
}

fn failed() -> Outcome {
    let why = "the gateway failed over this request";
    let outcome = Err(RpcError::new(RpcError::INTERNAL, why));
    Some(Answer {
        outcome,
        unread: None,
    })
}

impl Exchange {
    /// Begins to serve a request: one of a session has its flight.
    pub(super) fn begin(
        front: Arc<Front>,
        client: Client,
        request: ServerRequest,
        owner: Arc<str>,
        flight: Option<Flight>,
    ) -> Self {
        let (sender, messages) = mpsc::channel(MESSAGE_QUEUE);
        let gateway = front.gateway.clone();
        let outlet = Outlet::new(sender, Arc::clone(&gateway.0.questions), owner);
        let id = request.id.clone();
        let is_modern = client.is_modern();
        let work = async move {
            let answer = gateway.answer(&request, &client, &outlet, true);
            let outcome = match &flight {
                Some(flight) => flight.run(answer).await,
                None => Some(answer.await),
            };
            outcome.map(|outcome| Answer::of(outcome, client.turn.as_deref()))
        };
        let work = AssertUnwindSafe(work).catch_unwind();
        let work = work.map(|outcome| outcome.unwrap_or_else(|_| failed()));
        Self {
            id,
            messages,
            work: Work::Here(work.boxed()),
            is_modern,
        }
    }

    /// The next thing that is said in its course; `None` when it has ended.
    async fn next(&mut self) -> Option<String> {
        tokio::select! {
            biased;
            Some(message) = self.messages.recv() => return Some(message),
            () = self.work.end() => {}
        }
        // What was said before the end is given before it.
        self.messages.try_recv().ok()
    }

    /// The answer alone where nothing else is said before it, an event stream otherwise.
    pub(super) async fn respond(mut self, may_stream: bool) -> Response {
        while let Some(message) = self.next().await {
            // Without a stream nobody wants to hear it.
            if may_stream {
                return reply::events(stream::iter([message]).chain(self.into_messages()));
            }
        }
        // It was cancelled: there is no answer.
        let Some(Answer { outcome, unread }) = self.work.take_outcome() else {
            return reply::accepted();
        };
        let status = match &outcome {
            Err(error) if self.is_modern => status_of(error),
            _ => StatusCode::OK,
        };
        match encode_response(&self.id, &outcome) {
            Ok(message) => reply::answer(status, message, unread),
            Err(error) => {
                let error = crate::fault::rpc(&error);
                reply::refused(StatusCode::INTERNAL_SERVER_ERROR, &self.id, error)
            }
        }
    }

    /// What is said, and the answer at its end. The work goes on while the client does not read.
    pub(super) fn into_messages(mut self) -> impl Stream<Item = String> + Send + 'static {
        self.work.move_apart();
        let running = (Some(self), None);
        stream::unfold(running, |(exchange, unread)| async move {
            // Who asks for more than the answer has read it.
            drop(unread);
            let mut exchange = exchange?;
            if let Some(message) = exchange.next().await {
                return Some((message, (Some(exchange), None)));
            }
            let Answer { outcome, unread } = exchange.work.take_outcome()?;
            let line = encode_response(&exchange.id, &outcome).ok()?;
            Some((line, (None, unread)))
        })
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if self.is_modern {
            return;
        }
        match self.work.take() {
            Work::Here(work) => {
                // Without a runtime nothing goes on.
                if let Ok(runtime) = Handle::try_current() {
                    runtime.spawn(work);
                }
            }
            Work::Apart(task) => {
                task.detach();
            }
            Work::Ended(_) => {}
        }
    }
}
