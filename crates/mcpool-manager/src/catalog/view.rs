//! The tools of all servers as one immutable list under unique names, in generations.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwap;
use mcpool_core::{Error, EventKind, Reply, ServerName, model::Tool};

use crate::{
    catalog::cache::CachedList,
    catalog::naming,
    observe::events::EventBus,
    server::{Server, lock},
};

/// One tool of one server.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ToolEntry {
    /// The server, by the application's name for it.
    pub server: ServerName,
    /// The name that the server gave the tool.
    pub name: Arc<str>,
    /// The name that is unique among all servers.
    pub qualified_name: Arc<str>,
    /// The tool as the server described it.
    pub tool: Arc<Reply<Tool>>,
}

/// The tools of all servers at one moment. It never changes: a caller that holds it sees one generation.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct ToolSnapshot {
    /// Counts the changes of the view.
    pub generation: u64,
    /// The tools, by server and in each server's order.
    pub entries: Arc<[ToolEntry]>,
    /// The servers whose list is missing, or is not the newest, and why.
    pub problems: Arc<[(ServerName, Error)]>,
    by_name: Arc<HashMap<Arc<str>, usize>>,
}

impl ToolSnapshot {
    /// The tool of this qualified name.
    #[must_use]
    pub fn get(&self, qualified_name: &str) -> Option<&ToolEntry> {
        self.by_name
            .get(qualified_name)
            .and_then(|index| self.entries.get(*index))
    }

    /// The tools of one server.
    pub fn of<'a>(&'a self, server: &'a str) -> impl Iterator<Item = &'a ToolEntry> + 'a {
        self.entries
            .iter()
            .filter(move |e| e.server.as_str() == server)
    }

    /// How many tools there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn with_problems(&self, problems: Vec<(ServerName, Error)>) -> Self {
        Self {
            problems: problems.into(),
            ..self.clone()
        }
    }
}

/// What one server contributes.
type Shown = Arc<[Arc<Reply<Tool>>]>;

/// The aggregated view.
#[derive(Default)]
pub(crate) struct View {
    shown: Mutex<BTreeMap<ServerName, Shown>>,
    generation: AtomicU64,
    snapshot: ArcSwap<ToolSnapshot>,
}

impl View {
    /// Brings what a server contributes up to date, and reports the difference.
    pub(crate) fn announce(&self, server: &Server, events: &EventBus) {
        if let Some(change) = self.update(server) {
            change.announce(&server.name, events);
        }
    }

    /// Brings what a server contributes up to date. The difference, if there is one, is reported by
    /// the caller.
    pub(crate) fn update(&self, server: &Server) -> Option<Change> {
        let spec = server.spec();
        let mut shown = lock(&self.shown);
        if server.is_retired() {
            return None;
        }
        // Read under the lock, so that the last word is the newest.
        let now: Option<Arc<CachedList<Tool>>> = if server.shows_tools() {
            server.catalog.tools.cached()
        } else {
            None
        };
        let before = shown.get(&server.name).cloned().unwrap_or_default();
        let known: HashMap<&str, &Arc<Reply<Tool>>> =
            before.iter().map(|t| (&*t.name, t)).collect();
        let now: Shown = now
            .iter()
            .flat_map(|listing| listing.items.iter())
            .filter(|tool| spec.tools.permits(&tool.name))
            .map(|tool| match known.get(&*tool.name) {
                // An unchanged tool stays the same allocation.
                Some(known) if ***known == *tool => Arc::clone(known),
                _ => Arc::new(tool.clone()),
            })
            .collect();
        if before == now {
            return None;
        }
        let difference = Difference::between(&before, &now);
        if now.is_empty() {
            shown.remove(&server.name);
        } else {
            shown.insert(server.name.clone(), now);
        }
        let generation = self.generation.fetch_add(1, Ordering::AcqRel) + 1;
        Some(Change {
            difference,
            generation,
        })
    }

    /// Takes out what a server contributed that is there no more.
    pub(crate) fn forget(&self, server: &ServerName, events: &EventBus) {
        let (gone, generation) = {
            let mut shown = lock(&self.shown);
            let Some(gone) = shown.remove(server) else {
                return;
            };
            (gone, self.generation.fetch_add(1, Ordering::AcqRel) + 1)
        };
        events.emit(
            server,
            EventKind::ToolsChanged {
                added: Arc::default(),
                removed: gone.iter().map(|tool| tool.name.to_string()).collect(),
                changed: Arc::default(),
                generation,
            },
        );
    }

    /// How many tools a server contributes.
    pub(crate) fn count(&self, server: &ServerName) -> usize {
        lock(&self.shown).get(server).map_or(0, |tools| tools.len())
    }

    /// The view now. It is put together when it is asked for, once a generation.
    pub(crate) fn snapshot(&self) -> Arc<ToolSnapshot> {
        let snapshot = self.snapshot.load_full();
        if snapshot.generation == self.generation.load(Ordering::Acquire) {
            return snapshot;
        }
        let shown = lock(&self.shown);
        let generation = self.generation.load(Ordering::Acquire);
        let pairs: Vec<(&ServerName, &Arc<Reply<Tool>>)> = shown
            .iter()
            .flat_map(|(server, tools)| tools.iter().map(move |tool| (server, tool)))
            .collect();
        let raw: Vec<(&str, &str)> = pairs
            .iter()
            .map(|(server, tool)| (server.as_str(), &*tool.name))
            .collect();
        let entries: Arc<[ToolEntry]> = pairs
            .iter()
            .zip(naming::qualify_all(&raw))
            .map(|((server, tool), qualified_name)| ToolEntry {
                server: (*server).clone(),
                name: Arc::from(&*tool.name),
                qualified_name: qualified_name.into(),
                tool: Arc::clone(tool),
            })
            .collect();
        let by_name = entries
            .iter()
            .enumerate()
            .map(|(index, entry)| (Arc::clone(&entry.qualified_name), index))
            .collect();
        let snapshot = Arc::new(ToolSnapshot {
            generation,
            entries,
            problems: Arc::default(),
            by_name: Arc::new(by_name),
        });
        self.snapshot.store(Arc::clone(&snapshot));
        snapshot
    }
}

/// A change of the view that is still to be reported.
#[must_use]
pub(crate) struct Change {
    difference: Difference,
    generation: u64,
}

impl Change {
    /// Reports it.
    pub(crate) fn announce(self, server: &ServerName, events: &EventBus) {
        events.emit(
            server,
            EventKind::ToolsChanged {
                added: self.difference.added.into(),
                removed: self.difference.removed.into(),
                changed: self.difference.changed.into(),
                generation: self.generation,
            },
        );
    }
}

/// How two lists of tools differ.
#[derive(Debug, Default, PartialEq, Eq)]
struct Difference {
    added: Vec<String>,
    removed: Vec<String>,
    changed: Vec<String>,
}

impl Difference {
    fn between(before: &[Arc<Reply<Tool>>], now: &[Arc<Reply<Tool>>]) -> Self {
        let old: HashMap<&str, &Arc<Reply<Tool>>> = before.iter().map(|t| (&*t.name, t)).collect();
        let new: HashMap<&str, &Arc<Reply<Tool>>> = now.iter().map(|t| (&*t.name, t)).collect();
        let mut difference = Self::default();
        for tool in now {
            match old.get(&*tool.name) {
                None => difference.added.push(tool.name.to_string()),
                Some(before) if *before != tool => difference.changed.push(tool.name.to_string()),
                Some(_) => {}
            }
        }
        for tool in before {
            if !new.contains_key(&*tool.name) {
                difference.removed.push(tool.name.to_string());
            }
        }
        difference
    }
}
