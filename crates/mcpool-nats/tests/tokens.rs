//! OAuth tokens that the gateways of a pool share, with a real `nats-server`.
#![cfg(feature = "auth")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use mcpool_auth::{Grant, GrantKey, TokenStore as _};
use mcpool_core::{ErrorKind, Secret};
use mcpool_nats::{
    Carrier, Identity, NatsOptions,
    kv::{KvTokenStore, PoolKey, Storage},
};
use mcpool_testkit::{
    faults::{Fault, TcpProxy},
    nats::NatsServer,
};
use support::{PATIENCE, carrier, pool};

fn key() -> PoolKey {
    PoolKey::from_text(&Secret::new("A".repeat(43) + "=")).unwrap()
}

fn grant(refresh: usize) -> Grant {
    serde_json::from_value(serde_json::json!({
        "key": { "server": "https://mcp.example/mcp" },
        "issuer": "https://issuer.example",
        "resource": "https://mcp.example/mcp",
        "token_endpoint": "https://issuer.example/token",
        "client_id": "client",
        "access_token": format!("access-{refresh}"),
        "refresh_token": format!("refresh-{refresh}"),
        "issued_at": 0,
    }))
    .unwrap()
}

async fn store(url: &str, number: usize) -> KvTokenStore {
    let name = Identity::new(format!("g{number}")).unwrap();
    let options = NatsOptions::new([url], pool()).with_identity(name);
    let carrier = Carrier::connect(&options).await.unwrap();
    KvTokenStore::open(&carrier, Storage::default(), key())
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_gateways_make_one_refresh() {
    let Some(nats) = NatsServer::start().await else {
        return;
    };
    let first = store(&nats.url(), 0).await;
    let old = grant(0);
    first.save(&old).await.unwrap();
    let refreshes = Arc::new(AtomicUsize::new(0));
    let gateways = (1..=50).map(|number| {
        let (url, old, refreshes) = (nats.url(), old.clone(), Arc::clone(&refreshes));
        async move {
            let store = store(&url, number).await;
            let lock = store.lock(&old.key).await.unwrap();
            if store.load(&old.key).await.unwrap() == [old.clone()] {
                let refresh = refreshes.fetch_add(1, Ordering::SeqCst) + 1;
                store.save(&grant(refresh)).await.unwrap();
            }
            drop(lock);
            store.load(&old.key).await.unwrap()
        }
    });
    let loaded = futures::future::join_all(gateways).await;
    assert_eq!(refreshes.load(Ordering::SeqCst), 1);
    assert!(loaded.iter().all(|grants| *grants == [grant(1)]));
    assert!(first.remove(&old.key, None).await.unwrap());
    assert!(!first.remove(&old.key, None).await.unwrap());
    assert!(first.load(&old.key).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_outlives_its_expiry_while_it_is_held_and_not_its_holder() {
    let Some(nats) = NatsServer::start().await else {
        return;
    };
    let key = GrantKey::new("https://mcp.example/mcp", Some("me".into()));
    let proxy = TcpProxy::start(nats.address()).unwrap();
    let (cut, other) = (
        store(&format!("nats://{}", proxy.address()), 0).await,
        store(&nats.url(), 1).await,
    );
    let held = cut.lock(&key).await.unwrap();
    // Longer than the expiry: it is renewed.
    let early = tokio::time::timeout(Duration::from_secs(18), other.lock(&key)).await;
    assert!(early.is_err());
    // Its holder is gone as if the machine was.
    proxy.set(Fault::Blackhole);
    let began = Instant::now();
    let lock = tokio::time::timeout(PATIENCE, other.lock(&key))
        .await
        .unwrap()
        .unwrap();
    assert!(
        began.elapsed() >= Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
    drop((lock, held));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nats_never_sees_a_token_and_another_key_is_an_error() {
    let Some(nats) = NatsServer::start().await else {
        return;
    };
    let carrier = carrier(&nats, "g1").await;
    let mine = KvTokenStore::open(&carrier, Storage::default(), key())
        .await
        .unwrap();
    mine.save(&grant(7)).await.unwrap();
    let raw = async_nats::connect(nats.url()).await.unwrap();
    let stream = async_nats::jetstream::new(raw)
        .get_stream("KV_mcpool-test-tokens")
        .await
        .unwrap();
    let stored = stream
        .get_last_raw_message_by_subject("$KV.mcpool-test-tokens.>")
        .await
        .unwrap();
    let text = format!(
        "{} {}",
        stored.subject,
        String::from_utf8_lossy(&stored.payload)
    );
    assert!(
        !text.contains("refresh") && !text.contains("example"),
        "{text}"
    );
    let other = PoolKey::from_text(&Secret::new("B".repeat(42) + "A=")).unwrap();
    let other = KvTokenStore::open(&carrier, Storage::default(), other)
        .await
        .unwrap();
    assert_eq!(
        other.load(&grant(7).key).await.unwrap_err().kind(),
        ErrorKind::Internal
    );
    assert!(PoolKey::from_text(&Secret::new("short")).is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_saved_though_jetstream_was_away_and_its_caller_has_gone() {
    let Some(mut nats) = NatsServer::start().await else {
        return;
    };
    let store = store(&nats.url(), 0).await;
    store.save(&grant(0)).await.unwrap();
    nats.kill();
    // Longer than JetStream has for one answer; then the caller drops it.
    let new = grant(1);
    let saved = tokio::time::timeout(Duration::from_secs(3), store.save(&new)).await;
    assert!(saved.is_err(), "{saved:?}");
    nats.restart().await;
    let began = Instant::now();
    while store.load(&new.key).await.ok() != Some(vec![new.clone()]) {
        assert!(began.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_key_can_be_changed_and_what_no_key_opens_can_be_removed() {
    let Some(nats) = NatsServer::start().await else {
        return;
    };
    let carrier = carrier(&nats, "g1").await;
    let open = async |key| {
        let opened = KvTokenStore::open(&carrier, Storage::default(), key);
        opened.await.unwrap()
    };
    let text = Secret::new("B".repeat(42) + "A=");
    let new = PoolKey::from_text(&text).unwrap();
    let old = open(key()).await;
    let changed = new.clone().with_older(&Secret::new("A".repeat(43) + "="));
    let changed = open(changed.unwrap()).await;
    let new = open(new).await;
    old.save(&grant(1)).await.unwrap();
    assert!(new.load(&grant(1).key).await.is_err());
    // Who cannot read them does not overwrite them.
    assert!(new.save(&grant(2)).await.is_err());
    assert_eq!(changed.load(&grant(1).key).await.unwrap(), [grant(1)]);
    changed.save(&grant(3)).await.unwrap();
    assert_eq!(new.load(&grant(3).key).await.unwrap(), [grant(3)]);
    assert!(old.load(&grant(3).key).await.is_err());
    assert!(old.remove(&grant(3).key, None).await.unwrap());
    assert!(!new.remove(&grant(3).key, None).await.unwrap());
}
