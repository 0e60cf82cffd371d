//! The commands, one file each.

pub(crate) mod auth;
mod bench;
mod call;
pub(crate) mod config;
pub(crate) mod demo;
mod doctor;
mod health;
mod left_out;
mod list;
mod lists;
pub(crate) mod login;
mod prompts;
mod resources;
#[cfg(feature = "gateway")]
pub(crate) mod serve;
pub(crate) mod shell;
pub(crate) mod status;
pub(crate) mod tools;
#[cfg(all(unix, feature = "gateway"))]
pub(crate) mod up;
pub(crate) mod watch;
#[cfg(feature = "nats")]
pub(crate) mod worker;

use mcpool::{Client, Error};

use crate::{
    app::App,
    args::Command,
    completions, demo_servers,
    exit::{Exit, Failure, Outcome},
    render::text::Text,
    text,
};

/// What is shown where a config has no servers.
fn nothing_configured() -> Text {
    text!(
        "no servers are configured: `{} config add` adds one\n",
        crate::invocation::program()
    )
}

/// Runs a command. Dropping the future cancels what it does.
pub(crate) async fn run(app: &App, command: Command) -> Outcome {
    match command {
        Command::Demo(args) => demo::run(app, args).await,
        Command::List => list::run(app).await,
        Command::Status(args) => status::run(app, args).await,
        Command::Tools(args) => tools::run(app, args).await,
        Command::Call(args) => call::run(app, args).await,
        Command::Resources {
            server,
            read,
            output,
            save,
        } => resources::run(app, server.as_deref(), read.as_deref(), output, save).await,
        Command::Prompts(args) => prompts::run(app, args).await,
        Command::Health { server } => health::run(app, server.as_deref()).await,
        Command::Doctor { server } => doctor::run(app, server.as_deref()).await,
        Command::Watch(args) => watch::run(app, args).await,
        #[cfg(feature = "gateway")]
        Command::Serve(args) => serve::run(app, *args).await,
        #[cfg(feature = "nats")]
        Command::Worker(args) => worker::run(app, *args).await,
        #[cfg(all(unix, feature = "gateway"))]
        Command::Up(args) => up::up(app, args).await,
        #[cfg(all(unix, feature = "gateway"))]
        Command::Down { all } => up::down(app, all).await,
        Command::Bench(args) => bench::run(app, args).await,
        Command::Config { command } => config::run(app, command).await,
        Command::Trust(args) => config::trust(app, args).await,
        Command::Shell(args) => shell::run(app, args).await,
        Command::Completions(args) => completions::run(&args),
        Command::Man => completions::manual(),
        Command::Login(args) => login::login(app, args).await,
        Command::Logout(args) => login::logout(app, args).await,
        Command::Auth { command } => auth::run(app, command).await,
        Command::DemoServer => match demo_servers::serve_stdio().await {
            Ok(()) => Ok(Exit::Good),
            Err(error) => Err(Failure::internal(text!("{}", error.to_string()))),
        },
    }
}

/// Whether a server says that it has this: `tools`, `resources`, `prompts`.
fn offers(client: &dyn Client, capability: &str) -> bool {
    let Some(info) = client.info() else {
        return false;
    };
    let capabilities = &info.peer.capabilities;
    match capability {
        "prompts" => capabilities.prompts,
        "resources" => capabilities.resources,
        _ => capabilities.tools,
    }
}

/// Names the lists that could not be fetched on standard error; gives the worse exit code.
fn report_lists(app: &App, exit: Exit, failed: &[Error]) -> Outcome {
    for error in failed {
        app.say(&Failure::from(error.clone()));
    }
    let of_lists = Exit::of_all(failed.iter().map(Error::kind));
    Ok(match (exit, of_lists) {
        (exit, Exit::Good) => exit,
        (Exit::Good, of_lists) => of_lists,
        (exit, of_lists) if exit == of_lists => exit,
        _ => Exit::Unreachable,
    })
}
