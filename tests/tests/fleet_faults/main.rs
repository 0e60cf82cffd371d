//! A pool of workers under faults: callers call without a pause, servers write down what they run,
//! and no word about a call may contradict that.
//!
//! The suite runs a sample; `MCPOOL_ENDURANCE=1` (`cargo xtask ci --long`) runs the numbers of
//! `docs/fleet.md`.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod clocks;
mod leases;
mod load;
mod rig;
mod versions;

use std::time::{Duration, Instant};

use load::{COUNT, Load, Work};
use mcpool_e2e::{Balancer, Cli, Gateway, Running, rounds};
use mcpool_testkit::{
    eventually,
    faults::{Fault, TcpProxy},
    nats::{NatsCluster, NatsServer},
};
use rig::{Clients, Fleet, POOL, RELAYED, gateways, handles, terminate};
use serde_json::json;

/// Longer than anything takes that works.
const PATIENCE: Duration = Duration::from_secs(60);

/// Workers that are ended one after the other under load, and started again.
struct Turns<'a> {
    fleet: &'a Fleet,
    url: &'a str,
    looks: &'a rig::Gateway,
    load: &'a Load,
}

impl Turns<'_> {
    /// How long it took each time until every caller had an answer of a later call.
    async fn take(
        &self,
        count: usize,
        workers: &mut [Running],
        end: impl AsyncFn(&mut Running),
    ) -> Vec<Duration> {
        let mut times = Vec::new();
        for turn in 0..count {
            self.looks.sees(2).await;
            self.load.goes_on().await;
            let (victim, at) = (turn % 2, Instant::now());
            end(&mut workers[victim]).await;
            times.push(self.load.recovered(at).await);
            workers[victim] = self.fleet.worker(self.url, &format!("w{victim}"));
        }
        times
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_are_killed() {
    let Some(nats) = NatsServer::start().await else {
        return;
    };
    let (fleet, url) = (Fleet::new(), nats.url());
    let mut workers = vec![fleet.worker(&url, "w0"), fleet.worker(&url, "w1")];
    let gateways = gateways(&url, 4, 2).await;
    let load = Load::start(&handles(&gateways), rounds(8, 64), COUNT);
    let turns = Turns {
        fleet: &fleet,
        url: &url,
        looks: &gateways[0],
        load: &load,
    };
    let times = turns
        .take(
            rounds(3, 200),
            &mut workers,
            async |worker: &mut Running| worker.kill(),
        )
        .await;
    fleet
        .judge("workers are killed", load, gateways, workers, times)
        .await;
}

/// The sessions of one gateway are with both workers, and with the one that is left after each kill.
#[tokio::test(flavor = "multi_thread")]
async fn workers_are_killed_under_calls_that_are_spread() {
    let Some(nats) = NatsServer::start().await else {
        return;
    };
    let (fleet, url) = (Fleet::new(), nats.url());
    let mut workers = vec![fleet.worker(&url, "w0"), fleet.worker(&url, "w1")];
    // It only looks.
    let watching = gateways(&url, 1, 2).await;
    let empty = Cli::new(json!({"mcpServers": {}}));
    let spread = rig::served(&empty, &url, &["--spread", "4"]).await;
    let (clients, servers) = rig::over_http(spread.port(), &["work"]).await;
    let load = Load::start(&servers, rounds(8, 32), COUNT);
    let turns = Turns {
        fleet: &fleet,
        url: &url,
        looks: &watching[0],
        load: &load,
    };
    let times = turns
        .take(rounds(3, 50), &mut workers, async |worker: &mut Running| {
            worker.kill()
        })
        .await;
    let what = "workers are killed under calls that are spread";
    fleet.judge(what, load, watching, workers, times).await;
    clients.shutdown(Duration::from_secs(10)).await;
    drop(spread);
    let nothing_left = || empty.marker().processes().is_empty();
    assert!(eventually(PATIENCE, nothing_left).await, "orphans");
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_go_in_good_order() {
    let Some(nats) = NatsServer::start().await else {
        return;
    };
    let (fleet, url) = (Fleet::new(), nats.url());
    let mut workers = vec![fleet.worker(&url, "w0"), fleet.worker(&url, "w1")];
    let gateways = gateways(&url, 4, 2).await;
    let load = Load::start(&handles(&gateways), rounds(8, 32), COUNT);
    let turns = Turns {
        fleet: &fleet,
        url: &url,
        looks: &gateways[0],
        load: &load,
    };
    let times = turns.take(rounds(2, 50), &mut workers, terminate).await;
    let what = "workers go in good order";
    let tally = fleet.judge(what, load, gateways, workers, times).await;
    // Each call ends there, or is sent to the other worker.
    assert_eq!((tally.unknown, tally.not_run), (0, 0), "{tally:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_and_leaders_of_nats_are_killed() {
    let Some(mut cluster) = NatsCluster::start().await else {
        return;
    };
    let (fleet, urls) = (Fleet::new(), cluster.urls());
    let workers = vec![fleet.worker(&urls, "w0"), fleet.worker(&urls, "w1")];
    let gateways = gateways(&urls, 4, 2).await;
    let load = Load::start(&handles(&gateways), rounds(8, 32), COUNT);
    let mut times = Vec::new();
    for kill in 0..rounds(2, 50) {
        gateways[0].sees(2).await;
        load.goes_on().await;
        let victim = match kill % 2 {
            0 => cluster.leader().unwrap_or_default(),
            _ => kill / 2 % 3,
        };
        let at = Instant::now();
        cluster.nodes_mut()[victim].kill();
        times.push(load.recovered(at).await);
        cluster.nodes_mut()[victim].restart().await;
        let led = eventually(PATIENCE, || cluster.leader().is_some()).await;
        assert!(led, "no leader");
    }
    let what = "nodes and leaders of NATS are killed";
    fleet.judge(what, load, gateways, workers, times).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_is_cut_off() {
    // NATS finds out by its pings: by default within minutes.
    let Some(nats) = NatsServer::start_with("ping_interval: \"2s\"\nping_max: 2").await else {
        return;
    };
    let proxies = [0, 1].map(|_| TcpProxy::start(nats.address()).unwrap());
    let behind = |worker: usize| format!("nats://{}", proxies[worker].address());
    let (fleet, url) = (Fleet::new(), nats.url());
    // All sessions begin at the first worker, and go to the other with each cut.
    let mut workers = vec![fleet.worker(&behind(0), "w0")];
    let gateways = gateways(&url, 4, 1).await;
    let load = Load::start(&handles(&gateways), rounds(8, 32), COUNT);
    load.goes_on().await;
    workers.push(fleet.worker(&behind(1), "w1"));
    let mut times = Vec::new();
    for cut in 0..rounds(1, 20) {
        gateways[0].sees(2).await;
        load.goes_on().await;
        let (proxy, at) = (&proxies[cut % 2], Instant::now());
        proxy.set(Fault::Blackhole);
        times.push(load.recovered(at).await);
        // What was swallowed arrives now, late.
        proxy.set(Fault::Pass);
    }
    fleet
        .judge("a worker is cut off", load, gateways, workers, times)
        .await;
}

/// Two workers, a gateway, and another one that reaches NATS through the proxy.
async fn one_gateway_behind(
    proxy: &TcpProxy,
    fleet: &Fleet,
    nats: &NatsServer,
) -> (Vec<Running>, Vec<rig::Gateway>) {
    let url = nats.url();
    let workers = vec![fleet.worker(&url, "w0"), fleet.worker(&url, "w1")];
    let mut gateways = gateways(&url, 1, 2).await;
    let behind = format!("nats://{}", proxy.address());
    gateways.push(rig::Gateway::start(&behind, "behind").await);
    (workers, gateways)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_is_cut_off() {
    let Some(nats) = NatsServer::start_with("ping_interval: \"2s\"\nping_max: 2").await else {
        return;
    };
    let proxy = TcpProxy::start(nats.address()).unwrap();
    let fleet = Fleet::new();
    let (workers, gateways) = one_gateway_behind(&proxy, &fleet, &nats).await;
    let load = Load::start(&handles(&gateways), rounds(8, 32), COUNT);
    let mut times = Vec::new();
    for cut in 0..rounds(2, 20) {
        load.goes_on().await;
        proxy.set(Fault::Blackhole);
        // Shorter and longer than the silence that ends a session.
        let seconds = if cut % 2 == 0 { 3 } else { 13 };
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        let at = Instant::now();
        proxy.set(Fault::Pass);
        times.push(load.recovered(at).await);
    }
    fleet
        .judge("a gateway is cut off", load, gateways, workers, times)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_reads_too_slowly() {
    let Some(nats) = NatsServer::start_with("max_pending: 1MB").await else {
        return;
    };
    let proxy = TcpProxy::start(nats.address()).unwrap();
    let fleet = Fleet::new();
    let (workers, gateways) = one_gateway_behind(&proxy, &fleet, &nats).await;
    let large = Work {
        bytes: 1_000_000,
        ..COUNT
    };
    let load = Load::start(&handles(&gateways), 32, large);
    let cut = || nats.log().matches("Slow Consumer").count();
    let mut times = Vec::new();
    for _ in 0..rounds(1, 20) {
        load.goes_on().await;
        let before = cut();
        proxy.set(Fault::Drip {
            bytes: 16 * 1024,
            pause: Duration::from_millis(20),
        });
        // NATS gives up on it.
        assert!(
            eventually(PATIENCE, || cut() > before).await,
            "{}",
            nats.log()
        );
        let at = Instant::now();
        proxy.set(Fault::Pass);
        times.push(load.recovered(at).await);
    }
    fleet
        .judge("a gateway reads too slowly", load, gateways, workers, times)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_disk_of_jetstream_is_full() {
    let Some(nats) = NatsServer::start_with_disk("", 4 * 1024 * 1024).await else {
        return;
    };
    let (fleet, url) = (Fleet::new(), nats.url());
    let mut workers = vec![fleet.worker(&url, "w0"), fleet.worker(&url, "w1")];
    let gateways = gateways(&url, 4, 2).await;
    let load = Load::start(&handles(&gateways), 8, COUNT);
    let mut times = Vec::new();
    for full in 0..rounds(1, 10) {
        load.goes_on().await;
        let at = Instant::now();
        rig::fill(&url).await;
        times.push(load.recovered(at).await);
        // Calls need no disk, nor does a worker that comes.
        let victim = full % 2;
        workers[victim].kill();
        workers[victim] = fleet.worker(&url, &format!("w{victim}"));
        gateways[0].sees(2).await;
    }
    let what = "the disk of JetStream is full";
    fleet.judge(what, load, gateways, workers, times).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gateways_are_killed() {
    let (Some(haproxy), Some(nats)) = (Balancer::program(), NatsServer::start().await) else {
        return;
    };
    let (fleet, url) = (Fleet::new(), nats.url());
    let workers = vec![fleet.worker(&url, "w0"), fleet.worker(&url, "w1")];
    // It only looks.
    let watching = gateways(&url, 1, 2).await;
    let empty = Cli::new(json!({"mcpServers": {}}));
    let key = empty.dir().join("key");
    std::fs::write(&key, "07".repeat(32)).unwrap();
    let more = ["--nats", &url, "--pool", POOL];
    let mut serving = [
        Gateway::start(&empty, &key, &more),
        Gateway::start(&empty, &key, &more),
    ];
    for gateway in &serving {
        gateway.ready().await;
    }
    let ports = [serving[0].port(), serving[1].port()];
    let balancer = Balancer::start(&haproxy, empty.dir(), &ports).await;
    let clients = Clients::start(balancer.port(), ports).await;
    let load = Load::start(&[clients.balanced()], rounds(8, 32), RELAYED);
    let mut times = Vec::new();
    for kill in 0..rounds(2, 50) {
        load.goes_on().await;
        let at = Instant::now();
        serving[kill % 2].again(&empty);
        times.push(load.recovered(at).await);
        serving[kill % 2].ready().await;
        clients.follows(kill % 2).await;
    }
    let what = "gateways are killed";
    let tally = fleet.judge(what, load, watching, workers, times);
    tally.await;
    clients.end().await;
    drop(serving);
    let nothing_left = || empty.marker().processes().is_empty();
    assert!(eventually(PATIENCE, nothing_left).await, "orphans");
}
