//! Where each thing that was read goes.

use std::sync::Arc;

use mcpool_core::{
    Delivery, Error, ErrorKind, Message, Notification, Progress, Raw, RawObject, RequestId,
    ResponseId, RpcError, ServerRequest, is_client_method,
};

use crate::{connection::Connection, frame::Frame, pending::Stray, wire::guarded};

/// The member of `_meta` that says to which listen stream a notification belongs (MCP 2026-07-28,
/// "Subscriptions").
const SUBSCRIPTION_ID: &str = "io.modelcontextprotocol/subscriptionId";

impl Connection {
    /// Hands on what was read. Never waits.
    pub(crate) fn accept(self: &Arc<Self>, frame: Frame) {
        match frame {
            Frame::Message(Message::Response { id, outcome }) => self.answer(id, outcome),
            Frame::Message(Message::Request(request)) => self.asked(request),
            Frame::Message(Message::Notification(notification)) => self.notified(notification),
            Frame::Message(_) => {}
            Frame::Unreadable { ids, reason } => {
                for id in ids.answers {
                    let message = format!("the server's answer cannot be read: {reason}");
                    // It was sent and answered, so it may have run.
                    let error = Error::new(ErrorKind::Protocol, message);
                    self.fail(id, error.with_delivery(Delivery::Unknown));
                }
                for id in ids.requests {
                    let message = format!("the request cannot be read: {reason}");
                    self.refuse(&id, RpcError::new(RpcError::PARSE, message));
                }
            }
            Frame::Oversized { ids, limit } => self.oversized(ids.answers, &ids.requests, limit),
            Frame::Failed { id, error } => self.fail(id, error),
            Frame::Returned(id) => {
                let departure = self.pending().departure_of(id);
                if let Some(departure) = departure {
                    departure.come_back();
                }
            }
            Frame::Skipped { reason, text } => self.wire.monitor.skip(reason, &text),
            Frame::Odd(what) => self.wire.monitor.note(what),
        }
    }

    fn answer(&self, id: ResponseId, outcome: Result<Raw, RpcError>) {
        let found = match id {
            ResponseId::Ours(id) => self.pending().answered(id),
            ResponseId::Null if outcome.is_err() => {
                let one = self.pending().only_one();
                one.ok_or(Stray::Unasked)
            }
            _ => Err(Stray::Unasked),
        };
        match found {
            Ok(request) => request.answered(outcome),
            Err(Stray::Late) => {}
            Err(Stray::Unasked) => self
                .wire
                .monitor
                .note("an answer to nothing that was asked, or a second one"),
        }
    }

    fn fail(&self, id: RequestId, error: Error) {
        let found = self.pending().answered(id);
        if let Ok(request) = found {
            request.failed(error.with_server(&self.wire.server));
        }
    }

    fn oversized(self: &Arc<Self>, answers: Vec<RequestId>, requests: &[Raw], limit: usize) {
        tracing::warn!(
            server = %self.wire.server,
            transport = self.wire.kind.as_str(),
            limit_bytes = limit,
            answers = answers.len(),
            requests = requests.len(),
            "a message is over the size limit"
        );
        for id in answers {
            let message = format!(
                "the server's answer is over the limit of {limit} bytes; raise the limit or ask \
                 for less"
            );
            // The server ran it and answered: doing it again would give the same.
            let error = Error::new(ErrorKind::TooLarge, message);
            self.fail(id, error.with_delivery(Delivery::Answered));
        }
        for id in requests {
            let message = format!("the request is over the limit of {limit} bytes");
            self.refuse(id, RpcError::new(RpcError::INVALID_REQUEST, message));
        }
    }

    fn asked(self: &Arc<Self>, request: ServerRequest) {
        if let Some(ours) = self.is_echo(&request) {
            self.wire.monitor.note("it sends back what it is sent");
            let error = Error::new(
                ErrorKind::Protocol,
                "the server sends back what it is sent: it is a program such as `cat`, or a \
                 terminal that echoes (`docker run -t`, `ssh -t`), and not an MCP server",
            );
            // Behind a terminal that echoes it may still run.
            return self.fail(ours, error.with_delivery(Delivery::Unknown));
        }
        if let Err(refused) = self.inbox.request(request) {
            let message = "too many requests wait for an answer";
            self.refuse(&refused.id, RpcError::new(RpcError::INTERNAL, message));
        }
    }

    /// Whose words these are, when they are our own: a request that only a client sends, under an
    /// id of ours that waits.
    fn is_echo(&self, request: &ServerRequest) -> Option<RequestId> {
        if !is_client_method(&request.method) {
            return None;
        }
        match ResponseId::read(request.id.as_raw_value()) {
            ResponseId::Ours(id) if self.pending().is_waiting(id) => Some(id),
            _ => None,
        }
    }

    fn notified(&self, notification: Notification) {
        let params = notification.params.as_ref();
        if notification.method == "notifications/progress"
            && let Some((id, progress)) = params.and_then(Progress::read)
        {
            let sink = self.pending().progress_of(id);
            if let Some(sink) = sink {
                guarded(&self.wire, || sink.progress(progress));
                return;
            }
            if self.was_assigned(id) && !self.pending().is_waiting(id) {
                // It comes after the end of its request.
                return;
            }
        }
        let listener = params.and_then(|params| self.listener(params));
        let heard = listener.is_some_and(|sink| {
            guarded(&self.wire, || sink.notification(&notification)).unwrap_or_default()
        });
        if !heard {
            self.inbox.notification(notification);
            self.wire.monitor.set_dropped_notices(self.inbox.dropped());
        }
    }

    /// The listen stream to which parameters belong.
    fn listener(&self, params: &Raw) -> Option<Arc<dyn mcpool_core::RequestSink>> {
        if !self.pending().has_listens()
            || memchr::memmem::find(params.get().as_bytes(), b"subscriptionId").is_none()
        {
            return None;
        }
        let meta = RawObject::parse(params).ok()?.remove("_meta")?;
        let id = RawObject::parse(&meta).ok()?.remove(SUBSCRIPTION_ID)?;
        match ResponseId::read(id.as_raw_value()) {
            ResponseId::Ours(id) => self.pending().listener(id),
            _ => None,
        }
    }
}
