//! Servers that run once in the pool, under faults at random that overlap: at no moment do two
//! processes of one live.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use mcpool_e2e::{Running, rounds};
use mcpool_nats::{Inventory, discover};
use mcpool_testkit::{
    faults::{Fault, TcpProxy},
    nats::NatsCluster,
};
use nix::sys::signal::Signal;

use crate::{
    PATIENCE,
    load::{COUNT, Load, summary},
    rig::{self, Fleet, Gateway, handles},
};

const SERVERS: [&str; 3] = ["l0", "l1", "l2"];

/// A short lease: a server is dead 4 s after the last renewal, and its successor begins 6 s after.
const TERMS: [&str; 10] = [
    "--one",
    "l0",
    "--one",
    "l1",
    "--one",
    "l2",
    "--lease",
    "5s",
    "--nats-replicas",
    "3",
];

/// How long faults go on before everything is well for once.
const SPELL: Duration = Duration::from_secs(45);

/// What a worker suffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Trouble {
    Killed,
    Stopped,
    CutOff,
    Terminated,
}

/// One worker, which reaches each node of NATS through a proxy of its own.
struct Machine {
    name: String,
    running: Running,
    proxies: Vec<TcpProxy>,
    trouble: Option<(Trouble, Instant)>,
}

impl Machine {
    fn start(fleet: &Fleet, cluster: &NatsCluster, number: usize) -> Self {
        let nodes = cluster.nodes().iter();
        let proxies: Vec<_> = nodes
            .map(|node| TcpProxy::start(node.address()).unwrap())
            .collect();
        let name = format!("w{number}");
        Self {
            running: run(fleet, &proxies, &name),
            name,
            proxies,
            trouble: None,
        }
    }

    fn signal(&self, signal: Signal) {
        rig::signal(&self.running, signal);
    }

    fn pass(&self, fault: Fault) {
        self.proxies.iter().for_each(|proxy| proxy.set(fault));
    }

    fn begin(&mut self, trouble: Trouble, until: Instant) {
        match trouble {
            Trouble::Killed => self.running.kill(),
            Trouble::Stopped => self.signal(Signal::SIGSTOP),
            Trouble::CutOff => self.pass(Fault::Blackhole),
            Trouble::Terminated => self.signal(Signal::SIGTERM),
        }
        self.trouble = Some((trouble, until));
    }

    /// Ends the trouble, if it is over at this moment. Whether it did: a worker that leaves in good
    /// order takes its time.
    fn end(&mut self, fleet: &Fleet, now: Instant) -> bool {
        let Some((trouble, _)) = self.trouble.take_if(|(_, until)| *until <= now) else {
            return false;
        };
        match trouble {
            Trouble::Killed => {}
            Trouble::Stopped => self.signal(Signal::SIGCONT),
            // What was swallowed arrives now, late.
            Trouble::CutOff => self.pass(Fault::Pass),
            Trouble::Terminated => match self.running.child.try_wait() {
                Ok(Some(_)) => {}
                _ => {
                    self.trouble = Some((trouble, now));
                    return false;
                }
            },
        }
        if matches!(trouble, Trouble::Killed | Trouble::Terminated) {
            self.running = run(fleet, &self.proxies, &self.name);
        }
        true
    }
}

fn run(fleet: &Fleet, proxies: &[TcpProxy], name: &str) -> Running {
    let urls: Vec<String> = proxies
        .iter()
        .map(|proxy| format!("nats://{}", proxy.address()))
        .collect();
    fleet.worker_with(&urls.join(","), name, &TERMS)
}

/// What a node of NATS suffers, one at a time: a majority is always there.
struct Node {
    number: usize,
    frozen: bool,
    until: Instant,
}

/// The machines, what they suffer, and how often what was done to them.
struct World {
    fleet: Fleet,
    cluster: NatsCluster,
    machines: Vec<Machine>,
    node: Option<Node>,
    random: fastrand::Rng,
    done: BTreeMap<String, usize>,
    /// What was done when.
    log: Vec<(Duration, String)>,
}

impl World {
    /// One more fault, whatever is wrong already.
    fn hurt(&mut self) {
        let seconds = 1.0 + 8.0 * self.random.f64();
        let until = Instant::now() + Duration::from_secs_f64(seconds);
        let (what, whom) = match self.random.u8(0..6) {
            0..4 => {
                let at = self.random.usize(0..self.machines.len());
                let trouble = [
                    Trouble::Killed,
                    Trouble::Stopped,
                    Trouble::CutOff,
                    Trouble::Terminated,
                ][self.random.usize(0..4)];
                let machine = &mut self.machines[at];
                if machine.trouble.is_some() {
                    return;
                }
                machine.begin(trouble, until);
                (format!("worker {trouble:?}"), machine.name.clone())
            }
            kind => {
                if self.node.is_some() {
                    return;
                }
                let leader = self.cluster.leader().filter(|_| self.random.bool());
                let number = leader.unwrap_or_else(|| self.random.usize(0..3));
                let frozen = kind == 4;
                let node = &mut self.cluster.nodes_mut()[number];
                match frozen {
                    true => node.freeze(),
                    false => node.kill(),
                }
                self.node = Some(Node {
                    number,
                    frozen,
                    until,
                });
                let who = leader.map_or("node of NATS", |_| "leader of NATS");
                let what = if frozen { "Frozen" } else { "Killed" };
                (format!("{who} {what}"), format!("node{number}"))
            }
        };
        self.note(format!("{what}: {whom} for {seconds:.1} s"));
        *self.done.entry(what).or_default() += 1;
    }

    fn note(&mut self, what: String) {
        self.log.push((monotonic(), what));
    }

    /// Ends the faults that are over at this moment.
    fn heal(&mut self, now: Instant) {
        let mut notes = Vec::new();
        for machine in &mut self.machines {
            if machine.end(&self.fleet, now) {
                notes.push(format!("{} is well", machine.name));
            }
        }
        if let Some(node) = self.node.take_if(|node| node.until <= now) {
            let server = &mut self.cluster.nodes_mut()[node.number];
            match node.frozen {
                true => server.thaw(),
                false => server.spawn(),
            }
            // One that was started reads its files, and hears what it has missed.
            match server.ask("/healthz") {
                Some(_) => notes.push(format!("node{} is well", node.number)),
                None => self.node = Some(node),
            }
        }
        notes.into_iter().for_each(|note| self.note(note));
    }

    /// Faults for so long, then everything is well.
    async fn spell(&mut self, length: Duration) {
        let end = Instant::now() + length;
        while Instant::now() < end {
            self.hurt();
            let pause = Duration::from_secs_f64(0.2 + 2.0 * self.random.f64());
            tokio::time::sleep(pause).await;
            self.heal(Instant::now());
        }
        // All of them, wherever they were.
        let began = Instant::now();
        while self.is_hurt() {
            assert!(began.elapsed() < PATIENCE * 2, "it does not get well");
            self.heal(Instant::now() + PATIENCE);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn is_hurt(&self) -> bool {
        self.node.is_some()
            || self
                .machines
                .iter()
                .any(|machine| machine.trouble.is_some())
    }

    /// What was done around this time without an owner.
    fn around(&self, (from, to): (Duration, Duration)) -> String {
        let first = from.saturating_sub(Duration::from_secs(10));
        let lines = self.log.iter().filter(|(at, _)| (first..=to).contains(at));
        let line = |(at, what): &(Duration, String)| {
            format!("{:+.1} s {what}\n", at.as_secs_f64() - from.as_secs_f64())
        };
        lines.map(line).collect()
    }
}

/// The clock that servers write down.
fn monotonic() -> Duration {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC);
    now.unwrap().into()
}

/// The worker that runs the first of the servers.
async fn owner(gateway: &Gateway) -> usize {
    let (name, since) = (SERVERS[0], Instant::now());
    loop {
        let found = discover(&gateway.carrier, Duration::from_millis(200)).await;
        let found = found.unwrap_or_default();
        let runs = |worker: &&Inventory| worker.servers[name].state == "ready";
        if let Some(owner) = found.iter().find(runs) {
            return owner.worker.as_str()[1..].parse().unwrap();
        }
        assert!(since.elapsed() < PATIENCE, "nobody owns it");
    }
}

/// The processes of one server, one after the other: when each was first and last heard of.
pub(crate) struct Lives(Vec<(Duration, Duration)>);

impl Lives {
    pub(crate) fn read(file: &Path) -> Self {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let mut lives: BTreeMap<&str, (Duration, Duration)> = BTreeMap::new();
        for line in text.lines() {
            let mut words = line.split(' ');
            let (Some(process), Some(at)) = (words.next(), words.next()) else {
                panic!("{line:?}");
            };
            assert_eq!(words.next(), None, "two at a time: {line:?}");
            let at = Duration::from_nanos(at.parse().unwrap());
            lives.entry(process).or_insert((at, at)).1 = at;
        }
        let mut lives: Vec<_> = lives.into_values().collect();
        lives.sort_unstable();
        Self(lives)
    }

    /// The times between each two, in which nobody lived.
    ///
    /// # Panics
    /// When two lived at a time.
    pub(crate) fn gaps(&self) -> Vec<(Duration, Duration)> {
        let pairs = self.0.windows(2);
        let gap = |pair: &[(Duration, Duration)]| {
            assert!(pair[1].0 > pair[0].1, "two at a time: {pair:?}");
            (pair[0].1, pair[1].0)
        };
        pairs.map(gap).collect()
    }
}

/// How long such times are, the shortest first.
pub(crate) fn lengths(gaps: &[(Duration, Duration)]) -> Vec<Duration> {
    let mut lengths: Vec<_> = gaps.iter().map(|(from, to)| *to - *from).collect();
    lengths.sort_unstable();
    lengths
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_runs_once_has_one_owner_at_most() {
    let pings = "ping_interval: \"1s\"\nping_max: 2";
    let Some(cluster) = NatsCluster::start_with(pings).await else {
        return;
    };
    let signs = tempfile::tempdir().unwrap();
    let file = |server: &str| -> PathBuf { signs.path().join(server) };
    let fleet = Fleet::of(&SERVERS, |server, behavior| {
        behavior.alive_file = Some(file(server).to_string_lossy().into_owned());
    });
    let seed = match std::env::var("MCPOOL_SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => fastrand::u64(..),
    };
    println!("MCPOOL_SEED={seed}");
    let urls = cluster.urls();
    let machines = (0..3).map(|number| Machine::start(&fleet, &cluster, number));
    let mut world = World {
        machines: machines.collect(),
        fleet,
        cluster,
        node: None,
        random: fastrand::Rng::with_seed(seed),
        done: BTreeMap::new(),
        log: Vec::new(),
    };
    let mut gateways = Vec::new();
    for number in 0..2 {
        gateways.push(Gateway::start_for(&urls, &format!("g{number}"), &SERVERS).await);
    }
    let load = Load::start(&handles(&gateways), rounds(6, 24), COUNT);
    load.goes_on().await;
    let long = Duration::from_secs(u64::try_from(rounds(8, 20 * 60)).unwrap());
    let (began, mut times) = (Instant::now(), Vec::new());
    // Whatever comes after it, somebody takes over.
    let owner = owner(&gateways[0]).await;
    let at = Instant::now() + Duration::from_secs(1);
    world.machines[owner].begin(Trouble::Killed, at);
    world.note(format!("worker Killed: w{owner} first"));
    while let Some(left) = long.checked_sub(began.elapsed()) {
        world.spell(left.min(SPELL)).await;
        times.push(load.recovered(Instant::now()).await);
    }
    let mut gaps = Vec::new();
    let mut lives = 0;
    for server in SERVERS {
        let read = Lives::read(&file(server));
        lives += read.0.len();
        gaps.extend(read.gaps());
    }
    let longest = gaps.iter().max_by_key(|(from, to)| *to - *from).copied();
    let longest = longest.expect("nobody took over");
    let lengths = lengths(&gaps);
    println!(
        "{:?}; {lives} lives of {} servers; nobody lived: least {:.3?}, half of them below {:.3?}, \
         longest {:.3?}:\n{}",
        world.done,
        SERVERS.len(),
        lengths[0],
        lengths[lengths.len() / 2],
        lengths[lengths.len() - 1],
        world.around(longest),
    );
    println!("all well again: {}", summary(&mut times.clone()));
    let (workers, _proxies): (Vec<_>, Vec<_>) = world
        .machines
        .into_iter()
        .map(|machine| (machine.running, machine.proxies))
        .unzip();
    let what = "servers that run once";
    world
        .fleet
        .judge(what, load, gateways, workers, times)
        .await;
}
