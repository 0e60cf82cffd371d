//! Ending on a signal, for applications that want nothing more of signals than that.

use std::time::Duration;

use mcpool_core::{Error, ErrorKind, Result};

use crate::{manager::ConnectionManager, shutdown::ShutdownReport};

/// Which signal it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Signal {
    /// SIGINT, or Ctrl-C.
    Interrupt,
    /// SIGTERM.
    Terminate,
}

impl ConnectionManager {
    /// Waits for SIGINT or SIGTERM (on Windows for Ctrl-C), then shuts down within the deadline.
    ///
    /// From its first poll on these signals no longer end the process by themselves, for the rest
    /// of the process's life: that is the caller's to do, with the report in hand. Dropping the
    /// future before a signal stops the waiting.
    ///
    /// # Errors
    /// `Internal` when the operating system refuses the handlers.
    pub async fn shutdown_on_signal(&self, deadline: Duration) -> Result<(Signal, ShutdownReport)> {
        let signal = received().await.map_err(|error| {
            Error::new(ErrorKind::Internal, "signals cannot be waited for").with_source(error)
        })?;
        tracing::info!(?signal, "shutting down");
        Ok((signal, self.shutdown(deadline).await))
    }
}

#[cfg(unix)]
async fn received() -> std::io::Result<Signal> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(tokio::select! {
        _ = interrupt.recv() => Signal::Interrupt,
        _ = terminate.recv() => Signal::Terminate,
    })
}

#[cfg(not(unix))]
async fn received() -> std::io::Result<Signal> {
    tokio::signal::ctrl_c().await?;
    Ok(Signal::Interrupt)
}
