//! `mcpool demo`: three servers, three transports, one killed and back, nothing left behind.

#[cfg(all(unix, feature = "nats"))]
mod fleet;

use std::{
    future::Future,
    time::{Duration, Instant},
};

use clap::Args;
use mcpool::{
    ConnectionManager, ErrorKind, EventKind, HttpSpec, Refresh, ServerSpec, StdioSpec, Verbs as _,
};
use serde_json::{Value, json};

use super::{Outcome, status};
use crate::{
    app::App,
    demo_servers,
    exit::{Exit, Failure},
    processes::{self, Census},
    render::{
        content::{self, Form},
        out, table,
        text::Text,
    },
    text,
};

/// The server that is killed.
const VICTIM: &str = "calculator";

/// How long the killed server may take to be back.
const RECOVERY: Duration = Duration::from_secs(15);

/// How long processes may take to be gone after the shutdown.
const GRACE: Duration = Duration::from_secs(3);

/// What was seen, for `--json`.
#[derive(Default)]
struct Seen {
    tools: usize,
    calls: usize,
    back_after: Duration,
}

/// `mcpool demo`
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    #[cfg(all(unix, feature = "nats"))]
    #[command(flatten)]
    fleet: fleet::FleetArgs,
}

/// Runs it.
pub(crate) async fn run(app: &App, args: DemoArgs) -> Outcome {
    #[cfg(all(unix, feature = "nats"))]
    if args.fleet.is_wanted() {
        return fleet::run(app, args.fleet).await;
    }
    #[cfg(not(all(unix, feature = "nats")))]
    let DemoArgs {} = args;
    let say = |text: &Text| match app.global.json {
        true => Ok(Exit::Good),
        false => out::print(text),
    };
    let mut census = Census::default();
    let mut seen = Seen::default();
    say(&text!(
        "mcpool demo: three servers on this machine, one for each transport.\n\
         No config, no network, nothing to install.\n"
    ))?;

    let http = demo_servers::serve_http().await.map_err(own)?;
    let sse = demo_servers::serve_sse().await.map_err(own)?;
    let this = std::env::current_exe().map_err(own)?;
    let specs = vec![
        ServerSpec::stdio(
            VICTIM,
            StdioSpec::new(this.to_string_lossy()).with_args(["demo-server"]),
        )?,
        ServerSpec::sse(
            "clock",
            HttpSpec::new(format!("http://{}/sse", sse.address)),
        )?,
        ServerSpec::http(
            "words",
            HttpSpec::new(format!("http://{}/mcp", http.address)),
        )?,
    ];

    say(&text!("\n1. Connect to all of them at once.\n\n"))?;
    let manager = app.managed(specs).await?;
    for (_, result) in manager.connect_all().await {
        result?;
    }
    census.take();
    say(&status::table_now(manager).await)?;

    say(&text!(
        "\n2. List their tools, each under a name of its own.\n\n"
    ))?;
    let snapshot = manager.tools(Refresh::IfStale).await;
    let mut rows = table::Table::new(&["SERVER", "TOOL", "QUALIFIED NAME"]);
    for entry in snapshot.entries.iter() {
        seen.tools += 1;
        rows.row([entry.server.as_str(), &entry.name, &entry.qualified_name]);
    }
    say(&rows.to_text())?;

    say(&text!("\n3. Call one tool on each.\n\n"))?;
    for (server, tool, arguments) in [
        (VICTIM, "add", json!({"a": 19, "b": 23})),
        ("clock", "uptime", json!({})),
        ("words", "count", json!({"text": "one two three"})),
    ] {
        say(&answer(manager, server, tool, arguments).await?)?;
        seen.calls += 1;
    }

    seen.back_after = kill_and_wait(manager, &mut census, &say).await?;
    say(&answer(manager, VICTIM, "add", json!({"a": 1, "b": 2})).await?)?;
    seen.calls += 1;

    say(&text!("\n5. Shut down.\n\n"))?;
    census.take();
    let start = Instant::now();
    app.shutdown().await;
    let took = start.elapsed();
    let left = wait_until_gone(&census).await;
    say(&text!(
        "  closed 3 servers in {}\n  processes started: {}\n  processes left: {}\n",
        table::milliseconds(took),
        census.seen(),
        left
    ))?;
    if app.global.json {
        out::document(&summary(&seen, took, left))?;
    }
    match left {
        0 => Ok(Exit::Good),
        left => Err(Failure::internal(text!("{} processes are left", left))),
    }
}

fn summary(seen: &Seen, shutdown: Duration, left: usize) -> Value {
    json!({
        "servers": 3,
        "tools": seen.tools,
        "calls": seen.calls,
        "back_after_ms": u64::try_from(seen.back_after.as_millis()).ok(),
        "shutdown_ms": u64::try_from(shutdown.as_millis()).ok(),
        "processes_left": left,
    })
}

fn own(error: std::io::Error) -> Failure {
    Failure::internal(text!("the demo could not start: {}", error))
}

/// Calls a tool and gives the line that reports it.
async fn answer(
    manager: &ConnectionManager,
    server: &str,
    tool: &str,
    arguments: Value,
) -> Result<Text, Failure> {
    let shown: Vec<String> = arguments
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let start = Instant::now();
    let result = manager
        .server(server)?
        .call_tool(tool, arguments)
        .await
        .map_err(Failure::call)?;
    let took = table::milliseconds(start.elapsed());
    let call = format!("{tool} {}", shown.join(" "));
    let blocks = serde_json::to_value(&result.content).unwrap_or_default();
    let blocks = blocks.as_array().into_iter().flatten();
    let answer = Text::join(blocks.map(|block| content::block(block, Form::Text)), " ");
    Ok(text!(
        "  {:<11} {:<28} {:<16} {}\n",
        server,
        call,
        answer.as_str().trim_end(),
        took
    ))
}

/// Kills the stdio server's process and waits for its next life; gives how long that took.
async fn kill_and_wait(
    manager: &ConnectionManager,
    census: &mut Census,
    say: &impl Fn(&Text) -> Result<Exit, Failure>,
) -> Result<Duration, Failure> {
    let pid = pid_of(manager)?;
    census.add(pid);
    say(&text!(
        "\n4. Kill the process of {} (pid {}) and see it come back.\n\n",
        VICTIM,
        pid
    ))?;
    let mut events = manager.events();
    let start = Instant::now();
    processes::kill(pid).map_err(own)?;
    say(&text!("       0 ms  killed\n"))?;
    bounded(async {
        while let Some(event) = events.next_event().await {
            if event
                .server
                .as_ref()
                .is_none_or(|server| server.as_str() != VICTIM)
            {
                continue;
            }
            let at = start.elapsed().as_millis();
            match &event.kind {
                EventKind::Disconnected { cause, .. } => {
                    let cause = cause.as_str().replace('_', " ");
                    say(&text!("  {:>6} ms  connection lost: {}\n", at, cause))?;
                }
                EventKind::RetryScheduled { delay, .. } => {
                    let delay = table::milliseconds(*delay);
                    say(&text!("  {:>6} ms  next try in {}\n", at, delay))?;
                }
                EventKind::ConnectFailed { error, .. } => {
                    say(&text!("  {:>6} ms  {}\n", at, error.message()))?;
                }
                EventKind::Connected { .. } => break,
                _ => {}
            }
        }
        Ok(())
    })
    .await?;
    let took = start.elapsed();
    let next = pid_of(manager)?;
    census.add(next);
    say(&text!(
        "  {:>6} ms  ready again (pid {})\n\n",
        took.as_millis(),
        next
    ))?;
    Ok(took)
}

/// Bounds the wait for the killed server.
async fn bounded(wait: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    match tokio::time::timeout(RECOVERY, wait).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Failure::internal(text!(
            "{} was not back within {}",
            VICTIM,
            RECOVERY
        ))),
    }
}

fn pid_of(manager: &ConnectionManager) -> Result<u32, Failure> {
    let pid = manager.server(VICTIM)?.client()?.snapshot().diagnostics.pid;
    pid.ok_or_else(|| {
        mcpool::Error::new(ErrorKind::Internal, "the stdio server has no process id").into()
    })
}

/// Waits for the processes to be gone, within a bound; gives how many are left.
async fn wait_until_gone(census: &Census) -> usize {
    let start = Instant::now();
    loop {
        let left = census.alive();
        if left == 0 || start.elapsed() > GRACE {
            return left;
        }
        // No event reports the end of a process that is not our child.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
