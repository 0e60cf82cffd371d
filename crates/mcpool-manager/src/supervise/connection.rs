//! What a supervisor does to a connection, as futures that can be dropped at any moment: make it,
//! listen to it, probe it, close it. Each is bounded in time and survives a client that panics.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

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
    server::{Server, lock},
    shared::Shared,
    supervise::{
        foreign::{asked, guarded, is_closed},
        machine::after,
        open::Open,
        slot::Live,
    },
};

/// How much longer than its own bound an operation of a client may take before it is given up.
pub(crate) const GRACE: Duration = Duration::from_secs(2);
/// The same for a probe, whose bound is part of a promise.
const PROBE_GRACE: Duration = Duration::from_millis(250);

/// A live connection and what is listened to of it.
pub(crate) struct Connection {
    pub(crate) live: Arc<Live>,
    pub(crate) since: Instant,
    pub(crate) open: Open,
    closed: BoxFuture<'static, CloseReason>,
    notices: Option<Notices>,
}

/// What a live connection says by itself.
pub(crate) enum Heard {
    Closed(CloseReason),
    Notice(ServerNotice),
}

impl Connection {
    pub(crate) fn new(live: Arc<Live>, open: Open, notices: Notices) -> Self {
        let watched = Arc::clone(&live);
        Self {
            live,
            since: Instant::now(),
            open,
            closed: async move {
                let closed = guarded("`closed` of the client", watched.client.closed());
                tokio::select! {
                    biased;
                    error = watched.broken() => CloseReason::Lost(error),
                    closed = closed => closed.unwrap_or_else(CloseReason::Lost),
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
}

/// Where a connect under way puts its client, so that a caller that gives the connect up can close it.
pub(crate) type Made = Arc<Mutex<Option<Open>>>;

/// How long a connect keeps its place in the budget: one that hangs must not hold up the others.
const BUDGETED: Duration = Duration::from_secs(5);

/// One connect: in its turn, bounded as a whole by `timeouts.startup`, until the tools are listed
/// and the ledger is restored. Dropping the future releases what was made so far.
pub(crate) async fn connect(
    shared: Arc<Shared>,
    server: Arc<Server>,
    spec: Arc<ServerSpec>,
    options: ConnectOptions,
    made: Made,
) -> Result<Connected, ConnectFailure> {
    let permit = shared.budget.acquire(&spec.transport).await;
    let started = Instant::now();
    let outcome = async {
        let permit = permit?;
        let making = make(&shared, &server, &spec, &options, &made);
        tokio::pin!(making);
        match tokio::time::timeout(BUDGETED, &mut making).await {
            Ok(made) => made,
            Err(_) => {
                drop(permit);
                making.await
            }
        }
    };
    outcome.await.map_err(|error| ConnectFailure {
        error,
        elapsed: started.elapsed(),
    })
}

async fn make(
    shared: &Shared,
    server: &Server,
    spec: &ServerSpec,
    options: &ConnectOptions,
    made: &Made,
) -> Result<Connected> {
    let started = Instant::now();
    let startup = spec.policy.timeouts.startup;
    let end = after(started, startup);
    // The factory keeps to the same bound and says more when it passes.
    let connecting = guarded(
        "`connect` of the client factory",
        shared.factory.connect(spec, options),
    );
    let client = match tokio::time::timeout_at(after(end, GRACE), connecting).await {
        Ok(connected) => connected??,
        Err(_) => {
            return Err(Error::new(
                ErrorKind::Timeout,
                format!("the server was not ready within {startup:?} (startup_timeout)"),
            ));
        }
    };
    *lock(made) = Some(shared.open.keep(Arc::clone(&client)));
    let elapsed = started.elapsed();
    // Listened to before the first list is asked for: no change after it is missed.
    let notices = asked("`notices` of the client", || client.notices())?;
    let version = server.catalog.tools.version();
    let listing = async {
        let tools = fetch::fetch(&*client, version, spec).await;
        for error in server.continuity.restore(&*client).await {
            tracing::warn!(server = %server.name, %error, "not restored after the reconnect");
        }
        tools
    };
    // A client that is connected in the last moment may still answer, but the whole is bounded.
    let last = after(Instant::now(), GRACE).clamp(end, after(end, GRACE));
    let listing = guarded("a request of the client", listing);
    let listed = tokio::time::timeout_at(last, listing).await;
    let unusable = match listed.map(|listed| listed.and_then(|tools| tools)) {
        Ok(Ok(tools)) => {
            return Ok(Connected {
                client,
                notices,
                tools,
                elapsed,
            });
        }
        // The server answered: its list is bad, and the rest of it may be good.
        Ok(Err(error)) if error.delivery() == Delivery::Answered && !is_closed(&*client) => {
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
                "the server connected but did not list its tools within {startup:?} (startup_timeout)"
            ),
        ),
    };
    Err(unusable.with_operation("tools/list"))
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
        guarded("`probe` of the client", client.probe(timeout)),
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
    let close = tokio::time::timeout(bound, guarded("`close` of the client", client.close()));
    match close.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%server, %error, "the connection is dropped"),
        Err(_) => {
            tracing::warn!(%server, "the close did not end in time; the connection is dropped");
        }
    }
    snapshot(&*client).map_or_else(Diagnostics::default, |snapshot| snapshot.diagnostics)
}

/// What a client knows of itself; `None` when it panics over it.
pub(crate) fn snapshot(client: &dyn Client) -> Option<ClientSnapshot> {
    asked("`snapshot` of the client", || client.snapshot()).ok()
}
