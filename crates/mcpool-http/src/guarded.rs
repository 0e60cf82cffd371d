//! Code of others that a connection calls: sinks and taps.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Calls code of somebody else's, whose panic is logged and goes no further.
pub(crate) fn guarded<T>(call: impl FnOnce() -> T) -> Option<T> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(value) => Some(value),
        Err(_) => {
            tracing::error!(transport = "http", "a sink or tap panicked");
            None
        }
    }
}
