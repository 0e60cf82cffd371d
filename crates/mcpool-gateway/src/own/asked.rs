//! How an instance that is one client's own asks that client.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use mcpool_core::{
    Caller, Notification, Raw, RpcError, ServerName, ServerRequest, ServerRequestHandler,
};

/// The way by which a client can be asked what belongs to no request of it.
pub(crate) enum Way {
    /// There is none.
    None,
    /// A stream that stays: its connection, or the standing stream of its session.
    Stream(Arc<dyn Caller>),
    /// A request, which may end any moment.
    Request(Arc<dyn Caller>),
}

/// The ways to a client, the latest last.
#[derive(Default)]
pub(super) struct Asked(Mutex<Vec<(u64, Way)>>);

impl Asked {
    fn ways(&self) -> MutexGuard<'_, Vec<(u64, Way)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A way begins.
    pub(super) fn begin(&self, id: u64, way: Way) {
        if !matches!(way, Way::None) {
            self.ways().push((id, way));
        }
    }

    /// A way has ended.
    pub(super) fn end(&self, id: u64) {
        self.ways().retain(|(way, _)| *way != id);
    }

    /// The latest stream, or the latest request where there is no stream.
    fn best(&self) -> Option<(u64, Arc<dyn Caller>)> {
        let ways = self.ways();
        let mut best = None;
        for (id, way) in ways.iter().rev() {
            match way {
                Way::Stream(caller) => return Some((*id, Arc::clone(caller))),
                Way::Request(caller) => best = best.or(Some((*id, caller))),
                Way::None => {}
            }
        }
        best.map(|(id, caller)| (id, Arc::clone(caller)))
    }

    /// Asks the client what belongs to no request of it. When the way ends before the client has
    /// answered, it is asked by the next one.
    pub(super) async fn answer(
        &self,
        server: &ServerName,
        request: ServerRequest,
    ) -> Result<Raw, RpcError> {
        while let Some((id, caller)) = self.best() {
            let answer = caller.answer(server, request.clone()).await;
            if answer.is_ok() || self.ways().iter().any(|(way, _)| *way == id) {
                return answer;
            }
        }
        Err(RpcError::new(
            RpcError::INTERNAL,
            "the client of this instance has no stream open and nothing under way, so it cannot be \
             asked now",
        ))
    }
}

/// The client behind a request to an instance of its own.
pub(super) struct OwnCaller {
    request: Arc<dyn Caller>,
    asked: Arc<Asked>,
}

impl OwnCaller {
    pub(super) fn new(request: Arc<dyn Caller>, asked: Arc<Asked>) -> Self {
        Self { request, asked }
    }
}

#[async_trait]
impl Caller for OwnCaller {
    fn client(&self) -> Option<&str> {
        self.request.client()
    }

    fn heard(&self, notification: &Notification) -> bool {
        self.request.heard(notification)
    }

    /// A server wants roots when they have changed, whatever is under way, and need not wait for
    /// them before it answers that.
    async fn answer(&self, server: &ServerName, request: ServerRequest) -> Result<Raw, RpcError> {
        match request.method.as_str() {
            "roots/list" => self.asked.answer(server, request).await,
            _ => self.request.answer(server, request).await,
        }
    }
}

/// Answers what an instance asks: its client does.
pub(super) struct Handler {
    declared: Raw,
    asked: Arc<Asked>,
}

impl Handler {
    pub(super) fn new(declared: Raw, asked: Arc<Asked>) -> Self {
        Self { declared, asked }
    }
}

#[async_trait]
impl ServerRequestHandler for Handler {
    fn capabilities(&self, _: &ServerName) -> Raw {
        self.declared.clone()
    }

    async fn answer(&self, server: &ServerName, request: ServerRequest) -> Result<Raw, RpcError> {
        self.asked.answer(server, request).await
    }
}
