//! `mcpool trust`, and the question that every command asks before it runs what a project's
//! file says.

use std::{
    io::{self, BufRead as _, IsTerminal as _, Write as _},
    path::PathBuf,
};

use clap::Args;
use mcpool::config::{Loaded, Loader, TrustRequest, TrustStore};
use serde_json::json;

use crate::{
    app::App,
    commands::Outcome,
    config_files::{self, Files},
    exit::Failure,
    render,
};

/// `mcpool trust`
#[derive(Debug, Args)]
pub(crate) struct TrustArgs {
    /// The file; default: the project's
    pub(crate) file: Option<PathBuf>,
    /// Approve without a question what has this hash
    #[arg(long, value_name = "HASH")]
    hash: Option<String>,
    /// Take an approval back
    #[arg(long, conflicts_with = "hash")]
    revoke: bool,
}

pub(crate) fn run(app: &App, args: &TrustArgs) -> Outcome {
    let file = match &args.file {
        Some(file) => file.clone(),
        None => match config_files::find(&app.global)? {
            Files::Project(file) => file,
            Files::Named(_) | Files::User(_) => {
                return render::text("your own files and those named with --config are trusted\n");
            }
        },
    };
    let store = TrustStore::of_user()?;
    if args.revoke {
        let found = store.revoke(&file)?;
        let word = if found {
            "no longer trusted"
        } else {
            "was not trusted"
        };
        return render::text(&format!("{}: {word}\n", file.display()));
    }
    if !file.is_file() {
        return Err(Failure::usage(format!(
            "there is no file {}",
            file.display()
        )));
    }
    let loaded = Loader::new().with_project_file(&file).load()?;
    super::report(&loaded);
    let requests = store.check(&loaded)?;
    let Some(request) = requests.first() else {
        return render::text(&format!("{}: trusted\n", file.display()));
    };
    match &args.hash {
        Some(hash) if *hash == request.hash => {}
        Some(_) => {
            return Err(Failure::usage(format!(
                "the file has another hash now: {}; look at it again",
                request.hash
            )));
        }
        None if app.global.json => {
            return render::document(&json!({
                "file": request.file,
                "hash": request.hash,
                "changed": request.changed,
                "actions": request.actions,
            }));
        }
        None if asked(request)? => {}
        None => return Err(TrustStore::refusal(&requests).into()),
    }
    store.approve(request)?;
    render::text(&format!("{}: trusted\n", file.display()))
}

/// Lets a command go on when everything that it would run is trusted: asks on a terminal,
/// refuses elsewhere.
pub(crate) fn require(loaded: &Loaded) -> Result<(), Failure> {
    let store = TrustStore::of_user()?;
    let requests = store.check(loaded)?;
    if requests.is_empty() {
        return Ok(());
    }
    for request in &requests {
        if !asked(request)? {
            return Err(TrustStore::refusal(&requests).into());
        }
        store.approve(request)?;
    }
    Ok(())
}

/// Shows the exact commands and asks; `false` where nobody can be asked.
fn asked(request: &TrustRequest) -> Result<bool, Failure> {
    let state = if request.changed {
        "has changed since you trusted it"
    } else {
        "is new"
    };
    let mut text = format!(
        "The project's file {} {state}. It wants to use:\n",
        request.file.display()
    );
    for action in &request.actions {
        text.push_str(&format!("  {action}\n"));
    }
    text.push_str(&format!("  hash {}\n", request.hash));
    eprint!("{}", render::printable(&text));
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Ok(false);
    }
    eprint!("Trust it? [y/N] ");
    let failed = |error: io::Error| Failure::internal(format!("cannot ask: {error}"));
    io::stderr().flush().map_err(failed)?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).map_err(failed)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
