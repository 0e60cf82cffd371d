//! What is odd about a connection, kept for `diagnostics`.

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use mcpool_core::{Diagnostics, Error, Untrusted};

/// How many frames that are no message are kept, and how much of each.
const MAX_SAMPLES: usize = 5;
const MAX_SAMPLE_CHARS: usize = 200;
/// How many kinds of oddities are distinguished.
const MAX_ODDITIES: usize = 32;

/// Counters and samples.
#[derive(Default)]
pub(crate) struct Notes {
    sent: AtomicU64,
    received: AtomicU64,
    skipped: AtomicU64,
    dropped: AtomicU64,
    texts: Mutex<Texts>,
}

#[derive(Default)]
struct Texts {
    samples: Vec<String>,
    oddities: Vec<String>,
    last_error: Option<String>,
}

impl Notes {
    /// A message was sent.
    pub(crate) fn sent(&self) {
        self.sent.fetch_add(1, Ordering::Relaxed);
    }

    /// A message was received.
    pub(crate) fn received(&self) {
        self.received.fetch_add(1, Ordering::Relaxed);
    }

    /// Something came that is no message, or one for nobody.
    pub(crate) fn skipped(&self, text: &str) {
        self.skipped.fetch_add(1, Ordering::Relaxed);
        let mut texts = self.texts();
        if texts.samples.len() < MAX_SAMPLES {
            let sample = Untrusted::line(text).clip(MAX_SAMPLE_CHARS).into_clean();
            texts.samples.push(sample.into_owned());
        }
    }

    /// A message of ours that nobody waits for was dropped, as too many were under way.
    pub(crate) fn dropped(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    /// Something odd was read all the same.
    pub(crate) fn odd(&self, what: &str) {
        let mut texts = self.texts();
        if texts.oddities.len() < MAX_ODDITIES && !texts.oddities.iter().any(|known| known == what)
        {
            texts.oddities.push(what.to_owned());
        }
    }

    /// An error that did not end the connection.
    pub(crate) fn error(&self, error: &Error) {
        self.texts().last_error = Some(error.message().to_owned());
    }

    /// The snapshot; `unread` is how many notices the session did not take in time.
    pub(crate) fn diagnostics(&self, unread: u64) -> Diagnostics {
        let mut diagnostics = Diagnostics::default();
        diagnostics.sent = self.sent.load(Ordering::Relaxed);
        diagnostics.received = self.received.load(Ordering::Relaxed);
        diagnostics.skipped_lines = self.skipped.load(Ordering::Relaxed);
        diagnostics.dropped_notices = unread + self.dropped.load(Ordering::Relaxed);
        let texts = self.texts();
        diagnostics.skipped_samples.clone_from(&texts.samples);
        diagnostics.oddities.clone_from(&texts.oddities);
        diagnostics.last_error.clone_from(&texts.last_error);
        diagnostics
    }

    fn texts(&self) -> MutexGuard<'_, Texts> {
        self.texts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_bounded_and_clean() {
        let notes = Notes::default();
        for n in 0..100 {
            notes.skipped(&format!("\u{1b}]0;{n}\u{7}{}", "x".repeat(1_000)));
            notes.odd("a BOM before JSON");
            notes.odd(&format!("odd {n}"));
        }
        let diagnostics = notes.diagnostics(2);
        assert_eq!(diagnostics.skipped_lines, 100);
        assert_eq!(diagnostics.skipped_samples.len(), MAX_SAMPLES);
        assert!(diagnostics.skipped_samples[0].starts_with("\\u{1b}]0;0"));
        assert!(diagnostics.skipped_samples[0].chars().count() <= MAX_SAMPLE_CHARS);
        assert_eq!(diagnostics.oddities.len(), MAX_ODDITIES);
        assert_eq!(diagnostics.oddities[0], "a BOM before JSON");
        assert_eq!(diagnostics.dropped_notices, 2);
    }
}
