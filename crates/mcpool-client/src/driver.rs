//! The task that owns a transport: correlates answers, delivers progress and notices in order,
//! answers the server, and ends every pending request the moment the connection ends.
//!
//! It never waits for one thing alone: a send that is stuck holds up neither receiving nor
//! closing.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures::{
    FutureExt, StreamExt,
    future::{AbortHandle, Abortable, BoxFuture},
    stream::FuturesUnordered,
};
use mcpool_core::{
    CloseReason, Delivery, Error, ErrorKind, IncomingMessage, OutgoingMessage, Progress, Result,
    ServerRequestHandler, Transport,
    model::{
        CancelledNotification, CancelledNotificationParam, ClientNotification, ClientResult,
        ErrorData, NotificationMetaObject, NumberOrString, RequestId, ServerNotification,
        ServerRequest, ServerResult, SubscriptionFilter,
    },
};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
};

use crate::{
    error_map, handler, notice,
    peer::{Command, Outgoing, Shared, Slot, Stage},
};

/// How long the end of a connection may take to explain itself (an exit status, the errors of
/// sends under way) before pending requests are told. They never wait longer than this.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// What is added to the shutdown policy's bound before a transport that does not keep its
/// contract is dropped instead.
const CLOSE_MARGIN: Duration = Duration::from_secs(1);

/// A request that was sent, or is being sent.
struct Pending {
    slot: Arc<Slot>,
    reply: oneshot::Sender<Result<ServerResult>>,
    granted: Option<oneshot::Sender<SubscriptionFilter>>,
    /// Ends the send, if it is still under way.
    send: AbortHandle,
}

/// A send that has ended.
enum Sent {
    Request(RequestId, Result<()>),
    Notification(Option<oneshot::Sender<Result<()>>>, Result<()>),
    Answer(Result<()>),
    Aborted,
}

/// An answer to a request of the server.
type Answer = (RequestId, Result<ClientResult, ErrorData>);

/// Why the loop ended.
#[derive(PartialEq, Eq)]
enum End {
    Requested,
    Remote,
}

pub(crate) struct Driver {
    transport: Box<dyn Transport>,
    shared: Arc<Shared>,
    commands: mpsc::UnboundedReceiver<Command>,
    handler: Arc<dyn ServerRequestHandler>,
    pending: HashMap<RequestId, Pending>,
    sends: FuturesUnordered<BoxFuture<'static, Sent>>,
    answers: JoinSet<Answer>,
    answering: HashMap<RequestId, tokio::task::AbortHandle>,
}

/// Publishes the end of the connection however the driver ends: by its loop, by an abort, with
/// the runtime.
struct Farewell(Arc<Shared>);

impl Drop for Farewell {
    fn drop(&mut self) {
        self.0.dead.cancel();
        self.0.reason.send_if_modified(|reason| {
            let untold = reason.is_none();
            if untold {
                let error = Error::new(ErrorKind::ConnectionLost, "the connection was dropped")
                    .with_server(&self.0.server);
                *reason = Some(CloseReason::Lost(error));
            }
            untold
        });
        self.0.finished.cancel();
    }
}

impl Driver {
    pub(crate) fn new(
        transport: Box<dyn Transport>,
        shared: Arc<Shared>,
        commands: mpsc::UnboundedReceiver<Command>,
        handler: Arc<dyn ServerRequestHandler>,
    ) -> Self {
        Self {
            transport,
            shared,
            commands,
            handler,
            pending: HashMap::new(),
            sends: FuturesUnordered::new(),
            answers: JoinSet::new(),
            answering: HashMap::new(),
        }
    }

    pub(crate) async fn run(self) {
        // Declared before the driver, so dropped after it: who waits for the end finds the
        // transport gone.
        let _farewell = Farewell(Arc::clone(&self.shared));
        let mut driver = self;
        let end = driver.serve().await;
        driver.shared.dead.cancel();
        driver.answers.abort_all();
        match end {
            End::Requested => driver.leave().await,
            End::Remote => driver.bereave().await,
        }
    }

    async fn serve(&mut self) -> End {
        loop {
            tokio::select! {
                message = self.transport.receive() => match message {
                    Some(message) => self.receive(message),
                    None => return End::Remote,
                },
                command = self.commands.recv() => match command {
                    Some(command) => self.obey(command),
                    None => return End::Requested,
                },
                Some(sent) = self.sends.next() => self.sent(sent),
                Some(answer) = self.answers.join_next() => self.answered(answer),
                () = self.shared.closing.cancelled() => return End::Requested,
            }
        }
    }

    /// The application closes: pending requests end, then the transport.
    async fn leave(&mut self) {
        let error = Error::new(
            ErrorKind::Closed,
            "the client was closed while the request was under way",
        );
        self.end_requests(&error);
        self.shared
            .reason
            .send_replace(Some(CloseReason::Requested));
        self.sends.clear();
        let bound = self.shared.shutdown.total + CLOSE_MARGIN;
        match tokio::time::timeout(bound, self.transport.close()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::debug!(server = %self.shared.server, %error, "the close was not orderly");
            }
            Err(_) => {
                tracing::warn!(server = %self.shared.server, "the transport did not close in time");
            }
        }
    }

    /// The server is gone: its last words are gathered, then pending requests end with them.
    async fn bereave(&mut self) {
        let bound = tokio::time::Instant::now() + self.shared.shutdown.total + CLOSE_MARGIN;
        let last_words = tokio::time::Instant::now() + LAST_WORDS;
        let mut broken_sends = Vec::new();
        let mut close = self.transport.close();
        let mut closed = false;
        while !(self.sends.is_empty() && (closed || self.shared.monitor.failure().is_some())) {
            tokio::select! {
                _ = &mut close, if !closed => closed = true,
                Some(sent) = self.sends.next() => broken_sends.push(sent),
                () = tokio::time::sleep_until(last_words) => break,
            }
        }
        // A send that ended with an error knows best what became of its request.
        for sent in broken_sends {
            match sent {
                Sent::Request(id, Err(error)) => {
                    if let Some(pending) = self.pending.remove(&id) {
                        let _ = pending.reply.send(Err(error));
                    }
                }
                Sent::Notification(Some(done), outcome) => {
                    let _ = done.send(outcome);
                }
                _ => {}
            }
        }
        let error = error_map::lost(
            self.shared.monitor.failure(),
            self.shared.monitor.diagnostics(),
        )
        .with_server(&self.shared.server);
        tracing::info!(server = %self.shared.server, %error, "the connection ended");
        end_requests(&mut self.pending, &mut self.commands, &error);
        self.shared
            .reason
            .send_replace(Some(CloseReason::Lost(error)));
        if !closed && tokio::time::timeout_at(bound, close).await.is_err() {
            tracing::warn!(server = %self.shared.server, "the transport did not close in time");
        }
    }

    fn end_requests(&mut self, error: &Error) {
        end_requests(&mut self.pending, &mut self.commands, error);
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Request(outgoing) => self.send_request(*outgoing),
            Command::Notify { notification, done } => {
                self.send_notification(*notification, Some(done));
            }
            Command::Cancel { id, reason } => self.cancel(id, reason),
        }
    }

    fn send_request(&mut self, outgoing: Outgoing) {
        let Outgoing {
            id,
            request,
            slot,
            reply,
            granted,
        } = outgoing;
        if !slot.start() {
            return;
        }
        let send = self
            .transport
            .send(OutgoingMessage::request(request, id.clone()));
        let (abort, registration) = AbortHandle::new_pair();
        let sent_id = id.clone();
        self.sends.push(
            Abortable::new(send, registration)
                .map(move |outcome| match outcome {
                    Ok(outcome) => Sent::Request(sent_id, outcome),
                    Err(_) => Sent::Aborted,
                })
                .boxed(),
        );
        self.pending.insert(
            id,
            Pending {
                slot,
                reply,
                granted,
                send: abort,
            },
        );
    }

    fn send_notification(
        &mut self,
        notification: ClientNotification,
        done: Option<oneshot::Sender<Result<()>>>,
    ) {
        let send = self
            .transport
            .send(OutgoingMessage::notification(notification));
        self.sends.push(
            send.map(|outcome| Sent::Notification(done, outcome))
                .boxed(),
        );
    }

    fn cancel(&mut self, id: RequestId, reason: Option<&'static str>) {
        let Some(pending) = self.pending.remove(&id) else {
            return;
        };
        pending.send.abort();
        let Some(reason) = reason else {
            return;
        };
        let params = CancelledNotificationParam::new(Some(id), Some(reason.to_owned()));
        self.send_notification(CancelledNotification::new(params).into(), None);
    }

    fn sent(&mut self, sent: Sent) {
        match sent {
            Sent::Request(id, Err(error)) => {
                if let Some(pending) = self.pending.remove(&id) {
                    let _ = pending.reply.send(Err(error));
                }
            }
            Sent::Notification(Some(done), outcome) => {
                let _ = done.send(outcome);
            }
            Sent::Notification(None, Err(error)) | Sent::Answer(Err(error)) => {
                tracing::debug!(server = %self.shared.server, %error, "a message was not sent");
            }
            Sent::Request(_, Ok(())) | Sent::Notification(None, Ok(())) | Sent::Answer(Ok(())) => {}
            Sent::Aborted => {}
        }
    }

    fn receive(&mut self, message: IncomingMessage) {
        match message {
            IncomingMessage::Response(response) => {
                self.conclude(Some(response.id), Ok(response.result));
            }
            IncomingMessage::Error(error) => {
                self.conclude(error.id, Err(error_map::rpc(error.error)));
            }
            IncomingMessage::Notification(notification) => {
                self.shared.heard();
                self.notified(notification.notification);
            }
            IncomingMessage::Request(request) => {
                self.shared.heard();
                self.asked(request.id, request.request);
            }
        }
    }

    /// Gives an answer to the request that it belongs to.
    fn conclude(&mut self, id: Option<RequestId>, answer: Result<ServerResult>) {
        match self.take_pending(id.as_ref()) {
            Some(pending) => {
                if !pending.slot.probe {
                    self.shared.heard();
                }
                let _ = pending.reply.send(answer);
            }
            None => {
                self.shared.heard();
                // A late answer to a cancelled request, or a second one to the same.
                tracing::debug!(
                    server = %self.shared.server,
                    ?id,
                    "an answer to no pending request was dropped"
                );
            }
        }
    }

    fn take_pending(&mut self, id: Option<&RequestId>) -> Option<Pending> {
        match id {
            Some(id) => {
                // Some servers answer a number as a string.
                let number = match id {
                    NumberOrString::String(text) => text.parse().ok().map(RequestId::Number),
                    NumberOrString::Number(_) => None,
                };
                let known = self.pending.remove(id);
                known.or_else(|| number.and_then(|number| self.pending.remove(&number)))
            }
            // A server that could not read the id omits it. It is clear whom it means when only
            // one request is pending.
            None => {
                let mut candidates = self
                    .pending
                    .iter()
                    .filter(|(_, pending)| !pending.slot.listen);
                let only = candidates.next()?.0.clone();
                if candidates.next().is_some() {
                    return None;
                }
                self.pending.remove(&only)
            }
        }
    }

    fn notified(&mut self, notification: ServerNotification) {
        match notification {
            ServerNotification::ProgressNotification(progress) => {
                let params = progress.params;
                let id = match &params.progress_token.0 {
                    NumberOrString::String(text) => match text.parse() {
                        Ok(number) => RequestId::Number(number),
                        Err(_) => return,
                    },
                    number => number.clone(),
                };
                if let Some(pending) = self.pending.get(&id) {
                    pending.slot.progress(Progress::new(
                        params.progress,
                        params.total,
                        params.message,
                    ));
                }
            }
            ServerNotification::CancelledNotification(cancelled) => {
                let Some(id) = cancelled.params.request_id else {
                    return;
                };
                if let Some(task) = self.answering.remove(&id) {
                    task.abort();
                } else if self.pending.get(&id).is_some_and(|p| p.slot.listen) {
                    let error = Error::new(ErrorKind::Cancelled, "the server ended the stream")
                        .with_delivery(Delivery::Answered);
                    self.conclude(Some(id), Err(error));
                }
            }
            ServerNotification::SubscriptionsAcknowledgedNotification(granted) => {
                let pending = granted
                    .extensions
                    .get::<NotificationMetaObject>()
                    .and_then(NotificationMetaObject::subscription_id)
                    .and_then(|id| self.pending.get_mut(&id));
                if let Some(sender) = pending.and_then(|pending| pending.granted.take()) {
                    let _ = sender.send(granted.params.notifications);
                }
            }
            other => {
                // Nobody listening is fine.
                let _ = self.shared.notices.send(notice::from(other));
            }
        }
    }

    fn asked(&mut self, id: RequestId, request: ServerRequest) {
        if matches!(request, ServerRequest::PingRequest(_)) {
            self.send_answer(id, Ok(ClientResult::empty(())));
            return;
        }
        if self.shared.is_modern()
            && let Err(error) = handler::check_association(
                &request,
                self.pending.values().any(|pending| !pending.slot.listen),
            )
        {
            self.send_answer(id, Err(error));
            return;
        }
        let application = Arc::clone(&self.handler);
        let shared = Arc::clone(&self.shared);
        let answer_id = id.clone();
        let task = self.answers.spawn(async move {
            let _paused = handler::ClockPause::new(&shared.answering);
            let answer = std::panic::AssertUnwindSafe(handler::answer(
                &*application,
                &shared.server,
                request,
            ));
            let answer = answer.catch_unwind().await.unwrap_or_else(|_| {
                tracing::error!(server = %shared.server, "the request handler panicked");
                Err(ErrorData::internal_error("the client failed", None))
            });
            (answer_id, answer)
        });
        self.answering.insert(id, task);
    }

    fn answered(&mut self, answer: std::result::Result<Answer, tokio::task::JoinError>) {
        // An error here is an abort: the server took its request back and wants no answer.
        if let Ok((id, answer)) = answer
            && self.answering.remove(&id).is_some()
        {
            self.send_answer(id, answer);
        }
    }

    fn send_answer(&mut self, id: RequestId, answer: Result<ClientResult, ErrorData>) {
        let message = match answer {
            Ok(result) => OutgoingMessage::response(result, id),
            Err(error) => OutgoingMessage::error(error, Some(id)),
        };
        let send = self.transport.send(message);
        self.sends.push(send.map(Sent::Answer).boxed());
    }
}

/// Ends what is pending and what is still queued; the latter was never sent.
fn end_requests(
    pending: &mut HashMap<RequestId, Pending>,
    commands: &mut mpsc::UnboundedReceiver<Command>,
    error: &Error,
) {
    for (_, pending) in pending.drain() {
        let _ = pending
            .reply
            .send(Err(error.clone().with_delivery(Delivery::Unknown)));
    }
    commands.close();
    while let Ok(command) = commands.try_recv() {
        let unsent = error.clone().with_delivery(Delivery::NotSent);
        match command {
            Command::Request(outgoing) => {
                debug_assert_ne!(outgoing.slot.stage(), Stage::Sending);
                let _ = outgoing.reply.send(Err(unsent));
            }
            Command::Notify { done, .. } => {
                let _ = done.send(Err(unsent));
            }
            Command::Cancel { .. } => {}
        }
    }
}
