//! What was tried while connecting, kept to explain why it went as it did.

use std::{
    error::Error as StdError,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use mcpool_core::{
    ConnectAttempt, ConnectEvidence, Error, Masker, Sensitivity, TransportKind, TransportMonitor,
    Untrusted,
};
use tokio::time::Instant;

/// The source of the error of a failed connect: every attempt that was made.
///
/// `Display` is one line with all of them. The chain goes on below with the cause of the last
/// attempt.
///
/// ```
/// # async fn example(factory: mcpool_client::StandardFactory, spec: mcpool_core::ServerSpec) {
/// use mcpool_client::ConnectFailure;
/// use mcpool_core::ClientFactory;
///
/// if let Err(error) = factory.connect(&spec, &mcpool_core::ConnectOptions::new()).await {
///     if let Some(evidence) = ConnectFailure::evidence_of(&error) {
///         for attempt in &evidence.attempts {
///             println!("{}: {} ({} ms)", attempt.tried, attempt.outcome, attempt.elapsed_ms);
///         }
///     }
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct ConnectFailure {
    evidence: ConnectEvidence,
    error: Error,
}

impl ConnectFailure {
    /// Puts the attempts between an error and its source.
    pub(crate) fn attach(error: Error, evidence: ConnectEvidence) -> Error {
        let failure = Self {
            evidence,
            error: error.clone(),
        };
        error.with_source(failure)
    }

    /// The attempts.
    #[must_use]
    pub fn evidence(&self) -> &ConnectEvidence {
        &self.evidence
    }

    /// The attempts behind the error of a failed connect, if it is one.
    #[must_use]
    pub fn evidence_of(error: &Error) -> Option<&ConnectEvidence> {
        let mut source = error.source();
        while let Some(cause) = source {
            if let Some(failure) = cause.downcast_ref::<Self>() {
                return Some(&failure.evidence);
            }
            source = cause.source();
        }
        None
    }
}

impl fmt::Display for ConnectFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.evidence.attempts.is_empty() {
            return f.write_str("nothing was tried");
        }
        f.write_str("tried ")?;
        for (at, attempt) in self.evidence.attempts.iter().enumerate() {
            if at > 0 {
                f.write_str("; ")?;
            }
            write!(
                f,
                "{} over {}: {} ({} ms)",
                attempt.tried,
                attempt.transport,
                Untrusted::line(&attempt.outcome),
                attempt.elapsed_ms
            )?;
        }
        Ok(())
    }
}

impl StdError for ConnectFailure {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        // The error itself stands above this one in the chain: go on below it.
        self.error.source()
    }
}

/// Collects the attempts of one connect, without the secrets that a server repeats.
pub(crate) struct Recorder {
    masker: Masker,
    attempts: Mutex<Vec<ConnectAttempt>>,
    monitor: Mutex<Option<Arc<dyn TransportMonitor>>>,
}

impl Recorder {
    pub(crate) fn new(masker: Masker) -> Self {
        Self {
            masker,
            attempts: Mutex::default(),
            monitor: Mutex::default(),
        }
    }

    /// Something is being tried.
    pub(crate) fn begin(&self, transport: TransportKind, tried: &'static str) -> Attempt<'_> {
        Attempt {
            recorder: self,
            transport,
            tried,
            started: Instant::now(),
            concluded: false,
        }
    }

    /// A transport was opened: its monitor is asked should the connect fail.
    pub(crate) fn opened(&self, monitor: Arc<dyn TransportMonitor>) {
        *self.monitor.lock().unwrap_or_else(PoisonError::into_inner) = Some(monitor);
    }

    /// The monitor of the transport that was opened last.
    pub(crate) fn monitor(&self) -> Option<Arc<dyn TransportMonitor>> {
        self.monitor
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The attempts so far.
    pub(crate) fn evidence(&self, conclusion: impl Into<String>) -> ConnectEvidence {
        let mut evidence = ConnectEvidence::default();
        evidence.attempts = self
            .attempts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let conclusion = Untrusted::line(conclusion.into());
        evidence.conclusion = conclusion.into_clean().into_owned();
        if let Some(monitor) = self.monitor() {
            let seen = monitor.diagnostics();
            let masked = |text: &String| self.masker.mask(text, Sensitivity::Value).into_owned();
            evidence.skipped_lines = seen.skipped_lines;
            evidence.skipped_samples = seen.skipped_samples.iter().map(masked).collect();
            evidence.oddities = seen.oddities;
        }
        evidence
    }

    fn push(&self, attempt: ConnectAttempt) {
        self.attempts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(attempt);
    }
}

/// One thing that is being tried. Dropped without a conclusion it is recorded as unanswered.
pub(crate) struct Attempt<'a> {
    recorder: &'a Recorder,
    transport: TransportKind,
    tried: &'static str,
    started: Instant,
    concluded: bool,
}

impl Attempt<'_> {
    /// It led on.
    pub(crate) fn succeeded(mut self, outcome: impl Into<String>) {
        self.conclude(outcome.into(), true);
    }

    /// It did not.
    pub(crate) fn failed(mut self, outcome: impl Into<String>) {
        self.conclude(outcome.into(), false);
    }

    fn conclude(&mut self, outcome: String, ok: bool) {
        self.concluded = true;
        let masked = self.recorder.masker.mask(&outcome, Sensitivity::Value);
        let outcome = Untrusted::line(masked).into_clean().into_owned();
        tracing::debug!(
            transport = %self.transport,
            attempt = self.tried,
            outcome = %Untrusted::line(&outcome),
            "connect attempt"
        );
        self.recorder.push(ConnectAttempt::new(
            self.transport,
            self.tried,
            outcome,
            ok,
            self.started.elapsed(),
        ));
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if !self.concluded {
            self.conclude("no answer".to_owned(), false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mcpool_core::ErrorKind;

    #[test]
    fn a_failure_shows_what_was_tried_and_nothing_that_steers_a_terminal() {
        let recorder = Recorder::new(Masker::new());
        let attempt = recorder.begin(TransportKind::Http, "initialize");
        attempt.failed("the server answered -1: \u{1b}[2J");
        drop(recorder.begin(TransportKind::Sse, "initialize"));
        let error = Error::new(ErrorKind::Rpc, "no").with_source(std::io::Error::other("below"));
        let error = ConnectFailure::attach(error, recorder.evidence("failed"));
        let shown = error.source().unwrap().to_string();
        assert_eq!(
            shown,
            r"tried initialize over http: the server answered -1: \u{1b}[2J (0 ms); initialize over sse: no answer (0 ms)"
        );
        let evidence = ConnectFailure::evidence_of(&error).unwrap();
        assert_eq!(evidence.attempts.len(), 2);
        assert_eq!(
            error.source().unwrap().source().unwrap().to_string(),
            "below"
        );
    }
}
