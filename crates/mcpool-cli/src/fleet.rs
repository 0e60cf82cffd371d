//! The workers of a pool, as commands and the gateway show them.

use std::collections::BTreeMap;

use mcpool::gateway::Fleet;
#[cfg(feature = "nats")]
use mcpool::{
    ServerSpec,
    gateway::{FleetServer, FleetWorker},
    nats::{Carrier, Follow, Sharing, kv::FleetSnapshot},
};

use crate::{
    render::{table::Table, text::Text},
    text,
};

/// A snapshot of a pool in the form that is shown.
#[cfg(feature = "nats")]
pub(crate) fn shown(carrier: &Carrier, snapshot: &FleetSnapshot) -> Fleet {
    let workers = snapshot.workers.iter().map(|(name, worker)| FleetWorker {
        worker: name.to_string(),
        place: worker.place.clone(),
        here: worker.is_here,
        servers: worker
            .servers
            .values()
            .map(|server| FleetServer {
                server: server.name.clone(),
                state: server.state.clone(),
                sharing: word(server.sharing).to_owned(),
                epoch: server.epoch.get(),
                tools: server.tools,
                why: server.why.clone(),
            })
            .collect(),
    });
    Fleet {
        pool: carrier.pool().to_string(),
        connected: carrier.is_connected(),
        workers: workers.collect(),
    }
}

/// Adds the servers of a pool to those of a config, whose own come first.
#[cfg(feature = "nats")]
pub(crate) fn add(pool: &Follow, specs: &mut Vec<ServerSpec>) {
    let mut more = pool.specs();
    more.retain(|spec| specs.iter().all(|own| own.name != spec.name));
    specs.append(&mut more);
}

#[cfg(feature = "nats")]
fn word(sharing: Sharing) -> &'static str {
    match sharing {
        Sharing::One => "one",
        Sharing::Each => "each",
        // A later version's as well: many are safe to call.
        _ => "many",
    }
}

/// The workers as a table, and why servers are not connected.
pub(crate) fn table(fleet: &Fleet, columns: usize) -> Text {
    let mut text = match fleet.connected {
        true => text!("pool {}\n", fleet.pool),
        false => text!("pool {}, as it was when NATS was there\n", fleet.pool),
    };
    if fleet.workers.is_empty() {
        text.push(&text!("no worker of it is known\n"));
        return text;
    }
    let mut table = Table::new(&["WORKER", "WHERE", "SERVER", "STATE", "TOOLS", "SHARED"]);
    let mut reasons: BTreeMap<(&str, &str), &str> = BTreeMap::new();
    for worker in &fleet.workers {
        let place = or_dash(&worker.place);
        if worker.servers.is_empty() {
            let state = if worker.here { "-" } else { "gone" };
            table.row([worker.worker.as_str(), place, "-", state, "-", "-"]);
        }
        for server in &worker.servers {
            let name = server.server.as_str();
            let state = if worker.here {
                server.state.as_str()
            } else {
                "gone"
            };
            let shared = match server.epoch {
                0 => server.sharing.clone(),
                epoch => format!("{}, epoch {epoch}", server.sharing),
            };
            let tools = server.tools.to_string();
            table.row([worker.worker.as_str(), place, name, state, &tools, &shared]);
            if let Some(why) = server.why.as_deref().filter(|_| worker.here) {
                reasons.insert((worker.worker.as_str(), name), why);
            }
        }
    }
    text.push(&table.to_text());
    for ((worker, server), why) in reasons {
        text.push(&text!("\n"));
        text.push(&text!("{} at {}: {}", server, worker, why).wrapped("", "  ", columns));
    }
    text
}

/// What has changed from one look to the next, a line for each worker.
#[cfg(feature = "nats")]
pub(crate) fn changes(before: &Fleet, after: &Fleet) -> Vec<Text> {
    let known = |name: &str| before.workers.iter().find(|worker| worker.worker == name);
    let mut lines = Vec::new();
    for worker in &after.workers {
        if known(&worker.worker) == Some(worker) {
            continue;
        }
        let place = match worker.place.as_str() {
            "" => text!(""),
            place => text!(" ({})", place),
        };
        let servers = worker.servers.iter();
        let servers = servers.map(|server| text!("{} {}", server.server, server.state));
        lines.push(match worker.here {
            true => text!(
                "worker {}{}: {}",
                worker.worker,
                place,
                Text::join(servers, ", ")
            ),
            false => text!("worker {}{} is gone", worker.worker, place),
        });
    }
    let gone = before.workers.iter().filter(|worker| {
        let mut workers = after.workers.iter();
        !workers.any(|one| one.worker == worker.worker)
    });
    lines.extend(gone.map(|worker| text!("worker {} has left", worker.worker)));
    if before.connected != after.connected {
        lines.push(match after.connected {
            true => text!("NATS is there"),
            false => text!("NATS is away"),
        });
    }
    lines
}

fn or_dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}

#[cfg(test)]
#[cfg(feature = "nats")]
mod tests {
    use super::*;

    fn fleet(workers: &[(&str, bool, &str)]) -> Fleet {
        let worker = |(name, here, state): &(&str, bool, &str)| FleetWorker {
            worker: (*name).to_owned(),
            place: "rack 7".to_owned(),
            here: *here,
            servers: vec![FleetServer {
                server: "files".parse().unwrap(),
                state: (*state).to_owned(),
                sharing: "one".to_owned(),
                epoch: 7,
                tools: 2,
                why: (*state == "backoff").then(|| "it \u{1b}[31mexits".to_owned()),
            }],
        };
        Fleet {
            pool: "tools".to_owned(),
            connected: true,
            workers: workers.iter().map(worker).collect(),
        }
    }

    #[test]
    fn each_server_has_a_row_and_strangers_are_cleaned() {
        let shown = table(
            &fleet(&[("w1", true, "backoff"), ("w2", false, "ready")]),
            80,
        );
        let text = shown.as_str();
        assert!(
            text.contains("w1") && text.contains("one, epoch 7"),
            "{text}"
        );
        assert!(text.contains("files at w1: it"), "{text}");
        let gone = text.lines().find(|line| line.starts_with("w2")).unwrap();
        assert!(gone.contains("gone") && !gone.contains("ready"), "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn what_changed_is_a_line_of_its_worker() {
        let before = fleet(&[
            ("w1", true, "ready"),
            ("w2", true, "standby"),
            ("w3", true, "ready"),
        ]);
        let mut after = fleet(&[
            ("w1", false, "ready"),
            ("w2", true, "ready"),
            ("w3", true, "ready"),
        ]);
        let lines = |after: &Fleet| -> Vec<String> {
            let lines = changes(&before, after).into_iter();
            lines.map(|line| line.as_str().to_owned()).collect()
        };
        assert_eq!(
            lines(&after),
            [
                "worker w1 (rack 7) is gone",
                "worker w2 (rack 7): files ready"
            ]
        );
        after.workers.clear();
        after.connected = false;
        assert_eq!(lines(&after).len(), 4);
        assert!(changes(&before, &before).is_empty());
    }
}
