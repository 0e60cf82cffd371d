//! The servers of a pool among those of a manager.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use mcpool_core::{TransportSpec, Verbs as _};
use mcpool_nats::Follow;
use mcpool_testkit::{Behavior, eventually, fixtures::stdio::StdioFixture, nats::NatsServer};
use support::{PATIENCE, Running, carrier, manager};

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_the_managers_own_stays_its_own() {
    let Some(nats) = NatsServer::start().await else {
        return;
    };
    let fixture = StdioFixture::new(Behavior::new());
    let served = vec![fixture.spec("both"), fixture.spec("theirs")];
    let worker = Running::start(&nats, "w1", served, |worker| worker).await;
    let own = manager(vec![fixture.spec("both")]).await;
    let follow = Follow::new(carrier(&nats, "g1").await);
    let (following, followed) = (follow.clone(), own.clone());
    let task = tokio::spawn(async move { following.run(&followed).await });
    let theirs = || own.server("theirs").is_ok();
    assert!(eventually(PATIENCE, theirs).await, "{follow:?}");
    own.server("theirs").unwrap().list_tools().await.unwrap();
    let is_stdio = || {
        let spec = own.server("both").unwrap().spec().unwrap();
        matches!(spec.transport, TransportSpec::Stdio(_))
    };
    assert!(is_stdio());
    let names: Vec<_> = follow.specs().into_iter().map(|spec| spec.name).collect();
    assert_eq!(names, [support::name("theirs")]);
    own.shutdown(PATIENCE).await;
    task.await.unwrap();
    worker.stop().await;
}
