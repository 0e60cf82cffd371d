//! `mcpool`: shows, calls, watches and measures MCP servers.
// What is written goes through `render::out`, which cleans and masks it.
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod admission;
mod app;
mod args;
mod arguments;
mod commands;
mod completions;
mod config_files;
mod credentials;
mod demo_servers;
mod exit;
#[cfg(feature = "gateway")]
mod fleet;
mod global;
mod guardian;
mod invocation;
mod logging;
mod named;
#[cfg(feature = "nats")]
mod nats;
#[cfg(feature = "gateway")]
mod nesting;
mod off_thread;
mod open_files;
#[cfg(all(unix, feature = "gateway"))]
mod pool;
mod processes;
mod questions;
mod reload;
mod render;
mod shell;
mod signals;
mod signature;
mod targets;
mod tty;
mod verdict;
mod wire;

use std::{pin::pin, process::ExitCode, sync::Arc, time::Duration};

use mcpool::stdio::GuardianProgram;

use crate::{
    app::App, args::Cli, exit::Exit, render::out, signals::Signals, targets::Target, wire::Wire,
};

/// How long background work, such as a read of standard input, may hold up the end; and how long
/// lines for standard error may that nobody reads.
const RUNTIME_GRACE: Duration = Duration::from_millis(200);

fn main() -> ExitCode {
    if let Some(exit) = guardian::run_if_asked() {
        return exit.into();
    }
    let guardian = guardian::program(open_files::raise());
    out::catch_panics();
    completions::answer_if_asked();
    let mut cli = match Cli::from_process() {
        Ok(cli) => cli,
        Err(error) => return out::command_line(&error, args::asks_for_json()).into(),
    };
    invocation::remember(&cli.global.config);
    let target = match cli.command.take_target(&cli.global.target) {
        Ok(target) => target,
        Err(failure) => {
            out::failure(&failure, cli.global.json);
            return failure.exit().into();
        }
    };
    if let Err(problem) = logging::start(&cli.global) {
        out::tell(&text!("error: {}\n", problem));
        return Exit::Usage.into();
    }
    let wire = match Wire::start(cli.global.verbose > 2, cli.global.trace.as_deref()) {
        Ok(wire) => wire,
        Err(failure) => {
            out::failure(&failure, cli.global.json);
            return failure.exit().into();
        }
    };
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            out::tell(&text!(
                "error: cannot start the threads it needs: {}; raise the process and memory limits (`ulimit -u`, \
                 `ulimit -v`)\n",
                error
            ));
            return Exit::Internal.into();
        }
    };
    // What is said from here on is written before the end.
    #[cfg(feature = "gateway")]
    if cli.command.serves() {
        out::serve_meanwhile();
    }
    let exit = runtime.block_on(run(cli, target, wire.clone(), guardian));
    runtime.shutdown_timeout(RUNTIME_GRACE);
    if let Some(wire) = wire {
        wire.finish();
    }
    #[cfg(feature = "gateway")]
    out::settle(RUNTIME_GRACE);
    out::show_pages();
    exit.into()
}

/// Threads that every command needs beside those of the runtime: for signals, and for files.
const MORE_THREADS: usize = 3;

/// The runtime, where there is room for its threads: one that cannot be started is a panic there, and
/// no error.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let mut tried = Vec::new();
    // They live side by side, until the last one was started.
    let all = (0..workers + MORE_THREADS).try_for_each(|_| {
        tried.push(std::thread::Builder::new().spawn(std::thread::park)?);
        Ok::<_, std::io::Error>(())
    });
    for thread in tried {
        thread.thread().unpark();
        let _ = thread.join();
    }
    all?;
    tokio::runtime::Runtime::new()
}

/// Runs the command, or as much of it as a signal allows, then closes every connection.
async fn run(
    cli: Cli,
    target: Option<Target>,
    wire: Option<Arc<Wire>>,
    guardian: GuardianProgram,
) -> Exit {
    let mut signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => {
            out::tell(&text!("error: cannot listen for signals: {}\n", error));
            return Exit::Internal;
        }
    };
    let asking = cli.command.asking(cli.global.json);
    let app = App::new(cli.global, target, guardian)
        .with_wire(wire)
        .with_asking(asking);
    #[cfg(all(unix, feature = "gateway"))]
    let app = app.with_borrowing(cli.command.borrows());
    // The signal by which the command is ending by itself.
    let mut ending = None;
    let exit = {
        let mut work = pin!(commands::run(&app, cli.command));
        loop {
            tokio::select! {
                biased;
                signal = signals.next() => {
                    // The first Ctrl-C may be for what runs, not for the program.
                    if signal == Exit::Signal(2) && app.take_interrupt() {
                        continue;
                    }
                    match ending {
                        // Anybody who asks twice does not want to wait: what is dropped is killed.
                        Some(_) => return signal,
                        None if app.take_end() => ending = Some(signal),
                        None => break signal,
                    }
                }
                outcome = &mut work => {
                    let exit = outcome.unwrap_or_else(|failure| {
                        app.report(&failure);
                        failure.exit()
                    });
                    if let Some(signal) = ending {
                        break signal;
                    }
                    let exit = if app.gave_up() { Exit::Signal(2) } else { exit };
                    // The work is done: nobody needs to wait for servers that end slowly.
                    app.leave_servers();
                    break exit;
                }
            }
        }
    };
    // A second signal does not wait for servers that take their time: what is dropped is killed.
    tokio::select! {
        () = app.shutdown() => exit,
        signal = signals.next() => signal,
    }
}
