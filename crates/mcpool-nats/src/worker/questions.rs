//! What a server asks, on its way to the gateway of a session.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use mcpool_core::{
    Caller, Notification, Raw, RawObject, RpcError, ServerName, ServerRequest, ServerRequestHandler,
};
use serde_json::json;
use tokio::sync::{SetOnce, oneshot};

use super::soon::Soon;
use crate::outgoing::{About, Outgoing};

/// The questions of one session that wait for its gateway.
pub(super) struct Questions {
    out: Arc<Outgoing>,
    soon: Arc<Soon>,
    /// The session, where all requests of the server are its own.
    only: Option<String>,
    waiting: Mutex<HashMap<u64, oneshot::Sender<Result<Raw, RpcError>>>>,
    next: AtomicU64,
}

impl Questions {
    /// None yet. `only` is the session's name, where the server's connection is its own.
    pub(super) fn new(out: Arc<Outgoing>, soon: Arc<Soon>, only: Option<String>) -> Arc<Self> {
        Arc::new(Self {
            out,
            soon,
            only,
            waiting: Mutex::default(),
            next: AtomicU64::new(1),
        })
    }

    /// Who is behind a request of the session.
    pub(super) fn asker(self: &Arc<Self>) -> Arc<dyn Caller> {
        Arc::new(Asker {
            only: self.only.clone(),
            questions: Arc::downgrade(self),
        })
    }

    /// The gateway has answered. What nobody waits for any more is left alone.
    pub(super) fn answered(&self, number: u64, outcome: Result<Raw, RpcError>) {
        let reply = self.waiting().remove(&number);
        if let Some(reply) = reply {
            let _ = reply.send(outcome);
        }
    }

    /// Nobody answers any more.
    pub(super) fn stop(&self) {
        self.waiting().clear();
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<u64, oneshot::Sender<Result<Raw, RpcError>>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The gateway behind a session: hears what the server says in the course of a request, and is
/// asked.
struct Asker {
    only: Option<String>,
    questions: Weak<Questions>,
}

#[async_trait]
impl Caller for Asker {
    fn client(&self) -> Option<&str> {
        self.only.as_deref()
    }

    fn heard(&self, notification: &Notification) -> bool {
        let Some(questions) = self.questions.upgrade() else {
            return false;
        };
        questions.soon.push(notification);
        true
    }

    async fn answer(&self, _: &ServerName, request: ServerRequest) -> Result<Raw, RpcError> {
        ask(&self.questions, request).await
    }
}

/// Asks the gateway, and waits for its answer without keeping the session.
async fn ask(questions: &Weak<Questions>, request: ServerRequest) -> Result<Raw, RpcError> {
    let gone = || RpcError::new(RpcError::INTERNAL, "the gateway of this request is gone");
    let held = questions.upgrade().ok_or_else(gone)?;
    let number = held.next.fetch_add(1, Ordering::Relaxed);
    let (reply, answer) = oneshot::channel();
    held.waiting().insert(number, reply);
    let mut asked = Asked {
        questions: Weak::clone(questions),
        number,
        done: false,
    };
    let mut object = RawObject::new();
    let text = |text: &str| Raw::of(text).map_err(|_| gone());
    object.insert("jsonrpc", text("2.0")?);
    object.insert("id", Raw::of(&number).map_err(|_| gone())?);
    object.insert("method", text(&request.method)?);
    if let Some(params) = request.params {
        object.insert("params", params);
    }
    let text = object.to_raw().map_err(|_| gone())?;
    let body = Bytes::from(text.get().to_owned());
    let out = Arc::clone(&held.out);
    drop(held);
    if out.message(body, About::default()).await.is_err() {
        return Err(gone());
    }
    let answer = answer.await.map_err(|_| gone())?;
    asked.done = true;
    answer
}

/// A question that waits. Dropping it withdraws it.
struct Asked {
    questions: Weak<Questions>,
    number: u64,
    done: bool,
}

impl Drop for Asked {
    fn drop(&mut self) {
        let Some(questions) = self.questions.upgrade() else {
            return;
        };
        let waiting = questions.waiting().remove(&self.number);
        if waiting.is_some() && !self.done {
            let params = Raw::of(&json!({ "requestId": self.number })).ok();
            let cancelled = Notification::new("notifications/cancelled", params);
            questions.soon.push(&cancelled);
        }
    }
}

/// Answers what a server asks by itself whose connection belongs to one session: the gateway of that
/// session does. The server learns at its connect what that gateway has declared in `open`.
pub(super) struct OfSession {
    declared: Raw,
    /// Known once the gateway says that it has initialized: before that it cannot be asked.
    questions: SetOnce<Weak<Questions>>,
}

impl OfSession {
    /// For a session whose gateway declares these capabilities.
    pub(super) fn new(declared: Raw) -> Arc<Self> {
        Arc::new(Self {
            declared,
            questions: SetOnce::new(),
        })
    }

    /// The gateway can be asked from now on.
    pub(super) fn begin(&self, questions: &Arc<Questions>) {
        // Said twice, it was so before.
        let _ = self.questions.set(Arc::downgrade(questions));
    }
}

#[async_trait]
impl ServerRequestHandler for OfSession {
    fn capabilities(&self, _: &ServerName) -> Raw {
        self.declared.clone()
    }

    /// Waits for the gateway to be there. The server's connection ends with the session, and this
    /// with it.
    async fn answer(&self, _: &ServerName, request: ServerRequest) -> Result<Raw, RpcError> {
        ask(self.questions.wait().await, request).await
    }
}
