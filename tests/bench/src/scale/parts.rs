//! The processes of a fleet that is simulated: all workers in one, each gateway in one of its own.
//! What they are given are arguments and lines on standard input, at whose end they end.

use std::{sync::Arc, time::Duration};

use mcpool::{
    ConnectionManager, ServerSpec, StandardFactory, StateKind, StdioSpec,
    gateway::{Gateway, HttpOptions, HttpServer},
    nats::{Carrier, Follow, Identity, NatsOptions, PoolName, Worker, kv::Storage},
};
use mcpool_testkit::{FakeFactory, tool};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    net::TcpListener,
    time::Instant,
};

use crate::Outcome;

/// The pool of the simulation.
pub(super) const POOL: &str = "scale";

/// How often a gateway looks how far it has come.
const LOOK: Duration = Duration::from_millis(10);

/// The name of a server.
pub(super) fn name(server: usize) -> String {
    format!("s{server}")
}

pub(super) async fn carrier(nats: &str, identity: &str) -> Outcome<Carrier> {
    let options = NatsOptions::new([nats], PoolName::new(POOL)?);
    let options = options.with_identity(Identity::new(identity)?);
    Ok(Carrier::connect(&options).await?)
}

/// Workers whose servers are fakes, dealt out in turn. A line is the number of a server: its tools
/// change.
pub(super) async fn workers(nats: &str, workers: usize, servers: usize) -> Outcome {
    let mut factories = Vec::new();
    for worker in 0..workers {
        let factory = FakeFactory::new();
        let manager = ConnectionManager::new(Arc::new(factory.clone()));
        let specs = (worker..servers).step_by(workers).map(|server| {
            let spec = ServerSpec::stdio(name(server), StdioSpec::new("not started"))?;
            Ok(spec)
        });
        let specs = specs.collect::<Outcome<_>>()?;
        manager.start(specs).await?.all_connected()?;
        let carrier = carrier(nats, &format!("w{worker}")).await?;
        let served = Worker::new(carrier, manager);
        let report = served.report("simulated", Storage::default());
        tokio::spawn(served.run(std::future::pending()));
        tokio::spawn(report.run(std::future::pending()));
        factories.push(factory);
    }
    println!("up");
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let mut changes = 0;
    while let Some(line) = lines.next_line().await? {
        let server: usize = line.parse()?;
        changes += 1;
        let tools = vec![tool("echo"), tool(&format!("new_{changes}"))];
        let factory = &factories[server % workers];
        factory.server(&name(server)).change_tools(tools);
    }
    Ok(())
}

/// A gateway that follows the pool. It says when it lists the tools of all servers, when all are
/// connected, and where it serves.
pub(super) async fn gateway(nats: &str, identity: &str, servers: usize) -> Outcome {
    let began = Instant::now();
    let manager = ConnectionManager::new(Arc::new(StandardFactory::new()));
    let follow = Follow::new(carrier(nats, identity).await?);
    let (followed, gateway) = (manager.clone(), Gateway::builder(manager.clone()).build());
    tokio::spawn(async move { follow.run(&followed).await });
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let router = gateway.router(HttpOptions::new());
    let served = gateway.clone();
    tokio::spawn(async move { HttpServer::new().serve(&served, listener, router).await });
    let mut said = false;
    loop {
        let (mut listed, mut ready) = (0, 0);
        for status in manager.status_all() {
            listed += usize::from(status.tools > 0);
            ready += usize::from(status.state == StateKind::Ready);
        }
        let passed = began.elapsed().as_millis();
        if listed >= servers && !std::mem::replace(&mut said, true) {
            println!("{passed}");
        }
        if said && ready >= servers {
            println!("{passed}");
            break;
        }
        tokio::time::sleep(LOOK).await;
    }
    println!("http://{address}");
    // Until its end.
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while lines.next_line().await?.is_some() {}
    Ok(())
}
