//! Follows the config of a worker. A server with a lease is changed by nobody who owns the lease: it
//! is given up before, and applied for again after.

use std::collections::{BTreeMap, BTreeSet};

use mcpool::{
    ConnectionManager, Error, ErrorKind, ServerName,
    config::{Loaded, Watcher},
    nats::kv::{Tenure, Terms},
};

use super::{WorkerArgs, both_ways};
use crate::{app::App, reload};

/// What a change of the config is applied to.
pub(super) struct Config<'a> {
    pub(super) app: &'a App,
    pub(super) args: &'a WorkerArgs,
    pub(super) terms: Terms,
    pub(super) manager: &'a ConnectionManager,
    pub(super) tenures: &'a BTreeMap<ServerName, Tenure>,
}

impl Config<'_> {
    /// Applies every good change, and reports every other. Ends with the watcher.
    pub(super) async fn follow(&self, mut watcher: Watcher) {
        while let Some(change) = reload::next(&mut watcher).await {
            let applied = match change {
                Ok(loaded) => self.apply(loaded).await,
                Err(error) => Err(error),
            };
            if let Err(error) = applied {
                self.manager.config_rejected(&error);
            }
        }
    }

    async fn apply(&self, loaded: Loaded) -> Result<(), Error> {
        let mut specs = loaded.servers;
        if let Some(both) = specs.iter().find(|spec| self.args.is_both(spec)) {
            return Err(Error::new(ErrorKind::InvalidSpec, both_ways(&both.name)));
        }
        let leased = self.args.prepare(&mut specs, self.terms);
        self.app.global.set_connect_timeout(&mut specs);
        let diff = self.manager.plan(&specs)?;
        // What runs of them has to end before the lease goes: a change that drains would not be
        // waited for.
        let changed: BTreeSet<&ServerName> = diff.removed.iter().chain(&diff.replaced).collect();
        let handed_on = self
            .tenures
            .iter()
            .filter(|(name, _)| changed.contains(name) || !leased.contains(*name));
        futures::future::join_all(handed_on.map(|(_, tenure)| tenure.suspend())).await;
        // What ran of these has ended. The others may drain for a while, which these do not wait for.
        for spec in specs.iter().filter(|spec| leased.contains(&spec.name)) {
            self.manager.add(spec.clone())?;
            if let Some(tenure) = self.tenures.get(&spec.name) {
                tenure.resume();
            }
        }
        self.manager.apply(specs).await.map(drop)
    }
}
