//! Runs other programs, and finds or installs the ones that the checks need.

use std::{
    env,
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Command,
};

use crate::Outcome;

/// The root of the workspace.
pub(crate) fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_path_buf()
}

/// Where build products go: `CARGO_TARGET_DIR`, or `target/` at the root.
pub(crate) fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// Whether `CI=true`: nothing may be skipped.
pub(crate) fn is_ci() -> bool {
    env::var("CI").is_ok_and(|value| value == "true")
}

/// The cargo that runs this program, in the root of the workspace.
pub(crate) fn cargo<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()).args(args);
    command
}

/// Runs a command with our own standard output and error, and shows it first.
pub(crate) fn run(command: &mut Command) -> Outcome {
    let shown = show(command);
    eprintln!("$ {shown}");
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("`{shown}` ended with {status}")),
        Err(error) => Err(format!("`{shown}` did not start: {error}")),
    }
}

/// Runs a command and gives what it wrote to standard output.
pub(crate) fn output(command: &mut Command) -> Outcome<String> {
    let shown = show(command);
    let output = command
        .output()
        .map_err(|error| format!("`{shown}` did not start: {error}"))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        return Err(format!(
            "`{shown}` ended with {}\n{}",
            output.status,
            stderr.trim_end()
        ));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// What cargo knows of the workspace's crates, their dependencies not followed.
pub(crate) fn metadata() -> Outcome<serde_json::Value> {
    let text = output(&mut cargo([
        "metadata",
        "--locked",
        "--no-deps",
        "--format-version",
        "1",
    ]))?;
    serde_json::from_str(&text).map_err(|error| format!("cargo metadata: {error}"))
}

/// The address of the repository, as `Cargo.toml` has it.
pub(crate) fn repository() -> Outcome<String> {
    let metadata = metadata()?;
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let mut addresses = packages.filter_map(|package| package["repository"].as_str());
    let address = addresses.next().map(str::to_owned);
    address.ok_or_else(|| "Cargo.toml names no repository".to_owned())
}

fn show(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let mut shown = program
        .file_name()
        .unwrap_or(program.as_os_str())
        .to_string_lossy()
        .into_owned();
    for arg in command.get_args() {
        shown.push(' ');
        shown.push_str(&arg.to_string_lossy());
    }
    shown
}

/// The path of a program: in `target/tools/bin`, or in `PATH`.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let file = format!("{program}{}", env::consts::EXE_SUFFIX);
    let path = env::var_os("PATH").unwrap_or_default();
    std::iter::once(target().join("tools/bin"))
        .chain(env::split_paths(&path))
        .map(|dir| dir.join(&file))
        .find(|candidate| candidate.is_file())
}

/// The path of a program from the registry, given as `NAME@VERSION`; installs it under
/// `target/tools` when it is absent, with these options of `cargo install`.
pub(crate) fn find_or_install(package: &str, options: &[&str]) -> Outcome<PathBuf> {
    let program = package.split('@').next().unwrap_or(package);
    if let Some(path) = find(program) {
        return Ok(path);
    }
    let tools = target().join("tools");
    // Unoptimised: they run for a second each, and take minutes to optimise.
    run(
        cargo(["install", "--quiet", "--locked", "--debug", "--root"])
            .arg(&tools)
            .arg(package)
            .args(options)
            .env("CARGO_TARGET_DIR", tools.join("build"))
            .env("CARGO_PROFILE_DEV_DEBUG", "0"),
    )?;
    find(program).ok_or_else(|| format!("{program} was installed but is not there"))
}
