//! `mcpool config path | init | edit`: the file itself.

use std::{
    io::{self, IsTerminal as _},
    path::{Path, PathBuf},
};

use clap::Args;
use mcpool::config::{Dialect, Folders, Loader, edit_file, find};
use serde_json::json;

use super::{edit::Target, trust::Kept};
use crate::{
    app::App,
    config_files::{self, Files},
    exit::{Exit, Failure, Outcome},
    invocation::program,
    off_thread::off_thread,
    render::{out, text::Text},
    text,
};

/// `mcpool config init`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mcpool config init                       the user's own file
  mcpool config init --file ./mcp.json     a file for this project")]
pub(crate) struct InitArgs {
    #[command(flatten)]
    target: Target,
}

/// `mcpool config edit`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  EDITOR='code --wait' mcpool config edit")]
pub(crate) struct EditArgs {
    #[command(flatten)]
    target: Target,
}

/// Prints which file the other commands use.
pub(crate) async fn path(app: &App) -> Outcome {
    let (scope, files) = match config_files::find(&app.global) {
        Ok(Files::Named(files)) => ("named", files),
        Ok(Files::Project(file)) => ("project", vec![file]),
        Ok(Files::User(file)) => ("user", vec![file]),
        Err(none) => match config_files::user_file() {
            Some(file) => ("user", vec![file]),
            None => return Err(none),
        },
    };
    let missing: Vec<&PathBuf> = files.iter().filter(|file| !file.exists()).collect();
    if app.global.json {
        return out::document(&json!({
            "scope": scope,
            "files": files,
            "exist": missing.is_empty(),
        }));
    }
    for file in missing {
        out::tell(&text!(
            "{} does not exist yet; `{} config init` creates it\n",
            file,
            program()
        ));
    }
    out::print(&Text::join(
        files.iter().map(|file| text!("{}\n", file)),
        "",
    ))
}

/// Creates a file without servers.
pub(crate) async fn init(app: &App, args: InitArgs) -> Outcome {
    let file = args.target.to_write(&app.global)?;
    if file.exists() {
        return Err(Failure::usage(text!("{} exists already", file))
            .with_hint(text!("`{} config edit` opens it", program())));
    }
    let created = file.clone();
    let hosts = off_thread(move || -> Result<_, Failure> {
        let kept = Kept::before(&created)?;
        edit_file(&created, &[])?;
        let mut hosts: Vec<&'static str> = Vec::new();
        for host in find(&Folders::of_process()) {
            // Not the file that is there now.
            if host.dialect != Dialect::Native && !hosts.contains(&host.dialect.as_str()) {
                hosts.push(host.dialect.as_str());
            }
        }
        kept.after(None)?;
        Ok(hosts)
    })
    .await??;
    if app.global.json {
        return out::document(&json!({ "file": file, "hosts": hosts }));
    }
    let mut text = text!("{} is there now, without servers\n", file);
    text.push(&text!("add one:     mcpool config add NAME URL\n"));
    text.push(&text!(
        "             mcpool config add NAME -- COMMAND ARGS\n"
    ));
    if !hosts.is_empty() {
        let hosts = hosts.join(", ");
        text.push(&text!(
            "import some: mcpool config import HOST ({})\n",
            hosts
        ));
    }
    out::print(&text)
}

/// Opens a file in the person's editor, then checks it.
pub(crate) async fn edit(app: &App, args: EditArgs) -> Outcome {
    let file = args.target.of_servers(&app.global)?;
    if !file.exists() {
        return Err(Failure::usage(text!("{} does not exist", file))
            .with_hint(text!("`{} config init` creates it", program())));
    }
    let editor = ["VISUAL", "EDITOR"]
        .into_iter()
        .filter_map(std::env::var_os)
        .find(|editor| !editor.is_empty());
    let editor = match editor {
        Some(editor) => editor.to_string_lossy().into_owned(),
        None if cfg!(windows) => "notepad".to_owned(),
        None if out::is_terminal() && io::stdin().is_terminal() => "vi".to_owned(),
        None => {
            return Err(Failure::usage(text!("there is no terminal for an editor"))
                .with_hint(text!("name one that needs none in $VISUAL or $EDITOR"))
                .with_hint(text!("the file is {}", file)));
        }
    };
    let words = shlex::split(&editor).unwrap_or_default();
    let Some((program, arguments)) = words.split_first() else {
        return Err(Failure::usage(text!(
            "$EDITOR is not a command: {}",
            editor
        )));
    };
    let status = tokio::process::Command::new(program)
        .args(arguments)
        .arg(&file)
        .status()
        .await
        .map_err(|error| Failure::usage(text!("cannot run the editor {}: {}", program, error)))?;
    if !status.success() {
        return Err(Failure::usage(text!(
            "the editor {} ended with {}",
            program,
            status.to_string()
        )));
    }
    checked(&file).await
}

async fn checked(file: &Path) -> Outcome {
    let loader = Loader::new()
        .with_masker(out::masker().clone())
        .with_user_file(file);
    let loaded = off_thread(move || loader.load()).await??;
    super::report(&loaded);
    out::print(&super::summary(&loaded, &loaded.problems))?;
    Ok(match loaded.has_errors() {
        true => Exit::Usage,
        false => Exit::Good,
    })
}
