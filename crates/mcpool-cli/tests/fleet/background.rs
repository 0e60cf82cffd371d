//! `mcpool up` as a gateway of a fleet, and what `mcpool status` shows through it.

use mcpool_testkit::nats::NatsServer;
use serde_json::json;

use crate::{
    machines::{POOL, worker},
    support::{Place, good, until},
};

#[tokio::test]
async fn a_gateway_in_the_background_shows_the_fleet() {
    let Some(nats) = NatsServer::start().await else {
        return;
    };
    let at_worker = Place::with(json!({ "calc": good() }));
    let _worker = worker(&at_worker, &nats, "w1", &[]);
    let place = Place::with(json!({ "own": good() }));
    let url = nats.url();
    let up = ["up", "--nats", &url, "--pool", POOL, "--nats-name", "g1"];
    let up = place.run(&[&up[..], &["--spread", "3"]].concat());
    assert_eq!(up.code(), 0, "{}", up.stderr());
    let status = until("it shows the worker", || {
        let status = place.run(&["status", "--json"]).json(0);
        let server = &status["fleet"]["workers"][0]["servers"][0];
        (server["state"] == "ready").then_some(status)
    });
    assert_eq!(status["servers"][0]["name"], "own");
    let text = place.run(&["status"]).stdout();
    assert!(
        text.contains("pool test") && text.contains("rack 7"),
        "{text}"
    );
    // Each session has an inbox named by 32 digits, beside those of the process itself.
    until("it has three sessions with the server", || {
        let connections = nats.ask("/connz?subs=1")?;
        let connections: serde_json::Value = serde_json::from_str(&connections).unwrap();
        let connections = connections["connections"].as_array().unwrap().iter();
        let subjects = connections.flat_map(|one| one["subscriptions_list"].as_array());
        let inboxes = subjects.flatten().filter_map(serde_json::Value::as_str);
        let sessions = inboxes.filter(|subject| {
            let session = subject.strip_prefix("mcpool-inbox.test.g1.");
            session.is_some_and(|session| session.ends_with(".*") && session.len() == 34)
        });
        (sessions.count() == 3).then_some(())
    });
    assert_eq!(place.run(&["down"]).code(), 0);
    let alone = place.run(&["status", "--json"]).json(0);
    assert!(alone.get("fleet").is_none(), "{alone}");
}
