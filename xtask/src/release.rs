//! `cargo xtask release --dry-run`: the checklist of docs/releasing.md, as far as a program can go
//! through it. It publishes nothing. `--compare [CRATE…]` is the point of the list that compares the
//! public items with the last release, alone.

use std::{fs, process::Command};

use serde_json::Value;

use crate::{
    Outcome, api, package,
    tools::{self, find, metadata, output, root},
};

/// Goes through the list and says what is missing.
pub(crate) fn run(args: &[String]) -> Outcome {
    let metadata = metadata()?;
    match args {
        [word] if word == "--dry-run" => {}
        [word, only @ ..] if word == "--compare" => {
            let compared = match only {
                [] => compared(&libraries(&metadata))?,
                _ => compared(&only.iter().map(String::as_str).collect::<Vec<_>>())?,
            };
            return match compared {
                Compared::Done => Ok(()),
                Compared::Skipped(why) => Err(why.to_owned()),
            };
        }
        _ => {
            return Err(
                "say --dry-run: publishing is done by hand, as docs/releasing.md says".into(),
            );
        }
    }
    let crates = package::published(&metadata);
    let Some(version) = crates.first().map(|published| published.version.clone()) else {
        return Err("no crate is published".to_owned());
    };
    let checks: [(&str, Outcome); 5] = [
        (
            "every crate has one version",
            one_version(&crates, &version),
        ),
        ("CHANGELOG.md has the version", changelog(&version)),
        ("the tree is clean, the tag is new", tree(&version)),
        ("the lists in docs/api are up to date", api::run(&[])),
        ("every crate packages and builds alone", package::pack(true)),
    ];
    let compared = compared(&libraries(&metadata));
    let mut missing = 0;
    println!("\nrelease of {version}:");
    for (what, outcome) in checks {
        match outcome {
            Ok(()) => println!("  done     {what}"),
            Err(problem) => {
                missing += 1;
                println!("  missing  {what}: {problem}");
            }
        }
    }
    let what = "the API breaks nothing that its version may not break";
    match compared {
        Ok(Compared::Done) => println!("  done     {what}"),
        Ok(Compared::Skipped(why)) => println!("  skipped  {what}: {why}"),
        Err(problem) => {
            missing += 1;
            println!("  missing  {what}: {problem}");
        }
    }
    println!("  by hand  cargo xtask ci --long");
    println!("  by hand  cargo update && cargo update -p idna_adapter --precise 1.1.0");
    println!("  by hand  git tag -s v{version} && git push origin v{version}");
    println!("  by hand  publish in this order:");
    for published in &crates {
        println!("             cargo publish --package {}", published.name);
    }
    println!("  by hand  a release of the tag, with the section of CHANGELOG.md");
    match missing {
        0 => Ok(()),
        missing => Err(format!("{missing} points of the checklist are missing")),
    }
}

/// Whether the public items were held against those of the last release.
#[derive(Debug, PartialEq)]
enum Compared {
    Done,
    Skipped(&'static str),
}

/// Compares the public items of these libraries with those of the last tag, by the rules of
/// semantic versioning.
fn compared(libraries: &[&str]) -> Outcome<Compared> {
    let mut git = Command::new("git");
    git.current_dir(root());
    let tags = output(git.args(["tag", "--list", "v*", "--sort=-version:refname"]))?;
    let Some(tag) = tags.lines().next() else {
        return Ok(Compared::Skipped("there is no tag of an earlier release"));
    };
    let Some(program) = find("cargo-semver-checks") else {
        return Ok(Compared::Skipped("cargo-semver-checks is not installed"));
    };
    let mut check = Command::new(program);
    check.current_dir(root());
    check.args(["semver-checks", "--baseline-rev", tag]);
    for library in libraries {
        check.args(["--package", library]);
    }
    tools::run(&mut check)?;
    Ok(Compared::Done)
}

/// The crates that are published and have a library.
fn libraries(metadata: &Value) -> Vec<&str> {
    let published = package::packages(metadata).filter(|p| package::is_published(p));
    let has_library = |package: &&Value| {
        let targets = package["targets"].as_array();
        let mut kinds = targets
            .into_iter()
            .flatten()
            .map(|target| &target["kind"][0]);
        kinds.any(|kind| kind == "lib")
    };
    let libraries = published.filter(has_library);
    libraries
        .map(|package| package::text(package, "name"))
        .collect()
}

fn one_version(crates: &[package::Published], version: &str) -> Outcome {
    match crates.iter().find(|published| published.version != version) {
        None => Ok(()),
        Some(other) => Err(format!("{} is {}", other.name, other.version)),
    }
}

fn changelog(version: &str) -> Outcome {
    let text = fs::read_to_string(root().join("CHANGELOG.md")).map_err(|e| e.to_string())?;
    match text.contains(&format!("## [{version}] - ")) {
        true => Ok(()),
        false => Err(format!("there is no section \"## [{version}] - DATE\"")),
    }
}

fn tree(version: &str) -> Outcome {
    let mut git = Command::new("git");
    git.current_dir(root());
    let changed = output(git.args(["status", "--porcelain"]))?;
    if !changed.is_empty() {
        return Err(format!(
            "{} files are not committed",
            changed.lines().count()
        ));
    }
    let mut git = Command::new("git");
    git.current_dir(root());
    match output(git.args(["tag", "--list", &format!("v{version}")]))?.is_empty() {
        true => Ok(()),
        false => Err(format!("the tag v{version} exists")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn libraries_that_are_published_have_an_api() {
        let package = |name: &str, kind: &str, publish: Value| json!({"name": name, "publish": publish, "targets": [{"kind": ["test"]}, {"kind": [kind]}]});
        let metadata = json!({"packages": [
            package("base", "lib", Value::Null),
            package("program", "bin", Value::Null),
            package("kit", "lib", json!([])),
        ]});
        assert_eq!(libraries(&metadata), ["base"]);
    }
}
