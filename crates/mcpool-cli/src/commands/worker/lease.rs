//! A server that runs while its lease is owned, and dies with it even when this process is stopped.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use mcpool::{
    Error, ServerHandle,
    nats::{Epoch, kv::Tenant},
    stdio::{GuardianProgram, MachineTime},
};

/// A server of the manager, and the guardian that it alone has: the guardian kills it when the
/// lease has not been renewed in time, whatever this process does then.
pub(super) struct LeasedServer {
    server: ServerHandle,
    guardian: Option<GuardianProgram>,
    /// When the write that may renew the lease was sent.
    sent: Mutex<Option<MachineTime>>,
}

impl LeasedServer {
    pub(super) fn new(server: ServerHandle, guardian: Option<GuardianProgram>) -> Self {
        Self {
            server,
            guardian,
            sent: Mutex::default(),
        }
    }
}

#[async_trait]
impl Tenant for LeasedServer {
    async fn start(&self, epoch: Epoch) -> Result<(), Error> {
        Tenant::start(&self.server, epoch).await
    }

    async fn end(&self) {
        Tenant::end(&self.server).await;
    }

    fn end_within(&self) -> Duration {
        Tenant::end_within(&self.server)
    }

    fn renewing(&self) {
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        *sent = Some(MachineTime::now());
    }

    fn renewed(&self, life: Duration) {
        let sent = *self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(guardian), Some(sent)) = (&self.guardian, sent) {
            guardian.end_at(sent.after(life));
        }
    }
}
