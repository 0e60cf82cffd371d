//! A fleet that is simulated on one machine, and what of it grows with servers and with clients:
//! a real nats-server, workers whose servers are fakes, gateways, clients over HTTP.

mod clients;
mod parts;

use std::{process::Stdio, time::Duration};

use mcpool_memory::resident;
use mcpool_testkit::nats::NatsServer;
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

use self::clients::Clients;
use crate::{
    Outcome,
    contender::calls,
    http::pooled,
    posting::Posting,
    rounds::{median, row, time},
};

/// Servers and clients of each run.
const SIZES: [(usize, usize); 7] = [
    (10, 4),
    (100, 4),
    (1_000, 4),
    (10, 100),
    (10, 1_000),
    (10, 10_000),
    (1_000, 10_000),
];
const WORKERS: usize = 20;
const GATEWAYS: usize = 4;
/// How long a fleet is left alone while what it does then is counted.
const IDLE: Duration = Duration::from_secs(10);
/// Changes, and rounds of calls, of which the times are the medians.
const ROUNDS: usize = 5;
/// Calls of a round, and how many of them are in flight.
const CALLS: u32 = 3_200;
const IN_FLIGHT: u32 = 32;
/// How long a process may take for what it is to say.
const PATIENCE: Duration = Duration::from_secs(120);

/// What is simulated.
struct Plan {
    sizes: Vec<(usize, usize)>,
    workers: usize,
    gateways: usize,
    idle: Duration,
    rounds: usize,
}

impl Plan {
    /// Reads `--sizes SERVERS:CLIENTS,…`, `--workers N`, `--gateways N`, `--idle SECONDS` and
    /// `--rounds N`.
    fn parse(args: &[String]) -> Outcome<Self> {
        let mut plan = Self {
            sizes: SIZES.to_vec(),
            workers: WORKERS,
            gateways: GATEWAYS,
            idle: IDLE,
            rounds: ROUNDS,
        };
        for pair in args.chunks(2) {
            match pair {
                [flag, sizes] if flag == "--sizes" => {
                    plan.sizes = sizes.split(',').map(size).collect::<Outcome<_>>()?;
                }
                [flag, count] if flag == "--workers" => plan.workers = count.parse()?,
                [flag, count] if flag == "--gateways" => plan.gateways = count.parse()?,
                [flag, count] if flag == "--rounds" => plan.rounds = count.parse()?,
                [flag, seconds] if flag == "--idle" => {
                    plan.idle = Duration::from_secs(seconds.parse()?);
                }
                _ => {
                    return Err("the options are --sizes SERVERS:CLIENTS,…, --workers N, \
                                --gateways N, --idle SECONDS and --rounds N"
                        .into());
                }
            }
        }
        if [plan.workers, plan.gateways, plan.rounds].contains(&0) || plan.idle.is_zero() {
            return Err("workers, gateways, seconds and rounds are 1 at least".into());
        }
        Ok(plan)
    }
}

fn size(text: &str) -> Outcome<(usize, usize)> {
    let (servers, clients) = text.split_once(':').ok_or("a size is SERVERS:CLIENTS")?;
    let (servers, clients) = (servers.parse()?, clients.parse()?);
    match servers > 0 && clients > 0 {
        true => Ok((servers, clients)),
        false => Err("servers and clients are 1 at least".into()),
    }
}

/// Runs one part of the simulation, when the arguments are those of a part.
pub(crate) async fn part(args: &[String]) -> Option<Outcome> {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let run = async {
        match args[..] {
            ["scale-workers", nats, workers, servers] => {
                parts::workers(nats, workers.parse()?, servers.parse()?).await
            }
            ["scale-gateway", nats, identity, servers] => {
                parts::gateway(nats, identity, servers.parse()?).await
            }
            _ => Err("a part of the simulation has other arguments".into()),
        }
    };
    match args.first().is_some_and(|what| what.starts_with("scale-")) {
        true => Some(run.await),
        false => None,
    }
}

pub(crate) async fn run(args: &[String]) -> Outcome {
    let plan = Plan::parse(args)?;
    let files = nix::sys::resource::Resource::RLIMIT_NOFILE;
    let (_, hard) = nix::sys::resource::getrlimit(files)?;
    nix::sys::resource::setrlimit(files, hard, hard)?;
    println!(
        "{} workers, {} gateways, one nats-server",
        plan.workers, plan.gateways
    );
    row(&[
        "servers",
        "clients",
        "a new gateway lists all",
        "has all connected",
        "idle: NATS messages/s",
        "KB/s",
        "CPU of NATS, workers, a gateway",
        "memory of NATS, workers, a gateway without clients",
        "each client",
        "clients connect",
        "a change, at the first, half, the last",
        "a call",
    ]);
    row(&["---"; 12]);
    for (servers, clients) in &plan.sizes {
        // Where there is none it says so.
        let Some(nats) = NatsServer::start().await else {
            return Ok(());
        };
        one_size(&plan, &nats, *servers, *clients).await?;
    }
    Ok(())
}

async fn one_size(plan: &Plan, nats: &NatsServer, servers: usize, clients: usize) -> Outcome {
    let (url, count) = (nats.url(), servers.to_string());
    let mut workers =
        Part::start(&["scale-workers", &url, &plan.workers.to_string(), &count]).await?;
    workers.says().await?;
    let mut gateways = Vec::new();
    let (mut listed, mut ready) = (String::new(), String::new());
    let mut origins = Vec::new();
    for number in 0..plan.gateways {
        // One after the other: the last one comes new to a fleet that runs.
        let identity = format!("g{number}");
        let mut gateway = Part::start(&["scale-gateway", &url, &identity, &count]).await?;
        listed = gateway.says().await?;
        ready = gateway.says().await?;
        origins.push(gateway.says().await?);
        gateways.push(gateway);
    }
    let last = gateways.last().ok_or("there is no gateway")?;
    let watched = [
        nats.id().ok_or("nats-server is gone")?,
        workers.id()?,
        last.id()?,
    ];
    let before = Counted::now(nats, &watched)?;
    tokio::time::sleep(plan.idle).await;
    let after = Counted::now(nats, &watched)?;
    let memory: Vec<String> = watched
        .iter()
        .map(|id| Ok(megabytes(resident(&id.to_string())?)))
        .collect::<Outcome<_>>()?;
    let all = async || -> Outcome<f64> {
        let each = gateways
            .iter()
            .map(|gateway| resident(&gateway.id()?.to_string()));
        Ok(each.collect::<Outcome<Vec<_>>>()?.into_iter().sum())
    };
    let empty = all().await?;
    let hearing = Clients::connect(&origins, clients).await?;
    let each = (all().await? - empty) / clients_f64(clients);
    let mut heard = [Vec::new(), Vec::new(), Vec::new()];
    for change in 0..plan.rounds {
        let server = (change * 7 % servers).to_string();
        let times = hearing.hear(async || workers.tell(&server).await).await?;
        for (all, one) in heard
            .iter_mut()
            .zip([times.first, times.middle, times.last])
        {
            all.push(one.as_secs_f64() * 1e6);
        }
    }
    let heard = heard.map(|times| time(median(times))).join(", ");
    let call = calls_of(&origins, servers, plan.rounds).await?;
    row(&[
        &count,
        &clients.to_string(),
        &format!("{listed} ms"),
        &format!("{ready} ms"),
        &format!("{:.0}", after.per_second(&before, |now| now.messages)),
        &format!("{:.1}", after.per_second(&before, |now| now.bytes) / 1e3),
        &after.shares(&before).join(", "),
        &memory.join(", "),
        &format!("{each:.1} KB"),
        &format!("{:.1} s", hearing.took.as_secs_f64()),
        &heard,
        &call,
    ]);
    Ok(())
}

/// What a call takes: 32 in flight, in turn to gateways and servers.
async fn calls_of(origins: &[String], servers: usize, rounds: usize) -> Outcome<String> {
    let http = pooled()?;
    let mut took = Vec::new();
    let in_flight = usize::try_from(IN_FLIGHT)?;
    let mut callers = Vec::new();
    for caller in 0..in_flight {
        let origin = &origins[caller % origins.len()];
        let server = parts::name(caller * servers / in_flight);
        callers.push(Posting::connect(&http, &format!("{origin}/servers/{server}/mcp")).await?);
    }
    let callers = Callers(callers.into(), std::sync::Arc::default());
    let text = "0123456789abcdef".into();
    for _ in 0..rounds {
        let all = calls(&callers, &text, CALLS, IN_FLIGHT).await?.time;
        took.push(all.as_secs_f64() * 1e6 / f64::from(CALLS));
    }
    Ok(time(median(took)))
}

/// Callers that take turns.
#[derive(Clone)]
struct Callers(
    std::sync::Arc<[Posting]>,
    std::sync::Arc<std::sync::atomic::AtomicUsize>,
);

impl crate::contender::Contender for Callers {
    async fn call(&self, text: &str) -> Outcome {
        let next = self.1.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.0[next % self.0.len()].call(text).await
    }
}

/// What was counted until a moment.
struct Counted {
    at: std::time::Instant,
    messages: f64,
    bytes: f64,
    /// Seconds of CPU of each process.
    cpu: Vec<f64>,
}

impl Counted {
    fn now(nats: &NatsServer, processes: &[u32]) -> Outcome<Self> {
        let page = nats.ask("/varz").ok_or("nats-server does not answer")?;
        let page: Value = serde_json::from_str(&page)?;
        let sum = |kinds: [&str; 2]| {
            kinds
                .map(|kind| page[kind].as_f64().unwrap_or_default())
                .iter()
                .sum()
        };
        Ok(Self {
            at: std::time::Instant::now(),
            messages: sum(["in_msgs", "out_msgs"]),
            bytes: sum(["in_bytes", "out_bytes"]),
            cpu: processes
                .iter()
                .map(|id| cpu(*id))
                .collect::<Outcome<_>>()?,
        })
    }

    fn per_second(&self, before: &Self, of: impl Fn(&Self) -> f64) -> f64 {
        (of(self) - of(before)) / (self.at - before.at).as_secs_f64()
    }

    fn shares(&self, before: &Self) -> Vec<String> {
        let seconds = (self.at - before.at).as_secs_f64();
        let pairs = self.cpu.iter().zip(&before.cpu);
        pairs
            .map(|(now, before)| format!("{:.1} %", (now - before) / seconds * 100.0))
            .collect()
    }
}

/// Seconds of CPU that a process took so far.
fn cpu(process: u32) -> Outcome<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    let after_name = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let ticks = |field: usize| after_name.split(' ').nth(field)?.parse::<f64>().ok();
    let (user, system) = (ticks(11), ticks(12));
    // The kernel gives it in hundredths, whatever it counts in.
    Ok((user.ok_or("no time in /proc")? + system.ok_or("no time in /proc")?) / 100.0)
}

/// A process of the simulation. Dropping it kills it.
struct Part {
    child: Child,
    input: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Part {
    async fn start(args: &[&str]) -> Outcome<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let input = child.stdin.take().ok_or("no stdin")?;
        let output = child.stdout.take().ok_or("no stdout")?;
        Ok(Self {
            child,
            input,
            lines: BufReader::new(output).lines(),
        })
    }

    fn id(&self) -> Outcome<u32> {
        Ok(self
            .child
            .id()
            .ok_or("a process of the simulation has ended")?)
    }

    async fn says(&mut self) -> Outcome<String> {
        let line = timeout(PATIENCE, self.lines.next_line()).await??;
        Ok(line.ok_or("a process of the simulation has ended")?)
    }

    async fn tell(&mut self, line: &str) -> Outcome {
        self.input.write_all(format!("{line}\n").as_bytes()).await?;
        Ok(self.input.flush().await?)
    }
}

fn megabytes(kilobytes: f64) -> String {
    format!("{:.1} MB", kilobytes / 1024.0)
}

#[expect(clippy::cast_precision_loss, reason = "thousands")]
fn clients_f64(clients: usize) -> f64 {
    clients as f64
}
