//! What a supervisor does to a connection, as futures that can be dropped at any moment: make it,
//! listen to it, probe it, close it. Each is bounded in time and survives a client that panics.

use std::{future::Future, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::{
    FutureExt,
    future::{self, BoxFuture},
};
use mcpool_core::{
    Client, ClientSnapshot, CloseReason, ConnectOptions, Delivery, Diagnostics, Error, ErrorKind,
    Notices, ProbeMethod, ProbeReport, Result, ServerName, ServerNotice, ServerSpec, model::Tool,
};
use tokio::time::Instant;

use crate::{
    catalog::{cache::CachedList, fetch},
    request::admission::after,
    server::Server,
    shared::Shared,
    supervise::slot::Live,
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
    notices: Option<Notices>,
}

/// What a live connection says by itself.
pub(crate) enum Heard {
    Closed(CloseReason),
    Notice(ServerNotice),
}

impl Connection {
    pub(crate) fn new(live: Arc<Live>, notices: Notices) -> Self {
        let watched = Arc::clone(&live.client);
        Self {
            live,
            since: Instant::now(),
            closed: async move {
                match guarded(watched.closed(), "`closed` of the client").await {
                    Ok(reason) => reason,
                    Err(panicked) => CloseReason::Lost(panicked),
                }
            }
            .boxed(),
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
                    Some(notices) => notices.next().await,
                    None => future::pending().await,
                }
            };
            tokio::select! {
                reason = &mut self.closed => return Heard::Closed(reason),
                // Without one it says nothing more but its end.
                notice = notice => if let Some(notice) = notice {
                    return Heard::Notice(notice);
                },
            }
            self.notices = None;
        }
    }
}

/// A client that was connected, and what was asked of it before anybody else may.
pub(crate) struct Connected {
    pub(crate) client: Arc<dyn Client>,
    pub(crate) notices: Notices,
    pub(crate) tools: CachedList<Tool>,
    pub(crate) elapsed: Duration,
}

/// A connect that failed.
pub(crate) struct ConnectFailure {
    pub(crate) error: Error,
    pub(crate) elapsed: Duration,
    /// A client that was connected but is of no use: to be closed.
    pub(crate) client: Option<Arc<dyn Client>>,
}

/// How long a connect keeps its place in the budget: one that hangs must not hold up the others.
const BUDGETED: Duration = Duration::from_secs(5);

/// One connect: in its turn, bounded as a whole by `timeouts.startup`, until the tools are listed
/// and the ledger is restored. Dropping the future releases what was made so far.
pub(crate) async fn connect(
    shared: Arc<Shared>,
    server: Arc<Server>,
    spec: Arc<ServerSpec>,
    options: ConnectOptions,
) -> Result<Connected, ConnectFailure> {
    let permit = shared.budget.acquire(&spec.transport).await;
    let started = Instant::now();
    let made = async {
        let permit = permit?;
        let making = make(&shared, &server, &spec, &options);
        tokio::pin!(making);
        match tokio::time::timeout(BUDGETED, &mut making).await {
            Ok(made) => made,
            Err(_) => {
                drop(permit);
                making.await
            }
        }
    };
    let outcome = guarded(made, "the connect")
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

async fn make(
    shared: &Shared,
    server: &Server,
    spec: &ServerSpec,
    options: &ConnectOptions,
) -> Result<Connected, Unusable> {
    let started = Instant::now();
    let startup = spec.policy.timeouts.startup;
    let end = after(started, startup);
    // The factory keeps to the same bound and says more when it passes.
    let connecting = shared.factory.connect(spec, options);
    let client = tokio::time::timeout_at(after(end, GRACE), connecting)
        .await
        .unwrap_or_else(|_| {
            Err(Error::new(
                ErrorKind::Timeout,
                format!("the server was not ready within {startup:?} (timeouts.startup)"),
            ))
        })?;
    let elapsed = started.elapsed();
    // Listened to before the first list is asked for: no change after it is missed.
    let notices = client.notices();
    let version = server.catalog.tools.version();
    let listing = async {
        let tools = fetch::fetch(&*client, version, spec).await;
        for error in server.continuity.restore(&*client).await {
            tracing::warn!(server = %server.name, %error, "not restored after the reconnect");
        }
        tools
    };
    // A client that is connected in the last moment may still answer.
    let listed = tokio::time::timeout_at(end.max(after(Instant::now(), GRACE)), listing).await;
    let unusable = match listed {
        Ok(Ok(tools)) => {
            return Ok(Connected {
                client,
                notices,
                tools,
                elapsed,
            });
        }
        // The server answered: its list is bad, and the rest of it may be good.
        Ok(Err(error)) if error.delivery() == Delivery::Answered && !client.is_closed() => {
            let error = error.with_server(&server.name).with_operation("tools/list");
            tracing::warn!(server = %server.name, %error, "connected without a list of tools");
            let last = server.catalog.tools.cached();
            return Ok(Connected {
                client,
                notices,
                tools: fetch::missing(last.as_deref(), error, version),
                elapsed,
            });
        }
        Ok(Err(error)) => error,
        Err(_) => Error::new(
            ErrorKind::Timeout,
            format!(
                "the server connected but did not list its tools within {startup:?} (timeouts.startup)"
            ),
        ),
    };
    Err(Unusable {
        error: unusable.with_operation("tools/list"),
        client: Some(client),
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
    let answer = tokio::time::timeout_at(
        after(after(started, timeout), PROBE_GRACE),
        guarded(client.probe(timeout), "`probe` of the client"),
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
pub(crate) async fn close(
    server: ServerName,
    client: Arc<dyn Client>,
    bound: Duration,
) -> Diagnostics {
    let close = tokio::time::timeout(bound, guarded(client.close(), "`close` of the client"));
    if !matches!(close.await, Ok(Ok(()))) {
        tracing::warn!(%server, "the close did not end in time; the connection is dropped");
    }
    snapshot(&*client).map_or_else(Diagnostics::default, |snapshot| snapshot.diagnostics)
}

/// What a client knows of itself; `None` when it panics over it.
pub(crate) fn snapshot(client: &dyn Client) -> Option<ClientSnapshot> {
    std::panic::catch_unwind(AssertUnwindSafe(|| client.snapshot())).ok()
}

/// Turns a panic into an error: one bad client must not end the supervision.
async fn guarded<F: Future>(future: F, what: &str) -> Result<F::Output> {
    AssertUnwindSafe(future)
        .catch_unwind()
        .await
        .map_err(|panic| {
            let said = match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
                (Some(text), _) => text,
                (None, Some(text)) => text.as_str(),
                (None, None) => "no message",
            };
            Error::new(ErrorKind::Internal, format!("{what} panicked: {said}"))
        })
}
