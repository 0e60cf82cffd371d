//! The servers of a pool's workers among those of a manager, as they come and go.
//!
//! Two things say what there is. Workers answer `discover`: they are here, with what they have.
//! The registry remembers: what a worker has that does not answer, and the catalogs, so that a
//! gateway lists what a server has before anybody could be asked. Without JetStream there is
//! `discover` alone.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use mcpool_core::{
    ErrorKind, ReconnectPolicy, ServerName, ServerSpec, Sharing as Clients, StartMode, StateKind,
};
use mcpool_manager::ConnectionManager;
use tokio::time::{Instant, sleep, timeout};

use crate::{
    carrier::Carrier,
    connector::NatsConnector,
    discovery::discover,
    identity::{Identity, Sharing},
    kv::{FleetServer, FleetSnapshot, FleetWorker, Registry, shown},
    spread::Spread,
    worker::{Inventory, can_serve},
};

/// The longest pause between two attempts to open a session with a worker.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How often the workers are asked.
const LOOK: Duration = Duration::from_secs(2);

/// How long workers have for their answers.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);

/// How long a server that no worker has any more stays listed: a worker that is started again has
/// it soon.
const ABSENCE_TIMEOUT: Duration = Duration::from_secs(30);

/// How often a registry that is not there yet is looked for: the first worker creates it.
const REGISTRY_PAUSE: Duration = Duration::from_secs(2);

/// A worker that has not answered for so long is shown as gone.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(10);

/// Servers that are taken from a pool.
const MAX_SERVERS: usize = 10_000;

/// Adds the servers of a pool's workers to a manager, and removes those that no worker has any
/// more: that is 30 s after nobody has it, or, where the pool has a registry, after a day for the
/// servers of a worker that did not go in good order. A server of the same name that the manager
/// has already stays as it is. One that workers run for each session is one that clients do not share
/// ([`mcpool_core::Sharing::Client`]), for a gateway over the manager.
///
/// A session that is lost is opened again without an end of the attempts, with pauses of at most
/// 5 s: no process is started by it.
///
/// Clones share what they know. What applies a config beside it adds [`specs`](Self::specs).
#[derive(Clone)]
pub struct Follow {
    carrier: Carrier,
    /// Sessions with each server that many share.
    sessions: u32,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    servers: BTreeMap<ServerName, Known>,
    /// What each worker has answered, and when.
    answers: BTreeMap<Identity, (Inventory, Instant)>,
    /// When the workers were last asked.
    asked: Option<Instant>,
    registry: Arc<FleetSnapshot>,
}

struct Known {
    spec: ServerSpec,
    sharing: Sharing,
    spread: Arc<Spread>,
    seen: Instant,
    /// Whether a worker can serve it.
    served: bool,
}

impl Known {
    /// Whether the manager has the server as it was added.
    fn is_in(&self, manager: &ConnectionManager) -> bool {
        let spec = manager.server(self.spec.name.as_str());
        let spec = spec.and_then(|server| server.spec());
        spec.is_ok_and(|spec| *spec == self.spec)
    }
}

impl Follow {
    /// Sessions with one server at most.
    pub const MAX_SESSIONS: u32 = 8;

    /// Nothing is asked before [`run`](Self::run).
    #[must_use]
    pub fn new(carrier: Carrier) -> Self {
        Self {
            carrier,
            sessions: 1,
            shared: Arc::default(),
        }
    }

    /// Sets how many sessions there are with each server that workers share as
    /// [`Sharing::Many`]: 1 to 8, default 1. They are with as many workers as have it, and a call goes
    /// to the session with the fewest calls under way. So it is for servers that keep nothing from one
    /// call to the next.
    ///
    /// When a worker comes, sessions go to it from another worker that has two more: those that have
    /// nothing under way, and one at a time those that have. A call waits for up to a second then.
    #[must_use]
    pub fn with_sessions(mut self, sessions: u32) -> Self {
        self.sessions = sessions.clamp(1, Self::MAX_SESSIONS);
        self
    }

    /// The connection with NATS.
    #[must_use]
    pub fn carrier(&self) -> &Carrier {
        &self.carrier
    }

    /// The servers of the pool that were added.
    #[must_use]
    pub fn specs(&self) -> Vec<ServerSpec> {
        let shared = self.shared();
        let servers = shared.servers.values();
        servers.map(|known| known.spec.clone()).collect()
    }

    /// The workers of the pool, as far as they are known. One counts as here if it has answered in
    /// the last 10 s.
    #[must_use]
    pub fn fleet(&self) -> FleetSnapshot {
        let shared = self.shared();
        let answers = shared.answers.values();
        let here = answers.filter(|(_, at)| at.elapsed() <= SILENCE_TIMEOUT);
        merged(&shared.registry, here.map(|(inventory, _)| inventory))
    }

    /// Follows the pool until the manager is shut down. Dropping the future leaves the servers as
    /// they are.
    pub async fn run(&self, manager: &ConnectionManager) {
        tokio::join!(self.ask(manager), self.read(manager));
    }

    /// Asks the workers.
    async fn ask(&self, manager: &ConnectionManager) {
        while !manager.is_shut_down() {
            match discover(&self.carrier, ANSWER_TIMEOUT).await {
                Ok(found) => {
                    let names = found.iter().flat_map(|worker| worker.servers.keys());
                    let names: Vec<ServerName> = names.cloned().collect();
                    let back = self.answered(found);
                    self.seen(manager, names.iter());
                    self.forget(manager).await;
                    wake(manager, back);
                }
                // While NATS is away nobody is known to be gone.
                Err(error) => {
                    tracing::debug!(%error, "the pool cannot be asked");
                    let now = Instant::now();
                    let mut shared = self.shared();
                    shared
                        .servers
                        .values_mut()
                        .for_each(|known| known.seen = now);
                }
            }
            sleep(LOOK).await;
        }
    }

    /// Reads the registry.
    async fn read(&self, manager: &ConnectionManager) {
        let registry = loop {
            match Registry::find(&self.carrier).await {
                Ok(registry) => break registry,
                Err(error) => tracing::debug!(%error, "the pool has no registry"),
            }
            sleep(REGISTRY_PAUSE).await;
            if manager.is_shut_down() {
                return;
            }
        };
        let mut watch = registry.watch();
        let mut seeded: HashMap<ServerName, String> = HashMap::new();
        while !manager.is_shut_down() {
            let snapshot = match timeout(LOOK, watch.changed()).await {
                Ok(snapshot) => snapshot,
                Err(_) => watch.current(),
            };
            self.shared().registry = Arc::clone(&snapshot);
            let workers = snapshot.workers.values();
            self.seen(manager, workers.flat_map(|worker| worker.servers.keys()));
            {
                let shared = self.shared();
                // One that is forgotten and comes back is a new one for the manager.
                seeded.retain(|name, _| shared.servers.contains_key(name));
            }
            for (name, hash) in catalogs(&snapshot) {
                if seeded.get(name).is_some_and(|before| before == hash) {
                    continue;
                }
                match self.seed(manager, &registry, name, hash).await {
                    Ok(()) => {
                        seeded.insert(name.clone(), hash.to_owned());
                    }
                    Err(error) => {
                        tracing::debug!(server = %name, %error, "no catalog from the registry");
                        if error.kind() == ErrorKind::VersionMismatch {
                            // It will not read better the next time.
                            seeded.insert(name.clone(), hash.to_owned());
                        }
                        if error.kind() == ErrorKind::Connect {
                            // JetStream is away: the others would wait for nothing.
                            break;
                        }
                    }
                }
            }
        }
    }

    /// Gives the manager the lists of a server that it has not asked itself.
    async fn seed(
        &self,
        manager: &ConnectionManager,
        registry: &Registry,
        name: &ServerName,
        hash: &str,
    ) -> mcpool_core::Result<()> {
        if !self.shared().servers.contains_key(name) {
            return Ok(());
        }
        let lists = registry.lists(hash).await?;
        manager.server(name.as_str())?.seed(lists)
    }

    fn seen<'a>(&self, manager: &ConnectionManager, names: impl Iterator<Item = &'a ServerName>) {
        let mut shared = self.shared();
        let shared = &mut *shared;
        let shares = shares(
            shared.answers.values().map(|(worker, _)| worker),
            &shared.registry,
        );
        let known = &mut shared.servers;
        let (now, mut new) = (Instant::now(), BTreeMap::new());
        for name in names {
            let sharing = shares.get(name).copied().unwrap_or_default();
            if known.get(name).is_some_and(|known| !known.is_in(manager)) {
                // A config has taken the name, or has taken the server out.
                known.remove(name);
            }
            if let Some(known) = known.get_mut(name) {
                known.seen = now;
                if known.sharing != sharing {
                    known.sharing = sharing;
                    known.spec = self.shared_by(known.spec.clone(), sharing);
                    if let Err(error) = manager.add(known.spec.clone()) {
                        tracing::debug!(server = %name, %error, "not changed");
                    }
                }
                continue;
            }
            // The manager may have one of its own, which stays as it is.
            if new.contains_key(name) || manager.server(name.as_str()).is_ok() {
                continue;
            }
            if known.len() + new.len() >= MAX_SERVERS {
                tracing::debug!(server = %name, "the pool has too many servers; it is left out");
                continue;
            }
            let spread = Arc::new(Spread::default());
            spread.set_here(serving(&shared.answers, shared.asked, name));
            let mut connector = NatsConnector::new(self.carrier.clone());
            if self.sessions > 1 {
                connector = connector.with_spread(Arc::clone(&spread));
            }
            let Ok(mut spec) = ServerSpec::custom(name.as_str(), Arc::new(connector)) else {
                continue;
            };
            spec.policy.reconnect = reconnect();
            let known_now = Known {
                spec: self.shared_by(spec, sharing),
                sharing,
                spread,
                seen: now,
                served: true,
            };
            new.insert(name.clone(), known_now);
        }
        if new.is_empty() {
            return;
        }
        // At once: each change of a manager costs a copy of its list of servers.
        let specs = new.values().map(|known| known.spec.clone());
        match manager.add_new(specs.collect()) {
            Ok(added) => {
                for name in added {
                    tracing::info!(server = %name, pool = %self.carrier.pool(), "a server of the pool");
                    if let Some(new) = new.remove(&name) {
                        known.insert(name, new);
                    }
                }
            }
            Err(error) => tracing::debug!(%error, "the servers of the pool are not added"),
        }
    }

    /// The spec of a server that is shared so. One that clients do not share is connected in the manager
    /// for its lists alone.
    fn shared_by(&self, mut spec: ServerSpec, sharing: Sharing) -> ServerSpec {
        spec.sharing = match sharing {
            Sharing::Each => Clients::Client,
            _ => Clients::Pool,
        };
        spec.start = match sharing {
            Sharing::Each => StartMode::FOR_LISTS,
            _ => StartMode::Background,
        };
        spec.instances = match sharing {
            Sharing::Many => self.sessions,
            _ => 1,
        };
        spec
    }

    /// Takes in what the workers have answered; gives the servers that a worker can serve again.
    fn answered(&self, found: Vec<Inventory>) -> Vec<ServerName> {
        let now = Instant::now();
        let mut shared = self.shared();
        let shared = &mut *shared;
        shared.asked = Some(now);
        let answers = &mut shared.answers;
        for inventory in found {
            answers.insert(inventory.worker.clone(), (inventory, now));
        }
        answers.retain(|_, (_, at)| at.elapsed() <= ABSENCE_TIMEOUT);
        let mut back = Vec::new();
        for (name, known) in &mut shared.servers {
            let serving = serving(answers, shared.asked, name);
            let served = !serving.is_empty();
            known.spread.set_here(serving);
            if served && !known.served {
                back.push(name.clone());
            }
            known.served = served;
        }
        back
    }

    async fn forget(&self, manager: &ConnectionManager) {
        let gone: Vec<ServerName> = {
            let known = &mut self.shared().servers;
            let gone = known
                .iter()
                .filter(|(_, known)| known.seen.elapsed() > ABSENCE_TIMEOUT)
                // A config may have one of this name by now, which stays.
                .filter(|(_, known)| known.is_in(manager))
                .map(|(name, _)| name.clone())
                .collect();
            known.retain(|_, known| known.seen.elapsed() <= ABSENCE_TIMEOUT);
            gone
        };
        for name in gone {
            tracing::info!(server = %name, pool = %self.carrier.pool(), "gone from the pool");
            if let Err(error) = manager.remove(name.as_str()).await {
                tracing::debug!(server = %name, %error, "not removed");
            }
        }
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The workers of a pool as they are at this moment: those that answer within the time are here,
/// and what the registry remembers of the others.
///
/// Dropping the future gives it up.
///
/// # Errors
/// `Connect` when NATS cannot be asked. A pool without a registry has the workers that answer.
pub async fn fleet(carrier: &Carrier, within: Duration) -> mcpool_core::Result<FleetSnapshot> {
    let remembered = async {
        let Ok(registry) = Registry::find(carrier).await else {
            return Arc::default();
        };
        let mut watch = registry.watch();
        // Nothing says that this was all: what there is comes at once.
        while timeout(within, watch.changed()).await.is_ok() && !watch.has_caught_up() {}
        watch.current()
    };
    let (found, remembered) = tokio::join!(discover(carrier, within), remembered);
    Ok(merged(&remembered, found?.iter()))
}

/// What the registry remembers, which workers are here, and what only they say.
fn merged<'a>(
    remembered: &FleetSnapshot,
    answers: impl Iterator<Item = &'a Inventory>,
) -> FleetSnapshot {
    let mut fleet = remembered.clone();
    for worker in fleet.workers.values_mut() {
        worker.is_here = false;
    }
    for inventory in answers {
        let worker = fleet.workers.entry(inventory.worker.clone());
        let worker = worker.or_insert_with(FleetWorker::unknown);
        worker.is_here = true;
        for (name, served) in &inventory.servers {
            let server = worker.servers.entry(name.clone());
            server.or_insert_with(|| {
                let mut server = FleetServer::new(name.clone(), shown(&served.state));
                server.sharing = served.sharing;
                server
            });
        }
    }
    fleet
}

/// How a session with a worker is opened again. It starts no process: the worker's manager has the
/// policy for that. So nothing is spared by long pauses, while another worker may have the server.
fn reconnect() -> ReconnectPolicy {
    let mut policy = ReconnectPolicy::default();
    policy.cap = LONGEST_PAUSE;
    policy.max_attempts = None;
    policy
}

/// The workers that can serve a server, as those say that answered when they were last asked.
fn serving(
    answers: &BTreeMap<Identity, (Inventory, Instant)>,
    asked: Option<Instant>,
    name: &ServerName,
) -> BTreeSet<Identity> {
    let answers = answers.values().filter(|(_, at)| Some(*at) == asked);
    let serving = answers.filter(|(worker, _)| {
        let server = worker.servers.get(name);
        server.is_some_and(|server| server.state.parse().is_ok_and(can_serve))
    });
    serving.map(|(worker, _)| worker.worker.clone()).collect()
}

/// How each server is shared: as the workers say that are here, or were a moment ago; of a server that
/// none of them has, as the registry remembers. Where they differ, as it is safe for all.
fn shares<'a>(
    here: impl Iterator<Item = &'a Inventory>,
    registry: &'a FleetSnapshot,
) -> BTreeMap<&'a ServerName, Sharing> {
    fn said<'a>(
        servers: impl Iterator<Item = (&'a ServerName, Sharing)>,
    ) -> BTreeMap<&'a ServerName, Sharing> {
        let mut shares = BTreeMap::new();
        for (name, sharing) in servers {
            let known = shares.entry(name).or_insert(sharing);
            *known = match (*known, sharing) {
                (Sharing::Each, _) | (_, Sharing::Each) => Sharing::Each,
                (Sharing::One, _) | (_, Sharing::One) => Sharing::One,
                _ => sharing,
            };
        }
        shares
    }
    let remembered = registry.workers.values();
    let mut shares = said(remembered.flat_map(|worker| {
        let servers = worker.servers.iter();
        servers.map(|(name, server)| (name, server.sharing))
    }));
    shares.extend(said(here.flat_map(|worker| {
        let servers = worker.servers.iter();
        servers.map(|(name, server)| (name, server.sharing))
    })));
    shares
}

/// The newest catalog that is known of each server: that of a worker that is here, if one has it.
fn catalogs(snapshot: &FleetSnapshot) -> BTreeMap<&ServerName, &str> {
    let mut catalogs = BTreeMap::new();
    let mut workers: Vec<&FleetWorker> = snapshot.workers.values().collect();
    workers.sort_by_key(|worker| worker.is_here);
    for server in workers
        .into_iter()
        .flat_map(|worker| worker.servers.values())
    {
        if let Some(hash) = &server.catalog {
            catalogs.insert(&server.name, hash.as_str());
        }
    }
    catalogs
}

/// Connects servers whose worker is back, and whose next attempt may be far away.
fn wake(manager: &ConnectionManager, names: Vec<ServerName>) {
    for name in names {
        let Ok(server) = manager.server(name.as_str()) else {
            continue;
        };
        let waits = |state| matches!(state, StateKind::Backoff | StateKind::Dormant);
        if server.status().is_ok_and(|status| waits(status.state)) {
            tokio::spawn(async move {
                // What came of it is an event of the manager.
                let _ = server.connect().await;
            });
        }
    }
}

impl fmt::Debug for Follow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follow")
            .field("carrier", &self.carrier)
            .field("servers", &self.shared().servers.len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inventory(worker: &str, server: &str, state: &str) -> Inventory {
        let text =
            format!(r#"{{"worker":"{worker}","servers":{{"{server}":{{"state":"{state}"}}}}}}"#);
        serde_json::from_str(&text).unwrap()
    }

    fn remembers(worker: &str, server: FleetServer) -> FleetSnapshot {
        let mut known = FleetWorker::unknown();
        known.is_here = true;
        known.place = "rack 7".to_owned();
        known.servers.insert(server.name.clone(), server);
        let mut snapshot = FleetSnapshot::default();
        snapshot.workers.insert(worker.parse().unwrap(), known);
        snapshot
    }

    #[test]
    fn a_worker_is_here_that_answers_and_what_it_wrote_is_shown() {
        let mut files = FleetServer::new("files".parse().unwrap(), "backoff");
        files.why = Some("it exits".to_owned());
        files.catalog = Some("ab".to_owned());
        let remembered = remembers("w1", files.clone());
        let (here, new) = (
            inventory("w1", "files", "backoff"),
            inventory("w2", "docs", "ready"),
        );
        let both = merged(&remembered, [&here, &new].into_iter());
        let of = |name: &str| &both.workers[&name.parse::<Identity>().unwrap()];
        assert!(of("w1").is_here && of("w1").place == "rack 7");
        assert_eq!(of("w1").servers[&files.name], files);
        let docs: ServerName = "docs".parse().unwrap();
        assert_eq!(of("w2").servers[&docs].state, "ready");
        let mut each = inventory("w3", "files", "idle");
        each.servers.get_mut(&files.name).unwrap().sharing = Sharing::Each;
        let shared = |here: &[&Inventory]| shares(here.iter().copied(), &remembered)[&files.name];
        assert_eq!(shared(&[]), Sharing::Many);
        assert_eq!(shared(&[&here, &each]), Sharing::Each);
        let alone = merged(&remembered, std::iter::empty());
        assert!(alone.workers.values().all(|worker| !worker.is_here));
        assert_eq!(catalogs(&alone).into_values().collect::<Vec<_>>(), ["ab"]);
    }

    #[test]
    fn a_worker_that_did_not_answer_when_it_was_last_asked_serves_nothing() {
        let name: ServerName = "files".parse().unwrap();
        let before = Instant::now();
        let worker = inventory("w1", "files", "ready");
        let answers = BTreeMap::from([(worker.worker.clone(), (worker, before))]);
        let serve = |asked| serving(&answers, Some(asked), &name).len();
        assert_eq!(serve(before), 1);
        assert_eq!(serve(before + LOOK), 0);
    }
}
