//! The commands, one file each.

pub(crate) mod config;

use crate::{
    app::App,
    args::Command,
    demo_servers,
    exit::{Exit, Failure},
};

/// What a command gives: its exit code, or why it could not do what it was asked.
pub(crate) type Outcome = Result<Exit, Failure>;

/// Runs a command. Dropping the future cancels what it does.
pub(crate) async fn run(app: &App, command: Command) -> Outcome {
    match command {
        Command::Config { command } => config::run(app, command).await,
        Command::Trust(args) => config::trust(app, args).await,
        Command::DemoServer => match demo_servers::serve_stdio().await {
            Ok(()) => Ok(Exit::Good),
            Err(error) => Err(Failure::internal(error.to_string())),
        },
        _ => Err(Failure::internal("this command is being built")),
    }
}
