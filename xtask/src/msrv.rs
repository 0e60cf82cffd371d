//! `cargo xtask ci msrv`: no dependency of a published crate wants a newer Rust than we promise.
//!
//! Cargo knows what each package says of itself (`rust-version`), on every platform and with every
//! feature. A package that says nothing is not judged. What our own sources use is seen by clippy
//! (`incompatible_msrv`, which reads the same field), and by a build with that toolchain.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::{
    Outcome, package,
    tools::{cargo, output},
};

/// Compares the versions.
pub(crate) fn run() -> Outcome {
    let args = ["metadata", "--locked", "--format-version", "1"];
    let text = output(cargo(args).arg("--all-features"))?;
    let metadata: Value =
        serde_json::from_str(&text).map_err(|error| format!("cargo metadata: {error}"))?;
    let members: BTreeSet<&str> = strings(&metadata["workspace_members"]).collect();
    let published: Vec<&Value> = package::packages(&metadata)
        .filter(|package| members.contains(package::text(package, "id")))
        .filter(|package| package::is_published(package))
        .collect();
    let Some(promised) = published.iter().find_map(|package| wants(package)) else {
        return Err("no crate says a rust-version".to_owned());
    };
    let roots = published.iter().map(|package| package::text(package, "id"));
    let needed = reachable(&metadata, roots);
    let silent = needed.iter().filter(|package| wants(package).is_none());
    println!(
        "msrv: {} packages, {} say nothing of it; {} is promised",
        needed.len(),
        silent.count(),
        show(promised)
    );
    let newer = newer(&needed, promised);
    match newer.is_empty() {
        true => Ok(()),
        false => Err(format!(
            "{} is promised; {}",
            show(promised),
            newer.join(", ")
        )),
    }
}

/// A version of Rust.
type Version = (u32, u32, u32);

/// The version that a package wants.
fn wants(package: &Value) -> Option<Version> {
    parse(package["rust_version"].as_str()?)
}

/// `1.89`, `1.89.1`; `None` for what is neither.
fn parse(text: &str) -> Option<Version> {
    let mut parts = text.split('.').map(|part| part.parse().ok());
    let major = parts.next()??;
    let minor = parts.next().unwrap_or(Some(0))?;
    let patch = parts.next().unwrap_or(Some(0))?;
    Some((major, minor, patch))
}

fn show((major, minor, patch): Version) -> String {
    match patch {
        0 => format!("{major}.{minor}"),
        patch => format!("{major}.{minor}.{patch}"),
    }
}

/// What wants more than is promised.
fn newer(packages: &[&Value], promised: Version) -> Vec<String> {
    let mut newer: Vec<String> = packages
        .iter()
        .filter_map(|package| {
            let wanted = wants(package).filter(|wanted| *wanted > promised)?;
            let name = package::text(package, "name");
            let version = package::text(package, "version");
            Some(format!("{name} {version} wants {}", show(wanted)))
        })
        .collect();
    newer.sort();
    newer
}

/// The packages that are built with these, dev-dependencies left out.
fn reachable<'a>(metadata: &'a Value, roots: impl Iterator<Item = &'a str>) -> Vec<&'a Value> {
    let nodes = metadata["resolve"]["nodes"].as_array();
    let edges: BTreeMap<&str, &Value> = nodes
        .into_iter()
        .flatten()
        .map(|node| (package::text(node, "id"), &node["deps"]))
        .collect();
    let mut seen: BTreeSet<&str> = roots.collect();
    let mut waiting: Vec<&str> = seen.iter().copied().collect();
    while let Some(id) = waiting.pop() {
        let deps = edges.get(id).and_then(|deps| deps.as_array());
        for dep in deps.into_iter().flatten().filter(|dep| is_built(dep)) {
            let id = package::text(dep, "pkg");
            if seen.insert(id) {
                waiting.push(id);
            }
        }
    }
    package::packages(metadata)
        .filter(|package| seen.contains(package::text(package, "id")))
        .collect()
}

/// Whether an edge is more than a dev-dependency.
fn is_built(dep: &Value) -> bool {
    let kinds = dep["dep_kinds"].as_array();
    kinds
        .into_iter()
        .flatten()
        .any(|kind| package::text(kind, "kind") != "dev")
}

fn strings(value: &Value) -> impl Iterator<Item = &str> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert_eq!(parse("1.89"), Some((1, 89, 0)));
        assert_eq!(parse("1.89.1"), Some((1, 89, 1)));
        assert_eq!(parse("new"), None);
        let package = |version| json!({"name": "a", "version": "1.0.0", "rust_version": version});
        assert!(newer(&[&package("1.9")], (1, 89, 0)).is_empty());
        assert!(newer(&[&package("1.89")], (1, 89, 0)).is_empty());
        assert_eq!(
            newer(&[&package("1.90.0")], (1, 89, 0)),
            ["a 1.0.0 wants 1.90"]
        );
    }

    #[test]
    fn only_what_is_built_counts() {
        let dep = |id: &str, kind: Value| json!({"pkg": id, "dep_kinds": [{"kind": kind}]});
        let metadata = json!({
            "packages": [{"id": "root"}, {"id": "used"}, {"id": "deep"}, {"id": "test"}],
            "resolve": {"nodes": [
                {"id": "root", "deps": [dep("used", Value::Null), dep("test", json!("dev"))]},
                {"id": "used", "deps": [dep("deep", json!("build"))]},
                {"id": "deep", "deps": []},
                {"id": "test", "deps": []},
            ]},
        });
        let found = reachable(&metadata, ["root"].into_iter());
        let ids: Vec<&str> = found.iter().map(|p| package::text(p, "id")).collect();
        assert_eq!(ids, ["root", "used", "deep"]);
    }
}
