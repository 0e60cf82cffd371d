//! Layers on top of each other: a whole entry wins, fields are never mixed.

use std::collections::HashMap;

use mcpool_core::{ServerName, ServerSpec};

use crate::{
    origin::Origin,
    settings::{BudgetSettings, ServerSettings},
};

/// One server after loading.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Entry {
    /// Its name.
    pub name: ServerName,
    /// What the winning file says of it, in the native format. Empty for an entry of the
    /// program's own, which has no file.
    pub settings: ServerSettings,
    /// What is connected.
    pub spec: ServerSpec,
    /// Where it comes from.
    pub origin: Origin,
    /// Entries of the same name in weaker layers, the strongest first.
    pub shadowed: Vec<Origin>,
}

/// The servers of one or more files.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Layer {
    pub(crate) entries: Vec<Entry>,
    pub(crate) budget: BudgetSettings,
}

/// Lays `strong` over `weak`. Associative: however three layers are bracketed, the result is the
/// same, order included.
pub(crate) fn merge(weak: Layer, strong: Layer) -> Layer {
    let mut entries = weak.entries;
    let mut places: HashMap<ServerName, usize> = entries
        .iter()
        .enumerate()
        .map(|(index, entry)| (entry.name.clone(), index))
        .collect();
    for mut entry in strong.entries {
        match places.get(&entry.name) {
            Some(index) => {
                let loser = std::mem::replace(&mut entries[*index], entry.clone());
                entry.shadowed.push(loser.origin);
                entry.shadowed.extend(loser.shadowed);
                entries[*index] = entry;
            }
            None => {
                places.insert(entry.name.clone(), entries.len());
                entries.push(entry);
            }
        }
    }
    Layer {
        entries,
        budget: BudgetSettings {
            stdio: strong.budget.stdio.or(weak.budget.stdio),
            http: strong.budget.http.or(weak.budget.http),
        },
    }
}
