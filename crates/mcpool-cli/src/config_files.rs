//! Which config files are used, and what is in them.

use std::path::PathBuf;

use etcetera::{BaseStrategy as _, choose_base_strategy};
use mcpool::config::{Loaded, Loader, Problem, Severity, Watcher};
use serde_json::Value;

use crate::{
    admission::admit,
    exit::Failure,
    global::Global,
    off_thread::off_thread,
    render::{out, problems, text::Text},
    targets::Target,
    text,
};

/// Files that are looked for in the working directory, first wins.
const PROJECT_FILES: [&str; 2] = ["mcp.json", ".mcp.json"];

/// The files to load, by where they come from: it decides whether their commands are trusted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Files {
    /// `--config` or `$MCPOOL_CONFIG`.
    Named(Vec<PathBuf>),
    /// In the working directory.
    Project(PathBuf),
    /// In the user's config directory.
    User(PathBuf),
}

#[cfg(feature = "gateway")]
impl Files {
    /// What a gateway of these files is known by.
    ///
    /// # Errors
    /// When one is not there.
    pub(crate) fn digest(&self) -> std::io::Result<String> {
        use sha2::{Digest as _, Sha256};
        let paths = match self {
            Self::Named(paths) => paths.as_slice(),
            Self::Project(path) | Self::User(path) => std::slice::from_ref(path),
        };
        let mut digest = Sha256::new();
        for path in paths {
            let path = std::fs::canonicalize(path)?;
            digest.update(path.as_os_str().as_encoded_bytes());
            digest.update([0]);
        }
        let digest = digest.finalize();
        Ok(digest
            .iter()
            .take(8)
            .map(|byte| format!("{byte:02x}"))
            .collect())
    }
}

/// The files that the flags name, or the first of the default places that exists.
pub(crate) fn find(global: &Global) -> Result<Files, Failure> {
    if let Some(named) = named(global) {
        return Ok(Files::Named(named));
    }
    let project = PROJECT_FILES.iter().map(PathBuf::from);
    if let Some(path) = project.clone().find(|path| path.is_file()) {
        return Ok(Files::Project(path));
    }
    let user = user_file();
    match user.clone().filter(|path| path.is_file()) {
        Some(path) => Ok(Files::User(path)),
        None => Err(nothing_found(project.chain(user))),
    }
}

/// The files of `--config`, or of `$MCPOOL_CONFIG`.
pub(crate) fn named(global: &Global) -> Option<Vec<PathBuf>> {
    if !global.config.is_empty() {
        return Some(global.config.clone());
    }
    let path = std::env::var_os("MCPOOL_CONFIG").filter(|path| !path.is_empty())?;
    Some(vec![path.into()])
}

/// `mcpool/mcp.json` in the user's config directory.
pub(crate) fn user_file() -> Option<PathBuf> {
    let dirs = choose_base_strategy().ok()?;
    Some(dirs.config_dir().join("mcpool").join("mcp.json"))
}

/// A loader of these files.
pub(crate) fn loader(files: Files) -> Loader {
    // What it fills in is masked in all that is shown.
    let loader = Loader::new().with_masker(out::masker().clone());
    match files {
        Files::Named(paths) => paths.into_iter().fold(loader, Loader::with_file),
        Files::Project(path) => loader.with_project_file(path),
        Files::User(path) => loader.with_user_file(path),
    }
}

/// Loads them. A file that cannot be understood at all is a failure, and so is one of the project
/// that nobody trusts.
pub(crate) async fn load(global: &Global) -> Result<Loaded, Failure> {
    let loader = loader(find(global)?);
    let loaded = off_thread(move || loader.load()).await??;
    accept(global, loaded).await
}

/// As [`load`], and watches them from then on, where the system can.
pub(crate) async fn watched(global: &Global) -> Result<(Loaded, Option<Watcher>), Failure> {
    let loader = loader(find(global)?);
    match off_thread(move || Watcher::start(loader)).await? {
        Ok((loaded, watcher)) => Ok((accept(global, loaded).await?, Some(watcher))),
        Err(error) => {
            // Why it cannot be loaded, if that is why, is reported by loading it.
            let loaded = load(global).await?;
            tracing::warn!(%error, "changes of the config are not seen");
            Ok((loaded, None))
        }
    }
}

/// The command line or the URL of a server that [`Loaded::to_json`] shows, secrets overwritten.
pub(crate) fn reached_by(shown: &Value) -> String {
    let text = |field: &str| shown[field].as_str().unwrap_or_default();
    let Some(args) = shown["args"].as_array() else {
        return text("url").to_owned();
    };
    let args = args.iter().filter_map(Value::as_str);
    std::iter::once(text("command"))
        .chain(args)
        .collect::<Vec<_>>()
        .join(" ")
}

async fn accept(global: &Global, loaded: Loaded) -> Result<Loaded, Failure> {
    if loaded.problems.iter().any(Problem::spoils_file) {
        report(global, &loaded.problems, None);
        return Err(Failure::usage(text!("the config cannot be used")));
    }
    // Nothing else of a project's file is shown, or done, before a person has seen it.
    admit(loaded).await
}

/// A config with no server, for a command that has servers from elsewhere.
pub(crate) async fn nothing() -> Result<Loaded, Failure> {
    let loader = Loader::new().with_masker(out::masker().clone());
    Ok(off_thread(move || loader.load()).await??)
}

/// The server that the command line describes.
pub(crate) async fn load_target(target: &Target) -> Result<Loaded, Failure> {
    let loader = target.loader()?;
    let mut loaded = off_thread(move || loader.load()).await??;
    // What is written for once needs no advice for a file.
    loaded.problems.retain(Problem::is_error);
    match loaded.problems.is_empty() {
        true => Ok(loaded),
        false => {
            problems::print(&loaded.problems.iter().collect::<Vec<_>>());
            Err(Failure::usage(text!(
                "the server cannot be used as it is described"
            )))
        }
    }
}

/// Says on standard error what is wrong with the config: in full what keeps this server, or any of
/// all, from being used, with what else is said of it, and the rest in one line. With `-v` warnings
/// and notes are in full as well. Gives whether one of those in full is an error.
pub(crate) fn report(global: &Global, problems: &[Problem], only: Option<&str>) -> bool {
    let least = match global.verbose {
        0 => Severity::Warning,
        _ => Severity::Note,
    };
    let worth = problems.iter().filter(|problem| problem.severity >= least);
    let is_touched = |problem: &Problem| {
        let is_of_another = || {
            problem
                .server
                .as_deref()
                .is_some_and(|server| Some(server) != only)
        };
        only.is_none() || problem.spoils_file() || !is_of_another()
    };
    // A field that is not known may be why a server cannot be used.
    let spoilt: Vec<Option<&str>> = problems
        .iter()
        .filter(|problem| problem.is_error())
        .map(|problem| problem.server.as_deref())
        .collect();
    let (in_full, others): (Vec<&Problem>, Vec<&Problem>) = worth.partition(|problem| {
        let weighs =
            problem.is_error() || global.verbose > 0 || spoilt.contains(&problem.server.as_deref());
        weighs && is_touched(problem)
    });
    problems::print(&in_full);
    out::tell(&problems::in_one_line(&others));
    in_full.iter().any(|problem| problem.is_error())
}

fn nothing_found(places: impl Iterator<Item = PathBuf>) -> Failure {
    let places = Text::join(places.map(|place| text!("{}", place)), ", ");
    Failure::usage(text!(
        "no config: none of {} exists, and neither --config nor $MCPOOL_CONFIG is set",
        places
    ))
    .with_hint(text!(
        "`mcpool config add NAME URL` makes one, and `mcpool config import HOST` copies another's"
    ))
    .with_hint(text!(
        "none is needed by `mcpool tools https://…`, `mcpool tools --stdio COMMAND`, `mcpool demo`"
    ))
}
