//! The processes of a fleet that is simulated: all workers in one, each gateway in one of its own.
//! What they are given are arguments and lines on standard input, at whose end they end.

use std::{sync::Arc, time::Duration};

use mcpool::{
    ConnectionManager, ServerSpec, ServerStatus, StandardFactory, StateKind, StdioSpec,
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
const LOOK: Duration = Duration::from_millis(20);

fn is_ready(status: &ServerStatus) -> bool {
    status.state == StateKind::Ready
}

/// Milliseconds until so many servers are there and are so; each is looked at until it was.
async fn until(
    manager: &ConnectionManager,
    servers: usize,
    began: Instant,
    is: impl Fn(&ServerStatus) -> bool,
) -> Outcome<u128> {
    while manager.names().len() < servers {
        tokio::time::sleep(LOOK).await;
    }
    let mut waiting = Vec::new();
    for name in manager.names() {
        waiting.push(manager.server(name.as_str())?);
    }
    while !waiting.is_empty() {
        waiting.retain(|server| !server.status().is_ok_and(|status| is(&status)));
        tokio::time::sleep(LOOK).await;
    }
    Ok(began.elapsed().as_millis())
}

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

/// A gateway that follows the pool. It says after how many milliseconds it listed the tools of all
/// servers, after how many all were connected, and where it serves.
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
    let (listed, ready) = tokio::try_join!(
        until(&manager, servers, began, |status| status.tools > 0),
        until(&manager, servers, began, is_ready),
    )?;
    println!("{listed}\n{ready}");
    println!("http://{address}");
    // Until its end.
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while lines.next_line().await?.is_some() {}
    Ok(())
}
