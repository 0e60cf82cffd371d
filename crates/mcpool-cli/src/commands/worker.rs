//! `mcpool worker`: the servers of the config, served to a pool over NATS.

mod config;
mod lease;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use clap::Args;
use mcpool::{
    ConnectionManager, ServerName, ServerSpec,
    gateway::Relay,
    nats::{
        Carrier, Sharing, Worker,
        kv::{Leases, Tenure, Terms},
    },
};

use self::{config::Config, lease::LeasedServer};
use super::{Outcome, serve::in_background};
use crate::{
    app::App,
    exit::{Exit, Failure},
    global::parse_duration,
    nats::NatsArgs,
    render::{news, out, text::Text},
    text,
};

/// What the kernel may need for what was killed, in the margin of a lease.
const KILL_ROOM: Duration = Duration::from_secs(1);

/// `mcpool worker`
#[derive(Debug, Args)]
pub(crate) struct WorkerArgs {
    #[command(flatten)]
    nats: NatsArgs,
    /// A server that runs a separate process for each session
    #[arg(long, value_name = "SERVER")]
    each: Vec<ServerName>,
    /// A server that runs once in the pool: at the worker that has its lease. Give it to every
    /// worker that may take over
    #[arg(long, value_name = "SERVER")]
    one: Vec<ServerName>,
    /// How long a lease is valid: when its worker dies, the server starts elsewhere after this time
    /// and a fifth of it. The server is killed 2 s after it is asked to end, or sooner with a short lease
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "15s", requires = "one")]
    lease: Duration,
    /// Where this worker is, for people who look: a rack, a zone. Default: the name of the machine
    #[arg(long, value_name = "TEXT")]
    place: Option<String>,
    /// How long requests may take to end after SIGTERM or Ctrl-C; a second one ends them at once.
    /// Default: 10s
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    drain: Option<Duration>,
}

/// Serves until a signal ends it.
pub(crate) async fn run(app: &App, args: WorkerArgs) -> Outcome {
    // Who is asked is known to the gateways.
    app.answer_with(Arc::new(Relay::new()));
    let terms = args.terms()?;
    if !args.nats.is_given() {
        return Err(Failure::usage(text!(
            "--nats URL and --pool NAME are needed"
        )));
    }
    app.guard_apart(args.one.iter().cloned());
    let (loaded, watcher) = app.read_watched(true).await?;
    args.check(&loaded.servers)?;
    // What is wrong with the flags and the config was said: NATS may not be there for long.
    let Some(carrier) = args.nats.connected(app).await? else {
        return Err(Failure::internal(text!("there are no URLs of NATS")));
    };
    app.prepare(&loaded).await?;
    let mut specs = loaded.servers;
    args.prepare(&mut specs, terms);
    // Before anything is started: with no leases there is no server that runs once.
    let leases = match args.one.is_empty() {
        true => None,
        false => Some(Leases::open(&carrier, args.nats.storage()).await?),
    };
    // Before the start, so that no event is missed.
    let _news = news::told_of(app.manager().events());
    let manager = app.managed(specs).await?.clone();
    let mut worker = Worker::new(carrier.clone(), manager.clone());
    let mut tenures = BTreeMap::new();
    if let Some(leases) = &leases {
        for server in &args.one {
            let tenure = held(app, leases, &manager, server, terms)?;
            worker = worker
                .with_sharing(server.clone(), Sharing::One)
                .with_tenure(server.clone(), tenure.epoch());
            tenures.insert(server.clone(), tenure);
        }
    }
    if let Some(drain) = args.drain {
        worker = worker.with_drain(drain);
    }
    let report = worker.report(&args.place(), args.nats.storage());
    out::tell(&text!(
        "worker {} serves the pool {}; servers: {}\n",
        carrier.identity().as_str(),
        carrier.pool().as_str(),
        manager.names().len()
    ));
    let end = app.on_end();
    let over = end.child_token();
    let served = {
        let serving = async {
            let served = worker.run(end.cancelled()).await;
            over.cancel();
            served
        };
        let reloading = async {
            if let Some(watcher) = watcher {
                let config = Config {
                    app,
                    args: &args,
                    terms,
                    manager: &manager,
                    tenures: &tenures,
                };
                end.run_until_cancelled(config.follow(watcher)).await;
            }
        };
        let (served, (), ()) = tokio::join!(serving, report.run(over.cancelled()), reloading);
        served
    };
    // What ran has ended: the next owners need not wait.
    futures::future::join_all(tenures.into_values().map(Tenure::close)).await;
    flushed(&carrier).await;
    served?;
    Ok(Exit::Good)
}

/// Of a server that is named for both.
fn both_ways(server: &ServerName) -> String {
    format!("{server} cannot be for each session and run once: --each or --one")
}

/// This process's part in the lease of a server.
fn held(
    app: &App,
    leases: &Leases,
    manager: &ConnectionManager,
    server: &ServerName,
    terms: Terms,
) -> Result<Tenure, Failure> {
    let handle = manager.server(server.as_str())?;
    let tenant = LeasedServer::new(handle, app.guardian_of(server));
    Ok(leases.hold(server, terms, Arc::new(tenant))?)
}

/// Lets what was said last get out.
async fn flushed(carrier: &Carrier) {
    if let Err(error) = carrier.flush().await {
        tracing::debug!(%error, "the last words to NATS");
    }
}

impl WorkerArgs {
    fn terms(&self) -> Result<Terms, Failure> {
        let margin = self.lease / 5;
        if margin < KILL_ROOM {
            return Err(Failure::usage(text!(
                "--lease: a server needs a fifth of it to end, and that must be a second at least"
            )));
        }
        let terms = Terms::new(self.lease, margin);
        terms.map_err(|error| Failure::usage(text!("--lease: {}", error.message())))
    }

    /// Checks what is said of servers.
    fn check(&self, specs: &[ServerSpec]) -> Result<(), Failure> {
        let named = self.each.iter().map(|name| ("--each", name));
        for (flag, name) in named.chain(self.one.iter().map(|name| ("--one", name))) {
            match specs.iter().find(|spec| spec.name == *name) {
                None => {
                    let known = match specs.is_empty() {
                        true => text!("no servers"),
                        false => Text::join(specs.iter().map(|spec| text!("{}", spec.name)), ", "),
                    };
                    let or = match flag {
                        "--each" => text!(", or \"sharing\": \"client\" in its entry"),
                        _ => text!(""),
                    };
                    // It would run as any other once the config has it under the right name: twice,
                    // or for all clients.
                    return Err(Failure::usage(text!(
                        "there is no server {} for {}",
                        name,
                        flag
                    ))
                    .with_hint(text!(
                        "the config has {}; a server that comes later needs another start of this \
                         worker{}",
                        known,
                        or
                    )));
                }
                Some(spec) if !spec.enabled => {
                    return Err(Failure::usage(text!(
                        "{} of {}: the config has it disabled",
                        flag,
                        name
                    )));
                }
                Some(_) => {}
            }
        }
        if let Some(both) = specs.iter().find(|spec| self.is_both(spec)) {
            return Err(Failure::usage(text!("{}", both_ways(&both.name))));
        }
        let one: BTreeSet<&ServerName> = self.one.iter().collect();
        if one.len() != self.one.len() {
            return Err(Failure::usage(text!("--one names a server twice")));
        }
        Ok(())
    }

    /// Whether a server is to run once and for each session, as the flags or the config say.
    fn is_both(&self, spec: &ServerSpec) -> bool {
        let each = spec.sharing == mcpool::Sharing::Client || self.each.contains(&spec.name);
        each && self.one.contains(&spec.name)
    }

    /// Makes of servers what the flags say. Those with a lease wait for it; of these are given that
    /// the config has, and has enabled.
    fn prepare(&self, specs: &mut [ServerSpec], terms: Terms) -> BTreeSet<ServerName> {
        let longest = terms.margin().saturating_sub(KILL_ROOM);
        let mut leased = BTreeSet::new();
        for spec in specs.iter_mut() {
            if self.each.contains(&spec.name) {
                spec.sharing = mcpool::Sharing::Client;
            }
            if !self.one.contains(&spec.name) {
                continue;
            }
            if spec.enabled {
                leased.insert(spec.name.clone());
            }
            // Its lease switches it on.
            spec.enabled = false;
            spec.required = false;
            spec.instances = 1;
            let total = &mut spec.policy.shutdown.total;
            *total = (*total).min(longest);
        }
        in_background(specs);
        leased
    }

    fn place(&self) -> String {
        self.place.clone().unwrap_or_else(machine)
    }
}

/// The name of this machine, or nothing where it is not known.
fn machine() -> String {
    #[cfg(unix)]
    let name = nix::sys::utsname::uname()
        .ok()
        .and_then(|system| system.nodename().to_str().map(str::to_owned));
    #[cfg(not(unix))]
    let name = std::env::var("COMPUTERNAME").ok();
    name.unwrap_or_default()
}
