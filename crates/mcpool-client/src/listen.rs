//! Listen streams: how a server of MCP 2026-07-28 reports changes (`subscriptions/listen`).
//!
//! One stream carries the list changes that the server declares, and one more each subscribed
//! resource. A stream that ends is opened again with a backoff; what changed meanwhile is not
//! known, so everything that it covers is then reported as changed.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use mcpool_core::{
    Backoff, Delivery, Error, ErrorKind, ReconnectPolicy, Recovery, Result, ServerCapabilities,
    Untrusted,
};
use tokio::{
    sync::oneshot,
    task::AbortHandle,
    time::{Instant, timeout},
};

use crate::{
    link::Link,
    stream::{Coverage, StreamSink},
};

/// A stream that lived so long was healthy: its end starts the backoff again.
const HEALTHY: Duration = Duration::from_secs(60);

/// The most resources that one session may be subscribed to: each is a stream.
const MAX_SUBSCRIPTIONS: usize = 256;

/// The streams of one session. Dropping it ends them.
#[derive(Default)]
pub(crate) struct Listener {
    _changes: Option<Stream>,
    resources: Mutex<HashMap<String, Stream>>,
}

/// A stream that is kept open for as long as this lives.
struct Stream(AbortHandle);

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Gets once what the server granted, or why it did not.
type Granted = oneshot::Sender<Result<Coverage>>;

impl Listener {
    /// Opens the stream of list changes, where the server has any to announce.
    pub(crate) fn start(link: &Arc<Link>, offers: &ServerCapabilities) -> Self {
        let coverage = Coverage {
            tools: offers.tools_list_changed,
            prompts: offers.prompts_list_changed,
            resources: offers.resources_list_changed,
            uris: Vec::new(),
        };
        let wanted = link.is_modern() && coverage != Coverage::default();
        Self {
            _changes: wanted.then(|| open(link, &coverage, None)),
            resources: Mutex::default(),
        }
    }

    /// Opens a stream for one resource and waits until the server has granted it. Dropping the
    /// future ends the stream.
    pub(crate) async fn subscribe(
        &self,
        link: &Arc<Link>,
        uri: &str,
        patience: Duration,
    ) -> Result<()> {
        {
            let streams = self.streams();
            if streams.len() >= MAX_SUBSCRIPTIONS && !streams.contains_key(uri) {
                return Err(Error::new(
                    ErrorKind::Overloaded,
                    format!("there are {MAX_SUBSCRIPTIONS} subscriptions on this connection"),
                ));
            }
        }
        let coverage = Coverage {
            uris: vec![uri.to_owned()],
            ..Coverage::default()
        };
        let (sender, granted) = oneshot::channel();
        let stream = open(link, &coverage, Some(sender));
        let granted = match timeout(patience, granted).await {
            Ok(Ok(granted)) => granted?,
            // The task has ended with the connection, or with the runtime.
            Ok(Err(_)) => {
                let reason = link.transport.closed().await;
                return Err(reason
                    .unwrap_or_else(|| Error::new(ErrorKind::Closed, "the client was closed")));
            }
            Err(_) => {
                return Err(Error::new(
                    ErrorKind::Timeout,
                    format!("the server did not grant the subscription within {patience:?}"),
                ));
            }
        };
        if !granted.uris.iter().any(|granted| granted == uri) {
            return Err(Error::new(
                ErrorKind::Protocol,
                format!(
                    "the server does not announce changes of {}",
                    Untrusted::line(uri).quoted()
                ),
            )
            .with_delivery(Delivery::Answered));
        }
        self.streams().insert(uri.to_owned(), stream);
        Ok(())
    }

    /// Ends the stream of one resource; fine when there is none.
    pub(crate) fn unsubscribe(&self, uri: &str) {
        let stream = self.streams().remove(uri);
        drop(stream);
    }

    fn streams(&self) -> MutexGuard<'_, HashMap<String, Stream>> {
        self.resources
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn open(link: &Arc<Link>, coverage: &Coverage, granted: Option<Granted>) -> Stream {
    let task = keep(Arc::clone(link), coverage.clone(), granted);
    Stream(link.runtime.spawn(task).abort_handle())
}

/// Keeps one stream open until the connection ends, or the server refuses it for good.
async fn keep(link: Arc<Link>, coverage: Coverage, mut report: Option<Granted>) {
    let mut policy = ReconnectPolicy::default();
    policy.max_attempts = None;
    let mut backoff = Backoff::new(policy);
    let params = coverage.params();
    let sink = StreamSink::new(link.notices.clone(), Arc::clone(&link.activity));
    link.add_stream(&sink);
    let mut first = true;
    loop {
        let opened = Instant::now();
        let (mut granted, mut ended) = sink.open();
        let mut stream = Box::pin(link.listen(&params, &sink));
        let (mut waiting, mut refused) = (true, true);
        let end = loop {
            tokio::select! {
                biased;
                coverage = &mut granted, if waiting => {
                    waiting = false;
                    let Ok(coverage) = coverage else { continue };
                    refused = false;
                    if !first {
                        for notice in coverage.notices() {
                            link.notices.send(notice);
                        }
                    }
                    if let Some(report) = report.take() {
                        // A subscriber that has left ends this task.
                        let _ = report.send(Ok(coverage));
                    }
                }
                end = &mut stream => break end.err(),
                Ok(()) = &mut ended => break None,
            }
        };
        drop(stream);
        if link.transport.is_closed() {
            // Dropping the report says so.
            return;
        }
        if let Some(error) = end {
            if let Some(report) = report.take() {
                // A caller that subscribes decides what to do about it.
                let _ = report.send(Err(error));
                return;
            }
            let server = &link.server;
            let error_text = Untrusted::line(error.message());
            if refused && is_final(&error) {
                tracing::info!(%server, error = %error_text, "the server refuses to announce changes");
                return;
            }
            tracing::debug!(%server, error = %error_text, "a listen stream ended");
        }
        if opened.elapsed() >= HEALTHY {
            backoff.reset();
        }
        // The policy has no last attempt.
        let pause = backoff.next_delay(fastrand::f64()).unwrap_or(HEALTHY);
        tokio::select! {
            _ = link.transport.closed() => return,
            () = tokio::time::sleep(pause) => {}
        }
        first = false;
    }
}

/// Whether asking again would be answered in the same way.
fn is_final(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Rpc | ErrorKind::HttpStatus | ErrorKind::Forbidden
    ) && error.recovery() == Recovery::Never
}
