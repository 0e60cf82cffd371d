//! `cargo xtask package`: the crates as they would be published.
//!
//! Each published crate says what it is, is packaged with its licences and its README, and needs no
//! crate of the workspace that is not published. What was packaged is unpacked and checked together,
//! with what cargo compiled for the workspace. With `--long` cargo also builds each package alone,
//! as it does when it publishes.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::{
    Outcome,
    tools::{self, cargo, metadata, output, root, target},
};

/// What crates.io takes at most.
const MAX_PACKAGE_BYTES: u64 = 10 * 1024 * 1024;
const MAX_KEYWORDS: usize = 5;
const MAX_KEYWORD_BYTES: usize = 20;

/// What each package must have.
const FILES: &[&str] = &["Cargo.toml", "LICENSE-APACHE", "LICENSE-MIT", "README.md"];

/// A crate that is published.
pub(crate) struct Published {
    pub(crate) name: String,
    pub(crate) version: String,
}

impl Published {
    /// What its package unpacks to.
    fn directory(&self) -> String {
        format!("{}-{}", self.name, self.version)
    }

    /// Where cargo puts its package.
    fn path(&self) -> PathBuf {
        target().join(format!("package/{}.crate", self.directory()))
    }
}

/// Checks and packages; with `--long` cargo builds each alone as well.
pub(crate) fn run(args: &[String]) -> Outcome {
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => pack(false),
        ["--long"] => pack(true),
        _ => Err("the only option is --long".to_owned()),
    }
}

/// As a step of `cargo xtask ci`.
pub(crate) fn pack(build: bool) -> Outcome {
    let metadata = metadata()?;
    let problems = problems(&metadata);
    for problem in &problems {
        println!("package: {problem}");
    }
    if !problems.is_empty() {
        return Err(format!("{} problems in the manifests", problems.len()));
    }
    let crates = published(&metadata);
    // Dirty, because a check runs on what is there.
    let mut command = cargo(["package", "--allow-dirty"]);
    // Builds take minutes, and cargo says how far it is.
    if !build {
        command.args(["--quiet", "--no-verify"]);
    }
    for published in &crates {
        command.args(["--package", &published.name]);
    }
    tools::run(&mut command)?;
    for published in &crates {
        inside(published)?;
    }
    compile(&unpack(&crates)?)?;
    println!("package: {} crates", crates.len());
    Ok(())
}

/// The crates that are published, each after those that it needs.
pub(crate) fn published(metadata: &Value) -> Vec<Published> {
    let mut waiting: Vec<&Value> = packages(metadata).filter(|p| is_published(p)).collect();
    let mut sorted: Vec<Published> = Vec::new();
    while !waiting.is_empty() {
        let before = waiting.len();
        let names: Vec<&str> = waiting.iter().map(|p| text(p, "name")).collect();
        let (ready, later): (Vec<_>, Vec<_>) = waiting.iter().partition(|package| {
            !needs(package).any(|needed| needed != text(package, "name") && names.contains(&needed))
        });
        sorted.extend(ready.into_iter().map(|package: &Value| Published {
            name: text(package, "name").to_owned(),
            version: text(package, "version").to_owned(),
        }));
        waiting = later;
        if waiting.len() == before {
            // Cargo refuses a circle before this can see it.
            break;
        }
    }
    sorted
}

/// What is wrong with the manifests.
fn problems(metadata: &Value) -> Vec<String> {
    let private: Vec<&str> = packages(metadata)
        .filter(|package| !is_published(package))
        .map(|package| text(package, "name"))
        .collect();
    let mut problems = Vec::new();
    for package in packages(metadata).filter(|package| is_published(package)) {
        let name = text(package, "name");
        for field in [
            "description",
            "license",
            "repository",
            "readme",
            "rust_version",
        ] {
            if text(package, field).is_empty() {
                problems.push(format!("{name} has no {field}"));
            }
        }
        let keywords: Vec<&str> = strings(&package["keywords"]);
        let is_short = |keyword: &&str| keyword.len() <= MAX_KEYWORD_BYTES;
        if keywords.is_empty() || keywords.len() > MAX_KEYWORDS || !keywords.iter().all(is_short) {
            problems.push(format!("{name}: crates.io does not take these keywords"));
        }
        if strings(&package["categories"]).is_empty() {
            problems.push(format!("{name} has no categories"));
        }
        for needed in needs(package).filter(|needed| private.contains(needed)) {
            problems.push(format!("{name} needs {needed}, which is not published"));
        }
        for sibling in dependencies(package).filter(|d| d["path"].is_string()) {
            let wanted = format!("={}", text(package, "version"));
            let is_private = private.contains(&text(sibling, "name"));
            if !is_private && text(sibling, "req") != wanted {
                let sibling = text(sibling, "name");
                problems.push(format!("{name} does not pin {sibling} to {wanted}"));
            }
        }
    }
    problems
}

/// Unpacks the packages into a workspace of their own, and gives its manifest.
fn unpack(crates: &[Published]) -> Outcome<PathBuf> {
    let directory = target().join("package/unpacked");
    let failed = |error| format!("{}: {error}", directory.display());
    if directory.exists() {
        fs::remove_dir_all(&directory).map_err(failed)?;
    }
    fs::create_dir_all(&directory).map_err(failed)?;
    for published in crates {
        let mut tar = Command::new("tar");
        tar.arg("-C")
            .arg(&directory)
            .arg("-xzf")
            .arg(published.path());
        output(&mut tar)?;
    }
    // What the workspace has compiled serves here as well: the same versions, the same profiles.
    fs::copy(root().join("Cargo.lock"), directory.join("Cargo.lock")).map_err(failed)?;
    let ours = fs::read_to_string(root().join("Cargo.toml")).map_err(failed)?;
    let manifest = directory.join("Cargo.toml");
    fs::write(&manifest, workspace(crates, &ours)).map_err(failed)?;
    Ok(manifest)
}

/// The manifest of a workspace of unpacked packages: they are found here, not at the registry.
fn workspace(crates: &[Published], ours: &str) -> String {
    let directories = crates.iter().map(Published::directory);
    let members: Vec<String> = directories.map(|name| format!("{name:?}")).collect();
    let mut text = format!(
        "[workspace]\nresolver = \"3\"\nmembers = [{}]\n\n[patch.crates-io]\n",
        members.join(", ")
    );
    for published in crates {
        let Published { name, .. } = published;
        text += &format!("{name} = {{ path = {:?} }}\n", published.directory());
    }
    let mut is_profile = false;
    for line in ours.lines() {
        if line.starts_with('[') {
            is_profile = line.starts_with("[profile.");
        }
        if is_profile {
            text += &format!("{line}\n");
        }
    }
    text
}

/// Fails when a package lacks a file that its sources need.
fn compile(manifest: &Path) -> Outcome {
    let mut check = cargo([
        "check",
        "--quiet",
        "--offline",
        "--workspace",
        "--all-features",
    ]);
    check.arg("--manifest-path").arg(manifest);
    tools::run(check.env("CARGO_TARGET_DIR", target()))
}

/// Looks into a package.
fn inside(published: &Published) -> Outcome {
    let name = &published.name;
    let path = published.path();
    let size = std::fs::metadata(&path)
        .map_err(|error| format!("{}: {error}", path.display()))?
        .len();
    if size > MAX_PACKAGE_BYTES {
        return Err(format!("{name}: the package has {size} bytes"));
    }
    let list = output(Command::new("tar").arg("-tzf").arg(&path))?;
    let missing: Vec<&&str> = FILES
        .iter()
        .filter(|file| {
            !list
                .lines()
                .any(|line| line == format!("{}/{file}", published.directory()))
        })
        .collect();
    match missing.is_empty() {
        true => Ok(()),
        false => Err(format!("{name}: the package lacks {missing:?}")),
    }
}

/// The packages that cargo knows.
pub(crate) fn packages(metadata: &Value) -> impl Iterator<Item = &Value> {
    metadata["packages"].as_array().into_iter().flatten()
}

fn dependencies(package: &Value) -> impl Iterator<Item = &Value> {
    package["dependencies"].as_array().into_iter().flatten()
}

/// The crates that a published package needs: a dev-dependency without a version is left out of it.
fn needs(package: &Value) -> impl Iterator<Item = &str> {
    dependencies(package)
        .filter(|dependency| text(dependency, "kind") != "dev" || text(dependency, "req") != "*")
        .map(|dependency| text(dependency, "name"))
}

/// Whether a package is meant for the registry.
pub(crate) fn is_published(package: &Value) -> bool {
    package["publish"].is_null()
}

/// A text of a package; empty when it has none.
pub(crate) fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

fn strings(value: &Value) -> Vec<&str> {
    let all = value.as_array().into_iter().flatten();
    all.filter_map(Value::as_str).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn package(name: &str, dependencies: Value) -> Value {
        json!({
            "name": name, "version": "0.1.0", "description": "d", "license": "MIT",
            "repository": "r", "readme": "README.md", "rust_version": "1.89",
            "keywords": ["mcp"], "categories": ["asynchronous"], "publish": null,
            "dependencies": dependencies,
        })
    }

    fn sibling(name: &str, req: &str, kind: Value) -> Value {
        json!({"name": name, "req": req, "kind": kind, "path": "/w"})
    }

    #[test]
    fn what_is_needed_comes_first() {
        let top = package("top", json!([sibling("base", "=0.1.0", Value::Null)]));
        let metadata = json!({"packages": [top, package("base", json!([]))]});
        let order: Vec<String> = published(&metadata).into_iter().map(|p| p.name).collect();
        assert_eq!(order, ["base", "top"]);
        assert!(problems(&metadata).is_empty());
    }

    #[test]
    fn a_sibling_that_is_not_pinned_and_a_private_one_are_problems() {
        let mut private = package("kit", json!([]));
        private["publish"] = json!([]);
        let needs = json!([
            sibling("base", "^0.1.0", Value::Null),
            sibling("kit", "*", json!("dev")),
            sibling("kit", "=0.1.0", Value::Null),
        ]);
        let metadata =
            json!({"packages": [package("top", needs), package("base", json!([])), private]});
        let problems = problems(&metadata);
        assert_eq!(problems.len(), 2, "{problems:?}");
    }

    #[test]
    fn the_unpacked_workspace_has_the_packages_and_the_profiles_alone() {
        let published = Published {
            name: "base".to_owned(),
            version: "0.1.0".to_owned(),
        };
        let ours = "[workspace]\nmembers = [\"a\"]\n\n[profile.dev]\ndebug = false\n[x]\ny = 1\n";
        let wanted = "[workspace]\nresolver = \"3\"\nmembers = [\"base-0.1.0\"]\n\n\
                      [patch.crates-io]\nbase = { path = \"base-0.1.0\" }\n\
                      [profile.dev]\ndebug = false\n";
        assert_eq!(workspace(&[published], ours), wanted);
    }

    #[test]
    fn keywords_that_the_registry_refuses_are_a_problem() {
        let mut long = package("top", json!([]));
        long["keywords"] = json!(["model-context-protocol"]);
        assert_eq!(problems(&json!({"packages": [long]})).len(), 1);
    }
}
