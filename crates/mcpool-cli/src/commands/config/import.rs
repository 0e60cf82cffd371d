//! `mcpool config import HOST`: copies another host's servers into a file of one's own.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use clap::Args;
use mcpool::config::{Dialect, Edit, Folders, Loader, Scope, edit_file, host_files};
use serde_json::json;

use super::{edit::Target, report};
use crate::{
    app::App,
    config_files,
    exit::{Failure, Outcome},
    off_thread::off_thread,
    render::{out, text::Text},
    text,
};

/// `mcpool config import`
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// The host: cursor, claude-code, vscode, codex, zed …
    host: Dialect,
    /// Only these servers
    servers: Vec<String>,
    /// Read this file instead of the user's own of the host; a project's, for example
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

pub(crate) async fn run(app: &App, args: ImportArgs) -> Outcome {
    let files: Vec<PathBuf> = match &args.from {
        Some(file) => vec![file.clone()],
        None => host_files(&Folders::of_process())
            .into_iter()
            // What a project has for the host is not the user's: it has to be named.
            .filter(|file| file.dialect == args.host && file.scope == Scope::User)
            .filter(|file| file.path.is_file())
            .map(|file| file.path)
            .collect(),
    };
    if files.is_empty() {
        return Err(Failure::usage(text!(
            "{} has no config file here; name one with --from",
            args.host.title()
        )));
    }
    let loader = files
        .iter()
        .fold(Loader::new(), Loader::with_file)
        .with_dialect(args.host);
    let target = args.target.to_write(&app.global)?;
    let own = Loader::new().with_user_file(&target);
    let (loaded, own) = off_thread(move || (loader.load(), own.load())).await?;
    let loaded = loaded?;
    report(&loaded);
    let present: Vec<String> = match own {
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
        return Err(Failure::usage(text!(
            "{} has no server {}",
            args.host.title(),
            unknown
        )));
    }
    // Whatever is not the user's own file may be one that others read, or will.
    let is_own = config_files::user_file().is_some_and(|own| same(&own, &target));
    let mut imported = Vec::new();
    let mut left = Vec::new();
    let mut secret = Vec::new();
    let mut variables = BTreeSet::new();
    let mut edits = Vec::new();
    let mut changed = Vec::new();
    for entry in loaded.entries() {
        let name = entry.name.to_string();
        if !args.servers.is_empty() && !args.servers.contains(&name) {
            continue;
        }
        if present.contains(&name) && !args.replace {
            left.push(name);
            continue;
        }
        // What is relative to the host's file would mean another place in ours.
        let portable = entry.portable();
        let settings = if is_own {
            portable.settings
        } else if let Some(clean) = portable.settings.without_secrets(&name) {
            variables.extend(clean.variables);
            clean.settings
        } else {
            secret.push(name);
            continue;
        };
        changed.extend(
            portable
                .changed
                .iter()
                .map(|field| format!("{name}.{field}")),
        );
        edits.push(Edit::Add {
            name: name.clone(),
            settings: Box::new(settings),
            replace: args.replace,
        });
        imported.push(name);
    }
    if !args.dry_run {
        let file = target.clone();
        off_thread(move || edit_file(&file, &edits)).await??;
    }
    if app.global.json {
        return out::document(&json!({
            "host": args.host.as_str(),
            "from": files,
            "file": target,
            "imported": imported,
            "left": left,
            "left_with_secrets": secret,
            "variables": variables,
            "written_out": changed,
            "dry_run": args.dry_run,
        }));
    }
    let verb = if args.dry_run {
        "would be imported"
    } else {
        "imported"
    };
    let mut text = text!("{} into {}: {}\n", verb, target, list(&imported));
    if !left.is_empty() {
        text.push(&text!(
            "left, because they are there already (--replace): {}\n",
            list(&left)
        ));
    }
    if !secret.is_empty() {
        text.push(&text!(
            "left, because their headers_helper holds a secret that would stand in the file: {}\n",
            list(&secret)
        ));
    }
    if !variables.is_empty() {
        let variables: Vec<String> = variables.into_iter().collect();
        text.push(&text!(
            "the file is not your own, so it holds placeholders for what may be secret; set these \
             variables: {}\n",
            list(&variables)
        ));
    }
    if !changed.is_empty() {
        text.push(&text!(
            "written out, because they depend on where the file of the host is: {}
",
            list(&changed)
        ));
    }
    out::print(&text)
}

/// Whether two paths name one file.
pub(super) fn same(one: &Path, other: &Path) -> bool {
    let absolute = |path: &Path| {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
        std::fs::canonicalize(&path).unwrap_or(path)
    };
    absolute(one) == absolute(other)
}

fn list(names: &[String]) -> Text {
    if names.is_empty() {
        return text!("nothing");
    }
    Text::join(names.iter().map(|name| text!("{}", name)), ", ")
}
