//! The suite's targets over the fixture servers: stdio, legacy SSE, Streamable HTTP, memory.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use mcpool_core::{ConnectRequest, Connector, HttpSpec, ServerName, TransportSpec};

use super::{ContractTarget, Footprint, RunningFixture};
use crate::{
    Behavior,
    fixtures::{
        engine::lock,
        http::{AnswerMode, HttpFixture, HttpOptions},
        sse::SseFixture,
        stdio::StdioFixture,
    },
    leaks::{self, Pipes},
    scripted::MemoryConnector,
};

type MakeConnector = Box<dyn Fn() -> Arc<dyn Connector> + Send + Sync>;

/// A stdio transport against the `mcpool-fixture` process.
pub struct StdioTarget(MakeConnector);

impl StdioTarget {
    /// For the connectors that this makes.
    #[must_use]
    pub fn new(connector: impl Fn() -> Arc<dyn Connector> + Send + Sync + 'static) -> Self {
        Self(Box::new(connector))
    }
}

#[async_trait]
impl ContractTarget for StdioTarget {
    fn connector(&self) -> Arc<dyn Connector> {
        (self.0)()
    }

    async fn start(&self, behavior: Behavior) -> Box<dyn RunningFixture> {
        Box::new(StdioRunning {
            fixture: StdioFixture::new(behavior),
            pipes: Mutex::default(),
        })
    }
}

struct StdioRunning {
    fixture: StdioFixture,
    pipes: Mutex<Vec<Pipes>>,
}

impl RunningFixture for StdioRunning {
    fn request(&self) -> ConnectRequest {
        request(TransportSpec::Stdio(self.fixture.process()))
    }

    fn kill(&self) {
        self.fixture.kill();
    }

    fn footprint(&self) -> Option<Footprint> {
        if !cfg!(target_os = "linux") {
            return None;
        }
        let marker = self.fixture.marker();
        let processes = marker.processes().len();
        let mut pipes = lock(&self.pipes);
        if processes > 0 {
            // The pipes of a process that is gone are known from when it ran.
            pipes.push(marker.pipes());
        }
        let descriptors = pipes.iter().map(Pipes::held_here).max().unwrap_or_default();
        Some(Footprint::new(processes, descriptors))
    }
}

/// A legacy SSE transport against a server on loopback.
pub struct SseTarget(MakeConnector);

impl SseTarget {
    /// For the connectors that this makes.
    #[must_use]
    pub fn new(connector: impl Fn() -> Arc<dyn Connector> + Send + Sync + 'static) -> Self {
        Self(Box::new(connector))
    }
}

#[async_trait]
impl ContractTarget for SseTarget {
    fn connector(&self) -> Arc<dyn Connector> {
        (self.0)()
    }

    async fn start(&self, behavior: Behavior) -> Box<dyn RunningFixture> {
        match SseFixture::start(behavior) {
            Ok(fixture) => Box::new(SseRunning(fixture)),
            Err(error) => panic!("cannot start the SSE fixture: {error}"),
        }
    }

    fn keeps_order(&self) -> bool {
        false
    }
}

struct SseRunning(SseFixture);

impl RunningFixture for SseRunning {
    fn request(&self) -> ConnectRequest {
        request(TransportSpec::Sse(HttpSpec::new(self.0.url())))
    }

    fn kill(&self) {
        self.0.kill();
    }

    fn footprint(&self) -> Option<Footprint> {
        connections(self.0.address().port())
    }
}

/// A Streamable HTTP transport against a server on loopback.
pub struct HttpTarget {
    connector: MakeConnector,
    options: HttpOptions,
}

impl HttpTarget {
    /// For the connectors that this makes.
    #[must_use]
    pub fn new(connector: impl Fn() -> Arc<dyn Connector> + Send + Sync + 'static) -> Self {
        Self {
            connector: Box::new(connector),
            options: HttpOptions::default(),
        }
    }

    /// Sets what the server does beside its behaviour.
    #[must_use]
    pub fn with_options(mut self, options: HttpOptions) -> Self {
        self.options = options;
        self
    }
}

#[async_trait]
impl ContractTarget for HttpTarget {
    fn connector(&self) -> Arc<dyn Connector> {
        (self.connector)()
    }

    async fn start(&self, behavior: Behavior) -> Box<dyn RunningFixture> {
        match HttpFixture::start_with(behavior, self.options.clone()) {
            Ok(fixture) => Box::new(HttpRunning(fixture)),
            Err(error) => panic!("cannot start the HTTP fixture: {error}"),
        }
    }

    fn keeps_order(&self) -> bool {
        false
    }

    fn has_connection(&self) -> bool {
        false
    }

    fn keeps_progress(&self) -> bool {
        self.options.answers != AnswerMode::Json
    }
}

struct HttpRunning(HttpFixture);

impl RunningFixture for HttpRunning {
    fn request(&self) -> ConnectRequest {
        request(TransportSpec::Http(HttpSpec::new(self.0.url())))
    }

    fn kill(&self) {
        self.0.kill();
    }

    fn footprint(&self) -> Option<Footprint> {
        connections(self.0.address().port())
    }
}

fn request(target: TransportSpec) -> ConnectRequest {
    match ServerName::new("contract") {
        Ok(name) => ConnectRequest::new(name, target),
        Err(error) => unreachable!("the name `contract` is a good one: {error}"),
    }
}

fn connections(port: u16) -> Option<Footprint> {
    cfg!(target_os = "linux").then(|| Footprint::new(0, leaks::connections_to(port)))
}

/// The transport in memory of [`scripted`](crate::scripted): what the suite itself is tested on.
#[derive(Default)]
pub struct MemoryTarget(MemoryConnector);

impl MemoryTarget {
    /// A target.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

#[async_trait]
impl ContractTarget for MemoryTarget {
    fn connector(&self) -> Arc<dyn Connector> {
        Arc::new(self.0.clone())
    }

    async fn start(&self, behavior: Behavior) -> Box<dyn RunningFixture> {
        Box::new(self.0.serve(behavior))
    }
}
