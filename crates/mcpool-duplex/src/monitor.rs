//! What is known of a connection, also after its end.

use std::sync::{
    Mutex, MutexGuard, OnceLock, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use mcpool_core::{Diagnostics, Error, ServerName, TransportKind, TransportMonitor, Untrusted};

/// Frames that are kept as samples, and characters of each.
const MAX_SAMPLES: usize = 16;
const SAMPLE_CHARS: usize = 200;

/// Counts messages, keeps samples of what was none, and knows why the connection ended. It keeps
/// nothing of the connection alive.
#[derive(Debug)]
pub struct DuplexMonitor {
    server: ServerName,
    kind: TransportKind,
    sent: AtomicU64,
    received: AtomicU64,
    skipped: AtomicU64,
    dropped_notices: AtomicU64,
    seen: Mutex<Seen>,
    failure: OnceLock<Error>,
}

#[derive(Debug, Default)]
struct Seen {
    samples: Vec<String>,
    oddities: Vec<&'static str>,
}

impl DuplexMonitor {
    pub(crate) fn new(server: ServerName, kind: TransportKind) -> Self {
        Self {
            server,
            kind,
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
            dropped_notices: AtomicU64::new(0),
            seen: Mutex::default(),
            failure: OnceLock::new(),
        }
    }

    /// How many frames were no message, and the first of them: cleaned, and cut to 200 characters.
    #[must_use]
    pub fn skipped(&self) -> (u64, Option<String>) {
        let first = self.seen().samples.first().cloned();
        (self.skipped.load(Ordering::Relaxed), first)
    }

    pub(crate) fn count_sent(&self) {
        self.sent.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_received(&self) {
        self.received.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn set_dropped_notices(&self, dropped: u64) {
        self.dropped_notices.store(dropped, Ordering::Relaxed);
    }

    /// Counts and keeps a frame that was skipped; the first is logged. Its text is not: it is
    /// unknown what a server prints.
    pub(crate) fn skip(&self, reason: &'static str, text: &str) {
        let first = self.skipped.fetch_add(1, Ordering::Relaxed) == 0;
        let mut seen = self.seen();
        if seen.samples.len() < MAX_SAMPLES {
            // No more of a long text is looked at than can be shown.
            let cut = text.char_indices().nth(SAMPLE_CHARS + 1);
            let text = cut.map_or(text, |(end, _)| &text[..end]);
            let sample = Untrusted::line(text).clip(SAMPLE_CHARS).into_clean();
            seen.samples.push(sample.into_owned());
        }
        drop(seen);
        if first {
            tracing::warn!(
                server = %self.server,
                transport = self.kind.as_str(),
                reason,
                "the server sent frames that are not messages; they are skipped and counted"
            );
        }
    }

    /// Keeps that something odd was read all the same.
    pub(crate) fn note(&self, oddity: &'static str) {
        let mut seen = self.seen();
        if seen.oddities.contains(&oddity) {
            return;
        }
        seen.oddities.push(oddity);
        drop(seen);
        tracing::debug!(
            server = %self.server,
            transport = self.kind.as_str(),
            oddity,
            "the server does not keep to the protocol"
        );
    }

    pub(crate) fn fail(&self, error: Error) {
        let _ = self.failure.set(error);
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TransportMonitor for DuplexMonitor {
    fn kind(&self) -> TransportKind {
        self.kind
    }

    fn diagnostics(&self) -> Diagnostics {
        let mut diagnostics = Diagnostics::default();
        diagnostics.sent = self.sent.load(Ordering::Relaxed);
        diagnostics.received = self.received.load(Ordering::Relaxed);
        diagnostics.skipped_lines = self.skipped.load(Ordering::Relaxed);
        diagnostics.dropped_notices = self.dropped_notices.load(Ordering::Relaxed);
        let seen = self.seen();
        diagnostics.skipped_samples = seen.samples.clone();
        diagnostics.oddities = seen.oddities.iter().map(ToString::to_string).collect();
        diagnostics
    }

    fn failure(&self) -> Option<Error> {
        self.failure.get().cloned()
    }
}
