//! The workers of a pool, for people and programs that look: the gateway shows what it is given.

use std::{fmt, sync::Arc};

use mcpool_core::ServerName;
use serde::{Deserialize, Serialize};

use crate::scope::Scope;

/// A pool of workers on many machines, as a gateway of it knows it. The member `fleet` of
/// `GET /api/v1/status`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fleet {
    /// The pool's name.
    pub pool: String,
    /// Whether what carries the calls is there now. If not, the rest is what was last known.
    pub connected: bool,
    /// The workers, by name.
    pub workers: Vec<FleetWorker>,
}

/// A worker.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FleetWorker {
    /// Its name in the pool, which is that of its instances as well.
    pub worker: String,
    /// Where it runs, as it says.
    pub place: String,
    /// Whether it is there now.
    pub here: bool,
    /// What it has. Of a worker that is gone: as it was.
    pub servers: Vec<FleetServer>,
}

/// A server of a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FleetServer {
    /// The server.
    pub server: ServerName,
    /// Its state there: a word of `StateKind`, or `standby` where another worker has its lease.
    pub state: String,
    /// How it is shared: `one`, `many`, `each`.
    pub sharing: String,
    /// The epoch of its lease; 0 without one.
    pub epoch: u64,
    /// How many tools it shows.
    pub tools: usize,
    /// Why it is not connected.
    pub why: Option<String>,
}

impl Fleet {
    /// As much of it as a scope shows.
    pub(crate) fn within(mut self, scope: &Scope) -> Self {
        if *scope == Scope::Pool {
            return self;
        }
        for worker in &mut self.workers {
            worker.servers.retain(|server| scope.covers(&server.server));
        }
        self.workers.retain(|worker| !worker.servers.is_empty());
        self
    }
}

/// What gives the fleet as it is now.
#[derive(Clone)]
pub(crate) struct FleetSource(pub(crate) Arc<dyn Fn() -> Fleet + Send + Sync>);

impl fmt::Debug for FleetSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FleetSource")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_the_pool_shows_its_own_servers_alone() {
        let server = |name: &str| FleetServer {
            server: name.parse().unwrap(),
            state: "ready".to_owned(),
            sharing: "many".to_owned(),
            epoch: 0,
            tools: 1,
            why: None,
        };
        let worker = |name: &str, servers: &[&str]| FleetWorker {
            worker: name.to_owned(),
            servers: servers.iter().map(|name| server(name)).collect(),
            ..FleetWorker::default()
        };
        let fleet = Fleet {
            pool: "tools".to_owned(),
            connected: true,
            workers: vec![worker("w1", &["docs", "files"]), worker("w2", &["files"])],
        };
        assert_eq!(fleet.clone().within(&Scope::Pool), fleet);
        let docs = fleet.within(&Scope::Server("docs".parse().unwrap()));
        assert_eq!(docs.workers, [worker("w1", &["docs"])]);
    }
}
