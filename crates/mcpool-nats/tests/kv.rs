//! Leases, the registry and the permissions of `docs/fleet.md`, with a real `nats-server`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use mcpool_core::{ErrorKind, Result, Secret, ServerName};
use mcpool_nats::{
    Carrier, Epoch, Identity, NatsOptions, PoolName,
    kv::{
        FleetServer, FleetSnapshot, FleetWatch, Leases, Registry, Storage, Tenant, Tenure, Terms,
    },
};
use mcpool_testkit::{
    eventually,
    faults::{Fault, TcpProxy},
    nats::{NatsCluster, NatsServer},
};

const PATIENCE: Duration = Duration::from_secs(60);

fn options(urls: &str, identity: &str) -> NatsOptions {
    NatsOptions::new(urls.split(','), PoolName::new("tools").unwrap())
        .with_identity(Identity::new(identity).unwrap())
}

async fn connect(urls: &str, identity: &str) -> Carrier {
    Carrier::connect(&options(urls, identity)).await.unwrap()
}

fn server(name: &str) -> ServerName {
    name.parse().unwrap()
}

/// What all tenants of one lease write into: who ran, in which epoch, and whether ever two did.
#[derive(Debug, Default)]
struct Journal {
    running: AtomicUsize,
    twice: AtomicUsize,
    begun: Mutex<Vec<(usize, Epoch, Instant)>>,
}

impl Journal {
    fn begun(&self) -> Vec<(usize, Epoch, Instant)> {
        self.begun.lock().unwrap().clone()
    }

    fn owner(&self) -> Option<usize> {
        let running = self.running.load(Ordering::SeqCst) == 1;
        running.then(|| self.begun().last().unwrap().0)
    }

    fn check(&self) {
        assert_eq!(self.twice.load(Ordering::SeqCst), 0, "two owners");
        let begun = self.begun();
        assert!(
            begun.windows(2).all(|pair| pair[0].1 < pair[1].1),
            "{begun:?}"
        );
    }
}

struct Writer {
    number: usize,
    journal: Arc<Journal>,
}

#[async_trait]
impl Tenant for Writer {
    async fn start(&self, epoch: Epoch) -> Result<()> {
        if self.journal.running.fetch_add(1, Ordering::SeqCst) != 0 {
            self.journal.twice.fetch_add(1, Ordering::SeqCst);
        }
        let mut begun = self.journal.begun.lock().unwrap();
        begun.push((self.number, epoch, Instant::now()));
        Ok(())
    }

    async fn end(&self) {
        self.journal.running.fetch_sub(1, Ordering::SeqCst);
    }

    fn end_within(&self) -> Duration {
        Duration::ZERO
    }
}

/// Short, for tests: an election takes longer, so that owners lose their leases in one.
fn terms() -> Terms {
    Terms::new(Duration::from_secs(3), Duration::from_millis(500)).unwrap()
}

async fn hold(urls: &str, number: usize, journal: &Arc<Journal>, replicas: usize) -> Tenure {
    let carrier = connect(urls, &format!("w{number}")).await;
    let storage = Storage::default().with_replicas(replicas);
    let leases = Leases::open(&carrier, storage).await.unwrap();
    let writer = Writer {
        number,
        journal: Arc::clone(journal),
    };
    leases
        .hold(&server("files"), terms(), Arc::new(writer))
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partitioned_owner_ends_before_its_successor_begins() {
    let Some(nats) = NatsServer::start().await else {
        return;
    };
    let journal = Arc::new(Journal::default());
    let proxy = TcpProxy::start(nats.address()).unwrap();
    let first = hold(&format!("nats://{}", proxy.address()), 0, &journal, 1).await;
    assert!(eventually(PATIENCE, || journal.owner() == Some(0)).await);
    assert_eq!(first.epoch().borrow().map(Epoch::get), Some(1));
    let second = hold(&nats.url(), 1, &journal, 1).await;

    proxy.set(Fault::Blackhole);
    let cut = Instant::now();
    assert!(eventually(PATIENCE, || journal.owner().is_none()).await);
    let ended = cut.elapsed();
    assert!(eventually(PATIENCE, || journal.owner() == Some(1)).await);
    let taken = cut.elapsed();
    eprintln!("partition: ended after {ended:?}, taken over after {taken:?}");
    // The owner's end is at most TTL − 2 margins after its last renewal, the successor's begin at
    // least TTL + margin after it.
    assert!(ended < Duration::from_secs(3) && taken - ended >= Duration::from_millis(500));
    assert_eq!(*first.epoch().borrow(), None);

    // What was held back arrives late, and changes nothing.
    proxy.set(Fault::Pass);
    tokio::time::timeout(PATIENCE, second.close())
        .await
        .unwrap();
    // Released: no need to wait for its end.
    assert!(eventually(PATIENCE, || journal.owner() == Some(0)).await);
    first.close().await;
    journal.check();
    assert_eq!(journal.owner(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_lets_go_is_followed_at_once_and_so_is_one_that_is_dropped() {
    let Some(nats) = NatsServer::start().await else {
        return;
    };
    let journal = Arc::new(Journal::default());
    let first = hold(&nats.url(), 0, &journal, 1).await;
    assert!(eventually(PATIENCE, || journal.owner() == Some(0)).await);
    let second = hold(&nats.url(), 1, &journal, 1).await;
    let third = hold(&nats.url(), 2, &journal, 1).await;
    let began = Instant::now();
    first.close().await;
    assert!(eventually(PATIENCE, || matches!(journal.owner(), Some(1 | 2))).await);
    let handover = began.elapsed();
    eprintln!("handover: {handover:?}");
    assert!(handover < Duration::from_secs(3), "{handover:?}");
    drop((second, third));
    assert!(eventually(PATIENCE, || journal.owner().is_none()).await);
    journal.check();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn crashes_and_elections_of_a_cluster_never_make_two_owners() {
    let Some(mut cluster) = NatsCluster::start().await else {
        return;
    };
    let journal = Arc::new(Journal::default());
    let urls = cluster.urls();
    let mut holders = Vec::new();
    for number in 0..3 {
        holders.push(hold(&urls, number, &journal, 3).await);
    }
    let rounds = if std::env::var_os("MCPOOL_ENDURANCE").is_some() {
        50
    } else {
        2
    };
    let mut longest = Duration::ZERO;
    for round in 0..rounds {
        assert!(
            eventually(PATIENCE, || journal.owner().is_some()).await,
            "round {round}"
        );
        let node = cluster.leader().unwrap_or(round % 3);
        cluster.nodes_mut()[node].kill();
        let began = Instant::now();
        // Two of three nodes are enough.
        let epochs = journal.begun().len();
        let owned = || journal.owner().is_some() && cluster.leader().is_some_and(|led| led != node);
        assert!(eventually(PATIENCE, owned).await, "round {round}");
        longest = longest.max(began.elapsed());
        eprintln!(
            "round {round}: {:?}, {} owners",
            began.elapsed(),
            journal.begun().len() - epochs
        );
        cluster.nodes_mut()[node].restart().await;
    }
    eprintln!("owned and led again after at most {longest:?}");
    for holder in holders {
        tokio::time::timeout(PATIENCE, holder.close())
            .await
            .unwrap();
    }
    journal.check();
    assert_eq!(journal.running.load(Ordering::SeqCst), 0);
}

async fn until(
    watch: &mut FleetWatch,
    wanted: impl Fn(&FleetSnapshot) -> bool,
) -> Arc<FleetSnapshot> {
    let mut snapshot = watch.current();
    while !wanted(&snapshot) {
        let changed = tokio::time::timeout(PATIENCE, watch.changed()).await;
        snapshot = changed.expect("the registry shows it");
    }
    snapshot
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_registry_shows_workers_their_servers_and_catalogs_of_any_size() {
    let Some(mut nats) = NatsServer::start().await else {
        return;
    };
    let worker = Registry::open(&connect(&nats.url(), "w1").await, Storage::default())
        .await
        .unwrap();
    let gateway = Registry::open(&connect(&nats.url(), "g1").await, Storage::default())
        .await
        .unwrap();
    let mut watch = gateway.watch();
    let announced = worker.announce("rack 7").await.unwrap();
    let catalog: Vec<u8> = (0..3_u32 << 20)
        .map(|byte| u8::try_from(byte % 251).unwrap())
        .collect();
    let files = FleetServer::new(server("files/a.b"), "ready");
    announced
        .publish(files.clone(), Some(catalog.clone().into()))
        .await
        .unwrap();
    let hash = |snapshot: &FleetSnapshot| {
        let (_, files) = snapshot.having(&server("files/a.b")).next()?;
        files.catalog.clone()
    };
    let snapshot = until(&mut watch, |snapshot| hash(snapshot).is_some()).await;
    let (name, worker) = snapshot.workers.first_key_value().unwrap();
    assert_eq!((name.as_str(), worker.place.as_str()), ("w1", "rack 7"));
    let hash = hash(&snapshot).unwrap();
    assert_eq!(gateway.catalog(&hash).await.unwrap(), catalog);
    assert_eq!(
        gateway.catalog(&"0".repeat(64)).await.unwrap_err().kind(),
        ErrorKind::Protocol
    );

    // A state without a catalog keeps the last good one, over a restart of NATS as well, and for a
    // gateway that starts then.
    let mut down = files;
    down.state = "failed".into();
    announced.publish(down, None).await.unwrap();
    nats.kill();
    nats.restart().await;
    let late = Registry::open(&connect(&nats.url(), "g2").await, Storage::default())
        .await
        .unwrap();
    let mut late_watch = late.watch();
    until(&mut late_watch, |snapshot| {
        let name = server("files/a.b");
        let mut having = snapshot.having(&name);
        having.any(|(_, files)| files.state == "failed" && files.catalog.as_ref() == Some(&hash))
    })
    .await;
    assert_eq!(late.catalog(&hash).await.unwrap(), catalog);
    announced.leave().await.unwrap();
    until(&mut late_watch, |snapshot| snapshot.workers.is_empty()).await;
    until(&mut watch, |snapshot| snapshot.workers.is_empty()).await;
}

/// The cost of the registry by its size: `docs/fleet.md`, "Sizes".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_workers_with_many_servers_are_shown() {
    let Some(nats) = NatsServer::start().await else {
        return;
    };
    let sizes: &[usize] = match std::env::var_os("MCPOOL_ENDURANCE") {
        Some(_) => &[10, 100, 1_000],
        None => &[20, 100],
    };
    let mut workers = Vec::new();
    for number in 0..20 {
        let carrier = connect(&nats.url(), &format!("w{number}")).await;
        let registry = Registry::open(&carrier, Storage::default()).await.unwrap();
        workers.push(registry.announce("here").await.unwrap());
    }
    let carrier = connect(&nats.url(), "g1").await;
    let gateway = Registry::open(&carrier, Storage::default()).await.unwrap();
    for &size in sizes {
        let began = Instant::now();
        let published = workers.iter().enumerate().map(async |(number, worker)| {
            for server in (number..size).step_by(20) {
                let name = format!("s{server}").parse().unwrap();
                // Each another one, of some tools.
                let catalog = format!("{server:08}").repeat(500);
                let server = FleetServer::new(name, "ready");
                worker.publish(server, Some(catalog.into())).await.unwrap();
            }
        });
        futures::future::join_all(published).await;
        let written = began.elapsed();
        let began = Instant::now();
        let mut watch = gateway.watch();
        let count = |snapshot: &FleetSnapshot| -> usize {
            snapshot
                .workers
                .values()
                .map(|worker| worker.servers.len())
                .sum()
        };
        let snapshot = until(&mut watch, |snapshot| count(snapshot) == size).await;
        let read = began.elapsed();
        let began = Instant::now();
        let servers = snapshot
            .workers
            .values()
            .flat_map(|worker| worker.servers.values());
        for server in servers {
            gateway
                .catalog(server.catalog.as_ref().unwrap())
                .await
                .unwrap();
        }
        eprintln!(
            "{size} servers: written in {written:?}, seen by a new gateway in {read:?}, catalogs in {:?}",
            began.elapsed()
        );
    }
}

/// The configuration that the page gives, as it stands there.
fn config_of_the_page() -> &'static str {
    let page = include_str!("../../../docs/fleet.md");
    let (_, after) = page.split_once("```nats\n").unwrap();
    after.split_once("```").unwrap().0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_permissions_of_the_page_are_enough_and_no_more() {
    let passwords = "WORKER_PASSWORD: w\nGATEWAY_PASSWORD: g\nPERSON_PASSWORD: p\n";
    let config = format!("{passwords}{}", config_of_the_page());
    let Some(nats) = NatsServer::start_with(&config).await else {
        return;
    };
    let anonymous = Carrier::connect(&options(&nats.url(), "w1")).await;
    assert_eq!(anonymous.unwrap_err().kind(), ErrorKind::Connect);
    let login = |identity: &str, password: &str| {
        options(&nats.url(), identity).with_user(identity, Secret::new(password.to_owned()))
    };
    let worker = Carrier::connect(&login("w1", "w")).await.unwrap();
    let gateway = Carrier::connect(&login("g1", "g")).await.unwrap();

    // The worker creates the buckets, and uses them.
    let journal = Arc::new(Journal::default());
    let leases = Leases::open(&worker, Storage::default()).await.unwrap();
    let writer = || {
        let journal = Arc::clone(&journal);
        Arc::new(Writer { number: 0, journal })
    };
    let tenure = leases.hold(&server("files"), terms(), writer()).unwrap();
    let registry = Registry::open(&worker, Storage::default()).await.unwrap();
    let announced = registry.announce("here").await.unwrap();
    let files = FleetServer::new(server("files"), "ready");
    announced.publish(files, Some("[]".into())).await.unwrap();
    assert!(eventually(PATIENCE, || journal.owner() == Some(0)).await);

    // The gateway shares tokens.
    #[cfg(feature = "auth")]
    let key = || mcpool_nats::kv::PoolKey::from_text(&Secret::new("A".repeat(43) + "=")).unwrap();
    #[cfg(feature = "auth")]
    mcpool_nats::kv::KvTokenStore::open(&gateway, Storage::default(), key())
        .await
        .unwrap();

    // The gateway reads the registry.
    let read = Registry::open(&gateway, Storage::default()).await.unwrap();
    let mut watch = read.watch();
    let shown = |snapshot: &FleetSnapshot| snapshot.having(&server("files")).next().is_some();
    let snapshot = until(&mut watch, shown).await;
    let (_, files) = snapshot.having(&server("files")).next().unwrap();
    let catalog = read.catalog(files.catalog.as_ref().unwrap()).await.unwrap();
    assert_eq!(catalog, "[]");

    let log = nats.log();
    assert!(!log.contains("Violation"), "{log}");

    // It is no worker, and takes no lease.
    assert!(read.announce("here").await.is_err());
    assert!(Leases::open(&gateway, Storage::default()).await.is_err());
    tenure.close().await;
    announced.leave().await.unwrap();

    // Another's inbox is not for it: the server ends such a subscription.
    let raw = async_nats::ConnectOptions::with_user_and_password("g1".into(), "g".into());
    let raw = raw.connect(nats.url()).await.unwrap();
    for forbidden in [
        "mcpool-inbox.tools.w1.>",
        "mcpool.tools.files",
        "$KV.>",
        ">",
    ] {
        raw.subscribe(forbidden).await.unwrap();
        raw.flush().await.unwrap();
        let refused = format!("Subscription Violation - Subject \"{forbidden}\"");
        let seen = eventually(PATIENCE, || nats.log().contains(&refused));
        assert!(seen.await, "{forbidden}:\n{}", nats.log());
    }
}

/// It said that a bucket cannot be used, and nothing of why.
#[tokio::test]
async fn nats_without_jetstream_is_said_with_how_it_is_switched_on() {
    let Some(nats) = NatsServer::start_without_jetstream().await else {
        return;
    };
    let carrier = connect(&nats.url(), "w1").await;
    let error = Leases::open(&carrier, Storage::default())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect);
    assert_eq!(
        error.message(),
        "NATS runs without JetStream, in which the pool keeps its data: start nats-server with \
         `-js`, or write `jetstream {}` into its configuration"
    );
    let accounts = "accounts { A { users: [{ user: a, password: b }] } }";
    let Some(nats) = NatsServer::start_with(accounts).await else {
        return;
    };
    let login = options(&nats.url(), "w1").with_user("a", Secret::new("b"));
    let carrier = Carrier::connect(&login).await.unwrap();
    let error = Leases::open(&carrier, Storage::default())
        .await
        .unwrap_err();
    assert_eq!(
        error.message(),
        "this login's account at NATS has no JetStream, in which the pool keeps its data: write \
         `jetstream: enabled` into the account in the configuration of nats-server"
    );
}
