//! Every metric of the table in `docs/metrics.md` is recorded, with its labels.

use std::{collections::BTreeMap, time::Duration};

use mcpool_core::{Delivery, Error, ErrorKind};
use mcpool_manager::{CallOptions, ConnectionManager, Refresh};
use metrics_util::debugging::{DebugValue, DebuggingRecorder};

use crate::scripted::*;

#[test]
fn everything_in_the_table_is_recorded() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    let probes = metrics::with_local_recorder(&recorder, || runtime.block_on(live()));
    let mut seen: BTreeMap<String, BTreeMap<String, DebugValue>> = BTreeMap::new();
    for (key, _, _, value) in snapshotter.snapshot().into_vec() {
        let labels: Vec<String> = key
            .key()
            .labels()
            .map(|label| format!("{}={}", label.key(), label.value()))
            .collect();
        seen.entry(key.key().name().to_owned())
            .or_default()
            .insert(labels.join(","), value);
    }
    let counter = |name: &str, labels: &str| match seen.get(name).and_then(|m| m.get(labels)) {
        Some(DebugValue::Counter(n)) => *n,
        other => panic!("{name}{{{labels}}} is {other:?}; there are {seen:#?}"),
    };
    assert_eq!(counter("mcpool_connects_total", "server=a"), 3);
    assert_eq!(
        counter("mcpool_connect_failures_total", "server=a,kind=connect"),
        1
    );
    assert_eq!(
        counter("mcpool_disconnects_total", "server=a,cause=remote_closed"),
        1
    );
    assert_eq!(
        counter("mcpool_reconnects_total", "server=a,cause=remote_closed"),
        1
    );
    assert_eq!(
        counter("mcpool_disconnects_total", "server=a,cause=shutdown"),
        1
    );
    // The check, and what the two broken calls gave rise to.
    assert!(probes >= 2);
    assert_eq!(
        counter("mcpool_probes_total", "server=a,outcome=ok"),
        probes
    );
    assert_eq!(
        counter(
            "mcpool_calls_total",
            "server=a,method=tools/call,outcome=ok"
        ),
        1
    );
    assert_eq!(
        counter(
            "mcpool_calls_total",
            "server=a,method=tools/call,outcome=outcome_unknown"
        ),
        1
    );
    assert_eq!(
        counter(
            "mcpool_calls_total",
            "server=a,method=tools/call,outcome=dropped"
        ),
        1
    );
    assert_eq!(counter("mcpool_calls_outcome_unknown_total", "server=a"), 1);
    assert_eq!(counter("mcpool_calls_replayed_total", "server=a"), 1);
    assert_eq!(
        counter("mcpool_catalog_fetches_total", "server=a,method=tools/list"),
        1
    );
    assert!(counter("mcpool_events_dropped_total", "") > 0);
    for gauge in ["mcpool_up", "mcpool_calls_in_flight"] {
        assert_eq!(
            seen[gauge]["server=a"],
            DebugValue::Gauge(0.0.into()),
            "{gauge}"
        );
    }
    assert!(matches!(
        seen["mcpool_catalog_age_seconds"]["server=a"],
        DebugValue::Gauge(_)
    ));
    let ready = match &seen["mcpool_state_seconds"]["server=a,state=ready"] {
        DebugValue::Histogram(values) => values.iter().map(|v| v.into_inner()).sum::<f64>(),
        other => panic!("{other:?}"),
    };
    assert!((10.0..20.0).contains(&ready), "{ready}");
    for histogram in ["mcpool_connect_seconds", "mcpool_probe_seconds"] {
        assert!(matches!(
            seen[histogram]["server=a"],
            DebugValue::Histogram(_)
        ));
    }
    assert!(matches!(
        seen["mcpool_call_seconds"]["server=a,method=tools/call"],
        DebugValue::Histogram(_)
    ));
    // What is recorded is what is documented.
    let table = include_str!("../../../../docs/metrics.md");
    for name in seen.keys() {
        assert!(
            table.contains(&format!("`{name}`")),
            "{name} is not in docs/metrics.md"
        );
    }
    let documented = table.matches("| `mcpool_").count();
    assert_eq!(
        documented,
        seen.len(),
        "the table has rows that are not recorded"
    );
}

/// Something of everything; gives how many probes there were.
async fn live() -> u64 {
    let world = World::new();
    let manager = ConnectionManager::builder(world.factory())
        .with_event_capacity(1)
        .build();
    let mut slow = manager.events();
    let fake = world.server("a");
    fake.next(Op::Connect, Act::Fail(refused()));
    manager.add(spec("a")).unwrap();
    let options = CallOptions::new();
    call_tool(&manager, "a", "echo", None, &options)
        .await
        .unwrap();
    of(&manager, "a").health_check().await.unwrap();
    manager.tools(Refresh::Force).await;
    let broke = |delivery| {
        Act::Fail(Error::new(ErrorKind::ConnectionLost, "it broke").with_delivery(delivery))
    };
    fake.next(Op::Call, broke(Delivery::Unknown));
    call_tool(&manager, "a", "echo", None, &options)
        .await
        .unwrap_err();
    fake.next(Op::Call, broke(Delivery::NotSent));
    of(&manager, "a")
        .with_call_options(options.clone())
        .read_resource("file:///x")
        .await
        .unwrap();
    fake.next(Op::Call, Act::Never);
    let dropped = call_tool(&manager, "a", "echo", None, &options);
    tokio::time::timeout(Duration::from_secs(1), dropped)
        .await
        .unwrap_err();
    tokio::time::sleep(Duration::from_secs(11)).await;
    die(&fake);
    of(&manager, "a")
        .ready_client(Duration::from_secs(60))
        .await
        .unwrap();
    manager.shutdown(Duration::from_secs(5)).await;
    while slow.recv().await.is_some() {}
    u64::try_from(fake.count(Op::Probe)).unwrap()
}
