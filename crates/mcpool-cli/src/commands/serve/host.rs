//! `mcpool serve install HOST` and `uninstall`: one entry in a host's file in place of its servers.

mod adopt;

use std::path::{Path, PathBuf};

use axum::http::Uri;
use clap::{Args, Subcommand};
use mcpool::config::{
    Dialect, Folders, HostServer, HostWriter, Scope, edit_file, host_files, nearest,
    read_host_file, remove_host_file, write_host_file,
};
use serde_json::json;

use self::adopt::{Adopted, Adoption};

use crate::{
    app::App,
    commands::Outcome,
    config_files,
    exit::Failure,
    invocation::program,
    off_thread::off_thread,
    render::{out, text::Text},
    targets::is_url,
    text,
};

/// What ends the name of the file that keeps what stood there before.
const BACKUP: &str = ".before-mcpool";

/// What to do with a host's file.
#[derive(Debug, Subcommand)]
pub(crate) enum HostCommand {
    /// Show the entry that points a host at mcpool; with --write put it into the host's file
    #[command(after_help = "\
Examples:
  mcpool serve install cursor                    shows what would be written, and where
  mcpool serve install cursor --write --adopt    moves its servers to mcpool's file first
  mcpool serve install codex --url http://127.0.0.1:7332/mcp --write")]
    Install(InstallArgs),
    /// Take the entry out of a host's file again, and put back what stood there before
    Uninstall(UninstallArgs),
}

/// `mcpool serve install`
#[derive(Debug, Args)]
pub(crate) struct InstallArgs {
    #[command(flatten)]
    place: HostPlace,
    /// Let the host connect to this URL of a gateway, instead of starting `mcpool serve --stdio`
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Move the servers of the host into mcpool's own file
    #[arg(long)]
    adopt: bool,
    /// With --adopt: replace servers of mcpool's own file that have the same name
    #[arg(long, requires = "adopt")]
    replace: bool,
    /// Write it; without this nothing is changed
    #[arg(long)]
    write: bool,
}

/// `mcpool serve uninstall`
#[derive(Debug, Args)]
pub(crate) struct UninstallArgs {
    #[command(flatten)]
    place: HostPlace,
    /// Write it; without this nothing is changed
    #[arg(long)]
    write: bool,
}

/// Whose file, and which entry.
#[derive(Debug, Args)]
struct HostPlace {
    /// The host: claude-code, claude-desktop, cursor, vscode, codex, gemini, zed …
    #[arg(value_parser = parse_host)]
    host: Dialect,
    /// The host's file; default: the user's own
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// What the entry is called
    #[arg(long, value_name = "NAME", default_value = "mcpool")]
    name: String,
}

fn parse_host(text: &str) -> Result<Dialect, String> {
    text.parse().map_err(|_| {
        let hosts: Vec<&str> = HostWriter::hosts()
            .into_iter()
            .map(Dialect::as_str)
            .collect();
        match nearest(text, hosts.iter().copied()) {
            Some(near) => format!("not a host that mcpool knows; did you mean `{near}`?"),
            None => format!(
                "not a host that mcpool knows; it writes the files of {}",
                hosts.join(", ")
            ),
        }
    })
}

impl HostPlace {
    fn writer(&self) -> Result<HostWriter, Failure> {
        HostWriter::of(self.host).ok_or_else(|| {
            let hosts = HostWriter::hosts()
                .into_iter()
                .map(|host| text!("{}", host.as_str()));
            Failure::usage(text!(
                "mcpool does not write the file of {}: add the entry by hand",
                self.host.title()
            ))
            .with_hint(text!("it writes those of {}", Text::join(hosts, ", ")))
        })
    }

    fn path(&self) -> Result<PathBuf, Failure> {
        if let Some(file) = &self.file {
            return Ok(file.clone());
        }
        let files = host_files(&Folders::of_process()).into_iter();
        let mut own = files.filter(|file| file.dialect == self.host && file.scope == Scope::User);
        let first = own.next();
        // One that is there, else the usual one.
        let there = first
            .iter()
            .chain(&own.collect::<Vec<_>>())
            .find(|file| file.path.is_file())
            .cloned();
        there.or(first).map(|file| file.path).ok_or_else(|| {
            Failure::usage(text!(
                "{} has no file of the user's: name one with --file",
                self.host.title()
            ))
        })
    }
}

/// Runs one of them.
pub(crate) async fn run(app: &App, command: HostCommand) -> Outcome {
    match command {
        HostCommand::Install(args) => install(app, args).await,
        HostCommand::Uninstall(args) => uninstall(app, args).await,
    }
}

async fn install(app: &App, args: InstallArgs) -> Outcome {
    let writer = args.place.writer()?;
    let path = args.place.path()?;
    let server = server(app, args.url.as_deref())?;
    let before = read(&path).await?;
    let old = before.clone().unwrap_or_default();
    let name = args.place.name.clone();
    let own = own_file(app)?;
    let own_text = read(&own).await?;
    let adopted = match args.adopt {
        true => {
            let mut names = writer.names(&old)?;
            names.retain(|other| *other != name);
            let adoption = Adoption {
                host: args.place.host,
                file: &path,
                names,
                own: &own,
                own_text: own_text.as_deref().unwrap_or_default(),
                replace: args.replace,
            };
            adoption.plan().await?
        }
        false => Adopted::default(),
    };
    // What the entry starts needs its file.
    let creates_own = own_text.is_none() && (args.url.is_none() || !adopted.edits.is_empty());
    let new = writer.install(&old, &name, &server, &adopted.gone())?;
    let example = writer.example(&name, &server)?;
    let backup = backup_of(&path);
    let is_kept = backup.exists();
    let keeps = keeps(&writer, before.as_deref(), &name, is_kept)?;
    let own_backup =
        Some(backup_of(&own)).filter(|backup| !adopted.replaced.is_empty() && !backup.exists());
    if args.write {
        if creates_own || !adopted.edits.is_empty() {
            // First there, then away from here: what happens between loses nothing.
            if let (Some(backup), Some(text)) = (&own_backup, &own_text) {
                keep(backup, text.clone()).await?;
            }
            let (own, edits) = (own.clone(), adopted.edits.clone());
            off_thread(move || edit_file(&own, &edits)).await??;
        }
        if let Some(before) = before.as_ref().filter(|_| keeps) {
            keep(&backup, before.clone()).await?;
        }
        let (target, before) = (path.clone(), before.clone());
        off_thread(move || write_host_file(&target, before.as_deref(), &new)).await??;
    }
    if app.global.json {
        let left: Vec<&String> = adopted.left.iter().map(|(name, _)| name).collect();
        return out::document(&json!({
            "host": args.place.host.as_str(),
            "file": path,
            "created": before.is_none(),
            "backup": (keeps || is_kept).then_some(&backup),
            "entry": example,
            "own_file": own,
            "own_file_created": creates_own,
            "own_backup": own_backup,
            "moved": adopted.moved,
            "replaced": adopted.replaced,
            "present": adopted.present,
            "left": left,
            "reasons": adopted.reasons(&own),
            "written": args.write,
        }));
    }
    let mut text = match (args.write, before.is_some()) {
        (true, true) => text!("written to {}\n", path),
        (true, false) => text!("created {}\n", path),
        (false, true) => text!(
            "nothing was written; with --write this goes into {}:\n\n",
            path
        ),
        (false, false) => text!(
            "nothing was written; with --write {} is created with this:\n\n",
            path
        ),
    };
    if !args.write {
        text.push(&text!(
            "{}\n\n",
            crate::render::text::Answer(example.trim_end())
        ));
    }
    if keeps || is_kept {
        let verb = match args.write || !keeps {
            true => "is",
            false => "would be",
        };
        text.push(&text!(
            "what stood there before {} kept in {}\n",
            verb,
            backup
        ));
    }
    if creates_own {
        let verb = if args.write {
            "created"
        } else {
            "would create"
        };
        let what = match adopted.edits.is_empty() {
            true => text!(
                "without servers: `{0} config add` and `{0} config import` add some",
                program()
            ),
            false => text!("with the servers below"),
        };
        text.push(&text!("{} {}, {}\n", verb, own, what));
    }
    if args.adopt {
        text.push(&adopted.to_text(&own, args.write));
    }
    if let Some(backup) = &own_backup {
        let verb = if args.write { "is" } else { "would be" };
        text.push(&text!(
            "what stood in {} before {} kept in {}\n",
            own,
            verb,
            backup
        ));
    }
    if args.write {
        text.push(&text!("restart {} to use it\n", args.place.host.title()));
    }
    out::print(&text)
}

async fn uninstall(app: &App, args: UninstallArgs) -> Outcome {
    let writer = args.place.writer()?;
    let path = args.place.path()?;
    let name = &args.place.name;
    let found = read(&path).await?;
    let text = found.clone().unwrap_or_default();
    if !writer.names(&text)?.contains(name) {
        return Err(Failure::usage(text!("{} has no entry {}", path, name)));
    }
    // One that was installed over an entry of that name has it too, and it goes all the same.
    let before = match read(&backup_of(&path)).await? {
        Some(before) if writer.names(&before)?.contains(name) => {
            Some(writer.uninstall(&before, name, None)?)
        }
        before => before,
    };
    let new = match &before {
        Some(before) if writer.is_untouched(&text, name, before) => before.clone(),
        _ => writer.uninstall(&text, name, before.as_deref())?,
    };
    // What an install has made goes again.
    let removes = before.is_none() && !path.is_symlink() && is_bare(&writer, &new, name);
    let back: Vec<String> = {
        let now = writer.names(&text)?;
        let names = writer.names(&new)?.into_iter();
        names.filter(|name| !now.contains(name)).collect()
    };
    if args.write {
        let (target, old) = (path.clone(), found.clone());
        let backup = before.is_some().then(|| backup_of(&path));
        off_thread(move || match removes {
            true => remove_host_file(&target, old.as_deref()),
            false => write_host_file(&target, old.as_deref(), &new),
        })
        .await??;
        if let Some(backup) = backup {
            // It has served.
            remove(&backup).await?;
        }
    }
    if app.global.json {
        return out::document(&json!({
            "host": args.place.host.as_str(),
            "file": path,
            "put_back": back,
            "removed": removes,
            "written": args.write,
        }));
    }
    let mut text = match args.write {
        true => text!("the entry {} is out of {}\n", name, path),
        false => text!(
            "nothing was written; with --write the entry {} goes out of {}\n",
            name,
            path
        ),
    };
    let (is, would_be) = match args.write {
        true => ("is", ""),
        false => ("would be", "would be "),
    };
    if removes {
        text.push(&text!(
            "the file has nothing else in it, and {} removed\n",
            is
        ));
    }
    if !back.is_empty() {
        text.push(&text!(
            "{}moved back into it: {} (mcpool's own file keeps them too)\n",
            would_be,
            Text::list(&back)
        ));
    }
    out::print(&text)
}

/// What the host is to start, or to connect to.
fn server(app: &App, url: Option<&str>) -> Result<HostServer, Failure> {
    if let Some(url) = url {
        let has_host = |url: Uri| url.host().is_some_and(|host| !host.is_empty());
        if !is_url(url) || !url.parse::<Uri>().is_ok_and(has_host) {
            return Err(
                Failure::usage(text!("{} is not a URL", url)).with_hint(text!(
                    "`{} serve` says its own when it begins, such as http://127.0.0.1:7332/mcp",
                    program()
                )),
            );
        }
        return Ok(HostServer::Url(url.to_owned()));
    }
    let program = std::env::current_exe().map_err(|error| not_used(Path::new("mcpool"), &error))?;
    let mut words = vec![program.to_string_lossy().into_owned()];
    // A host starts it somewhere else.
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let own = own_file(app)?;
    words.push("--config".to_owned());
    words.push(absolute(&own).to_string_lossy().into_owned());
    words.extend(["serve", "--stdio"].map(str::to_owned));
    Ok(HostServer::Command(words))
}

/// The file that mcpool serves for hosts: the one that was named, else the user's own.
fn own_file(app: &App) -> Result<PathBuf, Failure> {
    let named = config_files::named(&app.global).and_then(|named| named.into_iter().next());
    named.or_else(config_files::user_file).ok_or_else(|| {
        Failure::usage(text!(
            "there is no config directory of the user: name a file with --config"
        ))
    })
}

/// Beside the file that it is of.
fn backup_of(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(BACKUP);
    path.with_file_name(name)
}

/// The text of a file; `None` when it is not there.
async fn read(path: &Path) -> Result<Option<String>, Failure> {
    let path = path.to_owned();
    Ok(off_thread(move || read_host_file(&path)).await??)
}

/// Whether an install has to keep what stood there before: what uninstalling brings back is what
/// stood there before the first one.
fn keeps(
    writer: &HostWriter,
    before: Option<&str>,
    name: &str,
    is_kept: bool,
) -> Result<bool, Failure> {
    let Some(before) = before else {
        return Ok(false);
    };
    if !writer.names(before)?.iter().any(|old| old == name) {
        return Ok(true);
    }
    let is_made = || -> Result<bool, Failure> {
        Ok(is_bare(
            writer,
            &writer.uninstall(before, name, None)?,
            name,
        ))
    };
    Ok(!is_kept && !is_made()?)
}

/// Keeps a text, in place of what was kept earlier.
async fn keep(backup: &Path, text: String) -> Result<(), Failure> {
    let backup = backup.to_owned();
    let kept = off_thread(move || {
        let older = read_host_file(&backup)?;
        write_host_file(&backup, older.as_deref(), &text)
    });
    Ok(kept.await??)
}

/// Whether a text is what is left of a file that an install made, without the entry.
fn is_bare(writer: &HostWriter, text: &str, name: &str) -> bool {
    let made = writer.example(name, &HostServer::Url(String::new()));
    let bare = made.and_then(|made| writer.uninstall(&made, name, None));
    bare.is_ok_and(|bare| bare.trim() == text.trim())
}

async fn remove(path: &Path) -> Result<(), Failure> {
    let file = path.to_owned();
    let removed = off_thread(move || std::fs::remove_file(&file)).await?;
    removed.map_err(|error| not_used(path, &error))
}

fn not_used(path: &Path, error: &std::io::Error) -> Failure {
    Failure::usage(text!("{}: {}", path, error.to_string()))
}
