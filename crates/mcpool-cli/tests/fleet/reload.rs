//! A worker whose config changes while it runs.

use mcpool_testkit::nats::NatsServer;
use serde_json::{Value, json};

use crate::{
    leases::{ONE, check, ledger, life},
    machines::{call, fleet, gateway, worker},
    support::{Place, good, until},
};

/// A server of the only worker, as the fleet shows it.
fn served<'a>(fleet: &'a Value, server: &str) -> Option<&'a Value> {
    let mut servers = fleet["workers"][0]["servers"].as_array()?.iter();
    servers.find(|served| served["server"] == server)
}

#[tokio::test]
async fn a_worker_follows_its_config() {
    let Some(nats) = NatsServer::start().await else {
        return;
    };
    let place = Place::empty();
    let journal = place.path().join("journal");
    let ledger = ledger(&journal);
    place.write(json!({ "calc": good(), "ledger": ledger }));
    let (at, _gateway, address) = gateway(&nats, "g1");
    let worker = worker(&place, &nats, "w1", &ONE);
    let is = |server: &str, state: &str, more: &dyn Fn(&Value) -> bool| {
        let what = format!("{server} is {state}");
        let fleet = fleet(&address, &what, |fleet| {
            served(fleet, server).is_some_and(|served| served["state"] == state && more(served))
        });
        served(&fleet, server).unwrap().clone()
    };
    let any: &dyn Fn(&Value) -> bool = &|_| true;
    let first = is("ledger", "ready", any);
    life(&journal, 1);
    assert_eq!(is("calc", "ready", any)["sharing"], "many");

    // A new server, and one that is for each client from now on.
    let mut each = good();
    each["sharing"] = "client".into();
    place.write(json!({ "calc": each, "more": good(), "ledger": ledger }));
    is("more", "ready", any);
    until("the new one is called", || {
        (call(&at, &address, "more__add").code() == 0).then_some(())
    });
    fleet(&address, "it is for each client", |fleet| {
        served(fleet, "calc").is_some_and(|served| served["sharing"] == "each")
    });
    // The lease of what has not changed stays where it is.
    assert_eq!(is("ledger", "ready", any)["epoch"], first["epoch"]);
    life(&journal, 1);

    // What cannot be used changes nothing.
    let refused = |times: usize| {
        until("the config is refused", || {
            let log = worker.log();
            let refused = log.matches("the changed config is not used").count();
            (refused == times).then_some(log)
        })
    };
    place.write(json!({ "calc": {"command": 7} }));
    refused(1);
    assert_eq!(call(&at, &address, "more__add").code(), 0);

    // Another command for the one with a lease: the old one ends before, in an epoch of its own.
    let mut changed = ledger.clone();
    changed["env"] = json!({"CHANGED": "1"});
    place.write(json!({ "more": good(), "ledger": changed }));
    let newer = |served: &Value| served["epoch"].as_u64() > first["epoch"].as_u64();
    let second = is("ledger", "ready", &newer);
    life(&journal, 2);
    fleet(&address, "calc is gone", |fleet| {
        served(fleet, "calc").is_none()
    });

    // Without it, and with it again.
    place.write(json!({ "more": good() }));
    fleet(&address, "the ledger is gone", |fleet| {
        served(fleet, "ledger").is_none()
    });
    place.write(json!({ "more": good(), "ledger": changed }));
    let newer = |served: &Value| served["epoch"].as_u64() > second["epoch"].as_u64();
    is("ledger", "ready", &newer);
    life(&journal, 3);
    check(&journal);

    // Both ways at once is no config for it, and nothing ends.
    let mut both = changed.clone();
    both["sharing"] = "client".into();
    place.write(json!({ "ledger": both }));
    assert!(refused(2).contains("--each or --one"));
    assert_eq!(call(&at, &address, "more__add").code(), 0);
    check(&journal);
}
