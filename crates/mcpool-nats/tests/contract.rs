//! The contract that every transport keeps, over NATS: nats-server, a worker, and a real process.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::sync::Arc;

use async_trait::async_trait;
use mcpool_core::{ConnectRequest, Connector, HttpSpec, ServerSpec, TransportSpec};
use mcpool_nats::{Identity, NatsConnector, NatsOptions};
use mcpool_testkit::{
    Behavior,
    contract::{ContractTarget, RunningFixture},
    fixtures::stdio::StdioFixture,
    nats::NatsServer,
};
use support::{Running, pool};

/// A nats-server for each check.
struct NatsTarget(NatsServer);

struct Fixture {
    process: StdioFixture,
    _worker: Running,
}

#[async_trait]
impl ContractTarget for NatsTarget {
    fn connector(&self) -> Arc<dyn Connector> {
        let options = NatsOptions::new([self.0.url()], pool()).with_identity(Identity::random());
        Arc::new(NatsConnector::lazy(options))
    }

    async fn start(&self, behavior: Behavior) -> Box<dyn RunningFixture> {
        let process = StdioFixture::new(behavior);
        let spec: ServerSpec = process.spec("fixture");
        let worker = Running::start(&self.0, "worker", vec![spec], |worker| worker).await;
        Box::new(Fixture {
            process,
            _worker: worker,
        })
    }

    /// A worker runs the requests of a session side by side.
    fn keeps_order(&self) -> bool {
        false
    }

    /// The worker's session with the server is its own.
    fn passes_notifications(&self) -> bool {
        false
    }
}

impl RunningFixture for Fixture {
    fn request(&self) -> ConnectRequest {
        // The connector goes by the name alone.
        let target = TransportSpec::Http(HttpSpec::new("nats:"));
        ConnectRequest::new("fixture".parse().unwrap(), target)
    }

    fn kill(&self) {
        self.process.kill();
    }
}

mod contract {
    use super::*;

    mcpool_testkit::contract_tests!(match NatsServer::start().await {
        Some(nats) => NatsTarget(nats),
        None => return,
    });
}
