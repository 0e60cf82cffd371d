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
    let up = place.run(&["up", "--nats", &url, "--pool", POOL, "--nats-name", "g1"]);
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
    assert_eq!(place.run(&["down"]).code(), 0);
    let alone = place.run(&["status", "--json"]).json(0);
    assert!(alone.get("fleet").is_none(), "{alone}");
}
