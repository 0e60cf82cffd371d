//! Listen streams: how a server of MCP 2026-07-28 tells of changes (`subscriptions/listen`).
//!
//! One stream carries the list changes that the server declares, and one more each subscribed
//! resource. A stream that ends is opened again with a backoff; what changed meanwhile is not
//! known, so everything that it covers is then reported as changed.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use mcpool_core::{
    Backoff, Delivery, Error, ErrorKind, ReconnectPolicy, Result, ServerNotice,
    model::{
        ClientRequest, ServerPeerInfo, SubscriptionFilter, SubscriptionsListenRequest,
        SubscriptionsListenRequestParams,
    },
};
use tokio::{
    sync::oneshot,
    task::JoinHandle,
    time::{Instant, timeout},
};

use crate::peer::{Ask, Peer};

/// A stream that lived so long was healthy: its end starts the backoff anew.
const HEALTHY: Duration = Duration::from_secs(60);

/// The streams of one session. They end with the connection, and with this.
pub(crate) struct Listener {
    peer: Peer,
    _changes: Option<Stream>,
    resources: Mutex<HashMap<String, Stream>>,
}

/// A stream that is kept open for as long as this lives.
struct Stream(JoinHandle<()>);

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Told once what the server granted, or why it did not.
type Granted = oneshot::Sender<Result<SubscriptionFilter>>;

impl Listener {
    /// Opens the stream of list changes, where the session has such streams.
    pub(crate) fn start(peer: &Peer, server: &ServerPeerInfo) -> Self {
        let filter = SubscriptionFilter::builder()
            .tools_list_changed()
            .prompts_list_changed()
            .resources_list_changed()
            .build()
            .supported_by(&server.capabilities);
        let wanted = peer.shared.is_modern() && filter != SubscriptionFilter::default();
        Self {
            peer: peer.clone(),
            _changes: wanted.then(|| open(peer.clone(), filter, None)),
            resources: Mutex::new(HashMap::new()),
        }
    }

    /// Opens a stream for one resource and waits until the server has granted it.
    pub(crate) async fn subscribe(&self, uri: &str, patience: Duration) -> Result<()> {
        let filter = SubscriptionFilter::builder()
            .resource_subscription(uri)
            .build();
        let (sender, granted) = oneshot::channel();
        let stream = open(self.peer.clone(), filter, Some(sender));
        let granted = match timeout(patience, granted).await {
            Ok(Ok(granted)) => granted,
            Ok(Err(_)) => Err(self.peer.gone()),
            Err(_) => Err(Error::new(
                ErrorKind::Timeout,
                format!("the server did not grant the subscription within {patience:?}"),
            )),
        }
        .map_err(|error| error.with_operation("subscriptions/listen"))?;
        let covered = granted
            .resource_subscriptions
            .is_some_and(|uris| uris.iter().any(|granted| granted == uri));
        if !covered {
            return Err(Error::new(
                ErrorKind::Protocol,
                format!("the server does not tell of changes of {uri}"),
            )
            .with_operation("subscriptions/listen")
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

    fn streams(&self) -> std::sync::MutexGuard<'_, HashMap<String, Stream>> {
        self.resources
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn open(peer: Peer, filter: SubscriptionFilter, granted: Option<Granted>) -> Stream {
    Stream(tokio::spawn(keep(peer, filter, granted)))
}

/// Keeps one stream open until the connection ends, or the server refuses it for good.
async fn keep(peer: Peer, filter: SubscriptionFilter, mut report: Option<Granted>) {
    let mut policy = ReconnectPolicy::default();
    policy.max_attempts = None;
    let mut backoff = Backoff::new(policy);
    let mut first = true;
    let dead = peer.shared.dead.clone();
    loop {
        let opened = Instant::now();
        let (sender, mut granted) = oneshot::channel();
        let request =
            SubscriptionsListenRequest::new(SubscriptionsListenRequestParams::new(filter.clone()));
        let request = ClientRequest::SubscriptionsListenRequest(request);
        let stream = peer.ask(Ask::new(request).listen(sender));
        tokio::pin!(stream);
        let mut waiting = true;
        let mut refused = true;
        let end = loop {
            tokio::select! {
                biased;
                () = dead.cancelled() => return,
                outcome = &mut granted, if waiting => {
                    waiting = false;
                    if let Ok(accepted) = outcome {
                        refused = false;
                        if !first {
                            tell_all(&peer, &accepted);
                        }
                        if let Some(report) = report.take() {
                            let _ = report.send(Ok(accepted));
                        }
                    }
                }
                end = &mut stream => break end,
            }
        };
        if let Err(error) = end {
            if let Some(report) = report.take() {
                // Whoever subscribes decides what to do about it.
                let _ = report.send(Err(error));
                return;
            }
            if error.kind() == ErrorKind::Rpc && refused {
                tracing::info!(
                    server = %peer.shared.server,
                    %error,
                    "the server refuses to tell of changes"
                );
                return;
            }
            tracing::debug!(server = %peer.shared.server, %error, "a listen stream ended");
        }
        if opened.elapsed() >= HEALTHY {
            backoff.reset();
        }
        // The policy has no last attempt.
        let pause = backoff.next_delay(&mut rand::rng()).unwrap_or(HEALTHY);
        tokio::select! {
            () = dead.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        first = false;
    }
}

/// After a gap everything that a stream covers may have changed.
fn tell_all(peer: &Peer, filter: &SubscriptionFilter) {
    let lists = [
        (filter.tools_list_changed, ServerNotice::ToolsChanged),
        (filter.prompts_list_changed, ServerNotice::PromptsChanged),
        (
            filter.resources_list_changed,
            ServerNotice::ResourcesChanged,
        ),
    ];
    let lists = lists
        .into_iter()
        .filter(|(wanted, _)| *wanted == Some(true))
        .map(|(_, notice)| notice);
    let resources = filter
        .resource_subscriptions
        .iter()
        .flatten()
        .map(|uri| ServerNotice::ResourceUpdated { uri: uri.clone() });
    for notice in lists.chain(resources) {
        // Nobody listening is fine.
        let _ = peer.shared.notices.send(notice);
    }
}
