//! `mcpool config add | remove | enable | disable`: edits of one file.

use std::path::{Component, Path, PathBuf};

use clap::Args;
use mcpool::{
    ErrorKind,
    config::{
        Edit, Loader, edit_file,
        settings::{ServerSettings, TransportName},
    },
};
use serde_json::json;

use super::{import::same, trust::Kept};

use crate::{
    app::App,
    config_files::{self, Files},
    exit::{Exit, Failure, Outcome},
    global::Global,
    off_thread::off_thread,
    render::out,
    targets::{is_url, loader_of},
    text,
};

/// `mcpool config add`
#[derive(Debug, Args)]
#[command(
    override_usage = "mcpool config add [OPTIONS] NAME URL\n       \
                      mcpool config add [OPTIONS] NAME -- COMMAND [ARGS]...",
    after_help = "\
Examples:
  mcpool config add docs https://example.com/mcp
  mcpool config add docs https://example.com/mcp --bearer-env TOKEN
  mcpool config add time -- uvx mcp-server-time
  mcpool config add files --env DEBUG=1 --file ./mcp.json -- my-server"
)]
pub(crate) struct AddArgs {
    /// What the server is called
    name: String,
    /// The address of an HTTP server
    #[arg(conflicts_with = "command")]
    url: Option<String>,
    /// `http` or `sse`; default: detected when it connects
    #[arg(long, value_name = "TRANSPORT", requires = "url")]
    transport: Option<String>,
    /// The working directory of the process; default: your home for your own file, else the
    /// directory of the file
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
    #[arg(last = true)]
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
    /// The file to change. Default: `add` changes your own, the others change the one that other
    /// commands read
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

impl Target {
    /// The file that new servers go to: the one that was named, else the user's own.
    pub(crate) fn to_write(&self, global: &Global) -> Result<PathBuf, Failure> {
        match self.named(global)? {
            Some(file) => Ok(file),
            None => config_files::user_file().ok_or_else(|| {
                Failure::usage(text!("the home directory is not known; use --file"))
            }),
        }
    }

    /// The file whose servers the other commands use.
    pub(crate) fn of_servers(&self, global: &Global) -> Result<PathBuf, Failure> {
        if let Some(file) = self.named(global)? {
            return Ok(file);
        }
        match config_files::find(global)? {
            Files::Project(file) | Files::User(file) => Ok(file),
            Files::Named(_) => Err(several()),
        }
    }

    fn named(&self, global: &Global) -> Result<Option<PathBuf>, Failure> {
        if self.file.is_some() {
            return Ok(self.file.clone());
        }
        match config_files::named(global).as_deref() {
            None => Ok(None),
            Some([file]) => Ok(Some(file.clone())),
            Some(_) => Err(several()),
        }
    }
}

fn several() -> Failure {
    Failure::usage(text!(
        "there are several config files; name one with --file"
    ))
}

pub(crate) async fn add(app: &App, args: AddArgs) -> Outcome {
    let flags = &app.global.target;
    let mut settings = match (args.url, args.command) {
        (Some(url), _) if is_url(&url) => flags.of_url(&url)?,
        (Some(word), _) => {
            let host = word.split('/').next().unwrap_or_default();
            let lacks_scheme = host.contains('.') && !host.starts_with('.');
            let url = lacks_scheme.then(|| {
                text!(
                    "write a URL with its scheme: mcpool config add {} https://{}",
                    args.name,
                    word
                )
            });
            return Err(Failure::usage(text!("{} is not a URL", word))
                .with_hints(url)
                .with_hint(text!(
                    "write a command after `--`: mcpool config add {} -- {}",
                    args.name,
                    word
                )));
        }
        (None, command) if !command.is_empty() => flags.of_command(command)?,
        (None, _) => {
            return Err(Failure::usage(text!("where is {}?", args.name))
                .with_hint(text!("mcpool config add {} URL", args.name))
                .with_hint(text!("mcpool config add {} -- COMMAND ARGS", args.name)));
        }
    };
    settings.transport = match args.transport.as_deref() {
        None | Some("auto") => None,
        Some("http" | "streamable-http") => Some(TransportName::Http),
        Some("sse") => Some(TransportName::Sse),
        Some(other) => {
            return Err(Failure::usage(text!(
                "{} is not a transport; use `http`, `sse` or `auto`",
                other
            )));
        }
    };
    settings.cwd = args.cwd;
    settings.enabled = args.disabled.then_some(false);
    check(&args.name, settings.clone()).await?;
    let file = args.target.to_write(&app.global)?;
    if !args.replace && holds(&file, &args.name).await? {
        return Err(
            Failure::usage(text!("{} has a server {} already", file, args.name))
                .with_hint(text!("--replace puts this one in its place")),
        );
    }
    if let Some(command) = settings.command.as_deref().filter(|word| is_absent(word)) {
        out::tell(&text!(
            "warning: there is no program {} in $PATH now\n",
            command
        ));
    }
    if args.target.named(&app.global)?.is_none() && settings.cwd.is_none() {
        let mut words = settings.command.iter().chain(&settings.args);
        if let Some(word) = words.find(|word| is_relative(word)) {
            out::tell(&text!(
                "note: the server starts in your home directory, and {} begins there: write the \
                 path in full, or set --cwd\n",
                word
            ));
        }
    }
    let edit = Edit::Add {
        name: args.name.clone(),
        settings: Box::new(settings),
        replace: args.replace,
    };
    apply(app, &file, "added", &args.name, edit).await?;
    if let Ok(Files::Project(project)) = config_files::find(&app.global)
        && !same(&project, &file)
    {
        out::tell(&text!("in this directory {} is used instead\n", project));
    }
    Ok(Exit::Good)
}

/// Reads a new entry as it will be read from the file. Nothing is written that has an error.
async fn check(name: &str, settings: ServerSettings) -> Result<(), Failure> {
    let loader = loader_of(name, settings)?;
    let loaded = off_thread(move || loader.load()).await??;
    super::report(&loaded);
    match loaded.has_errors() {
        true => Err(Failure::usage(text!("nothing was written"))),
        false => Ok(()),
    }
}

/// Whether a file has a server of this name.
async fn holds(file: &Path, name: &str) -> Result<bool, Failure> {
    let loader = Loader::new().with_user_file(file);
    // What is wrong with the file is said when it is written.
    let loaded = off_thread(move || loader.load()).await?;
    Ok(loaded.is_ok_and(|loaded| loaded.entry(name).is_some()))
}

/// Whether a program is looked up in `$PATH` and is not there.
fn is_absent(command: &str) -> bool {
    !command.contains(['/', '\\', '$', '~']) && which::which(command).is_err()
}

pub(crate) async fn remove(app: &App, args: NameArgs) -> Outcome {
    let edit = Edit::Remove {
        name: args.name.clone(),
    };
    let file = args.target.of_servers(&app.global)?;
    apply(app, &file, "removed", &args.name, edit).await
}

pub(crate) async fn set_enabled(app: &App, args: NameArgs, enabled: bool) -> Outcome {
    let edit = Edit::SetEnabled {
        name: args.name.clone(),
        enabled,
    };
    let done = if enabled { "enabled" } else { "disabled" };
    let file = args.target.of_servers(&app.global)?;
    apply(app, &file, done, &args.name, edit).await
}

/// Whether a word is a path that says by itself that it depends on where a program starts.
fn is_relative(word: &str) -> bool {
    let first = Path::new(word).components().next();
    matches!(first, Some(Component::CurDir | Component::ParentDir))
}

async fn apply(app: &App, path: &Path, done: &str, name: &str, edit: Edit) -> Outcome {
    let (file, edited) = (path.to_path_buf(), name.to_owned());
    let changed = off_thread(move || -> Result<bool, Failure> {
        let kept = Kept::before(&file)?;
        let changed = edit_file(&file, &[edit]).map_err(|error| {
            let place = (error.kind() == ErrorKind::UnknownServer)
                .then(|| text!("the file is {}; --file names another", file));
            Failure::from(error).with_hints(place)
        })?;
        kept.after(Some(&edited))?;
        Ok(changed)
    })
    .await??;
    if app.global.json {
        return out::document(&json!({ "file": path, "server": name, "changed": changed }));
    }
    let word = if changed { done } else { "unchanged" };
    out::print(&text!("{}: {} in {}\n", name, word, path))
}
