//! What was found out about servers, so that a reconnect needs no probe.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use mcpool_core::{Connector, ServerSpec, TransportKind, TransportSpec};

/// The most servers that are remembered. One more, and all are forgotten, which costs each a probe.
const MOST: usize = 4_096;

/// What was found out about a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) transport: TransportKind,
    pub(crate) modern: bool,
}

/// Remembers the era of each server for as long as the factory lives: it is a property of the
/// process or origin (MCP 2026-07-28, "Versioning and Compatibility").
///
/// The key is the command with its arguments, the origin with its path, or the connector, and never
/// an environment variable, a header, or a query.
#[derive(Default)]
pub(crate) struct EraMemory(Mutex<HashMap<RememberedServer, RememberedEra>>);

#[derive(PartialEq, Eq, Hash)]
enum RememberedServer {
    Process(String, Vec<String>),
    Url(&'static str, String),
    Connector(usize),
}

struct RememberedEra {
    known: Known,
    /// Keeps the address of a connector from being another's.
    _connector: Option<Weak<dyn Connector>>,
}

fn key(spec: &ServerSpec) -> Option<RememberedServer> {
    match &spec.transport {
        TransportSpec::Stdio(stdio) => Some(RememberedServer::Process(
            stdio.command.clone(),
            stdio.args.clone(),
        )),
        TransportSpec::Http(http) | TransportSpec::Sse(http) | TransportSpec::Auto(http) => Some(
            RememberedServer::Url(spec.transport.as_str(), http.redacted_url()),
        ),
        TransportSpec::Custom(connector) => Some(RememberedServer::Connector(
            Arc::as_ptr(connector).cast::<()>() as usize,
        )),
        _ => None,
    }
}

impl EraMemory {
    pub(crate) fn recall(&self, spec: &ServerSpec) -> Option<Known> {
        let entries = self.entries();
        entries.get(&key(spec)?).map(|entry| entry.known)
    }

    pub(crate) fn remember(&self, spec: &ServerSpec, known: Known) {
        let Some(key) = key(spec) else {
            return;
        };
        let connector = match &spec.transport {
            TransportSpec::Custom(connector) => Some(Arc::downgrade(connector)),
            _ => None,
        };
        let mut entries = self.entries();
        if entries.len() >= MOST && !entries.contains_key(&key) {
            entries.clear();
        }
        let entry = RememberedEra {
            known,
            _connector: connector,
        };
        entries.insert(key, entry);
    }

    pub(crate) fn forget(&self, spec: &ServerSpec) {
        if let Some(key) = key(spec) {
            self.entries().remove(&key);
        }
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<RememberedServer, RememberedEra>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mcpool_core::StdioSpec;

    #[test]
    fn what_is_remembered_is_bounded() {
        let memory = EraMemory::default();
        let spec = |n: usize| {
            let stdio = StdioSpec::new("x").with_args([n.to_string()]);
            ServerSpec::stdio("s", stdio).unwrap()
        };
        let known = Known {
            transport: TransportKind::Stdio,
            modern: false,
        };
        for n in 0..MOST {
            memory.remember(&spec(n), known);
        }
        assert_eq!(memory.recall(&spec(0)), Some(known));
        memory.remember(&spec(0), known);
        assert_eq!(memory.recall(&spec(1)), Some(known));
        memory.remember(&spec(MOST), known);
        assert_eq!(memory.recall(&spec(1)), None);
        assert_eq!(memory.recall(&spec(MOST)), Some(known));
        memory.forget(&spec(MOST));
        assert_eq!(memory.recall(&spec(MOST)), None);
    }
}
