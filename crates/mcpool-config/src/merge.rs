//! Layers on top of each other: a whole entry wins, fields are never mixed.

use std::{collections::HashMap, sync::Arc};

use mcpool_core::{ServerName, ServerSpec};

use crate::{
    expand::{INPUT_ADVICE, Resolver},
    origin::Origin,
    problem::Problem,
    settings::{PoolSettings, ServerSettings},
};

/// One server after loading.
#[derive(Debug, Clone)]
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
    pub(crate) resolver: Option<Arc<Resolver>>,
}

impl Entry {
    /// What fills in its placeholders; `None` for an entry of the program's own.
    #[must_use]
    pub fn resolver(&self) -> Option<&Resolver> {
        self.resolver.as_deref()
    }

    /// Which variables are not set now, and which inputs have no default and nobody to be asked:
    /// a warning for each, at its place. Asks the environment and files, never a person, a
    /// downstream source or a helper.
    pub async fn missing_variables(&self) -> Vec<Problem> {
        let Some(resolver) = &self.resolver else {
            return Vec::new();
        };
        resolver
            .missing(&self.spec)
            .await
            .into_iter()
            .map(|missing| {
                let (field, reference) = (&missing.field, &missing.reference);
                let mut problem = match reference.scheme.as_deref() {
                    Some("input") => Problem::warning(
                        "unanswered-input",
                        format!("`{field}`: nobody can be asked for ${{{reference}}}, and it has no default"),
                    )
                    .label("has no value")
                    .help(INPUT_ADVICE),
                    _ => Problem::warning(
                        "unset-variable",
                        format!("`{field}`: ${{{reference}}} is not set"),
                    )
                    .label("not set now")
                    .help(match resolver.defaults_known() {
                        true => format!(
                            "set it before connecting, or give a default: ${{{reference}:-default}}"
                        ),
                        false => "set it before connecting".to_owned(),
                    }),
                };
                problem.server = Some(self.name.to_string());
                problem.span = missing.span;
                problem
            })
            .collect()
    }
}

/// The servers of one or more files.
#[derive(Debug, Clone, Default)]
pub(crate) struct Layer {
    pub(crate) entries: Vec<Entry>,
    pub(crate) pool: PoolSettings,
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
        pool: strong.pool.over(weak.pool),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        loader::Loader,
        settings::{BudgetSettings, CredentialStore, ProfileSettings},
    };

    /// A layer of these servers, each distinguishable by its command.
    fn layer(tag: usize, names: &[u8]) -> Layer {
        let entries: Vec<String> = names
            .iter()
            .collect::<std::collections::BTreeSet<_>>()
            .into_iter()
            .map(|name| format!("\"s{name}\": {{ \"command\": \"c{tag}\" }}"))
            .collect();
        let text = format!("{{ \"mcpServers\": {{ {} }} }}", entries.join(", "));
        let loaded = Loader::new()
            .with_text(format!("layer{tag}"), text)
            .load()
            .unwrap();
        let profile = |name: &u8| {
            let deny = vec![format!("t{tag}")];
            let settings = ProfileSettings {
                deny,
                ..ProfileSettings::default()
            };
            (format!("p{name}"), settings)
        };
        let pool = PoolSettings {
            profiles: Some(names.iter().map(profile).collect()),
            budget: names.first().map(|n| BudgetSettings {
                stdio: (n % 2 == 0).then_some(u32::from(*n) + 1),
                http: (n % 3 == 0).then_some(u32::from(*n) + 1),
            }),
            credentials: names.last().map(|n| match n % 2 {
                0 => CredentialStore::File,
                _ => CredentialStore::Keyring,
            }),
        };
        Layer {
            entries: loaded.entries().to_vec(),
            pool,
        }
    }

    fn shape(layer: &Layer) -> Vec<(String, ServerSpec, String, Vec<String>)> {
        layer
            .entries
            .iter()
            .map(|entry| {
                (
                    entry.name.to_string(),
                    entry.spec.clone(),
                    entry.origin.to_string(),
                    entry.shadowed.iter().map(ToString::to_string).collect(),
                )
            })
            .collect()
    }

    proptest! {
        #[test]
        fn merging_is_associative(
            a in proptest::collection::vec(0u8..6, 0..5),
            b in proptest::collection::vec(0u8..6, 0..5),
            c in proptest::collection::vec(0u8..6, 0..5),
        ) {
            let (a, b, c) = (layer(0, &a), layer(1, &b), layer(2, &c));
            let left = merge(merge(a.clone(), b.clone()), c.clone());
            let right = merge(a.clone(), merge(b.clone(), c.clone()));
            prop_assert_eq!(shape(&left), shape(&right));
            prop_assert_eq!(left.pool, right.pool);
            // A whole entry wins, and the empty layer changes nothing.
            for entry in &c.entries {
                let found = left.entries.iter().find(|e| e.name == entry.name).unwrap();
                prop_assert_eq!(&found.spec, &entry.spec);
            }
            prop_assert_eq!(shape(&merge(Layer::default(), a.clone())), shape(&a));
            prop_assert_eq!(shape(&merge(a.clone(), Layer::default())), shape(&a));
        }
    }
}
