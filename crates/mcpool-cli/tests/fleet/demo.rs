//! `mcpool demo --fleet`

use mcpool_testkit::machine::{servers, skip};

use crate::support::Place;

#[test]
fn it_kills_one_of_each_and_ends_with_no_process_left() {
    let program = servers().join("nats/bin/nats-server");
    if !program.exists() {
        return skip("nats-server", "not installed; run `cargo xtask servers`");
    }
    let program = program.canonicalize().unwrap();
    let place = Place::empty();
    let temporary = place.path().join("tmp");
    std::fs::create_dir(&temporary).unwrap();
    let mut command = place.command(&["demo", "--fleet", "--nats-server"]);
    let run = crate::support::Run::of(command.arg(program).env("TMPDIR", &temporary));
    let text = run.stdout();
    assert_eq!(run.code(), 0, "{text}\n{}", run.stderr());
    for wanted in [
        "Kill worker",
        "ledger is taken over by",
        "Kill a node of NATS",
        "Kill gateway g1",
        "processes left: 0",
    ] {
        assert!(text.contains(wanted), "{wanted} is missing in\n{text}");
    }
    let left: Vec<_> = std::fs::read_dir(&temporary).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn without_nats_server_it_says_what_is_missing() {
    let place = Place::empty();
    let run = crate::support::Run::of(place.command(&["demo", "--fleet"]).env("PATH", "/nowhere"));
    assert_eq!(run.code(), 2);
    let said = run.stderr();
    assert!(said.contains("nats-server, which is not in PATH"), "{said}");
    assert!(said.contains("--nats-server PATH"), "{said}");
    let run = place.run(&["demo", "--fleet", "--nats-server", "/no/such"]);
    assert_eq!(run.code(), 2);
    assert!(
        run.stderr().contains("/no/such is not a program"),
        "{}",
        run.stderr()
    );
}
