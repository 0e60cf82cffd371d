//! `mcpool trust`, and the trust that a file keeps when this program changes it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use clap::Args;
use mcpool::config::{
    Admission, Folders, Loaded, Loader, TrustRequest, TrustStore, settings::ServerSettings,
};
use serde_json::json;

use crate::{
    admission::{Answer, asked, only_shown, said_no, show},
    app::App,
    config_files::{self, Files},
    exit::{Failure, Outcome},
    off_thread::off_thread,
    render::out,
    text,
};

/// `mcpool trust`
#[derive(Debug, Args)]
pub(crate) struct TrustArgs {
    /// The file; default: the project's
    pub(crate) file: Option<PathBuf>,
    /// Approve the file without asking, if it has this hash
    #[arg(long, value_name = "HASH")]
    hash: Option<String>,
    /// Approve all servers but this one; may be given several times
    #[arg(long, value_name = "SERVER", requires = "hash")]
    without: Vec<String>,
    /// Take an approval back
    #[arg(long, conflicts_with = "hash")]
    revoke: bool,
}

pub(crate) async fn run(app: &App, args: TrustArgs) -> Outcome {
    let file = match &args.file {
        Some(file) => file.clone(),
        None => match config_files::find(&app.global)? {
            Files::Project(file) => file,
            Files::Named(_) | Files::User(_) if app.global.json => {
                return out::document(&json!({ "file": null, "trusted": true }));
            }
            Files::Named(_) | Files::User(_) => {
                return out::print(&text!(
                    "your own files and those named with --config are trusted\n"
                ));
            }
        },
    };
    let json = app.global.json;
    off_thread(move || run_on(&file, &args, json)).await?
}

fn run_on(file: &Path, args: &TrustArgs, json: bool) -> Outcome {
    let store = TrustStore::of_user()?;
    let say = |trusted: bool, word: &str| {
        if json {
            return out::document(&json!({ "file": file, "trusted": trusted }));
        }
        out::print(&text!("{}: {}\n", file, word))
    };
    if args.revoke {
        let word = match store.revoke(file)? {
            true => "no longer trusted",
            false => "was not trusted",
        };
        return say(false, word);
    }
    if !file.is_file() {
        return Err(Failure::usage(text!("there is no file {}", file)));
    }
    let loaded = as_in_its_project(file).load()?;
    let requests = match store.admit(&loaded)? {
        Admission::Asked(requests) => requests,
        _ => Vec::new(),
    };
    // One file was loaded, and so there is at most one request.
    let Some(request) = requests.first() else {
        super::report(&loaded);
        return say(true, "trusted");
    };
    let refused = match &args.hash {
        Some(hash) if *hash == request.hash => args.without.clone(),
        Some(hash) => return Err(wrong_hash(hash, request)),
        None if json => return out::question_document(request),
        None => match asked(request)? {
            Answer::Yes { refused } => refused,
            Answer::No => return Err(said_no(request)),
            Answer::Nobody => {
                show(request)?;
                return Err(only_shown(request));
            }
        },
    };
    store.approve_except(request, &refused)?;
    super::report(&loaded);
    let word = match refused.len() {
        0 => "trusted".to_owned(),
        count => format!("trusted, without {count} of its servers"),
    };
    say(true, &word)
}

/// Loads a file as it is loaded by who stands in its directory, so that it is the same question.
fn as_in_its_project(file: &Path) -> Loader {
    let file = std::path::absolute(file).unwrap_or_else(|_| file.to_path_buf());
    let folders = match file.parent() {
        Some(folder) => Folders::of_process().with_workspace(folder),
        None => Folders::of_process(),
    };
    Loader::new().with_folders(folders).with_project_file(file)
}

fn wrong_hash(given: &str, request: &TrustRequest) -> Failure {
    if request.hash.starts_with(given) {
        // Two files with the same short hash are quickly made.
        return Failure::usage(text!(
            "give the whole hash: its beginning alone can be forged"
        ));
    }
    Failure::usage(text!(
        "the file has another hash now: {}; look at it again",
        request.hash
    ))
}

/// What was trusted of a file before this program changed it: what a person has it write, they
/// need not approve again.
pub(super) struct Kept {
    file: PathBuf,
    /// The servers of the file, when all of it was trusted. A file that is not there yet is.
    trusted: Option<BTreeMap<String, ServerSettings>>,
}

impl Kept {
    /// Looks at a file before the change. Blocks.
    pub(super) fn before(file: &Path) -> Result<Self, Failure> {
        let trusted = match file.exists() {
            false => Some(BTreeMap::new()),
            true => match as_in_its_project(file).load() {
                Ok(loaded) => match TrustStore::of_user()?.admit(&loaded)? {
                    Admission::Granted(loaded) => Some(settings_of(&loaded)),
                    _ => None,
                },
                // It cannot be changed either, and the change says why.
                Err(_) => None,
            },
        };
        Ok(Self {
            file: file.to_path_buf(),
            trusted,
        })
    }

    /// Trusts the file after the change of one server, unless something else has changed in the
    /// meantime. Blocks.
    pub(super) fn after(self, edited: Option<&str>) -> Result<(), Failure> {
        let Some(mut trusted) = self.trusted else {
            return Ok(());
        };
        let store = TrustStore::of_user()?;
        let loaded = as_in_its_project(&self.file).load()?;
        let Admission::Asked(requests) = store.admit(&loaded)? else {
            return Ok(());
        };
        let mut now = settings_of(&loaded);
        if let Some(edited) = edited {
            trusted.remove(edited);
            now.remove(edited);
        }
        if trusted == now {
            for request in &requests {
                store.approve(request)?;
            }
        }
        Ok(())
    }
}

fn settings_of(loaded: &Loaded) -> BTreeMap<String, ServerSettings> {
    let entries = loaded.entries().iter();
    entries
        .map(|entry| (entry.name.to_string(), entry.settings.clone()))
        .collect()
}
