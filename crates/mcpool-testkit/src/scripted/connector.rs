//! A connector that follows a script.

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use mcpool_core::{ConnectRequest, Connector, Error, ErrorKind, Result, Transport, TransportKind};

use super::{Remote, pair_of};
use crate::fixtures::engine::lock;

/// How one connect of a [`ScriptedConnector`] goes.
#[non_exhaustive]
pub enum ConnectStep {
    /// It gives this transport.
    Open(Arc<dyn Transport>),
    /// It fails so.
    Fail(Error),
    /// It gives this transport after so long.
    Slow(Duration, Arc<dyn Transport>),
    /// It never ends.
    Never,
}

impl fmt::Debug for ConnectStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open(_) => "Open",
            Self::Fail(_) => "Fail",
            Self::Slow(..) => "Slow",
            Self::Never => "Never",
        })
    }
}

/// A connector with a script: one step for each connect, in order. Fails when it runs out.
#[derive(Debug)]
pub struct ScriptedConnector {
    kind: TransportKind,
    steps: Mutex<VecDeque<ConnectStep>>,
    requests: Mutex<Vec<ConnectRequest>>,
    connects: AtomicUsize,
}

impl ScriptedConnector {
    /// A connector that says it is of this kind.
    #[must_use]
    pub fn new(kind: TransportKind) -> Self {
        Self {
            kind,
            steps: Mutex::default(),
            requests: Mutex::default(),
            connects: AtomicUsize::new(0),
        }
    }

    /// Adds a step.
    pub fn push(&self, step: ConnectStep) {
        lock(&self.steps).push_back(step);
    }

    /// Adds a step that opens a transport, and gives its far end.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn open(&self) -> Remote {
        let (transport, remote) = pair_of(self.kind);
        self.push(ConnectStep::Open(Arc::new(transport)));
        remote
    }

    /// How many connects there were.
    #[must_use]
    pub fn connects(&self) -> usize {
        self.connects.load(Ordering::SeqCst)
    }

    /// What each connect was given, in order.
    #[must_use]
    pub fn requests(&self) -> Vec<ConnectRequest> {
        lock(&self.requests).clone()
    }
}

#[async_trait]
impl Connector for ScriptedConnector {
    fn kind(&self) -> TransportKind {
        self.kind
    }

    async fn connect(&self, request: ConnectRequest) -> Result<Arc<dyn Transport>> {
        self.connects.fetch_add(1, Ordering::SeqCst);
        lock(&self.requests).push(request);
        let step = lock(&self.steps).pop_front();
        match step {
            Some(ConnectStep::Open(transport)) => Ok(transport),
            Some(ConnectStep::Fail(error)) => Err(error),
            Some(ConnectStep::Slow(pause, transport)) => {
                tokio::time::sleep(pause).await;
                Ok(transport)
            }
            Some(ConnectStep::Never) => std::future::pending().await,
            None => Err(Error::new(
                ErrorKind::Connect,
                "the script has no more connects",
            )),
        }
    }
}
