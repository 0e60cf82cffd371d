//! What a fleet costs: a call through NATS beside the same call through one hop over HTTP, and one
//! gateway with four workers beside one local pool. Everything is on this machine.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use mcpool::{
    Client, ClientFactory as _, ConnectOptions, ConnectionManager, HttpSpec, ServerHandle,
    ServerName, ServerSpec, StandardFactory, Verbs as _,
    nats::{Carrier, NatsConnector, NatsOptions, PoolName, probe},
};
use mcpool_testkit::nats::NatsServer;
use serde_json::json;

use crate::{
    Outcome,
    contender::{Contender, calls},
    programs::{Program, this_as_server},
    rounds::{Options, median, row, time},
    stdio::spec,
};

/// Servers, and workers of which each has one, where throughput is measured.
const WORKERS: usize = 4;
/// How long the parts of a fleet may take to find each other.
const START: Duration = Duration::from_secs(30);
/// How long a probe may take.
const PROBE: Duration = Duration::from_secs(1);

/// What is called: a label, bytes each way, calls, calls in flight.
const WORK: [(&str, usize, u32, u32); 4] = [
    ("16 B, one at a time", 16, 1_000, 1),
    ("16 B, 32 in flight", 16, 6_400, 32),
    ("64 KB, one at a time", 64_000, 200, 1),
    ("64 KB, 32 in flight", 64_000, 640, 32),
];

pub(crate) async fn run(options: &Options) -> Outcome {
    // Where there is none it says so.
    let Some(nats) = NatsServer::start().await else {
        return Ok(());
    };
    hop(&nats.url(), options).await?;
    println!();
    throughput(&nats.url(), options).await
}

/// One call: through NATS and a worker, through one gateway over HTTP, and with neither.
async fn hop(nats: &str, options: &Options) -> Outcome {
    let pool = Pool::connect(nats, "hop").await?;
    let _worker = pool.worker(nats, "bench").await?;
    let (_gateway, origin) = Program::gateway(&json!({"bench": this_as_server()?}), &[])?;
    let through_nats = connect(pool.spec("bench")?).await?;
    let over_http = connect(over_http("bench", &origin)?).await?;
    let alone = connect(spec("bench")?).await?;
    let contenders = [through_nats, over_http, alone];
    row(&[
        "work",
        "through NATS",
        "one HTTP hop",
        "× HTTP hop",
        "stdio alone",
    ]);
    row(&["---"; 5]);
    for (work, bytes, count, in_flight) in WORK {
        if !options.wants(work) {
            continue;
        }
        let took = rounds(&contenders, options, bytes, count, in_flight).await?;
        let [nats, http, alone] = took[..] else {
            return Err("three were measured".into());
        };
        let ratio = format!("{:.2}", nats / http);
        row(&[work, &time(nats), &time(http), &ratio, &time(alone)]);
    }
    for client in contenders {
        client.close().await;
    }
    Ok(())
}

/// Four servers, each with one worker, beside the same four in one process: as a library and as a
/// gateway that is called over HTTP.
async fn throughput(nats: &str, options: &Options) -> Outcome {
    let pool = Pool::connect(nats, "wide").await?;
    let names: Vec<String> = (0..WORKERS).map(|number| format!("s{number}")).collect();
    let mut programs = Vec::new();
    let mut all = serde_json::Map::new();
    for name in &names {
        programs.push(pool.worker(nats, name).await?);
        all.insert(name.clone(), this_as_server()?);
    }
    let (local, local_origin) = Program::gateway(&all.into(), &[])?;
    let follows = ["--nats", nats, "--pool", "wide"];
    let (fleet, fleet_origin) = Program::gateway(&json!({}), &follows)?;
    programs.extend([local, fleet]);
    let over = |origin: &str| -> Outcome<Vec<ServerSpec>> {
        names.iter().map(|name| over_http(name, origin)).collect()
    };
    let contenders = [
        Spread::start(
            names
                .iter()
                .map(|name| pool.spec(name))
                .collect::<Outcome<_>>()?,
        )
        .await?,
        Spread::start(
            names
                .iter()
                .map(|name| spec(name))
                .collect::<Outcome<_>>()?,
        )
        .await?,
        Spread::start(over(&fleet_origin)?).await?,
        Spread::start(over(&local_origin)?).await?,
    ];
    row(&[
        "four servers, 32 callers",
        "library, four workers",
        "library, local",
        "× local",
        "gateway, four workers",
        "gateway, local",
        "× local",
    ]);
    row(&["---"; 7]);
    for (work, bytes, count, in_flight) in WORK {
        if in_flight == 1 || !options.wants(work) {
            continue;
        }
        let took = rounds(&contenders, options, bytes, count, in_flight).await?;
        let [fleet, local, gateway, alone] = took[..] else {
            return Err("four were measured".into());
        };
        let each = |micros: f64| format!("{:.0} calls/s", 1e6 / micros);
        row(&[
            work,
            &each(fleet),
            &each(local),
            &format!("{:.2}", local / fleet),
            &each(gateway),
            &each(alone),
            &format!("{:.2}", alone / gateway),
        ]);
    }
    for contender in contenders {
        contender.manager.shutdown(Duration::from_secs(5)).await;
    }
    drop(programs);
    Ok(())
}

/// The medians of what a call took, in microseconds; the contenders take turns.
async fn rounds<C: Contender>(
    contenders: &[C],
    options: &Options,
    bytes: usize,
    count: u32,
    in_flight: u32,
) -> Outcome<Vec<f64>> {
    let text: Arc<str> = "x".repeat(bytes).into();
    let mut took = vec![Vec::new(); contenders.len()];
    // The first round warms up and does not count.
    for round in 0..=options.rounds {
        for (contender, took) in contenders.iter().zip(&mut took) {
            let all = calls(contender, &text, count, in_flight).await?.time;
            if round > 0 {
                took.push(all.as_secs_f64() * 1e6 / f64::from(count));
            }
        }
    }
    Ok(took.into_iter().map(median).collect())
}

/// One pool, as a gateway sees it.
struct Pool {
    name: &'static str,
    carrier: Carrier,
}

impl Pool {
    async fn connect(nats: &str, name: &'static str) -> Outcome<Self> {
        let options = NatsOptions::new([nats], PoolName::new(name)?);
        let carrier = Carrier::connect(&options).await?;
        Ok(Self { name, carrier })
    }

    /// Starts a worker with one server, and waits until both live.
    async fn worker(&self, nats: &str, server: &str) -> Outcome<Program> {
        let args = ["worker", "--nats", nats, "--pool", self.name];
        let (program, _) = Program::start(&json!({server: this_as_server()?}), &args, "worker ")?;
        let (name, began) = (ServerName::new(server)?, Instant::now());
        while let Err(error) = probe(&self.carrier, &name, PROBE).await {
            if began.elapsed() > START {
                return Err(error.into());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(program)
    }

    fn spec(&self, server: &str) -> Outcome<ServerSpec> {
        let name = ServerName::new(server)?;
        Ok(NatsConnector::spec(&self.carrier, &name)?)
    }
}

/// Calls to several servers in turn.
#[derive(Clone)]
struct Spread {
    manager: ConnectionManager,
    servers: Arc<[ServerHandle]>,
    next: Arc<AtomicUsize>,
}

impl Spread {
    /// Waits until each has answered: a gateway that follows a pool has it a moment later.
    async fn start(specs: Vec<ServerSpec>) -> Outcome<Self> {
        let manager = ConnectionManager::new(Arc::new(StandardFactory::new()));
        let names: Vec<ServerName> = specs.iter().map(|spec| spec.name.clone()).collect();
        // What cannot be connected yet is tried again below.
        let _ = manager.start(specs).await?;
        let mut servers = Vec::new();
        for name in names {
            let (server, began) = (manager.server(name.as_str())?, Instant::now());
            loop {
                let listed = match server.connect().await {
                    Ok(()) => server.list_tools().await.map(drop),
                    Err(error) => Err(error),
                };
                match listed {
                    Ok(()) => break,
                    Err(error) if began.elapsed() > START => return Err(error.into()),
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
            servers.push(server);
        }
        Ok(Self {
            manager,
            servers: servers.into(),
            next: Arc::default(),
        })
    }
}

impl Contender for Spread {
    async fn call(&self, text: &str) -> Outcome {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        Contender::call(&self.servers[next % self.servers.len()], text).await
    }
}

async fn connect(spec: ServerSpec) -> Outcome<Arc<dyn Client>> {
    Ok(StandardFactory::new()
        .connect(&spec, &ConnectOptions::new())
        .await?)
}

fn over_http(name: &str, origin: &str) -> Outcome<ServerSpec> {
    let url = format!("{origin}/servers/{name}/mcp");
    Ok(ServerSpec::http(name, HttpSpec::new(url))?)
}
