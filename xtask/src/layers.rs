//! `cargo xtask layers`: dependencies point one way.
//!
//! Each crate has a list of the workspace crates that it may depend on directly, and some have
//! crates from the registry that must not be anywhere below them. Whatever is not allowed is
//! forbidden, so a new crate has to be put on the list first. Development dependencies are
//! free, but for the facade's rule that nothing depends on the command-line program.

use std::collections::BTreeSet;

use crate::{
    Outcome,
    tools::{cargo, metadata, output},
};

/// What one crate of the workspace may depend on.
struct Layer {
    name: &'static str,
    /// Workspace crates that it may name in its manifest.
    may_use: &'static [&'static str],
    /// Registry crates that must not be below it, at any depth.
    must_not_reach: &'static [&'static str],
}

const fn layer(name: &'static str, may_use: &'static [&'static str]) -> Layer {
    Layer {
        name,
        may_use,
        must_not_reach: &[],
    }
}

/// No sockets: HTTP and TLS stay in the transports.
const NO_HTTP: &[&str] = &["reqwest", "hyper", "rustls", "native-tls", "axum"];

const LAYERS: &[Layer] = &[
    Layer {
        must_not_reach: NO_HTTP,
        ..layer("mcpool-core", &[])
    },
    Layer {
        must_not_reach: NO_HTTP,
        ..layer("mcpool-duplex", &["mcpool-core"])
    },
    Layer {
        must_not_reach: NO_HTTP,
        ..layer("mcpool-stdio", &["mcpool-core", "mcpool-duplex"])
    },
    Layer {
        must_not_reach: NO_HTTP,
        ..layer("mcpool-files", &[])
    },
    layer("mcpool-http-pool", &["mcpool-core", "mcpool-files"]),
    layer(
        "mcpool-sse",
        &["mcpool-core", "mcpool-duplex", "mcpool-http-pool"],
    ),
    layer("mcpool-http", &["mcpool-core", "mcpool-http-pool"]),
    layer(
        "mcpool-auth",
        &["mcpool-core", "mcpool-files", "mcpool-http-pool"],
    ),
    layer(
        "mcpool-client",
        &[
            "mcpool-core",
            "mcpool-http-pool",
            "mcpool-stdio",
            "mcpool-sse",
            "mcpool-http",
        ],
    ),
    Layer {
        must_not_reach: NO_HTTP,
        ..layer("mcpool-manager", &["mcpool-core"])
    },
    Layer {
        must_not_reach: NO_HTTP,
        ..layer("mcpool-config", &["mcpool-core", "mcpool-files"])
    },
    Layer {
        must_not_reach: NO_HTTP,
        ..layer("mcpool-blocking", &["mcpool-core", "mcpool-manager"])
    },
    layer("mcpool-gateway", &["mcpool-core", "mcpool-manager"]),
    layer(
        "mcpool-nats",
        &[
            "mcpool-auth",
            "mcpool-core",
            "mcpool-duplex",
            "mcpool-manager",
        ],
    ),
    layer(
        "mcpool",
        &[
            "mcpool-blocking",
            "mcpool-core",
            "mcpool-client",
            "mcpool-gateway",
            "mcpool-manager",
            "mcpool-nats",
            "mcpool-config",
            "mcpool-auth",
            "mcpool-stdio",
        ],
    ),
    layer("mcpool-testkit", &["mcpool-core", "mcpool-duplex"]),
    // Of its own files it reads as little at once as every other part does.
    layer("mcpool-cli", &["mcpool", "mcpool-files"]),
    layer(
        "mcpool-bench",
        &["mcpool", "mcpool-testkit", "mcpool-memory"],
    ),
    layer("mcpool-memory", &["mcpool"]),
    layer("mcpool-conformance", &["mcpool"]),
    // As a downstream crate may: the facade, or the fine-grained crates.
    layer(
        "mcpool-e2e",
        &[
            "mcpool",
            "mcpool-client",
            "mcpool-core",
            "mcpool-manager",
            "mcpool-testkit",
        ],
    ),
    layer("xtask", &[]),
];

/// Checks every crate of the workspace.
pub(crate) fn run() -> Outcome {
    let members = members()?;
    let mut problems = Vec::new();
    for member in &members {
        let tree = output(&mut cargo([
            "tree",
            "--locked",
            "--package",
            member,
            "--all-features",
            "--edges",
            "normal,build",
            "--target",
            "all",
            "--prefix",
            "depth",
            "--format",
            " {p}",
        ]))?;
        problems.extend(violations(member, &tree, &members));
    }
    if problems.is_empty() {
        println!("layers: {} crates, no forbidden edge", members.len());
        return Ok(());
    }
    for problem in &problems {
        println!("layers: {problem}");
    }
    Err(format!("{} forbidden edges", problems.len()))
}

/// The names of the workspace's crates.
fn members() -> Outcome<BTreeSet<String>> {
    let metadata = metadata()?;
    let names = metadata["packages"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|package| package["name"].as_str().map(str::to_owned));
    Ok(names.collect())
}

/// The forbidden edges in the output of `cargo tree --prefix depth` for one crate.
fn violations(member: &str, tree: &str, members: &BTreeSet<String>) -> Vec<String> {
    let Some(layer) = LAYERS.iter().find(|layer| layer.name == member) else {
        return vec![format!(
            "{member} has no layer: put it on the list in xtask/src/layers.rs"
        )];
    };
    let mut found = BTreeSet::new();
    for (depth, name) in tree.lines().filter_map(parse) {
        if depth == 1 && members.contains(name) && !layer.may_use.contains(&name) {
            found.insert(format!("{member} must not depend on {name}"));
        }
        if depth > 0 && layer.must_not_reach.contains(&name) {
            found.insert(format!("{member} must not reach {name}"));
        }
    }
    found.into_iter().collect()
}

/// `3 serde v1.0.0` → `(3, "serde")`.
fn parse(line: &str) -> Option<(usize, &str)> {
    let mut words = line.split_whitespace();
    let depth = words.next()?.parse().ok()?;
    Some((depth, words.next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace() -> BTreeSet<String> {
        LAYERS.iter().map(|layer| layer.name.to_owned()).collect()
    }

    const GOOD: &str = "\
0 mcpool-manager v0.1.0 (/w/crates/mcpool-manager)
1 mcpool-core v0.1.0 (/w/crates/mcpool-core)
2 serde v1.0.0
1 tokio v1.0.0 (*)
";

    #[test]
    fn an_allowed_tree_passes() {
        assert_eq!(
            violations("mcpool-manager", GOOD, &workspace()),
            Vec::<String>::new()
        );
    }

    #[test]
    fn a_forged_edge_to_a_transport_fails() {
        let forged = format!("{GOOD}1 mcpool-http v0.1.0 (/w/crates/mcpool-http)\n");
        assert_eq!(
            violations("mcpool-manager", &forged, &workspace()),
            ["mcpool-manager must not depend on mcpool-http"]
        );
    }

    #[test]
    fn a_forbidden_registry_crate_is_found_at_any_depth() {
        let forged = format!("{GOOD}2 x v1.0.0\n3 reqwest v0.13.0\n");
        assert_eq!(
            violations("mcpool-manager", &forged, &workspace()),
            ["mcpool-manager must not reach reqwest"]
        );
    }

    #[test]
    fn an_indirect_workspace_edge_is_the_business_of_the_crate_between() {
        let tree = "\
0 mcpool v0.1.0 (/w)
1 mcpool-client v0.1.0 (/w)
2 mcpool-stdio v0.1.0 (/w)
";
        assert!(violations("mcpool", tree, &workspace()).is_empty());
    }

    #[test]
    fn a_crate_without_a_layer_fails() {
        assert_eq!(violations("mcpool-new", "", &workspace()).len(), 1);
    }
}
