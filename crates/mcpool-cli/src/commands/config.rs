//! `mcpool config …` and `mcpool trust`: looks at config files and edits them.

mod edit;
mod import;
pub(super) mod inputs;
mod place;
mod trust;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use mcpool::{
    Untrusted,
    config::{self, Dialect, Folders, Loaded, Loader, Problem, Severity},
};
use serde_json::json;

use super::Outcome;
use crate::{
    app::App,
    config_files,
    exit::{Exit, Failure, unknown},
    global::Global,
    off_thread::off_thread,
    render::{out, problems, table::Table, text::Text},
    text,
};

pub(crate) use edit::{AddArgs, NameArgs};
pub(crate) use import::ImportArgs;
pub(crate) use place::{EditArgs, InitArgs};
pub(crate) use trust::TrustArgs;

/// What to do with config files.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Check files and say everything that is wrong with them; exit code 0 or 2
    Check(ReadArgs),
    /// Show the config in force, with secrets masked
    Show {
        #[command(flatten)]
        read: ReadArgs,
        /// Say where each entry and each field comes from
        #[arg(long)]
        origins: bool,
    },
    /// Show one server: what its file says of it, secrets overwritten
    Get(GetArgs),
    /// List the servers: the same as `mcpool list`
    List,
    /// Print which file the other commands use
    Path,
    /// Create a file without servers: the user's own, unless --file names one
    Init(InitArgs),
    /// Open the file in $VISUAL or $EDITOR, then check it
    Edit(EditArgs),
    /// Find the config files of MCP hosts on this machine
    Find,
    /// Copy the servers of another host into your own file
    Import(ImportArgs),
    /// Print the JSON Schema of the native format
    Schema,
    /// Add a server, after a check: `config add NAME URL`, `config add NAME -- COMMAND ARGS…`
    Add(AddArgs),
    /// Remove a server
    Remove(NameArgs),
    /// Enable a server
    Enable(NameArgs),
    /// Disable a server
    Disable(NameArgs),
}

/// Which files are read, and how.
#[derive(Debug, Args)]
pub(crate) struct ReadArgs {
    /// The files; default: those that the other commands would use
    files: Vec<PathBuf>,
    /// Read them as written for this host, whatever they look like
    #[arg(long, value_name = "HOST")]
    dialect: Option<Dialect>,
    /// Make every warning fatal
    #[arg(long)]
    strict: bool,
}

impl ReadArgs {
    fn loader(&self, global: &Global) -> Result<Loader, Failure> {
        let loader = if self.files.is_empty() {
            config_files::loader(config_files::find(global)?)
        } else {
            let loader = Loader::new().with_masker(out::masker().clone());
            self.files.iter().fold(loader, Loader::with_file)
        };
        Ok(match self.dialect {
            Some(dialect) => loader.with_dialect(dialect),
            None => loader,
        })
    }
}

/// Runs one of them.
pub(crate) async fn run(app: &App, command: ConfigCommand) -> Outcome {
    match command {
        ConfigCommand::Check(read) => check(app, &read).await,
        ConfigCommand::Show { read, origins } => show(app, &read, origins).await,
        ConfigCommand::Get(args) => get(app, &args.name).await,
        ConfigCommand::List => super::list::run(app).await,
        ConfigCommand::Path => place::path(app).await,
        ConfigCommand::Init(args) => place::init(app, args).await,
        ConfigCommand::Edit(args) => place::edit(app, args).await,
        ConfigCommand::Find => find(app).await,
        ConfigCommand::Import(args) => import::run(app, args).await,
        ConfigCommand::Schema => out::document(&config::json_schema()),
        ConfigCommand::Add(args) => edit::add(app, args).await,
        ConfigCommand::Remove(args) => edit::remove(app, args).await,
        ConfigCommand::Enable(args) => edit::set_enabled(app, args, true).await,
        ConfigCommand::Disable(args) => edit::set_enabled(app, args, false).await,
    }
}

/// Shows and approves what a project's file does.
pub(crate) async fn trust(app: &App, args: TrustArgs) -> Outcome {
    trust::run(app, args).await
}

async fn check(app: &App, read: &ReadArgs) -> Outcome {
    let loader = read.loader(&app.global)?;
    let loaded = off_thread(move || loader.load()).await??;
    let mut found = loaded.problems.clone();
    for entry in loaded.entries().iter().filter(|entry| entry.spec.enabled) {
        found.extend(entry.missing_variables().await);
    }
    let count = |severity: Severity| found.iter().filter(|p| p.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    let good = errors == 0 && (!read.strict || warnings == 0);
    if app.global.json {
        out::document(&json!({
            "ok": good,
            "files": loaded.sources().iter().map(|source| source.name()).collect::<Vec<_>>(),
            "servers": loaded.servers.len(),
            "problems": found.iter().map(problems::to_json).collect::<Vec<_>>(),
        }))?;
    } else {
        problems::print(&found.iter().collect::<Vec<_>>());
        out::print(&summary(&loaded, &found))?;
    }
    Ok(if good { Exit::Good } else { Exit::Usage })
}

/// The files, and how many good servers, errors and warnings there are.
fn summary(loaded: &Loaded, found: &[Problem]) -> Text {
    let count = |severity: Severity| found.iter().filter(|p| p.severity == severity).count();
    let files = loaded.sources().iter();
    text!(
        "{}: {}, {}, {}\n",
        Text::join(files.map(|source| text!("{}", source.name())), ", "),
        problems::counted(loaded.servers.len(), "good server"),
        problems::counted(count(Severity::Error), "error"),
        problems::counted(count(Severity::Warning), "warning"),
    )
}

async fn show(app: &App, read: &ReadArgs, origins: bool) -> Outcome {
    let loader = read.loader(&app.global)?.strict(read.strict);
    let loaded = off_thread(move || loader.load()).await??;
    let shown = loaded.to_json(origins);
    report(&loaded);
    if app.global.json {
        out::document(&shown)?;
    } else {
        show_table(&loaded, &shown, origins)?;
    }
    Ok(if loaded.has_errors() {
        Exit::Usage
    } else {
        Exit::Good
    })
}

/// `mcpool config get`
#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    /// The server
    name: String,
}

async fn get(app: &App, name: &str) -> Outcome {
    let loader = config_files::loader(config_files::find(&app.global)?);
    let loaded = off_thread(move || loader.load()).await??;
    let shown = loaded.to_json(true);
    match shown["servers"].get(name) {
        Some(server) => {
            config_files::report(&app.global, &loaded.problems, Some(name));
            out::document(&json!({ name: server }))
        }
        None => {
            let names: Vec<&str> = names(&loaded);
            Err(unknown("server", name, &names))
        }
    }
}

/// Errors and warnings on standard error.
fn report(loaded: &Loaded) {
    let worth: Vec<&Problem> = loaded
        .problems
        .iter()
        .filter(|problem| problem.severity >= Severity::Warning)
        .collect();
    problems::print(&worth);
}

fn show_table(loaded: &Loaded, shown: &serde_json::Value, origins: bool) -> Outcome {
    let mut table = Table::new(&["server", "transport", "enabled", "reached by"]);
    let mut from = Text::default();
    for entry in loaded.entries() {
        let server = &shown["servers"][entry.name.as_str()];
        let text = |field: &str| server[field].as_str().unwrap_or_default().to_owned();
        let enabled = if entry.spec.enabled { "yes" } else { "no" };
        table.row([
            entry.name.as_str(),
            &text("transport"),
            enabled,
            &config_files::reached_by(server),
        ]);
        if origins {
            from.push(&where_from(entry));
        }
    }
    out::print(&text!("{}{}", table.to_text(), from))
}

/// The place of an entry, of what it hides, and of each of its fields, one on a line.
fn where_from(entry: &config::Entry) -> Text {
    let origin = &entry.origin;
    let mut text = text!(
        "\n{}: {} ({})\n",
        entry.name,
        origin.to_string(),
        origin.scope.as_str()
    );
    for hidden in &entry.shadowed {
        text.push(&text!("  hides {}\n", hidden.to_string()));
    }
    for (field, place) in origin.fields() {
        text.push(&text!("  {}: {}\n", field, place.to_string()));
    }
    text
}

async fn find(app: &App) -> Outcome {
    let files: Vec<(config::HostFile, Loaded)> = off_thread(|| {
        let load = |file: config::HostFile| {
            let loader = Loader::new()
                .with_file(&file.path)
                .with_dialect(file.dialect);
            Some((file, loader.load().ok()?))
        };
        let found = config::find(&Folders::of_process());
        found.into_iter().filter_map(load).collect()
    })
    .await?;
    if app.global.json {
        let files: Vec<_> = files
            .iter()
            .map(|(file, loaded)| {
                json!({
                    "host": file.dialect.as_str(),
                    "scope": file.scope,
                    "path": file.path,
                    "servers": names(loaded),
                })
            })
            .collect();
        return out::document(&json!({ "files": files }));
    }
    if files.is_empty() {
        return out::print(&text!("no MCP host has a config file here\n"));
    }
    let mut table = Table::new(&["host", "scope", "file", "servers"]);
    for (file, loaded) in &files {
        table.row([
            file.dialect.as_str(),
            file.scope.as_str(),
            &Untrusted::os(&file.path).whole().into_clean(),
            &names(loaded).join(", "),
        ]);
    }
    out::print(&table.to_text())
}

fn names(loaded: &Loaded) -> Vec<&str> {
    loaded
        .servers
        .iter()
        .map(|spec| spec.name.as_str())
        .collect()
}
