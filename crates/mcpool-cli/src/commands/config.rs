//! `mcpool config …` and `mcpool trust`: looks at config files and edits them.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Outcome;
use crate::{app::App, exit::Failure};

/// What to do with config files.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Check files and say everything that is wrong with them
    Check {
        /// The files; default: those that the other commands would use
        files: Vec<PathBuf>,
    },
}

/// `mcpool trust`
#[derive(Debug, Args)]
pub(crate) struct TrustArgs {
    /// The file; default: the project's
    pub(crate) file: Option<PathBuf>,
}

/// Runs one of them.
pub(crate) async fn run(_app: &App, command: ConfigCommand) -> Outcome {
    match command {
        ConfigCommand::Check { .. } => Err(Failure::internal("config check is being built")),
    }
}

/// Approves the commands of a file.
pub(crate) async fn trust(_app: &App, _args: TrustArgs) -> Outcome {
    Err(Failure::internal("trust is being built"))
}
