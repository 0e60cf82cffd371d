//! `mcpool config import HOST`: copies another host's servers into a file of one's own.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use clap::Args;
use mcpool::config::{Dialect, Edit, Folders, Loaded, Loader, Scope, edit_file, host_files};
use serde_json::json;

use super::{edit::Target, inputs::Inputs, report};
use crate::{
    app::App,
    config_files,
    exit::{Failure, Outcome},
    invocation::{program, quoted},
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
    /// Give the one server that is named another name
    #[arg(long = "as", value_name = "NAME", requires = "servers")]
    renamed: Option<String>,
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

/// What became of the servers of the host.
#[derive(Default)]
struct Imported {
    edits: Vec<Edit>,
    names: Vec<String>,
    /// They are there already.
    left: Vec<String>,
    /// A command that prints their headers holds a secret.
    secret: Vec<String>,
    /// The file declares an input of theirs in another way.
    inputs_differ: Vec<String>,
    /// Only the editor can run what gives the value of an input of theirs.
    asks_editor: Vec<String>,
    /// The variables that stand for secrets.
    variables: BTreeSet<String>,
    /// The fields that were written out.
    changed: Vec<String>,
}

pub(crate) async fn run(app: &App, args: ImportArgs) -> Outcome {
    if args.renamed.is_some() && args.servers.len() != 1 {
        return Err(Failure::usage(text!(
            "--as gives one server another name: name just one server"
        )));
    }
    let files = files(&args)?;
    let loader = files
        .iter()
        .fold(Loader::new(), Loader::with_file)
        .with_dialect(args.host);
    let target = args.target.to_write(&app.global)?;
    let own = Loader::new().with_user_file(&target);
    let (loaded, own) = off_thread(move || (loader.load(), own.load().ok())).await?;
    let mut loaded = loaded?;
    // What the host makes of an unset variable is not what the copy makes of it.
    loaded
        .problems
        .retain(|problem| problem.code != "unset-variable");
    report(&loaded);
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
    let imported = collect(&args, &loaded, own.as_ref(), &target);
    if !args.dry_run && !imported.edits.is_empty() {
        let (file, edits) = (target.clone(), imported.edits.clone());
        off_thread(move || edit_file(&file, &edits)).await??;
    }
    if app.global.json {
        return out::document(&json!({
            "host": args.host.as_str(),
            "from": files,
            "file": target,
            "imported": imported.names,
            "left": imported.left,
            "left_with_secrets": imported.secret,
            "left_with_inputs": imported.inputs_differ,
            "asked_for_now": imported.asks_editor,
            "variables": imported.variables,
            "written_out": imported.changed,
            "dry_run": args.dry_run,
        }));
    }
    out::print(&summary(&args, &imported, &target))
}

/// The files of the host that are read.
fn files(args: &ImportArgs) -> Result<Vec<PathBuf>, Failure> {
    if let Some(file) = &args.from {
        return Ok(vec![file.clone()]);
    }
    let folders = Folders::of_process();
    let mut there = host_files(&folders);
    there.retain(|file| file.dialect == args.host && file.path.is_file());
    // What a project has for the host is not the user's: it has to be named.
    let (own, others): (Vec<_>, Vec<_>) = there
        .into_iter()
        .partition(|file| file.scope == Scope::User);
    if !own.is_empty() {
        return Ok(own.into_iter().map(|file| file.path).collect());
    }
    let here = folders.workspace.unwrap_or_default();
    let hints = others.into_iter().map(|file| {
        let path = file.path.strip_prefix(&here).unwrap_or(&file.path);
        text!(
            "this project has one: {} config import {} --from {}",
            program(),
            args.host.as_str(),
            quoted(path)
        )
    });
    let failure = Failure::usage(text!(
        "{} has no config file of the user's; name one with --from",
        args.host.title()
    ));
    Err(failure.with_hints(hints))
}

fn collect(args: &ImportArgs, loaded: &Loaded, own: Option<&Loaded>, target: &Path) -> Imported {
    // Whatever is not the user's own file may be one that others read, or will.
    let is_own = config_files::user_file().is_some_and(|own| same(&own, target));
    let mut inputs = Inputs::of(own);
    let mut imported = Imported::default();
    for entry in loaded.entries() {
        let of_host = entry.name.as_str();
        if !args.servers.is_empty() && !args.servers.iter().any(|name| name == of_host) {
            continue;
        }
        let name = args.renamed.clone().unwrap_or_else(|| of_host.to_owned());
        if own.is_some_and(|own| own.entry(&name).is_some()) && !args.replace {
            imported.left.push(name);
            continue;
        }
        // What is relative to the host's file would mean another place in ours.
        let mut portable = entry.portable();
        let settings = if is_own {
            portable.settings
        } else if let Some(clean) = portable.settings.without_secrets(&name) {
            imported.variables.extend(clean.variables);
            portable.inputs = portable
                .inputs
                .into_iter()
                .map(|(id, declaration)| (id, declaration.without_secrets()))
                .collect();
            clean.settings
        } else {
            imported.secret.push(name);
            continue;
        };
        let mut asks_editor = Vec::new();
        for (id, declaration) in &mut portable.inputs {
            if std::mem::take(&mut declaration.of_editor) {
                asks_editor.push(format!("{name} ({id})"));
            }
        }
        match inputs.bring(portable.inputs) {
            Ok(edits) => imported.edits.extend(edits),
            Err(id) => {
                imported.inputs_differ.push(format!("{name} ({id})"));
                continue;
            }
        }
        imported.asks_editor.extend(asks_editor);
        let changed = portable.changed.iter();
        imported
            .changed
            .extend(changed.map(|field| format!("{name}.{field}")));
        imported.edits.push(Edit::Add {
            name: name.clone(),
            settings: Box::new(settings),
            replace: args.replace,
        });
        imported.names.push(name);
    }
    imported
}

fn summary(args: &ImportArgs, imported: &Imported, target: &Path) -> Text {
    let mut text = match (imported.names.is_empty(), args.dry_run) {
        (true, _) => text!("nothing to import\n"),
        (_, true) => text!(
            "would be imported into {}: {}\n",
            target,
            Text::list(&imported.names)
        ),
        (_, false) => text!(
            "imported into {}: {}\n",
            target,
            Text::list(&imported.names)
        ),
    };
    for (names, what) in [
        (
            &imported.left,
            "skipped, already there (--replace overwrites them)",
        ),
        (
            &imported.secret,
            "skipped, because their headers_helper holds a secret that would stand in the file",
        ),
        (
            &imported.inputs_differ,
            "skipped, because the file declares their input in another way",
        ),
        (
            &imported.asks_editor,
            "asked for as a text now, because only the host can run the command of the input",
        ),
    ] {
        if !names.is_empty() {
            text.push(&text!("{}: {}\n", what, Text::list(names)));
        }
    }
    if !imported.variables.is_empty() {
        let variables: Vec<String> = imported.variables.iter().cloned().collect();
        text.push(&text!(
            "the file is not your own, so it holds placeholders for what may be secret; set these \
             variables: {}\n",
            Text::list(&variables)
        ));
    }
    if !imported.changed.is_empty() {
        text.push(&text!(
            "written out, because they depend on where the file of the host is: {}\n",
            Text::list(&imported.changed)
        ));
    }
    text
}

/// Whether two paths name one file.
pub(super) fn same(one: &Path, other: &Path) -> bool {
    let absolute = |path: &Path| {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
        std::fs::canonicalize(&path).unwrap_or(path)
    };
    absolute(one) == absolute(other)
}
