//! `mcpool config import HOST`: copies another host's servers into a file of one's own.

use std::path::PathBuf;

use clap::Args;
use mcpool::config::{Dialect, Edit, Folders, Loader, edit_file, host_files};
use serde_json::json;

use super::{edit::Target, report};
use crate::{app::App, commands::Outcome, exit::Failure, render};

/// `mcpool config import`
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// The host: cursor, claude-code, vscode, codex, zed …
    host: Dialect,
    /// Only these servers
    servers: Vec<String>,
    /// Read this file instead of the host's own
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// Replace servers of the same name instead of leaving them
    #[arg(long)]
    replace: bool,
    /// Show what would be written, and write nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    target: Target,
}

pub(crate) fn run(app: &App, args: &ImportArgs) -> Outcome {
    let files: Vec<PathBuf> = match &args.from {
        Some(file) => vec![file.clone()],
        None => host_files(&Folders::of_process())
            .into_iter()
            .filter(|file| file.dialect == args.host && file.path.is_file())
            .map(|file| file.path)
            .collect(),
    };
    if files.is_empty() {
        return Err(Failure::usage(format!(
            "{} has no config file here; name one with --from",
            args.host.title()
        )));
    }
    let loaded = files
        .iter()
        .fold(Loader::new(), Loader::with_file)
        .with_dialect(args.host)
        .load()?;
    report(&loaded);
    let target = args.target.path(&app.global)?;
    let present: Vec<String> = match Loader::new().with_user_file(&target).load() {
        Ok(own) => own
            .servers
            .iter()
            .map(|spec| spec.name.to_string())
            .collect(),
        Err(_) => Vec::new(),
    };
    if let Some(unknown) = args
        .servers
        .iter()
        .find(|name| loaded.entry(name).is_none())
    {
        return Err(Failure::usage(format!(
            "{} has no server {unknown:?}",
            args.host.title()
        )));
    }
    let mut imported = Vec::new();
    let mut left = Vec::new();
    let mut edits = Vec::new();
    for entry in loaded.entries() {
        let name = entry.name.to_string();
        if !args.servers.is_empty() && !args.servers.contains(&name) {
            continue;
        }
        if present.contains(&name) && !args.replace {
            left.push(name);
            continue;
        }
        edits.push(Edit::Add {
            name: name.clone(),
            settings: Box::new(entry.settings.clone()),
            replace: args.replace,
        });
        imported.push(name);
    }
    if !args.dry_run {
        edit_file(&target, &edits)?;
    }
    if app.global.json {
        return render::document(&json!({
            "host": args.host.as_str(),
            "from": files,
            "file": target,
            "imported": imported,
            "left": left,
            "dry_run": args.dry_run,
        }));
    }
    let verb = if args.dry_run {
        "would be imported"
    } else {
        "imported"
    };
    let mut text = format!("{verb} into {}: {}\n", target.display(), list(&imported));
    if !left.is_empty() {
        text.push_str(&format!(
            "left, because they are there already (--replace): {}\n",
            list(&left)
        ));
    }
    render::text(&render::printable(&text))
}

fn list(names: &[String]) -> String {
    if names.is_empty() {
        "nothing".to_owned()
    } else {
        names.join(", ")
    }
}
