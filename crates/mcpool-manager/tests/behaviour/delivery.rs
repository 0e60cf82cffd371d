//! What becomes of a request: delivery decides, the deadline bounds, nothing is lost in silence.

use std::time::Duration;

use mcpool_core::{
    Delivery, Error, ErrorKind, ReconnectPolicy, ServerPolicy, ServerSpec, model::ToolAnnotations,
};
use mcpool_manager::{CallOptions, ConnectionManager};
use tokio::time::Instant;

use crate::scripted::*;

async fn started(spec: ServerSpec) -> (World, FakeServer, ConnectionManager) {
    let world = World::new();
    let name = spec.name.to_string();
    let manager = ConnectionManager::new(world.factory());
    manager.start(vec![spec]).await.unwrap();
    let fake = world.server(&name);
    (world, fake, manager)
}

async fn call(manager: &ConnectionManager, tool: &str) -> Result<(), Error> {
    let options = CallOptions::new();
    call_tool(manager, "a", tool, None, &options)
        .await
        .map(drop)
}

fn lost(delivery: Delivery) -> Act {
    Act::Fail(Error::new(ErrorKind::ConnectionLost, "it broke").with_delivery(delivery))
}

#[tokio::test(start_paused = true)]
async fn what_did_not_run_is_sent_once_more() {
    for delivery in [Delivery::NotSent, Delivery::Rejected] {
        let (_world, fake, manager) = started(spec("a")).await;
        fake.next(Op::Call, lost(delivery));
        call(&manager, "echo").await.unwrap();
        assert_eq!(fake.count(Op::Call), 2);
        // But not twice more.
        fake.next(Op::Call, lost(delivery));
        fake.next(Op::Call, lost(delivery));
        let error = call(&manager, "echo").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionLost);
        assert_eq!(fake.count(Op::Call), 4);
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_session_is_replayed_on_a_connection_that_lives() {
    let (_world, fake, manager) = started(spec("a")).await;
    let session = Error::new(ErrorKind::HttpStatus, "the session is unknown")
        .with_http_status(404)
        .with_delivery(Delivery::Rejected);
    fake.next(Op::Call, Act::Fail(session));
    call(&manager, "echo").await.unwrap();
    // The connection was looked into before the request was sent again.
    assert_eq!(fake.count(Op::Probe), 1);
    // A 404 of which it is not known whether the call ran before it is no leave to run it twice.
    let missing = Error::new(ErrorKind::HttpStatus, "not found").with_http_status(404);
    fake.next(Op::Call, Act::Fail(missing));
    let error = call(&manager, "echo").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown);
    assert_eq!(error.http_status(), Some(404));
}

#[tokio::test(start_paused = true)]
async fn what_may_have_run_is_not_sent_again() {
    let (_world, fake, manager) = started(spec("a")).await;
    fake.next(Op::Call, lost(Delivery::Unknown));
    let error = call(&manager, "echo").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown);
    assert_eq!(error.delivery(), Delivery::Unknown);
    assert_eq!(error.server().unwrap().as_str(), "a");
    assert_eq!(error.operation(), Some("tools/call"));
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("it broke"), "{cause}");
    assert_eq!(fake.count(Op::Call), 1);
}

#[tokio::test(start_paused = true)]
async fn harmless_tools_are_replayed_only_where_the_server_is_trusted() {
    for trusted in [false, true] {
        let mut policy = ServerPolicy::default();
        policy.trust_annotations = trusted;
        let world = World::new();
        let fake = world.server("a");
        let mut reader = tool("read");
        reader.annotations = Some(ToolAnnotations::new().read_only(true));
        fake.set_tools(vec![reader, tool("write")]);
        let manager = ConnectionManager::new(world.factory());
        manager
            .start(vec![spec("a").with_policy(policy)])
            .await
            .unwrap();
        fake.next(Op::Call, lost(Delivery::Unknown));
        let read = call(&manager, "read").await.map_err(|e| e.kind());
        let want = if trusted {
            Ok(())
        } else {
            Err(ErrorKind::OutcomeUnknown)
        };
        assert_eq!(read, want);
        fake.next(Op::Call, lost(Delivery::Unknown));
        let write = call(&manager, "write").await.map_err(|e| e.kind());
        assert_eq!(write, Err(ErrorKind::OutcomeUnknown));
    }
}

#[tokio::test(start_paused = true)]
async fn reads_are_replayed() {
    let (_world, fake, manager) = started(spec("a")).await;
    fake.next(Op::Call, lost(Delivery::Unknown));
    of(&manager, "a")
        .with_call_options(CallOptions::new())
        .read_resource("file:///x")
        .await
        .unwrap();
    assert_eq!(fake.count(Op::Call), 2);
    // A raw request is not known to be harmless.
    fake.next(Op::Call, lost(Delivery::Unknown));
    let handle = of(&manager, "a");
    let request = mcpool_core::Request::new("vendor/thing");
    let options = mcpool_core::RequestOptions::new();
    let raw = handle.request(&request, &options);
    assert_eq!(raw.await.unwrap_err().kind(), ErrorKind::OutcomeUnknown);
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_is_waited_out_within_the_deadline() {
    let (_world, fake, manager) = started(spec("a")).await;
    let limited =
        Error::new(ErrorKind::RateLimited, "slow down").with_retry_after(Duration::from_secs(2));
    let begun = Instant::now();
    fake.next(Op::Call, Act::Fail(limited.clone()));
    call(&manager, "echo").await.unwrap();
    assert_eq!(begun.elapsed(), Duration::from_secs(2));
    assert_eq!(fake.count(Op::Connect), 1);

    fake.next(Op::Call, Act::Fail(limited));
    let begun = Instant::now();
    let hurried = CallOptions::new().with_timeout(Duration::from_secs(1));
    let error = call_tool(&manager, "a", "echo", None, &hurried)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RateLimited);
    assert_eq!(error.retry_after(), Some(Duration::from_secs(2)));
    assert_eq!(begun.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn one_deadline_bounds_everything() {
    // Tried for ever: a dormant server, which the default policy may make it within this test by the
    // luck of its jitter, is not waited for.
    let mut tried_for_ever = spec("a");
    tried_for_ever.policy.reconnect.max_attempts = None;
    let (_world, fake, manager) = started(tried_for_ever).await;
    let options = CallOptions::new().with_timeout(Duration::from_secs(3));
    // The request itself.
    fake.next(Op::Call, Act::Never);
    let begun = Instant::now();
    let error = call_tool(&manager, "a", "echo", None, &options)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!(error.delivery(), Delivery::Unknown);
    assert_eq!(begun.elapsed(), Duration::from_secs(3));
    assert_eq!(fake.count(Op::Call), 1);

    // The waiting for the server.
    fake.always(Op::Connect, Act::Fail(refused()));
    die(&fake);
    let begun = Instant::now();
    let error = call_tool(&manager, "a", "echo", None, &options)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotConnected);
    assert_eq!(error.delivery(), Delivery::NotSent);
    assert_eq!(begun.elapsed(), Duration::from_secs(3));
    // It says why.
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("refused"), "{cause}");

    // Not waiting longer than this for the server; with more than the `startup` timeout, that long.
    for (most, waited) in [(25, 25), (90, 30)] {
        let begun = Instant::now();
        let options = CallOptions::new().with_max_wait(Duration::from_secs(most));
        let error = call_tool(&manager, "a", "echo", None, &options)
            .await
            .unwrap_err();
        assert_eq!(error.delivery(), Delivery::NotSent);
        assert_eq!(begun.elapsed(), Duration::from_secs(waited));
    }

    // By a name that is not known yet as well.
    let begun = Instant::now();
    let options = CallOptions::new().with_max_wait(Duration::from_secs(5));
    let error = manager
        .call_with("a__later", (), &options)
        .await
        .unwrap_err();
    assert_eq!(error.delivery(), Delivery::NotSent);
    assert_eq!(begun.elapsed(), Duration::from_secs(5));

    // Not waiting at all.
    let begun = Instant::now();
    let options = CallOptions::new().fail_fast();
    let error = call_tool(&manager, "a", "echo", None, &options)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotConnected);
    assert_eq!(begun.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_asks_for_time_again_and_again_is_not_waited_for_for_ever() {
    let (_world, fake, manager) = started(spec("a")).await;
    let limited =
        Error::new(ErrorKind::RateLimited, "slow down").with_retry_after(Duration::from_secs(10));
    for _ in 0..10 {
        fake.next(Op::Call, Act::Fail(limited.clone()));
    }
    let begun = Instant::now();
    let error = call(&manager, "echo").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RateLimited);
    // Within the `startup` timeout of 30 s.
    assert_eq!(begun.elapsed(), Duration::from_secs(20));
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_end_at_once_when_waiting_is_in_vain() {
    let (_world, fake, manager) = started(spec("a")).await;
    fake.always(Op::Connect, Act::Never);
    die(&fake);
    let waiting = |manager: &ConnectionManager| {
        let manager = manager.clone();
        tokio::spawn(async move { call(&manager, "echo").await })
    };
    let waiter = waiting(&manager);
    eventually("it connects", || fake.count(Op::Connect) == 2).await;
    let begun = Instant::now();
    of(&manager, "a").disable().await.unwrap();
    let error = waiter.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Disabled);
    assert!(begun.elapsed() < Duration::from_millis(10));
}

#[tokio::test(start_paused = true)]
async fn a_call_in_flight_ends_the_moment_its_connection_dies() {
    let (_world, fake, manager) = started(spec("a")).await;
    fake.next(Op::Call, Act::Never);
    let call = {
        let manager = manager.clone();
        tokio::spawn(async move { call(&manager, "echo").await })
    };
    eventually("it runs", || fake.count(Op::Call) == 1).await;
    let died = Instant::now();
    die(&fake);
    let error = call.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown);
    assert_eq!(died.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_lost_and_nothing_runs_twice() {
    two_hundred_deaths_under_load(spec("a")).await;
}

/// The same on real threads, where the races are.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_lost_on_many_threads() {
    two_hundred_deaths_under_load(spec("a")).await;
    two_hundred_deaths_under_load(spec("a").with_instances(3)).await;
}

/// Every call ends, none runs twice.
async fn two_hundred_deaths_under_load(spec: ServerSpec) {
    let mut policy = ServerPolicy::default();
    policy.reconnect = ReconnectPolicy::unlimited();
    policy.reconnect.base = Duration::from_millis(1);
    policy.reconnect.cap = Duration::from_millis(20);
    policy.limits.max_in_flight = 8;
    let (world, fake, manager) = started(spec.with_policy(policy)).await;
    fake.always(Op::Call, Act::AnswerAfter(Duration::from_millis(3)));
    let callers: Vec<_> = (0..20)
        .map(|_| {
            let manager = manager.clone();
            tokio::spawn(async move {
                let (mut ok, mut unknown) = (0usize, 0usize);
                for _ in 0..200 {
                    match call(&manager, "echo").await {
                        Ok(()) => ok += 1,
                        Err(error) if error.kind() == ErrorKind::OutcomeUnknown => unknown += 1,
                        Err(error) => panic!("neither an end nor a clear error: {error:?}"),
                    }
                }
                (ok, unknown)
            })
        })
        .collect();
    for _ in 0..200 {
        tokio::time::sleep(Duration::from_millis(7)).await;
        die(&fake);
    }
    let (mut ok, mut unknown) = (0, 0);
    for caller in callers {
        let (o, u) = caller.await.unwrap();
        ok += o;
        unknown += u;
    }
    assert_eq!(ok + unknown, 20 * 200);
    assert!(unknown > 0);
    // What reached the server ended as one of the two, once.
    assert_eq!(fake.count(Op::Call), ok + unknown);
    println!("4000 calls over 200 deaths: {ok} ok, {unknown} of unknown outcome");
    assert_eq!(world.calling().now(), 0);
    let report = manager.shutdown(Duration::from_secs(30)).await;
    assert!(report.forced.is_empty());
    assert_eq!(world.clients().now(), 0);
}

/// What the manager adds to a call. Run it in release:
/// `cargo test -p mcpool-manager --release --test behaviour -- --ignored --nocapture overhead`
#[tokio::test]
#[ignore = "a measurement, not a check"]
async fn overhead_of_a_call() {
    let (_world, _fake, manager) = started(spec("a")).await;
    let options = CallOptions::new();
    let calls = 200_000u32;
    let client = of(&manager, "a").client().unwrap();
    for round in 0..3 {
        let begun = std::time::Instant::now();
        for _ in 0..calls {
            client.call_tool("echo", ()).await.unwrap();
        }
        let bare = begun.elapsed() / calls;
        let begun = std::time::Instant::now();
        for _ in 0..calls {
            call_tool(&manager, "a", "echo", None, &options)
                .await
                .unwrap();
        }
        let managed = begun.elapsed() / calls;
        println!("round {round}: bare {bare:?}, through the manager {managed:?}");
    }
}
