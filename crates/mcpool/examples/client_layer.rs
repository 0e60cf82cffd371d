//! A layer around requests, in ten lines: below the manager it sees every attempt, above it every
//! request once. The servers are fakes, so that this runs anywhere.
//!
//! `cargo run -p mcpool --example client_layer`

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use mcpool::{
    ClientLayer, ConnectionManager, Delivery, Error, ErrorKind, Layered, LayeredFactory, Next, Raw,
    Request, RequestOptions, ServerSpec, StdioSpec, Verbs,
};
use mcpool_testkit::{Act, FakeFactory, Op};

/// Counts the calls of tools.
#[derive(Clone, Default)]
struct Counts(Arc<AtomicUsize>);

#[async_trait]
impl ClientLayer for Counts {
    async fn request(
        &self,
        request: &Request,
        options: &RequestOptions,
        next: Next<'_>,
    ) -> Result<Raw, Error> {
        if request.method == "tools/call" {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
        next.request(request, options).await
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let (attempts, requests) = (Counts::default(), Counts::default());
    let servers = FakeFactory::new();
    // The first call meets a connection that is gone: it was not sent, and is sent again.
    let gone = Error::new(ErrorKind::ConnectionLost, "gone").with_delivery(Delivery::NotSent);
    servers.server("files").next(Op::Call, Act::Die(gone));

    let factory = LayeredFactory::new(servers, Arc::new(attempts.clone()));
    let manager = ConnectionManager::new(Arc::new(factory));
    let spec = ServerSpec::stdio("files", StdioSpec::new("not started"))?;
    manager.start(vec![spec]).await?.all_connected()?;

    let files = Layered::new(manager.server("files")?, requests.clone());
    files
        .call_tool("echo", serde_json::json!({"text": "hi"}))
        .await?;
    println!("requests: {}", requests.0.load(Ordering::Relaxed));
    println!("attempts: {}", attempts.0.load(Ordering::Relaxed));
    assert_eq!(requests.0.load(Ordering::Relaxed), 1);
    assert_eq!(attempts.0.load(Ordering::Relaxed), 2);
    manager.shutdown(Duration::from_secs(5)).await;
    Ok(())
}
