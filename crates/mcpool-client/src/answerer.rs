//! Who answers the questions of one server: the application's handler, within what it declared.

use std::{panic::AssertUnwindSafe, result, sync::Arc};

use futures::FutureExt;
use mcpool_core::{
    Caller, Offered, Raw, RpcError, ServerName, ServerRequest, ServerRequestHandler,
};

use crate::clock::MAX_PAUSE;

/// Who answers, and what it may be asked.
#[derive(Clone)]
pub(crate) struct Answerer {
    handler: Arc<dyn ServerRequestHandler>,
    offered: Arc<Offered>,
}

impl Answerer {
    /// The handler, which has declared these capabilities.
    pub(crate) fn new(handler: Arc<dyn ServerRequestHandler>, capabilities: &Raw) -> Self {
        Self {
            handler,
            offered: Arc::new(Offered::read(capabilities)),
        }
    }

    /// Whether it may be asked this.
    ///
    /// # Errors
    /// The refusal.
    pub(crate) fn check(&self, request: &ServerRequest) -> result::Result<(), RpcError> {
        self.offered.check(request)
    }

    /// Lets the caller answer, or the application where there is none, however long a person takes, but for [`MAX_PAUSE`]. A panic of
    /// the application is an error for the server.
    pub(crate) async fn answer(
        &self,
        caller: Option<&dyn Caller>,
        server: &ServerName,
        request: ServerRequest,
    ) -> result::Result<Raw, RpcError> {
        let answer = match caller {
            Some(caller) => caller.answer(server, request),
            None => self.handler.answer(server, request),
        };
        let answer = AssertUnwindSafe(answer).catch_unwind();
        match tokio::time::timeout(MAX_PAUSE, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => {
                tracing::error!(%server, "the application panicked over a question of the server");
                Err(RpcError::new(RpcError::INTERNAL, "the client failed"))
            }
            Err(_) => Err(RpcError::new(
                RpcError::INTERNAL,
                "nobody answered the question in time",
            )),
        }
    }
}
