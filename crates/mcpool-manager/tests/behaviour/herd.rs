//! Many servers at one instant: the budget holds, and the herd is spread.

use mcpool_core::StateKind;
use std::time::Duration;

use mcpool_core::ConnectBudget;
use mcpool_manager::ConnectionManager;
use tokio::time::Instant;

use crate::scripted::*;

#[tokio::test(start_paused = true)]
async fn forty_servers_that_restart_at_one_instant_stay_within_the_budget() {
    let world = World::new();
    let budget = ConnectBudget::new(8, 32);
    let manager = ConnectionManager::builder(world.factory())
        .with_budget(budget)
        .build();
    let names: Vec<String> = (0..40).map(|n| format!("s{n:02}")).collect();
    for name in &names {
        world
            .server(name)
            .always(Op::Connect, Act::AnswerAfter(Duration::from_millis(300)));
    }
    manager
        .start(names.iter().map(|name| spec(name)).collect())
        .await
        .unwrap();
    assert_eq!(world.connecting().most(), 8);
    tokio::time::sleep(Duration::from_secs(5)).await;

    let restarted = Instant::now();
    for name in &names {
        die(&world.server(name));
    }
    eventually("all are back", || {
        names
            .iter()
            .all(|name| world.server(name).count(Op::Connect) == 2)
            && manager
                .status_all()
                .iter()
                .all(|status| status.state == StateKind::Ready)
    })
    .await;
    assert_eq!(world.connecting().most(), 8);

    let mut histogram = [0usize; 20];
    let mut last = Duration::ZERO;
    for name in &names {
        let times = world.server(name).connect_times();
        assert_eq!(times.len(), 2);
        let after = times[1] - restarted;
        last = last.max(after);
        let bucket = usize::try_from(after.as_millis() / 150).unwrap();
        histogram[bucket.min(19)] += 1;
    }
    println!("40 servers restarted at one instant; connects begun, by 150 ms:");
    for (bucket, count) in histogram.iter().enumerate().filter(|(_, n)| **n > 0) {
        println!("{:>5} ms {:>3} {}", bucket * 150, count, "#".repeat(*count));
    }
    // Never more than the budget in the time of one connect, so five waves at least.
    assert!(last >= Duration::from_millis(4 * 300), "{last:?}");
    assert!(
        histogram.iter().filter(|n| **n > 0).count() >= 5,
        "{histogram:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_thousand_servers_start_and_end() {
    let world = World::new();
    let manager = ConnectionManager::new(world.factory());
    let specs = (0..1000).map(|n| spec(&format!("s{n:04}"))).collect();
    let report = manager.start(specs).await.unwrap();
    assert!(report.connected.iter().all(|(_, r)| r.is_ok()));
    let tools = manager.tools(mcpool_manager::Refresh::IfStale).await;
    assert_eq!(tools.len(), 2000);
    manager
        .call_with("s0777__echo", (), &mcpool_manager::CallOptions::new())
        .await
        .unwrap();
    let report = manager.shutdown(Duration::from_secs(5)).await;
    assert_eq!(report.closed.len(), 1000);
    assert_eq!(world.clients().now(), 0);
}
