//! `mcpool config add | remove | enable | disable`: edits of one file.

use std::path::PathBuf;

use clap::Args;
use mcpool::config::{
    Edit, edit_file,
    settings::{HeaderMap, ServerSettings, TransportName},
};
use serde_json::json;

use crate::{
    app::App,
    args::Global,
    commands::Outcome,
    config_files::{self, Files, off_thread},
    exit::Failure,
    render::out,
    text,
};

/// `mcpool config add`
#[derive(Debug, Args)]
pub(crate) struct AddArgs {
    /// What the server is called
    name: String,
    /// The address of an HTTP server
    #[arg(long, conflicts_with = "command")]
    url: Option<String>,
    /// `http` or `sse`; default: found out when it is connected
    #[arg(long, value_name = "TRANSPORT", requires = "url")]
    transport: Option<String>,
    /// A header, as NAME=VALUE; best NAME='Bearer ${VARIABLE}'
    #[arg(long = "header", value_name = "NAME=VALUE", requires = "url")]
    headers: Vec<String>,
    /// A variable of the process, as NAME=VALUE; best NAME='${VARIABLE}'
    #[arg(long = "env", value_name = "NAME=VALUE", conflicts_with = "url")]
    env: Vec<String>,
    /// The working directory of the process
    #[arg(long, value_name = "DIR", conflicts_with = "url")]
    cwd: Option<String>,
    /// Add it disabled
    #[arg(long)]
    disabled: bool,
    /// Replace a server of that name
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    target: Target,
    /// The program and its arguments, after `--`
    #[arg(last = true, required_unless_present = "url")]
    command: Vec<String>,
}

/// A command on one server.
#[derive(Debug, Args)]
pub(crate) struct NameArgs {
    /// The server
    name: String,
    #[command(flatten)]
    target: Target,
}

/// Which file is changed.
#[derive(Debug, Args)]
pub(crate) struct Target {
    /// The file to change; default: the one that the other commands would use, or the user's own
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

impl Target {
    pub(crate) fn path(&self, global: &Global) -> Result<PathBuf, Failure> {
        if let Some(file) = &self.file {
            return Ok(file.clone());
        }
        match config_files::find(global) {
            Ok(Files::Named(mut files)) if files.len() == 1 => Ok(files.remove(0)),
            Ok(Files::Named(_)) => Err(Failure::usage(text!(
                "there are several config files; say with --file which one is changed"
            ))),
            Ok(Files::Project(file) | Files::User(file)) => Ok(file),
            // There is none yet: the user's own is made.
            Err(_) => config_files::user_file().ok_or_else(|| {
                Failure::usage(text!("the home directory is not known; use --file"))
            }),
        }
    }
}

pub(crate) async fn add(app: &App, args: AddArgs) -> Outcome {
    let mut settings = ServerSettings::default();
    settings.url = args.url;
    settings.transport = match args.transport.as_deref() {
        None | Some("auto") => None,
        Some("http" | "streamable-http") => Some(TransportName::Http),
        Some("sse") => Some(TransportName::Sse),
        Some(other) => {
            return Err(Failure::usage(text!(
                "{} is no transport; use `http`, `sse` or `auto`",
                other
            )));
        }
    };
    settings.headers = HeaderMap(
        args.headers
            .iter()
            .map(|header| pair(header, &['=', ':']))
            .collect::<Result<_, _>>()?,
    );
    let mut words = args.command.into_iter();
    settings.command = words.next();
    settings.args = words.collect();
    settings.env = args
        .env
        .iter()
        .map(|variable| pair(variable, &['=']))
        .collect::<Result<_, _>>()?;
    settings.cwd = args.cwd;
    settings.enabled = args.disabled.then_some(false);
    let edit = Edit::Add {
        name: args.name.clone(),
        settings: Box::new(settings),
        replace: args.replace,
    };
    apply(app, &args.target, "added", &args.name, edit).await
}

pub(crate) async fn remove(app: &App, args: NameArgs) -> Outcome {
    let edit = Edit::Remove {
        name: args.name.clone(),
    };
    apply(app, &args.target, "removed", &args.name, edit).await
}

pub(crate) async fn set_enabled(app: &App, args: NameArgs, enabled: bool) -> Outcome {
    let edit = Edit::SetEnabled {
        name: args.name.clone(),
        enabled,
    };
    let done = if enabled { "enabled" } else { "disabled" };
    apply(app, &args.target, done, &args.name, edit).await
}

async fn apply(app: &App, target: &Target, done: &str, name: &str, edit: Edit) -> Outcome {
    let path = target.path(&app.global)?;
    let file = path.clone();
    let changed = off_thread(move || edit_file(&file, &[edit])).await??;
    if app.global.json {
        return out::document(&json!({ "file": path, "server": name, "changed": changed }));
    }
    let word = if changed { done } else { "unchanged" };
    out::print(&text!("{}: {} in {}\n", name, word, path))
}

fn pair(text: &str, separators: &[char]) -> Result<(String, String), Failure> {
    match text.split_once(separators) {
        Some((name, value)) if !name.trim().is_empty() => {
            Ok((name.trim().to_owned(), value.trim_start().to_owned()))
        }
        // The text is not repeated: it may be a secret.
        _ => Err(Failure::usage(text!(
            "a header or variable is written NAME=VALUE"
        ))),
    }
}
