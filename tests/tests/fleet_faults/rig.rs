//! Workers as programs, gateways in this process, and the journal of one server.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use mcpool_client::StandardFactory;
use mcpool_core::{HttpSpec, ServerName, ServerPolicy, ServerSpec, Verbs as _};
use mcpool_e2e::{Cli, Gateway as Served, Running};
use mcpool_manager::{CallOptions, ConnectionManager, ServerHandle};
use mcpool_nats::{Carrier, Identity, NatsConnector, NatsOptions, PoolName, discover};
use mcpool_testkit::{Behavior, eventually, fixtures::stdio::fixture_path};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

use crate::{
    PATIENCE,
    load::{COUNT, Load, Tally, Work, summary},
};

pub(crate) const POOL: &str = "tools";
const SERVER: &str = "work";

/// Sends a signal to a worker.
pub(crate) fn signal(worker: &Running, signal: Signal) {
    let pid = i32::try_from(worker.child.id()).unwrap();
    kill(Pid::from_raw(pid), signal).unwrap();
}

/// Ends a worker in good order.
pub(crate) async fn terminate(worker: &mut Running) {
    signal(worker, Signal::SIGTERM);
    let ended = || matches!(worker.child.try_wait(), Ok(Some(_)));
    assert!(eventually(PATIENCE, ended).await, "it does not end");
}

/// One server of several leaves a sign of its life.
pub(crate) fn leaves_signs(server: &str, file: &Path) -> impl Fn(&str, &mut Behavior) {
    move |name, behavior| {
        if name == server {
            behavior.alive_file = Some(file.to_string_lossy().into_owned());
        }
    }
}

/// `mcpool serve` with the servers of the pool, and these arguments.
pub(crate) async fn served(cli: &Cli, url: &str, more: &[&str]) -> Served {
    let key = cli.dir().join("key");
    std::fs::write(&key, "07".repeat(32)).unwrap();
    let args = [&["--nats", url, "--pool", POOL], more].concat();
    let served = Served::start(cli, &key, &args);
    served.ready().await;
    served
}

/// The tool of the journal as a gateway names it.
pub(crate) const RELAYED: Work = Work {
    tool: "work__count",
    ..COUNT
};

/// A pool whose workers have one server, which writes down what it runs.
pub(crate) struct Fleet {
    pub(crate) cli: Cli,
    config: Value,
    journal: PathBuf,
    _directory: Arc<tempfile::TempDir>,
}

impl Fleet {
    pub(crate) fn new() -> Self {
        Self::of(&[SERVER], |_, _| {})
    }

    /// The same with these servers, each changed as it is wanted: its name, what it does.
    pub(crate) fn of(servers: &[&str], change: impl Fn(&str, &mut Behavior)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let journal = directory.path().join("journal");
        let configs = servers.iter().map(|name| {
            let behavior = Behavior::new().with(|behavior| {
                behavior.effects_file = Some(journal.to_string_lossy().into_owned());
                behavior.max_lifetime_ms = 2 * 60 * 60 * 1_000;
                change(name, behavior);
            });
            let server = json!({"command": fixture_path(), "args": behavior.to_args()});
            ((*name).to_owned(), server)
        });
        let configs: serde_json::Map<_, _> = configs.collect();
        let config = json!({ "mcpServers": configs });
        Self {
            cli: Cli::new(config.clone()),
            config,
            journal,
            _directory: Arc::new(directory),
        }
    }

    /// Another one with the same servers and the same journal, whose program runs in another way.
    pub(crate) fn like(&self, change: impl FnOnce(Cli) -> Cli) -> Self {
        Self {
            cli: change(Cli::new(self.config.clone())),
            config: self.config.clone(),
            journal: self.journal.clone(),
            _directory: Arc::clone(&self._directory),
        }
    }

    /// Waits until no process of it is left.
    pub(crate) async fn nothing_left(&self) {
        let marker = self.cli.marker();
        let nothing_left = || marker.processes().is_empty();
        assert!(
            eventually(PATIENCE, nothing_left).await,
            "orphans: {:?}",
            marker.processes()
        );
    }

    /// Starts `mcpool worker`.
    pub(crate) fn worker(&self, urls: &str, name: &str) -> Running {
        self.worker_with(urls, name, &[])
    }

    /// The same with these arguments as well.
    pub(crate) fn worker_with(&self, urls: &str, name: &str, more: &[&str]) -> Running {
        let args = [
            "worker",
            "--nats",
            urls,
            "--pool",
            POOL,
            "--nats-name",
            name,
        ];
        let args: Vec<&str> = args.into_iter().chain(more.iter().copied()).collect();
        self.cli.start(&args)
    }

    /// Ends everything, holds the callers' words against the journal, and prints both.
    pub(crate) async fn judge(
        &self,
        what: &str,
        load: Load,
        gateways: Vec<Gateway>,
        workers: Vec<Running>,
        mut times: Vec<Duration>,
    ) -> Tally {
        load.goes_on().await;
        let ended = load.end().await;
        for gateway in gateways {
            gateway.manager.shutdown(Duration::from_secs(10)).await;
        }
        drop(workers);
        self.nothing_left().await;
        let tally = Tally::of(&ended, &self.journal);
        println!(
            "{what}: {} faults; {} calls; {tally:?}; {}",
            times.len(),
            ended.len(),
            summary(&mut times)
        );
        assert!(tally.wrong.is_empty(), "{tally:?}");
        tally
    }
}

/// One gateway: a connection with NATS and a manager.
pub(crate) struct Gateway {
    pub(crate) carrier: Carrier,
    manager: ConnectionManager,
    pub(crate) servers: Vec<ServerHandle>,
}

impl Gateway {
    pub(crate) async fn start(urls: &str, name: &str) -> Self {
        Self::start_for(urls, name, &[SERVER]).await
    }

    /// The same with these servers of the pool.
    pub(crate) async fn start_for(urls: &str, name: &str, servers: &[&str]) -> Self {
        let pool = PoolName::new(POOL).unwrap();
        let options =
            NatsOptions::new(urls.split(','), pool).with_identity(Identity::new(name).unwrap());
        let carrier = Carrier::connect(&options).await.unwrap();
        let manager = ConnectionManager::new(Arc::new(StandardFactory::new()));
        let specs = servers.iter().map(|server| {
            let server: ServerName = server.parse().unwrap();
            let spec = NatsConnector::spec(&carrier, &server).unwrap();
            spec.with_policy(policy())
        });
        // They connect when they are called, if not now.
        let _ = manager.start(specs.collect()).await.unwrap();
        let handles = servers.iter().map(|server| handle(&manager, server));
        Self {
            carrier,
            servers: handles.collect(),
            manager,
        }
    }

    /// Waits until so many workers have the server connected.
    pub(crate) async fn sees(&self, workers: usize) {
        let since = std::time::Instant::now();
        loop {
            let found = discover(&self.carrier, Duration::from_millis(100)).await;
            let ready = found.unwrap_or_default().into_iter().filter(|worker| {
                worker
                    .servers
                    .values()
                    .any(|server| server.state == "ready")
            });
            let ready = ready.count();
            if ready >= workers {
                return;
            }
            assert!(since.elapsed() < PATIENCE, "{ready} workers are ready");
        }
    }
}

/// Connects again soon, for as long as it takes.
fn policy() -> ServerPolicy {
    let mut policy = ServerPolicy::default();
    policy.reconnect.base = Duration::from_millis(20);
    policy.reconnect.cap = Duration::from_millis(200);
    policy.reconnect.max_attempts = None;
    policy.timeouts.startup = Duration::from_secs(5);
    policy
}

fn handle(manager: &ConnectionManager, server: &str) -> ServerHandle {
    let options = CallOptions::new().with_timeout(Duration::from_secs(10));
    manager.server(server).unwrap().with_call_options(options)
}

/// A client of a gateway that serves over HTTP: servers under their own names.
pub(crate) async fn over_http(
    port: u16,
    servers: &[&str],
) -> (ConnectionManager, Vec<ServerHandle>) {
    let manager = ConnectionManager::new(Arc::new(StandardFactory::new()));
    let specs = servers.iter().map(|server| {
        let url = format!("http://127.0.0.1:{port}/servers/{server}/mcp");
        let spec = ServerSpec::http(*server, HttpSpec::new(url)).unwrap();
        spec.with_policy(policy())
    });
    // The gateway may not follow the pool yet.
    let _ = manager.start(specs.collect()).await.unwrap();
    let handles = servers.iter().map(|server| handle(&manager, server));
    (manager.clone(), handles.collect())
}

/// Clients of two gateways over HTTP, and of the balancer before them.
pub(crate) struct Clients {
    manager: ConnectionManager,
}

impl Clients {
    pub(crate) async fn start(balancer: u16, gateways: [u16; 2]) -> Self {
        let manager = ConnectionManager::new(Arc::new(StandardFactory::new()));
        let ports = [
            ("balanced", balancer),
            ("r0", gateways[0]),
            ("r1", gateways[1]),
        ];
        let specs = ports.map(|(name, port)| {
            let url = format!("http://127.0.0.1:{port}/mcp");
            let spec = ServerSpec::http(name, HttpSpec::new(url)).unwrap();
            spec.with_policy(policy())
        });
        // They are waited for below.
        let _ = manager.start(specs.to_vec()).await.unwrap();
        let clients = Self { manager };
        for gateway in 0..2 {
            clients.follows(gateway).await;
        }
        clients
    }

    pub(crate) fn balanced(&self) -> ServerHandle {
        handle(&self.manager, "balanced")
    }

    /// Waits until this gateway has the server of the pool.
    pub(crate) async fn follows(&self, gateway: usize) {
        let server = handle(&self.manager, &format!("r{gateway}"));
        let since = std::time::Instant::now();
        loop {
            let tools = server.list_tools().await;
            let has_it = |tool: &str| tool == RELAYED.tool;
            if tools.is_ok_and(|tools| tools.items.iter().any(|tool| has_it(&tool.name))) {
                return;
            }
            assert!(since.elapsed() < PATIENCE, "it does not follow the pool");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) async fn end(self) {
        self.manager.shutdown(Duration::from_secs(10)).await;
    }
}

/// So many gateways over these URLs, once there are so many workers.
pub(crate) async fn gateways(urls: &str, count: usize, workers: usize) -> Vec<Gateway> {
    let mut gateways = Vec::new();
    for number in 0..count {
        gateways.push(Gateway::start(urls, &format!("g{number}")).await);
    }
    gateways[0].sees(workers).await;
    gateways
}

pub(crate) fn handles(gateways: &[Gateway]) -> Vec<ServerHandle> {
    gateways
        .iter()
        .flat_map(|gateway| gateway.servers.iter().cloned())
        .collect()
}

/// Writes to JetStream until it takes no more.
pub(crate) async fn fill(url: &str) {
    let client = async_nats::connect(url).await.unwrap();
    let jetstream = async_nats::jetstream::new(client);
    let stream = async_nats::jetstream::stream::Config {
        name: "filler".to_owned(),
        subjects: vec!["filler".to_owned()],
        ..Default::default()
    };
    jetstream.get_or_create_stream(stream).await.unwrap();
    let since = std::time::Instant::now();
    loop {
        let written = jetstream.publish("filler", vec![0; 64 * 1024].into()).await;
        if written.unwrap().await.is_err() {
            return;
        }
        assert!(since.elapsed() < PATIENCE, "the disk does not get full");
    }
}
