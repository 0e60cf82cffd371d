//! Work that waits for something else than the network.

use crate::{exit::Failure, text};

/// Runs what may wait for long, such as a read of a pipe or an answer of a person, where it holds
/// nothing up: a signal still ends the program.
pub(crate) async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Failure::internal(text!("the work was given up: {}", error.to_string())))
}
