//! The walk of `docs/fleet.md`.

use mcpool_testkit::nats::NatsServer;
use nix::sys::signal::Signal;
use serde_json::json;

use crate::{
    machines::{POOL, api, call, fleet, gateway, worker, workers_of},
    support::{Place, good, until},
};

#[tokio::test]
async fn two_workers_and_two_gateways_lose_one_of_each() {
    let Some(mut nats) = NatsServer::start().await else {
        return;
    };
    let place = Place::with(json!({ "calc": good() }));
    let first = worker(&place, &nats, "w1", &[]);
    let mut second = worker(&place, &nats, "w2", &[]);
    let (_at1, gone, one) = gateway(&nats, "g1");
    let (at2, mut kept, two) = gateway(&nats, "g2");
    for address in [&one, &two] {
        let seen = fleet(address, "both are ready", |fleet| {
            workers_of(fleet, "calc", "ready").len() == 2
        });
        assert_eq!(
            (&seen["pool"], &seen["connected"]),
            (&json!(POOL), &json!(true))
        );
        let worker = &seen["workers"][0];
        assert_eq!(
            (&worker["worker"], &worker["place"]),
            (&json!("w1"), &json!("rack 7"))
        );
        let server = &worker["servers"][0];
        assert_eq!(
            (&server["tools"], &server["sharing"]),
            (&json!(2), &json!("many"))
        );
        let run = call(&at2, address, "calc__add");
        assert_eq!(run.code(), 0, "{}", run.stderr());
        assert_eq!(run.stdout().trim(), "42");
    }

    // A worker is killed: what it had is at the other.
    first.kill();
    let answered = until("the other worker answers", || {
        let run = call(&at2, &one, "calc__add");
        // A call that was under way may have run, and says so.
        assert!([0, 4, 5, 6].contains(&run.code()), "{}", run.stderr());
        (run.code() == 0).then(|| run.stdout())
    });
    assert_eq!(answered.trim(), "42");

    // A gateway is killed: the other has the same servers.
    gone.kill();
    assert_eq!(call(&at2, &two, "calc__add").stdout().trim(), "42");
    let seen = fleet(&two, "w1 is gone", |fleet| {
        fleet["workers"][0]["here"] == false
    });
    assert_eq!(workers_of(&seen, "calc", "ready"), ["w2"]);

    // NATS is killed and comes back: nobody has to be started again.
    nats.kill();
    fleet(&two, "NATS is away", |fleet| fleet["connected"] == false);
    nats.restart().await;
    until("it goes on", || {
        (call(&at2, &two, "calc__add").code() == 0).then_some(())
    });

    // The command line shows the same, with no config.
    let nats_url = nats.url();
    let args = ["status", "--json", "--nats", &nats_url, "--pool", POOL];
    let status = until("the status shows both", || {
        let status = at2.run(&args).json(0);
        (status["fleet"]["workers"].as_array()?.len() == 2).then_some(status)
    });
    assert_eq!(status["fleet"]["workers"][1]["here"], true, "{status}");
    let text = at2
        .run(&["status", "--nats", &nats_url, "--pool", POOL])
        .stdout();
    assert!(text.contains("w1") && text.contains("gone"), "{text}");

    // Nobody answers any more. A gateway that starts now lists the tools all the same.
    second.signal(Signal::SIGKILL);
    second.wait();
    let (at3, _late, three) = gateway(&nats, "g3");
    let tools = until("the last good catalog is there", || {
        let tools = api(&three, "servers/calc/tools")?["tools"].take();
        (tools.as_array()?.len() == 2).then_some(tools)
    });
    assert!(tools.to_string().contains("\"add\""), "{tools}");
    let listed = at3.run(&["tools", &format!("http://{three}/mcp")]).stdout();
    assert!(listed.contains("calc__add"), "{listed}");

    // A worker comes back, and is called at once.
    let again = worker(&place, &nats, "w2", &[]);
    let run = until("it is called again", || {
        let run = call(&at3, &three, "calc__add");
        (run.code() == 0).then_some(run)
    });
    assert_eq!(run.stdout().trim(), "42");

    // One that goes in good order takes itself off.
    again.signal(Signal::SIGTERM);
    let mut again = again;
    assert_eq!(again.wait(), Some(128 + 15), "{}", again.log());
    fleet(&three, "w2 has left", |fleet| {
        fleet["workers"]
            .as_array()
            .unwrap()
            .iter()
            .all(|worker| worker["worker"] != "w2")
    });
    kept.signal(Signal::SIGTERM);
    assert_eq!(kept.wait(), Some(128 + 15), "{}", kept.log());
}

#[tokio::test]
async fn a_server_that_fails_says_why_and_watch_tells_what_happens() {
    let Some(nats) = NatsServer::start().await else {
        return;
    };
    let broken = json!({"command": "sh", "args": ["-c", "echo no database >&2; exit 3"]});
    let place = Place::with(json!({ "files": broken }));
    let url = nats.url();
    let watching = Place::empty();
    let watch = watching.start(&["watch", "--nats", &url, "--pool", POOL]);
    let json_place = Place::empty();
    let lines = json_place.start(&["watch", "--json", "--nats", &url, "--pool", POOL]);
    let worker = worker(&place, &nats, "w1", &[]);
    watch.wait_for(|line| line.contains("worker w1 (rack 7)"));
    lines.wait_for(|line| line.contains(r#""event":"fleet""#) && line.contains("rack 7"));
    let status = until("it says why", || {
        let args = ["status", "--json", "--nats", &url, "--pool", POOL];
        let status = watching.run(&args).json(0);
        let server = &status["fleet"]["workers"][0]["servers"][0];
        server["why"].is_string().then_some(status)
    });
    let server = &status["fleet"]["workers"][0]["servers"][0];
    assert!(
        server["why"].as_str().unwrap().contains("exited"),
        "{server}"
    );
    assert_eq!(
        (&server["server"], &server["tools"]),
        (&json!("files"), &json!(0))
    );
    worker.kill();
    watch.wait_for(|line| line.contains("worker w1 (rack 7) is gone"));
}
