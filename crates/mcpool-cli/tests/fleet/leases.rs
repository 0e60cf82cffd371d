//! Servers that run once in the pool: what they write down shows that they never ran twice.

use std::path::{Path, PathBuf};

use mcpool_testkit::nats::NatsServer;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::{
    machines::{Machine, call, fleet, gateway, worker, workers_of},
    support::{Place, scripted_life, until},
};

/// A short lease, so that the test is.
pub(crate) const ONE: [&str; 4] = ["--one", "ledger", "--lease", "5s"];

/// A server that writes its number down twenty times a second for as long as anything of it runs.
pub(crate) fn ledger(journal: &Path) -> Value {
    // In a config two dollars are one, so the shell's own number is asked for in another way.
    let birth = format!(
        r#"me=$(exec sh -c 'echo $PPID'); (while :; do echo "$me" >>"{}"; sleep 0.05; done) &"#,
        journal.display()
    );
    let answer = r#"printf '{"jsonrpc":"2.0","id":%s,"result":{"content":[{"type":"text","text":"kept"}]}}\n' "$id""#;
    scripted_life(&birth, answer, "")
}

/// The servers in their order. One that is in it twice ran beside another.
fn lives(journal: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(journal).unwrap_or_default();
    let mut lives: Vec<String> = text.lines().map(str::to_owned).collect();
    lives.dedup();
    lives
}

pub(crate) fn check(journal: &Path) {
    let lives = lives(journal);
    let mut once = lives.clone();
    once.sort();
    once.dedup();
    assert_eq!(once.len(), lives.len(), "two ran at once: {lives:?}");
}

/// Waits for the server of this number, from 1.
pub(crate) fn life(journal: &Path, number: usize) {
    until("the server runs", || {
        (lives(journal).len() >= number).then_some(())
    });
}

fn place() -> (Place, PathBuf) {
    let place = Place::empty();
    let journal = place.path().join("journal");
    place.write(json!({ "ledger": ledger(&journal) }));
    (place, journal)
}

fn owner(address: &str, but: &str) -> String {
    let seen = fleet(address, "somebody owns it", |fleet| {
        let owners = workers_of(fleet, "ledger", "ready");
        owners.len() == 1 && owners[0] != but
    });
    workers_of(&seen, "ledger", "ready")[0].to_owned()
}

/// Two workers, of which the first owns the server.
fn pair(place: &Place, nats: &NatsServer, address: &str) -> (Machine, Machine) {
    let first = worker(place, nats, "w1", &ONE);
    assert_eq!(owner(address, ""), "w1");
    let second = worker(place, nats, "w2", &ONE);
    fleet(address, "the other waits", |fleet| {
        workers_of(fleet, "ledger", "standby") == ["w2"]
    });
    (first, second)
}

#[tokio::test]
async fn the_owner_is_killed_and_the_other_takes_over() {
    let Some(nats) = NatsServer::start().await else {
        return;
    };
    let (place, journal) = place();
    let (at, _gateway, address) = gateway(&nats, "g1");
    let (first, second) = pair(&place, &nats, &address);
    life(&journal, 1);
    let kept = || {
        until("it answers", || {
            let run = call(&at, &address, "ledger__t");
            (run.code() == 0).then(|| run.stdout())
        })
    };
    assert_eq!(kept().trim(), "kept");
    let epoch = |fleet: &Value, at: usize| fleet["workers"][at]["servers"][0]["epoch"].as_u64();
    let before = fleet(&address, "an epoch", |fleet| {
        epoch(fleet, 0).is_some_and(|epoch| epoch > 0)
    });

    first.kill();
    assert_eq!(owner(&address, "w1"), "w2");
    life(&journal, 2);
    assert_eq!(kept().trim(), "kept");
    let after = fleet(&address, "a newer epoch", |fleet| {
        epoch(fleet, 1) > epoch(&before, 0)
    });
    assert_eq!(after["workers"][1]["servers"][0]["sharing"], "one");

    // In good order the lease is handed on at once.
    let third = worker(&place, &nats, "w3", &ONE);
    fleet(&address, "the third waits", |fleet| {
        workers_of(fleet, "ledger", "standby") == ["w3"]
    });
    second.signal(Signal::SIGTERM);
    assert_eq!(owner(&address, "w2"), "w3");
    life(&journal, 3);
    drop((second, third));
    check(&journal);
}

#[tokio::test]
async fn the_server_of_a_worker_that_is_stopped_dies_before_its_successor_begins() {
    let Some(nats) = NatsServer::start().await else {
        return;
    };
    let (place, journal) = place();
    let (_at, _gateway, address) = gateway(&nats, "g1");
    let (first, second) = pair(&place, &nats, &address);
    life(&journal, 1);

    first.signal(Signal::SIGSTOP);
    assert_eq!(owner(&address, "w1"), "w2");
    life(&journal, 2);
    // It goes on, and learns that it owns nothing.
    first.signal(Signal::SIGCONT);
    fleet(&address, "it waits", |fleet| {
        workers_of(fleet, "ledger", "standby") == ["w1"]
    });
    // Once more, the other way round.
    second.signal(Signal::SIGSTOP);
    assert_eq!(owner(&address, "w2"), "w1");
    life(&journal, 3);
    second.signal(Signal::SIGCONT);
    fleet(&address, "the other waits", |fleet| {
        workers_of(fleet, "ledger", "standby") == ["w2"]
    });
    drop((first, second));
    check(&journal);
}

#[tokio::test]
async fn what_cannot_be_owned_is_refused() {
    let Some(nats) = NatsServer::start().await else {
        return;
    };
    let (place, _) = place();
    let url = nats.url();
    let refused = |more: &[&str]| {
        let mut args = vec!["worker", "--nats", &url, "--pool", "test"];
        args.extend_from_slice(more);
        let run = place.run(&args);
        assert_eq!(run.code(), 2, "{}", run.stderr());
        run.stderr()
    };
    let said = refused(&["--one", "nobody"]);
    assert!(
        said.contains("there is no server nobody for --one"),
        "{said}"
    );
    let said = refused(&["--one", "ledger", "--each", "ledger"]);
    assert!(said.contains("--each or --one"), "{said}");
    let said = refused(&["--one", "ledger", "--lease", "2s"]);
    assert!(said.contains("a second at least"), "{said}");
    place.write(json!({"ledger": {"command": "true", "disabled": true}}));
    let said = refused(&["--one", "ledger"]);
    assert!(said.contains("disabled"), "{said}");
}
