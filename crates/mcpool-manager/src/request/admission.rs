//! The way of a request: find the least busy live connection, go in, send, and on failure do what
//! the rules of delivery say.
//!
//! While the server is ready this takes no lock and makes no hop: the connection is read from a
//! lock-free slot and spoken to directly, on the caller's task.

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use mcpool_core::{
    Client, Delivery, Error, ErrorKind, RequestOptions, Result, ServerName, ServerState, ToolTraits,
};
use tokio::{sync::oneshot, time::Instant};

use crate::{
    observe::metrics,
    request::options::{CallOptions, NotReady},
    request::replay::{self, Verdict},
    server::{Command, Server},
    shared::Shared,
    supervise::{
        foreign::{guarded, is_closed},
        gate::Refused,
        machine::after,
        slot::Live,
    },
};

/// How long a client has to end a request by itself once its connection is given up.
const LAST_WORD: Duration = Duration::from_millis(100);

/// One kind of request.
pub(crate) trait Operation: Sync {
    type Output: Send;

    /// The protocol's name for it.
    fn method(&self) -> &str;

    /// Whether the spec lets it through.
    fn permitted(&self, _server: &Server) -> Result<()> {
        Ok(())
    }

    /// What the server promises about running it twice.
    fn traits(&self, _server: &Server) -> ToolTraits {
        ToolTraits::default()
    }

    /// Sends it.
    fn run<'a>(
        &'a self,
        client: &'a dyn Client,
        options: &'a RequestOptions,
    ) -> BoxFuture<'a, Result<Self::Output>>;
}

/// A call that is inside a connection's gate. Dropping it lets the next one in.
struct Inside {
    server: Arc<Server>,
    index: usize,
    live: Arc<Live>,
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.live.leave();
        metrics::in_flight(&self.server.name, -1.0);
        self.server.queue.left();
    }
}

/// Until when a call may wait for what.
#[derive(Clone, Copy)]
struct Deadline {
    started: Instant,
    /// The end of everything.
    whole: Option<Instant>,
    /// The end of waiting and queueing.
    waiting: Instant,
}

/// Sends a request to a server, within the call's deadline.
///
/// Dropping the future cancels the request, wherever it stands.
pub(crate) async fn deliver<O: Operation>(
    shared: &Shared,
    server: &Arc<Server>,
    operation: &O,
    options: &CallOptions,
) -> Result<O::Output> {
    let started = Instant::now();
    let whole = options.timeout.and_then(|t| started.checked_add(t));
    let mut deadline = Deadline {
        started,
        whole,
        waiting: whole.unwrap_or_else(|| patience_from(server, options, started)),
    };
    let mut record = Record {
        server: &server.name,
        method: operation.method(),
        started,
        ended: false,
    };
    let result = attempts(shared, server, operation, options, &mut deadline)
        .await
        .map_err(|error| {
            error
                .with_server(&server.name)
                .with_operation(operation.method().to_owned())
        });
    record.ended = true;
    metrics::called(record.server, record.method, started, result.as_ref().err());
    result
}

/// Until when a request that begins to wait now may do so, where its caller gave no end of
/// everything.
pub(crate) fn patience_from(server: &Server, options: &CallOptions, now: Instant) -> Instant {
    let startup = server.policy(|policy| policy.timeouts.startup);
    after(
        now,
        options.max_wait.map_or(startup, |most| most.min(startup)),
    )
}

/// Records a request whose caller went away.
struct Record<'a> {
    server: &'a ServerName,
    method: &'a str,
    started: Instant,
    ended: bool,
}

impl Drop for Record<'_> {
    fn drop(&mut self) {
        if !self.ended {
            metrics::dropped(self.server, self.method, self.started);
        }
    }
}

async fn attempts<O: Operation>(
    shared: &Shared,
    server: &Arc<Server>,
    operation: &O,
    options: &CallOptions,
    deadline: &mut Deadline,
) -> Result<O::Output> {
    operation.permitted(server)?;
    let mut replayed = false;
    loop {
        // The way of nearly every call. A caller that comes while others queue must queue as well.
        let inside = match server.queue.is_busy() {
            false => admit(server).ok(),
            true => None,
        };
        let inside = match inside {
            Some(inside) => inside,
            // Boxed, as what is rare is: a future is as large as the largest thing in it.
            None => Box::pin(enter(server, options.not_ready, deadline)).await?,
        };
        let error = match send(&inside, operation, options, deadline).await {
            Ok(output) => return Ok(output),
            Err(error) => error,
        };
        if deadline.whole.is_none() && !replayed {
            // The request had its own time; the waiting starts again, once: a server may ask for
            // more time again and again.
            deadline.waiting = patience_from(server, options, Instant::now());
        }
        let left = deadline.waiting.saturating_duration_since(Instant::now());
        let verdict = replay::decide(
            &error,
            operation.method(),
            operation.traits(server),
            replayed,
            left,
        );
        let (index, epoch, closed) = (
            inside.index,
            inside.live.epoch,
            is_closed(&*inside.live.client),
        );
        drop(inside);
        tracing::debug!(server = %server.name, method = operation.method(), %error, ?verdict, "a request failed");
        match error.kind() {
            ErrorKind::AuthRequired => {
                tell(
                    server,
                    index,
                    Command::AuthRefused {
                        epoch,
                        error: error.clone(),
                    },
                );
            }
            // The server answered, or the trouble is not the connection's.
            ErrorKind::Rpc | ErrorKind::RateLimited | ErrorKind::Forbidden => {}
            _ if closed => {}
            ErrorKind::ConnectionLost
            | ErrorKind::ProcessExited
            | ErrorKind::Connect
            | ErrorKind::HttpStatus
            | ErrorKind::Closed
            | ErrorKind::Timeout => {
                let (reply, looked_into) = oneshot::channel();
                tell(
                    server,
                    index,
                    Command::Suspect {
                        epoch: Some(epoch),
                        reply: Some(reply),
                    },
                );
                if verdict == Verdict::Replay {
                    // Sent again only on a connection that is known to live. A dropped reply
                    // says so as well.
                    let _ = tokio::time::timeout_at(deadline.waiting, looked_into).await;
                }
            }
            _ => {}
        }
        match verdict {
            Verdict::Return => return Err(error),
            Verdict::OutcomeUnknown => return Err(replay::outcome_unknown(error)),
            Verdict::Replay => {
                if shared.root.is_cancelled() || deadline.whole.is_some_and(|d| Instant::now() >= d)
                {
                    return Err(error);
                }
            }
            Verdict::ReplayAfter(pause) => tokio::time::sleep(pause).await,
        }
        replayed = true;
        metrics::replayed(&server.name);
    }
}

fn tell(server: &Server, index: usize, command: Command) {
    if let Some(instance) = server.instances.get(index) {
        // A supervisor that is gone needs no evidence.
        let _ = instance.tell(command);
    }
}

/// Sends the request on one connection; ends at once when that connection is given up.
async fn send<O: Operation>(
    inside: &Inside,
    operation: &O,
    options: &CallOptions,
    deadline: &Deadline,
) -> Result<O::Output> {
    let bounded = deadline.whole.map(|end| {
        // The session's own timeouts would be later: let it notify the server of the cancel.
        let left = end.saturating_duration_since(Instant::now());
        let mut request = Box::new(options.request.clone());
        request.timeout = Some(request.timeout.map_or(left, |t| t.min(left)));
        request.max_total = Some(request.max_total.map_or(left, |t| t.min(left)));
        request
    });
    let request = bounded.as_deref().unwrap_or(&options.request);
    let live = &*inside.live;
    let running = async {
        match guarded(
            "a request of the client",
            operation.run(&*live.client, request),
        )
        .await
        {
            Ok(result) => result,
            Err(panicked) => {
                let error = panicked.with_delivery(Delivery::Unknown);
                live.give_up(error.clone());
                Err(error)
            }
        }
    };
    tokio::pin!(running);
    let out_of_time = async {
        match deadline.whole {
            Some(end) => Box::pin(tokio::time::sleep_until(after(end, LAST_WORD))).await,
            None => std::future::pending().await,
        }
    };
    let result = tokio::select! {
        biased;
        result = &mut running => result,
        () = live.killed() => {
            // The client knows best what became of the request, but must say so now.
            match Box::pin(tokio::time::timeout(LAST_WORD, &mut running)).await {
                Ok(result) => result,
                Err(_) => Err(live.death()),
            }
        }
        () = out_of_time => Err(Error::new(
            ErrorKind::Timeout,
            format!("no answer within {:.1?}", deadline.started.elapsed()),
        )),
    };
    result.map_err(|error| match error.kind() {
        // Not lost: ended on purpose, and the next connection is not wanted.
        ErrorKind::ConnectionLost
        | ErrorKind::ProcessExited
        | ErrorKind::NotConnected
        | ErrorKind::Closed
            if live.ended_on_purpose() =>
        {
            live.death()
                .with_delivery(error.delivery())
                .with_source(error)
        }
        _ => error,
    })
}

/// Waits for a live connection with room and goes in.
async fn enter(server: &Arc<Server>, not_ready: NotReady, deadline: &Deadline) -> Result<Inside> {
    loop {
        ready(server, not_ready, deadline).await?;
        // Instances that sleep could help.
        let room = server.queue.room(|| admit(server), || server.want());
        match tokio::time::timeout_at(deadline.waiting, room).await {
            Ok(Some(inside)) => return Ok(inside),
            Ok(None) => {}
            Err(_) => return Err(overloaded(server, deadline)),
        }
    }
}

fn overloaded(server: &Server, deadline: &Deadline) -> Error {
    Error::new(
        ErrorKind::Overloaded,
        format!(
            "{} requests are in flight, and none ended within {:.1?}",
            server.in_flight(),
            deadline.started.elapsed()
        ),
    )
    .with_delivery(Delivery::NotSent)
}

/// Goes into the least busy of the live connections.
fn admit(server: &Arc<Server>) -> Result<Inside, Refused> {
    let most = server.max_in_flight();
    loop {
        let least_busy = server
            .instances
            .iter()
            .enumerate()
            .filter_map(|(index, instance)| Some((index, instance.slot.live()?)))
            .min_by_key(|(_, live)| live.in_flight());
        let Some((index, live)) = least_busy else {
            return Err(Refused::Shut);
        };
        match live.enter(most) {
            Ok(()) => {
                metrics::in_flight(&server.name, 1.0);
                return Ok(Inside {
                    server: Arc::clone(server),
                    index,
                    live,
                });
            }
            // Full although it was the least busy: so are the others.
            Err(Refused::Full) if live.in_flight() >= most => return Err(Refused::Full),
            // It changed under our eyes: look again.
            Err(_) => {}
        }
    }
}

/// Waits until some instance is live.
pub(crate) async fn wait_ready(
    server: &Server,
    not_ready: NotReady,
    until: Instant,
) -> Result<Arc<dyn Client>> {
    let started = Instant::now();
    let deadline = Deadline {
        started,
        whole: Some(until),
        waiting: until,
    };
    loop {
        ready(server, not_ready, &deadline).await?;
        if let Some(live) = server.instances.iter().find_map(|i| i.slot.live()) {
            return Ok(Arc::clone(&live.client));
        }
    }
}

async fn ready(server: &Server, not_ready: NotReady, deadline: &Deadline) -> Result<()> {
    if server.is_live() {
        return Ok(());
    }
    let mut state = server.watch();
    loop {
        // Marked as seen before looking, so that no change after the look is missed.
        let idle = matches!(*state.borrow_and_update(), ServerState::Idle);
        if server.is_live() {
            return Ok(());
        }
        if let Some(error) = server.hopeless() {
            return Err(error);
        }
        if idle {
            server.want();
        }
        if not_ready == NotReady::FailFast {
            return Err(server.not_ready(None));
        }
        match tokio::time::timeout_at(deadline.waiting, state.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(crate::server::gone()),
            Err(_) => return Err(server.not_ready(Some(deadline.started.elapsed()))),
        }
    }
}
