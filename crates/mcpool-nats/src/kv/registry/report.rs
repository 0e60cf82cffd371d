//! A worker's servers in the registry, as they are and as they change.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    future::Future,
    pin::pin,
    sync::Arc,
    time::Duration,
};

use mcpool_core::{ErrorKind, Event, EventKind, ServerName, model::Tool};
use mcpool_manager::{CachedList, ConnectionManager, EventItem, EventStream, Refresh};
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval, sleep, timeout},
};

use crate::{
    carrier::Carrier,
    identity::{Epoch, Sharing},
};

use super::{super::bucket::Storage, Announced, FleetServer, Registry, catalog};

/// How often servers are looked at where no event says anything: leases, a config that changed.
const LOOK: Duration = Duration::from_secs(1);

/// What changes within so long is written once.
const GATHER: Duration = Duration::from_millis(50);

/// The pause before a registry that cannot be used is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// How long taking the worker off may take when it goes.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(2);

/// The word for a server whose lease another worker has.
const STANDBY: &str = "standby";

/// Shows a worker in the registry: [`Worker::report`](crate::Worker::report) gives it.
#[must_use]
pub struct FleetReport {
    pub(crate) carrier: Carrier,
    pub(crate) manager: ConnectionManager,
    pub(crate) sharing: HashMap<ServerName, Sharing>,
    pub(crate) tenures: HashMap<ServerName, watch::Receiver<Option<Epoch>>>,
    pub(crate) place: String,
    pub(crate) storage: Storage,
}

/// What was written.
#[derive(Default)]
struct Written {
    servers: BTreeSet<ServerName>,
    lists: HashMap<ServerName, Arc<CachedList<Tool>>>,
}

impl FleetReport {
    /// Shows the worker until `stop` or the shutdown of its manager, then takes it off. A registry
    /// that cannot be used is tried again: the worker serves all the same.
    ///
    /// Dropping the future leaves what was written; the worker is then shown as gone after 20 s.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let mut stop = pin!(stop);
        let announced = tokio::select! {
            () = &mut stop => return,
            announced = self.announced() => announced,
        };
        let mut events = self.manager.events();
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut written = Written::default();
        let reporting = async {
            loop {
                if self.manager.is_shut_down() {
                    return;
                }
                self.publish(&announced, &mut written).await;
                tokio::select! {
                    _ = looks.tick() => {}
                    () = news(&mut events) => sleep(GATHER).await,
                }
            }
        };
        tokio::select! {
            () = &mut stop => {}
            () = reporting => {}
        }
        match timeout(FAREWELL_TIMEOUT, announced.leave()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "the worker was not taken off the registry"),
            Err(_) => tracing::debug!("the worker was not taken off the registry in time"),
        }
    }

    async fn announced(&self) -> Announced {
        let mut warned = false;
        loop {
            let announced = async {
                let registry = Registry::open(&self.carrier, self.storage).await?;
                registry.announce(&self.place).await
            };
            match announced.await {
                Ok(announced) => return announced,
                Err(error) if !warned => {
                    warned = true;
                    tracing::warn!(%error, "the registry of the pool cannot be used: gateways do not show this worker");
                }
                Err(error) => tracing::debug!(%error, "the registry of the pool cannot be used"),
            }
            sleep(RETRY).await;
        }
    }

    /// Writes what has changed.
    async fn publish(&self, announced: &Announced, written: &mut Written) {
        let names: BTreeSet<ServerName> = self.manager.names().into_iter().collect();
        let done = async {
            for gone in written.servers.difference(&names) {
                announced.withdraw(gone).await?;
                written.lists.remove(gone);
            }
            written.servers.retain(|name| names.contains(name));
            for name in names {
                self.publish_one(announced, &name, written).await?;
                written.servers.insert(name);
            }
            Ok::<_, mcpool_core::Error>(())
        };
        // It is tried again at the next look.
        if let Err(error) = done.await {
            tracing::debug!(%error, "the registry cannot be written");
        }
    }

    async fn publish_one(
        &self,
        announced: &Announced,
        name: &ServerName,
        written: &mut Written,
    ) -> mcpool_core::Result<()> {
        let Ok(handle) = self.manager.server(name.as_str()) else {
            return Ok(());
        };
        let (Ok(status), Ok(spec)) = (handle.status(), handle.spec()) else {
            return Ok(());
        };
        let tenure = self.tenures.get(name).map(|tenure| *tenure.borrow());
        let is_standby = tenure == Some(None);
        let state = match is_standby {
            true => STANDBY,
            false => status.state.as_str(),
        };
        let mut server = FleetServer::new(name.clone(), state);
        server.tools = status.tools;
        server.sharing = self.sharing.get(name).copied().unwrap_or_default();
        server.epoch = tenure.flatten().unwrap_or_default();
        let error = status.last_error.filter(|_| !is_standby);
        server.why = error.map(|error| error.message().to_string());
        let list = handle.tools(Refresh::Cached).await.ok();
        let list = list.filter(|list| list.stale.is_none());
        let before = written.lists.get(name);
        let newer = list.filter(|list| before.is_none_or(|before| !Arc::ptr_eq(before, list)));
        let catalog = match &newer {
            Some(list) => {
                let tools = list.items.iter();
                Some(catalog::of_tools(
                    tools.filter(|tool| spec.tools.permits(&tool.name)),
                )?)
            }
            None => None,
        };
        match announced.publish(server.clone(), catalog).await {
            Err(error) if error.kind() == ErrorKind::TooLarge => {
                tracing::warn!(server = %name, %error, "its catalog is not in the registry");
                announced.publish(server, None).await?;
            }
            published => published?,
        }
        if let Some(list) = newer {
            written.lists.insert(name.clone(), list);
        }
        Ok(())
    }
}

/// Waits for something that the registry shows.
async fn news(events: &mut EventStream) {
    loop {
        match events.recv().await {
            Some(EventItem::Event(Event {
                kind: EventKind::HeartbeatOk { .. },
                ..
            })) => {}
            Some(_) => return,
            // The manager was shut down, which the next look sees.
            None => std::future::pending().await,
        }
    }
}

impl fmt::Debug for FleetReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FleetReport")
            .field("carrier", &self.carrier)
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}
