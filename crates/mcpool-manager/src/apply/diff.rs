//! A new configuration as a difference to the running one, and what becomes of each server.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use mcpool_core::{Error, ErrorKind, Result, ServerName, ServerSpec};
use serde::Serialize;

/// How a configuration differs from the one that runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ConfigDiff {
    /// Servers that are new.
    pub added: Vec<ServerName>,
    /// Servers that are gone: their calls in flight drain, then they are closed.
    pub removed: Vec<ServerName>,
    /// Servers that need a new connection: the old one drains while the new one is made.
    pub replaced: Vec<ServerName>,
    /// Servers whose rules change while their connection stays.
    pub adjusted: Vec<ServerName>,
    /// Servers that stay as they are.
    pub unchanged: Vec<ServerName>,
}

impl ConfigDiff {
    /// Whether nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.added.is_empty()
            && self.removed.is_empty()
            && self.replaced.is_empty()
            && self.adjusted.is_empty()
    }

    /// Moves servers that would keep their connections, but cannot, to those that are replaced.
    pub(crate) fn replace_if(&mut self, cannot: impl Fn(&ServerName) -> bool) {
        for kept in [&mut self.adjusted, &mut self.unchanged] {
            self.replaced
                .extend(kept.extract_if(.., |name| cannot(name)));
        }
    }
}

/// Compares the running specs with the wanted ones.
///
/// # Errors
/// `InvalidSpec` when two wanted specs have one name.
pub(crate) fn difference(
    running: &BTreeMap<ServerName, Arc<ServerSpec>>,
    wanted: &[ServerSpec],
) -> Result<ConfigDiff> {
    let mut names = BTreeSet::new();
    for spec in wanted {
        if !names.insert(&spec.name) {
            return Err(Error::new(
                ErrorKind::InvalidSpec,
                format!("two servers are called {:?}", spec.name.as_str()),
            ));
        }
    }
    let mut diff = ConfigDiff::default();
    for spec in wanted {
        let list = match running.get(&spec.name) {
            None => &mut diff.added,
            Some(old) if **old == *spec => &mut diff.unchanged,
            Some(old) if keeps_connection(old, spec) => &mut diff.adjusted,
            Some(_) => &mut diff.replaced,
        };
        list.push(spec.name.clone());
    }
    diff.removed = running
        .keys()
        .filter(|name| !names.contains(name))
        .cloned()
        .collect();
    Ok(diff)
}

/// Whether the difference can be taken over without a new connection: the client was made from
/// everything but what is neutralized here.
fn keeps_connection(old: &ServerSpec, new: &ServerSpec) -> bool {
    let mut like_old = new.clone();
    like_old.enabled = old.enabled;
    like_old.required = old.required;
    like_old.sharing = old.sharing;
    like_old.tools = old.tools.clone();
    like_old.policy.reconnect = old.policy.reconnect.clone();
    like_old.policy.health = old.policy.health.clone();
    like_old.policy.catalog_ttl = old.policy.catalog_ttl;
    like_old.policy.trust_annotations = old.policy.trust_annotations;
    like_old == *old
}
