//! Two builds in one pool: `MCPOOL_OLDER` names the program of an older one, built with the feature
//! `nats`.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use mcpool_e2e::{Cli, rounds};
use mcpool_testkit::nats::NatsServer;
use serde_json::{Value, json};

use crate::{
    leases::{Lives, lengths},
    load::{COUNT, Load},
    rig::{Fleet, Gateway, POOL, handles, leaves_signs, over_http, served, terminate},
};

const SERVERS: [&str; 2] = ["work", "l0"];
const TERMS: [&str; 4] = ["--one", "l0", "--lease", "5s"];

/// The workers of the pool as this program shows them, in order.
fn shown(cli: &Cli, url: &str) -> Vec<String> {
    let args = ["status", "--nats", url, "--pool", POOL, "--json"];
    let status = cli.run(&args).json();
    let workers = status["fleet"]["workers"].as_array();
    let workers = workers.unwrap_or_else(|| panic!("{status}"));
    let name = |worker: &Value| worker["worker"].as_str().unwrap().to_owned();
    workers.iter().map(name).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_program_works_with_this_one() {
    let Some(program) = std::env::var_os("MCPOOL_OLDER").map(PathBuf::from) else {
        println!("not run: MCPOOL_OLDER names no older program");
        return;
    };
    let Some(nats) = NatsServer::start().await else {
        return;
    };
    let signs = tempfile::tempdir().unwrap();
    let alive = signs.path().join("alive");
    let this = Fleet::of(&SERVERS, leaves_signs("l0", &alive));
    let older = this.like(|cli| cli.with_program(program.clone()));
    let url = nats.url();
    let run = |number: usize| {
        let fleet = [&older, &this][number % 2];
        fleet.worker_with(&url, &format!("w{number}"), &TERMS)
    };
    let mut workers = vec![run(0), run(1)];
    let gateway = Gateway::start_for(&url, "g0", &SERVERS).await;
    // Without servers of their own: `status` would start them.
    let none = || Cli::new(json!({"mcpServers": {}}));
    let (looking, empty) = (none(), none().with_program(program));
    let before = served(&empty, &url, &[]).await;
    let (clients, over_http) = over_http(before.port(), &SERVERS).await;
    let mut servers = handles(std::slice::from_ref(&gateway));
    servers.extend(over_http);
    let load = Load::start(&servers, rounds(4, 16), COUNT);
    load.goes_on().await;
    gateway.sees(2).await;
    assert_eq!(shown(&looking, &url), ["w0", "w1"]);
    assert_eq!(shown(&empty, &url), ["w0", "w1"]);
    let mut times = Vec::new();
    for round in 0..rounds(4, 20) {
        gateway.sees(2).await;
        load.goes_on().await;
        let (victim, at) = (round % 2, Instant::now());
        // Twice in good order, twice killed: the lease goes both ways in both.
        match round / 2 % 2 {
            0 => terminate(&mut workers[victim]).await,
            _ => workers[victim].kill(),
        }
        times.push(load.recovered(at).await);
        workers[victim] = run(victim);
    }
    let gaps = lengths(&Lives::read(&alive).gaps());
    assert!(!gaps.is_empty(), "nobody took over");
    println!("between two owners: {gaps:.3?}");
    let what = "an older program and this one";
    this.judge(what, load, vec![gateway], workers, times).await;
    clients.shutdown(Duration::from_secs(10)).await;
    drop(before);
    older.nothing_left().await;
}
