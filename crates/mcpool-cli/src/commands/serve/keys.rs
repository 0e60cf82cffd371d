//! `mcpool serve key`: the keys of those who may use the gateway.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use clap::{Args, Subcommand};
use mcpool::gateway::{AccessKeys, Grant};
use serde_json::json;

use super::{Outcome, args::LimitFlags, files};
use crate::{
    config_files::{find, loader, user_file},
    exit::{Exit, Failure},
    global::{Global, parse_duration},
    off_thread::off_thread,
    render::{out, table},
    text,
};

/// The file of keys, in the directory of the user's config.
const FILE: &str = "gateway-keys";

/// `mcpool serve key`
#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Make a key and show it once: the file keeps only its SHA-256
    Add(AddArgs),
    /// Show whose keys there are, and what they allow
    List(FileArgs),
    /// Remove every key of NAME; a running gateway refuses them from then on
    Remove {
        /// Whose
        name: String,
        #[command(flatten)]
        file: FileArgs,
    },
}

/// Which file.
#[derive(Debug, Args)]
pub(crate) struct FileArgs {
    /// The file of keys; default: mcpool/gateway-keys in the user's config directory
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
}

/// `mcpool serve key add`
#[derive(Debug, Args)]
pub(crate) struct AddArgs {
    /// Whose it is: one word, which the audit shows
    name: String,
    /// The one profile that may be used with it
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    #[command(flatten)]
    limits: LimitFlags,
    /// When it ends: a time from now ("90d") or a moment ("2027-01-01T00:00:00Z")
    #[arg(long, value_name = "TIME", value_parser = parse_expiry)]
    expires: Option<SystemTime>,
    /// Make it although NAME has a key, which stays good: to replace that one without a break
    #[arg(long)]
    another: bool,
    #[command(flatten)]
    file: FileArgs,
}

/// Runs it.
pub(super) async fn run(global: &Global, command: KeyCommand) -> Outcome {
    match command {
        KeyCommand::Add(args) => add(global, args).await,
        KeyCommand::List(file) => list(file, global.json).await,
        KeyCommand::Remove { name, file } => remove(name, file, global.json).await,
    }
}

/// The file of keys that is used when none is named.
pub(super) fn default_file() -> Result<PathBuf, Failure> {
    user_file()
        .and_then(|file| Some(file.parent()?.join(FILE)))
        .ok_or_else(|| Failure::usage(text!("there is no config directory: name a file")))
}

impl FileArgs {
    fn path(self) -> Result<PathBuf, Failure> {
        self.keys.map_or_else(default_file, Ok)
    }
}

async fn add(global: &Global, args: AddArgs) -> Outcome {
    let refused = |error: mcpool::Error| Failure::usage(text!("{}", error.message()));
    let mut grant = Grant::new(&args.name).map_err(refused)?;
    if let Some(profile) = &args.profile {
        grant = grant.with_profile(profile).map_err(refused)?;
    }
    if let Some(rate) = args.limits.rate {
        grant = grant.with_rate(rate);
    }
    if let Some(in_flight) = args.limits.in_flight {
        grant = grant.with_in_flight(in_flight);
    }
    if let Some(bytes) = args.limits.max_body {
        grant = grant.with_max_body_bytes(bytes);
    }
    if let Some(at) = args.expires {
        grant = grant.with_expiry(at);
    }
    let (key, line) = AccessKeys::issue(&grant);
    let path = args.file.path()?;
    let file = path.clone();
    let name = (!args.another).then(|| args.name.clone());
    off_thread(move || append(&path, &line, name.as_deref())).await??;
    if let Some(profile) = &args.profile
        && has_profile(global, profile).await == Some(false)
    {
        out::tell(&text!(
            "warning: the config has no profile {}: nothing is served with this key until it has\n",
            profile
        ));
    }
    if global.json {
        return out::document(&json!({"name": args.name, "key": key.expose(), "file": file}));
    }
    out::print_line(&text!("{}", key.expose()))?;
    out::tell(&text!(
        "note: it is shown this once; {} has its hash. Clients send `Authorization: Bearer KEY`, and \
         `mcpool serve --keys` takes it\n",
        file
    ));
    Ok(Exit::Good)
}

/// Whether the config has a profile; `None` where there is no config that can be read.
async fn has_profile(global: &Global, profile: &str) -> Option<bool> {
    let loader = loader(find(global).ok()?);
    let loaded = off_thread(move || loader.load()).await.ok()?.ok()?;
    let profiles = loaded.pool().profiles.as_ref();
    Some(profiles.is_some_and(|profiles| profiles.keys().any(|name| name.as_str() == profile)))
}

/// What a key allows, in words.
fn allowed(grant: &Grant) -> String {
    let text = grant.to_string();
    let words = text
        .split_once(' ')
        .map_or("everything", |(_, words)| words);
    words.to_owned()
}

async fn list(file: FileArgs, json: bool) -> Outcome {
    let path = file.path()?;
    let grants = off_thread(move || files::access(&path, &files::read(&path)?)).await??;
    let grants = grants.grants();
    let is_expired = |grant: &Grant| grant.expires().is_some_and(|at| at <= SystemTime::now());
    if json {
        let keys = grants.iter().map(|grant| {
            let expires = grant.expires().map(humantime::format_rfc3339_seconds);
            json!({"name": grant.name(), "profile": grant.profile(), "allows": allowed(grant),
                "expires_at": expires.map(|at| at.to_string()), "expired": is_expired(grant)})
        });
        return out::document(&json!({ "keys": keys.collect::<Vec<_>>() }));
    }
    let mut table = table::Table::new(&["NAME", "ALLOWS"]);
    for grant in &grants {
        let mut state = allowed(grant);
        if is_expired(grant) {
            state.push_str(" (expired)");
        }
        table.row([grant.name(), &state]);
    }
    out::print(&table.to_text_or(text!("there are no keys\n")))
}

async fn remove(name: String, file: FileArgs, json: bool) -> Outcome {
    let path = file.path()?;
    let (shown, file) = (name.clone(), path.clone());
    let removed = off_thread(move || take_away(&path, &name)).await??;
    if removed == 0 {
        return Err(
            Failure::usage(text!("there is no key of {} in {}", shown, file)).with_hint(text!(
                "`mcpool serve key list --keys {}` shows whose there are",
                file
            )),
        );
    }
    if json {
        return out::document(&json!({"name": shown, "removed": removed, "file": file}));
    }
    let what = match removed {
        1 => text!("removed from {}", file),
        many => text!("{} keys removed from {}", many, file),
    };
    out::tell(&text!("{}: {}\n", shown, what));
    Ok(Exit::Good)
}

/// Adds a line, unless there is one of this name.
fn append(path: &Path, line: &str, alone: Option<&str>) -> Result<(), Failure> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|error| files::not_used(folder, &error))?;
    }
    let mut file = files::private(path)?;
    // What somebody wrote by hand may lack its last line break.
    let before = files::read(path)?;
    let name = alone.filter(|name| before.lines().any(|line| is_of(line, name)));
    if let Some(name) = name {
        let hint = text!(
            "`mcpool serve key remove {} --keys {}` takes it away; with --another both are good, such \
             as while one replaces the other",
            name,
            path
        );
        return Err(
            Failure::usage(text!("{} has a key already in {}", name, path)).with_hint(hint),
        );
    }
    let separator = if before.is_empty() || before.ends_with('\n') {
        ""
    } else {
        "\n"
    };
    file.write_all(format!("{separator}{line}\n").as_bytes())
        .map_err(|error| files::not_used(path, &error))
}

/// Whether a line of the file is a key of this name.
fn is_of(line: &str, name: &str) -> bool {
    line.split_whitespace().next() == Some(name)
}

/// Writes the file without the lines of this name; how many there were. Comments stay.
fn take_away(path: &Path, name: &str) -> Result<usize, Failure> {
    let text = files::read(path)?;
    // Nothing is lost of a file that is something else.
    files::access(path, &text)?;
    let (theirs, others): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| is_of(line, name));
    if theirs.is_empty() {
        return Ok(0);
    }
    let rest: String = others.iter().map(|line| format!("{line}\n")).collect();
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    let failed = |error: std::io::Error| files::not_used(path, &error);
    // Left by one that was killed, perhaps.
    let _ = std::fs::remove_file(&beside);
    files::private(&beside)?
        .write_all(rest.as_bytes())
        .map_err(failed)?;
    std::fs::rename(&beside, path).map_err(failed)?;
    Ok(theirs.len())
}

fn parse_expiry(text: &str) -> Result<SystemTime, String> {
    if let Ok(at) = humantime::parse_rfc3339_weak(text) {
        return Ok(at);
    }
    let after: Duration = parse_duration(text)?;
    SystemTime::now()
        .checked_add(after)
        .ok_or_else(|| "that is too far away".to_owned())
}
