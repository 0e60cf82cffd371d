//! What the keys of the registry say together. Pure.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use mcpool_core::{ServerName, Untrusted};

use crate::{identity::Identity, subjects::token};

use super::{Beat, FleetServer, FleetWorker, SILENCE_TIMEOUT};

/// Workers of one pool that are shown. More are left out.
const MAX_WORKERS: usize = 1_000;

/// Servers of one worker that are shown. More are left out.
const MAX_SERVERS: usize = 10_000;

/// The longest value of a key, in bytes. What is longer is not read.
const MAX_VALUE: usize = 64 * 1024;

/// The longest place, the longest word for a state and the longest reason that are shown, in
/// characters.
const MAX_SHOWN: usize = 200;

/// A worker of which nothing was heard for so long is forgotten.
const FORGET: Duration = Duration::from_secs(24 * 3600);

/// The workers of a pool at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FleetSnapshot {
    /// By name.
    pub workers: BTreeMap<Identity, FleetWorker>,
}

impl FleetSnapshot {
    /// The workers that are here and have a server, with what they say of it.
    pub fn having<'a>(
        &'a self,
        server: &ServerName,
    ) -> impl Iterator<Item = (&'a Identity, &'a FleetServer)> + use<'a> {
        let server = server.clone();
        self.workers.iter().filter_map(move |(name, worker)| {
            let server = worker.servers.get(&server)?;
            worker.is_here.then_some((name, server))
        })
    }
}

/// The registry as far as it was read.
#[derive(Debug, Default)]
pub(super) struct Reading {
    snapshot: FleetSnapshot,
    /// When each worker was heard of.
    heard: HashMap<Identity, Duration>,
}

impl Reading {
    pub(super) fn snapshot(&self) -> &FleetSnapshot {
        &self.snapshot
    }

    /// A key holds this now; `None` when it was deleted. Whether the snapshot changed.
    pub(super) fn apply(&mut self, now: Duration, key: &str, value: Option<&[u8]>) -> bool {
        let mut parts = key.split('.');
        let (kind, name) = (parts.next(), parts.next());
        let Some(name) = name.and_then(|name| Identity::new(name).ok()) else {
            return false;
        };
        let value = value.filter(|value| value.len() <= MAX_VALUE);
        match (kind, parts.next(), parts.next()) {
            (Some("worker"), None, None) => self.beat(now, name, value),
            (Some("server"), Some(server), None) => self.server(name, server, value),
            _ => false,
        }
    }

    fn beat(&mut self, now: Duration, name: Identity, value: Option<&[u8]>) -> bool {
        let Some(value) = value else {
            self.heard.remove(&name);
            return self.snapshot.workers.remove(&name).is_some();
        };
        let place = serde_json::from_slice::<Beat>(value)
            .unwrap_or_default()
            .place;
        let place = shown(&place);
        let Some(worker) = self.worker(name.clone()) else {
            return false;
        };
        let changed = !worker.is_here || worker.place != place;
        worker.is_here = true;
        worker.place = place;
        self.heard.insert(name, now);
        changed
    }

    fn server(&mut self, name: Identity, key: &str, value: Option<&[u8]>) -> bool {
        let Some(value) = value else {
            let worker = self.snapshot.workers.get_mut(&name);
            let Some(worker) = worker else { return false };
            let before = worker.servers.len();
            worker.servers.retain(|server, _| token(server) != key);
            return worker.servers.len() != before;
        };
        let Ok(mut server) = serde_json::from_slice::<FleetServer>(value) else {
            return false;
        };
        if token(&server.name) != key {
            return false;
        }
        server.state = shown(&server.state);
        server.why = server.why.as_deref().map(shown);
        server.catalog = server.catalog.filter(|hash| super::catalog::is_hash(hash));
        let Some(worker) = self.worker(name) else {
            return false;
        };
        let servers = &mut worker.servers;
        if servers.len() >= MAX_SERVERS && !servers.contains_key(&server.name) {
            return false;
        }
        let before = servers.insert(server.name.clone(), server.clone());
        before.is_none_or(|before| before != server)
    }

    fn worker(&mut self, name: Identity) -> Option<&mut FleetWorker> {
        let workers = &mut self.snapshot.workers;
        if workers.len() >= MAX_WORKERS && !workers.contains_key(&name) {
            return None;
        }
        Some(workers.entry(name).or_insert_with(FleetWorker::unknown))
    }

    /// Time has passed. Whether the snapshot changed.
    pub(super) fn tick(&mut self, now: Duration) -> bool {
        let mut changed = false;
        let heard = &mut self.heard;
        self.snapshot.workers.retain(|name, worker| {
            let silent = now.saturating_sub(*heard.entry(name.clone()).or_insert(now));
            if worker.is_here && silent > SILENCE_TIMEOUT {
                worker.is_here = false;
                changed = true;
            }
            changed |= silent > FORGET;
            silent <= FORGET
        });
        let workers = &self.snapshot.workers;
        heard.retain(|name, _| workers.contains_key(name));
        changed
    }
}

/// Foreign text as it is shown: cleaned, and cut.
pub(crate) fn shown(text: &str) -> String {
    let line = Untrusted::line(text).to_string();
    line.chars().take(MAX_SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(name: &str, state: &str) -> Vec<u8> {
        serde_json::to_vec(&FleetServer::new(name.parse().unwrap(), state)).unwrap()
    }

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn workers_come_change_fall_silent_and_go() {
        let mut reading = Reading::default();
        let beat = br#"{"count":1,"place":"rack 7"}"#;
        // The order of the keys does not matter.
        assert!(reading.apply(s(0), "server.w1.a=2Eb", Some(&server("a.b", "ready"))));
        assert!(reading.apply(s(0), "worker.w1", Some(beat)));
        assert!(!reading.apply(s(5), "worker.w1", Some(beat)));
        let name: ServerName = "a.b".parse().unwrap();
        let having = |reading: &Reading| {
            let having = reading.snapshot().having(&name);
            having
                .map(|(worker, server)| format!("{worker} {}", server.state))
                .collect::<Vec<_>>()
        };
        assert_eq!(having(&reading), ["w1 ready"]);
        assert!(!reading.tick(s(25)));
        assert!(reading.tick(s(26)));
        assert!(having(&reading).is_empty());
        // It is still shown, as it was.
        assert_eq!(reading.snapshot().workers.len(), 1);
        assert!(reading.apply(s(30), "worker.w1", Some(beat)));
        assert!(reading.apply(s(30), "server.w1.a=2Eb", None));
        assert!(having(&reading).is_empty());
        assert!(reading.apply(s(31), "worker.w1", None));
        assert!(reading.snapshot().workers.is_empty());
    }

    #[test]
    fn what_is_no_key_of_the_registry_is_left_alone() {
        let mut reading = Reading::default();
        let value = server("a", "ready");
        for key in [
            "",
            "worker",
            "server.w1",
            "server.w1.b",
            "server.w 1.a",
            "catalog.aa.0",
            "server.w1.a.b",
        ] {
            assert!(!reading.apply(s(0), key, Some(&value)), "{key}");
        }
        assert!(!reading.apply(s(0), "server.w1.a", Some(b"no JSON")));
        let foreign = format!(
            "{{\"count\":1,\"place\":\"\\u001b[31m{}\"}}",
            "x".repeat(300)
        );
        assert!(reading.apply(s(0), "worker.w1", Some(foreign.as_bytes())));
        let (_, worker) = reading.snapshot().workers.first_key_value().unwrap();
        assert!(!worker.place.contains('\u{1b}') && worker.place.chars().count() <= MAX_SHOWN);
    }

    #[test]
    fn there_is_a_bound() {
        let mut reading = Reading::default();
        for number in 0..=MAX_WORKERS {
            reading.apply(s(0), &format!("worker.w{number}"), Some(b"{}"));
        }
        assert_eq!(reading.snapshot().workers.len(), MAX_WORKERS);
        assert!(reading.tick(FORGET + s(1)));
        assert!(reading.snapshot().workers.is_empty() && reading.heard.is_empty());
    }
}
