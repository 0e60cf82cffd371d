//! Calls into code of others: a client, a factory. A panic there becomes an error that names it;
//! it must not end the supervision of a server, nor the task of a caller.

use std::{future::Future, panic::AssertUnwindSafe};

use futures::FutureExt;
use mcpool_core::{Client, Error, ErrorKind, Result};

/// Waits for a future of others.
///
/// # Errors
/// `Internal` with the text of its panic.
pub(crate) async fn guarded<F: Future>(what: &str, future: F) -> Result<F::Output> {
    AssertUnwindSafe(future)
        .catch_unwind()
        .await
        .map_err(|panic| panicked(what, &*panic))
}

/// Calls a function of others.
///
/// # Errors
/// `Internal` with the text of its panic.
pub(crate) fn asked<T>(what: &str, ask: impl FnOnce() -> T) -> Result<T> {
    std::panic::catch_unwind(AssertUnwindSafe(ask)).map_err(|panic| panicked(what, &*panic))
}

/// Whether a client says that it has ended; one that panics over it has.
pub(crate) fn is_closed(client: &dyn Client) -> bool {
    asked("`is_closed` of the client", || client.is_closed()).unwrap_or(true)
}

fn panicked(what: &str, panic: &(dyn std::any::Any + Send)) -> Error {
    let said = match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (None, Some(text)) => text.as_str(),
        (None, None) => "no message",
    };
    Error::new(ErrorKind::Internal, format!("{what} panicked: {said}"))
}
