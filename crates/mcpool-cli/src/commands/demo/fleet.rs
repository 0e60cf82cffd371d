//! `mcpool demo --fleet`: three nodes of NATS, two workers and two gateways on this machine; one of
//! each is killed, nothing is left behind.

mod machines;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use clap::Args;
use mcpool::{
    CallOptions, ConnectionManager, HttpSpec, ServerSpec, Verbs as _, gateway::Fleet, nats::Carrier,
};
use serde_json::json;

use self::machines::Machines;
use super::{own, wait_until_gone};
use crate::{
    app::App,
    commands::Outcome,
    exit::{Exit, Failure},
    processes::Census,
    render::{out, table, text::Text},
    text,
};

/// How long anything may take: a lease included.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often what no event reports is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// How long workers have for their answers to one look.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(300);

/// What `mcpool demo` takes for a fleet.
#[derive(Debug, Args)]
pub(super) struct FleetArgs {
    /// Three nodes of NATS, two workers and two gateways instead; one of each is killed
    #[arg(long)]
    fleet: bool,
    /// The program nats-server; default: the one in PATH
    #[arg(long, value_name = "PATH", requires = "fleet")]
    nats_server: Option<PathBuf>,
}

impl FleetArgs {
    /// Whether it is the demo of a fleet.
    pub(super) fn is_wanted(&self) -> bool {
        self.fleet
    }
}

/// What was seen, for `--json`.
#[derive(Default)]
struct Seen {
    calls: usize,
    takeover: Duration,
}

/// Runs it.
pub(super) async fn run(app: &App, args: FleetArgs) -> Outcome {
    let say = |text: &Text| match app.global.json {
        true => Ok(Exit::Good),
        false => out::print(text),
    };
    let program = nats_server(args.nats_server)?;
    let mut census = Census::default();
    let mut seen = Seen::default();
    say(&text!(
        "mcpool demo --fleet: three nodes of NATS, two workers, two gateways, all on this machine.\n\
         No config, no network.\n\n\
         1. Start them.\n\n"
    ))?;
    let began = Instant::now();
    let mut machines = Machines::start(program).await?;
    let carrier = machines.carrier().await?;
    let manager = clients(app, &machines).await?;
    // Each server at both workers, and one of them runs once: its lease takes a moment.
    let fleet = until(&carrier, "the workers are ready", |fleet| {
        running(fleet, "calculator").count() == 2 && running(fleet, "ledger").count() == 1
    })
    .await?;
    census.take();
    say(&text!(
        "  {} processes after {}\n\n",
        census.seen(),
        table::milliseconds(began.elapsed())
    ))?;
    say(&crate::fleet::table(&fleet, out::columns()))?;

    say(&text!(
        "\n2. Call a tool through each gateway. Workers have no address: NATS brings it there.\n\n"
    ))?;
    for gateway in ["g1", "g2"] {
        say(&call(manager, gateway, "calculator__add").await?)?;
        say(&call(manager, gateway, "ledger__add").await?)?;
        seen.calls += 2;
    }

    let owner = owner(&fleet)?;
    let other = if owner == "w1" { "w2" } else { "w1" };
    say(&text!(
        "\n3. Kill worker {}, which runs ledger. What any worker can do goes on at once.\n\n",
        owner.as_str()
    ))?;
    machines.kill(&owner)?;
    let killed = Instant::now();
    say(&call(manager, "g1", "calculator__add").await?)?;
    until(&carrier, "ledger runs elsewhere", |fleet| {
        running(fleet, "ledger").any(|worker| worker == other)
    })
    .await?;
    seen.takeover = killed.elapsed();
    say(&text!(
        "  ledger is taken over by {} after {}: its lease had to run out, so it never ran twice\n",
        other,
        table::milliseconds(seen.takeover)
    ))?;
    say(&call(manager, "g1", "ledger__add").await?)?;
    seen.calls += 2;

    say(&text!(
        "\n4. Kill a node of NATS. Two of three are a majority.\n\n"
    ))?;
    machines.kill("n1")?;
    say(&call(manager, "g1", "calculator__add").await?)?;
    say(&call(manager, "g2", "ledger__add").await?)?;
    seen.calls += 2;

    say(&text!(
        "\n5. Kill gateway g1. The other has the same servers.\n\n"
    ))?;
    machines.kill("g1")?;
    say(&call(manager, "g2", "calculator__add").await?)?;
    seen.calls += 1;

    say(&text!("\n6. End.\n\n"))?;
    census.take();
    let start = Instant::now();
    drop(carrier);
    app.shutdown().await;
    machines.end().await?;
    let took = start.elapsed();
    let left = wait_until_gone(&census).await;
    say(&text!(
        "  all ended in {}\n  processes seen: {}\n  processes left: {}\n",
        table::milliseconds(took),
        census.seen(),
        left
    ))?;
    if app.global.json {
        out::document(&json!({
            "nodes": 3,
            "workers": 2,
            "gateways": 2,
            "calls": seen.calls,
            "takeover_ms": u64::try_from(seen.takeover.as_millis()).ok(),
            "shutdown_ms": u64::try_from(took.as_millis()).ok(),
            "processes_left": left,
        }))?;
    }
    match left {
        0 => Ok(Exit::Good),
        left => Err(Failure::internal(text!("{} processes are left", left))),
    }
}

/// The program `nats-server`.
fn nats_server(named: Option<PathBuf>) -> Result<PathBuf, Failure> {
    let hint = || {
        text!(
            "it is at https://nats.io/download, and `--nats-server PATH` names one; 2.11 or newer"
        )
    };
    match named {
        Some(path) => match which::which(&path) {
            Ok(path) => Ok(path),
            Err(_) => Err(Failure::usage(text!("{} is not a program", path)).with_hint(hint())),
        },
        None => which::which("nats-server").map_err(|_| {
            Failure::usage(text!(
                "the demo of a fleet needs the program nats-server, which is not in PATH"
            ))
            .with_hint(hint())
        }),
    }
}

/// A client of each gateway.
async fn clients<'a>(app: &'a App, machines: &Machines) -> Result<&'a ConnectionManager, Failure> {
    let mut specs = Vec::new();
    for (name, url) in machines.gateways() {
        specs.push(ServerSpec::http(name, HttpSpec::new(url))?);
    }
    let manager = app.managed(specs).await?;
    for (_, result) in manager.connect_all().await {
        result?;
    }
    Ok(manager)
}

/// The workers at which a server is connected.
fn running<'a>(fleet: &'a Fleet, server: &'a str) -> impl Iterator<Item = &'a str> {
    let here = fleet.workers.iter().filter(|worker| worker.here);
    here.filter(move |worker| {
        let mut servers = worker.servers.iter();
        servers.any(|one| one.server.as_str() == server && one.state == "ready")
    })
    .map(|worker| worker.worker.as_str())
}

fn owner(fleet: &Fleet) -> Result<String, Failure> {
    let owner = running(fleet, "ledger").next();
    owner
        .map(str::to_owned)
        .ok_or_else(|| Failure::internal(text!("no worker has the lease of ledger")))
}

/// Waits until the pool of the workers is as it should be.
async fn until(
    carrier: &Carrier,
    what: &'static str,
    wanted: impl Fn(&Fleet) -> bool,
) -> Result<Fleet, Failure> {
    let start = Instant::now();
    loop {
        // An election of NATS may be under way.
        if let Ok(snapshot) = mcpool::nats::fleet(carrier, ANSWER_TIMEOUT).await {
            let fleet = crate::fleet::shown(carrier, &snapshot);
            if wanted(&fleet) {
                return Ok(fleet);
            }
        }
        if start.elapsed() > PATIENCE {
            return Err(Failure::internal(text!(
                "it did not happen within {}: {}",
                PATIENCE,
                what
            )));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Calls a tool through a gateway and gives the line that reports it. The gateway may not have its
/// server yet, or be on its way to another worker.
async fn call(
    manager: &ConnectionManager,
    gateway: &'static str,
    tool: &'static str,
) -> Result<Text, Failure> {
    let start = Instant::now();
    let server = manager
        .server(gateway)?
        .with_call_options(CallOptions::new().with_timeout(PATIENCE));
    let mut tries = 0;
    let reply = loop {
        let reply = server.call_tool(tool, json!({"a": 19, "b": 23})).await;
        match reply {
            Ok(reply) if reply.is_error != Some(true) => break reply,
            // An addition may be done twice: where the outcome is unknown it is asked for again.
            Ok(_) | Err(_) if start.elapsed() < PATIENCE => tries += 1,
            Ok(_) => return Err(Failure::internal(text!("{} cannot be called", tool))),
            Err(error) => return Err(Failure::call(error)),
        }
        tokio::time::sleep(LOOK).await;
    };
    let answer = serde_json::to_value(&reply.content).unwrap_or_default();
    let answer = answer[0]["text"].as_str().unwrap_or_default().to_owned();
    let again = match tries {
        0 => text!(""),
        tries => text!(", at try {}", tries + 1),
    };
    Ok(text!(
        "  {}  {:<16} {:<4} {}{}\n",
        gateway,
        tool,
        answer,
        table::milliseconds(start.elapsed()),
        again
    ))
}
