//! What a supervisor does to a connection, as futures that can be dropped at any moment: make it,
//! listen to it, probe it, close it. Each is bounded in time and survives a client that panics.

use std::{future::Future, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::{
    FutureExt,
    future::{self, BoxFuture},
};
use mcpool_core::{
    Client, CloseReason, Diagnostics, Error, ErrorKind, ProbeMethod, ProbeReport, Result,
    ServerNotice, ServerSpec, model::Tool,
};
use tokio::{sync::broadcast, time::Instant};

use crate::{
    catalog::{self, Listing},
    manager::Shared,
    server::Server,
    slot::Live,
};

/// How much longer than its own bound an operation of a client may take before it is given up.
pub(crate) const GRACE: Duration = Duration::from_secs(2);
/// The same for a probe, whose bound is part of a promise.
const PROBE_GRACE: Duration = Duration::from_millis(250);

/// A live connection and what is listened to of it.
pub(crate) struct Connection {
    pub(crate) live: Arc<Live>,
    pub(crate) since: Instant,
    closed: BoxFuture<'static, CloseReason>,
    notices: Option<broadcast::Receiver<ServerNotice>>,
}

/// What a live connection says by itself.
pub(crate) enum Heard {
    Closed(CloseReason),
    Notice(ServerNotice),
    /// So many notices were missed.
    Missed(u64),
}

impl Connection {
    pub(crate) fn new(live: Arc<Live>, notices: broadcast::Receiver<ServerNotice>) -> Self {
        let watched = Arc::clone(&live.client);
        Self {
            live,
            since: Instant::now(),
            closed: async move { watched.closed().await }.boxed(),
            notices: Some(notices),
        }
    }

    /// Why the connection ended, if that is known by now. Not to be called again after `Some`.
    pub(crate) fn ended(&mut self) -> Option<CloseReason> {
        (&mut self.closed).now_or_never()
    }

    /// The next thing that it says. Cancel-safe; not to be called again after `Closed`.
    pub(crate) async fn hear(&mut self) -> Heard {
        loop {
            let notice = async {
                match &mut self.notices {
                    Some(notices) => notices.recv().await,
                    None => future::pending().await,
                }
            };
            tokio::select! {
                reason = &mut self.closed => return Heard::Closed(reason),
                notice = notice => match notice {
                    Ok(notice) => return Heard::Notice(notice),
                    Err(broadcast::error::RecvError::Lagged(missed)) => {
                        return Heard::Missed(missed);
                    }
                    // It says nothing more but its end.
                    Err(broadcast::error::RecvError::Closed) => {}
                },
            }
            self.notices = None;
        }
    }
}

/// A client that was connected, and what was asked of it before anybody else may.
pub(crate) struct Connected {
    pub(crate) client: Arc<dyn Client>,
    pub(crate) notices: broadcast::Receiver<ServerNotice>,
    pub(crate) tools: Listing<Tool>,
    pub(crate) elapsed: Duration,
}

/// A connect that failed.
pub(crate) struct ConnectFailure {
    pub(crate) error: Error,
    pub(crate) elapsed: Duration,
    /// A client that was connected but is of no use: to be closed.
    pub(crate) client: Option<Arc<dyn Client>>,
}

/// One connect: in its turn, bounded, until the tools are listed and the ledger is restored.
/// Dropping the future releases what was made so far.
pub(crate) async fn connect(
    shared: Arc<Shared>,
    server: Arc<Server>,
    spec: Arc<ServerSpec>,
) -> Result<Connected, ConnectFailure> {
    let permit = shared.budget.acquire(&spec.transport).await;
    let started = Instant::now();
    let made = async {
        let _permit = permit?;
        make(&shared, &server, &spec).await
    };
    let outcome = guarded(made, "the client factory")
        .await
        .unwrap_or_else(|error| Err(error.into()));
    outcome.map_err(|Unusable { error, client }| ConnectFailure {
        error,
        elapsed: started.elapsed(),
        client,
    })
}

/// Why there is no connection, and the client that there nearly was.
struct Unusable {
    error: Error,
    client: Option<Arc<dyn Client>>,
}

impl From<Error> for Unusable {
    fn from(error: Error) -> Self {
        Self {
            error,
            client: None,
        }
    }
}

async fn make(shared: &Shared, server: &Server, spec: &ServerSpec) -> Result<Connected, Unusable> {
    let started = Instant::now();
    let startup = spec.policy.timeouts.startup;
    let client = tokio::time::timeout(startup + GRACE, shared.factory.connect(spec))
        .await
        .unwrap_or_else(|_| {
            Err(Error::new(
                ErrorKind::Timeout,
                format!("the server was not ready within {startup:?}"),
            ))
        })?;
    let elapsed = started.elapsed();
    // Listened to before the first list is asked for: no change after it is missed.
    let notices = client.notices();
    let version = server.catalog.tools.version();
    let bound = spec.policy.timeouts.request + GRACE;
    let listed = tokio::time::timeout(bound, async {
        let tools = catalog::fetch(&*client, version, spec).await?;
        for error in server.continuity.restore(&*client).await {
            tracing::warn!(server = %server.name, %error, "not restored after the reconnect");
        }
        Ok(tools)
    });
    let tools = match listed.await.unwrap_or_else(|_| {
        Err(Error::new(
            ErrorKind::Timeout,
            "the server connected but did not list its tools in time",
        ))
    }) {
        Ok(tools) => tools,
        Err(error) => {
            return Err(Unusable {
                error: error.with_operation("tools/list"),
                client: Some(client),
            });
        }
    };
    Ok(Connected {
        client,
        notices,
        tools,
        elapsed,
    })
}

/// Asks a server whether it lives; `budgeted` within the connect budget.
pub(crate) async fn probe(
    shared: Arc<Shared>,
    spec: Arc<ServerSpec>,
    client: Arc<dyn Client>,
    budgeted: bool,
) -> Result<ProbeReport> {
    let _permit = if budgeted {
        Some(shared.budget.acquire(&spec.transport).await?)
    } else {
        None
    };
    let timeout = spec.policy.health.timeout;
    let started = Instant::now();
    let answer = tokio::time::timeout(
        timeout + PROBE_GRACE,
        guarded(client.probe(timeout), "the probe"),
    );
    let answer = match answer.await {
        Ok(Ok(answer)) => answer,
        Ok(Err(panicked)) => Err(panicked),
        Err(_) => Err(Error::new(
            ErrorKind::Timeout,
            format!("the probe was not answered within {timeout:?}"),
        )),
    };
    match answer {
        // A refusal is an answer, and an answer is life.
        Err(error) if matches!(error.kind(), ErrorKind::Rpc | ErrorKind::RateLimited) => {
            Ok(ProbeReport::new(started.elapsed(), ProbeMethod::Ping))
        }
        other => other,
    }
}

/// Closes a client in the orderly way, bounded, and says what it left.
pub(crate) async fn close(client: Arc<dyn Client>, bound: Duration) -> Diagnostics {
    let close = tokio::time::timeout(bound, guarded(client.close(), "the close"));
    if !matches!(close.await, Ok(Ok(()))) {
        tracing::warn!(
            server = %client.info().server,
            "the close did not end in time; the connection is dropped"
        );
    }
    client.diagnostics()
}

/// Turns a panic into an error: one bad client must not end the supervision.
async fn guarded<F: Future>(future: F, what: &'static str) -> Result<F::Output> {
    AssertUnwindSafe(future).catch_unwind().await.map_err(|_| {
        Error::new(
            ErrorKind::Internal,
            format!("{what} panicked; this is a bug in it"),
        )
    })
}
