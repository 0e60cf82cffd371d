//! The metrics, through the `metrics` facade, behind the feature of that name. Without it every
//! function here is empty. The table of names and labels is in `docs/metrics.md`.

use std::time::Duration;

#[cfg(feature = "metrics")]
use mcpool_core::Request;
use mcpool_core::{DisconnectCause, Error, ErrorKind, ProbeReport, ServerName, StateKind};
use tokio::time::Instant;

#[cfg(feature = "metrics")]
macro_rules! when_metered {
    ($($body:tt)*) => { $($body)* };
}
#[cfg(not(feature = "metrics"))]
macro_rules! when_metered {
    ($($body:tt)*) => {};
}

#[cfg_attr(
    not(feature = "metrics"),
    allow(unused_variables, reason = "the feature is off")
)]
mod record {
    use super::*;

    /// The server became ready, or is so no more.
    pub(crate) fn up(server: &ServerName, up: bool) {
        when_metered! {
            metrics::gauge!("mcpool_up", "server" => server.as_str().to_owned())
                .set(if up { 1.0 } else { 0.0 });
        }
    }

    /// An instance left a state after so long.
    pub(crate) fn state_left(server: &ServerName, state: StateKind, spent: Duration) {
        when_metered! {
            metrics::histogram!("mcpool_state_seconds", "server" => server.as_str().to_owned(), "state" => state.as_str())
                .record(spent.as_secs_f64());
        }
    }

    pub(crate) fn connect_started(server: &ServerName) {
        when_metered! {
            metrics::counter!("mcpool_connects_total", "server" => server.as_str().to_owned()).increment(1);
        }
    }

    /// A connect after the first one, by what made it necessary.
    pub(crate) fn reconnect_started(server: &ServerName, cause: DisconnectCause) {
        when_metered! {
            metrics::counter!("mcpool_reconnects_total", "server" => server.as_str().to_owned(), "cause" => cause.as_str())
                .increment(1);
        }
    }

    pub(crate) fn connected(server: &ServerName, elapsed: Duration) {
        when_metered! {
            metrics::histogram!("mcpool_connect_seconds", "server" => server.as_str().to_owned())
                .record(elapsed.as_secs_f64());
        }
    }

    pub(crate) fn connect_failed(server: &ServerName, kind: ErrorKind) {
        when_metered! {
            metrics::counter!("mcpool_connect_failures_total", "server" => server.as_str().to_owned(), "kind" => kind.as_str())
                .increment(1);
        }
    }

    pub(crate) fn disconnected(server: &ServerName, cause: DisconnectCause) {
        when_metered! {
            metrics::counter!("mcpool_disconnects_total", "server" => server.as_str().to_owned(), "cause" => cause.as_str())
                .increment(1);
        }
    }

    pub(crate) fn probed(server: &ServerName, result: &Result<ProbeReport, Error>) {
        when_metered! {
            let outcome = if result.is_ok() { "ok" } else { "missed" };
            metrics::counter!("mcpool_probes_total", "server" => server.as_str().to_owned(), "outcome" => outcome)
                .increment(1);
            if let Ok(report) = result {
                metrics::histogram!("mcpool_probe_seconds", "server" => server.as_str().to_owned())
                    .record(report.latency.as_secs_f64());
            }
        }
    }

    pub(crate) fn called(
        server: &ServerName,
        method: &str,
        started: Instant,
        error: Option<&Error>,
    ) {
        when_metered! {
            ended(server, method, started.elapsed(), error.map_or("ok", |e| e.kind().as_str()));
            if error.is_some_and(|e| e.delivery() == mcpool_core::Delivery::Unknown) {
                metrics::counter!("mcpool_calls_outcome_unknown_total", "server" => server.as_str().to_owned())
                    .increment(1);
            }
        }
    }

    pub(crate) fn dropped(server: &ServerName, method: &str, started: Instant) {
        when_metered! {
            ended(server, method, started.elapsed(), "dropped");
        }
    }

    #[cfg(feature = "metrics")]
    fn ended(server: &ServerName, method: &str, elapsed: Duration, outcome: &'static str) {
        // Labels are bounded.
        let method = Request::known_method(method).unwrap_or("other");
        metrics::counter!("mcpool_calls_total", "server" => server.as_str().to_owned(), "method" => method, "outcome" => outcome)
            .increment(1);
        metrics::histogram!("mcpool_call_seconds", "server" => server.as_str().to_owned(), "method" => method)
            .record(elapsed.as_secs_f64());
    }

    pub(crate) fn replayed(server: &ServerName) {
        when_metered! {
            metrics::counter!("mcpool_calls_replayed_total", "server" => server.as_str().to_owned()).increment(1);
        }
    }

    pub(crate) fn in_flight(server: &ServerName, change: f64) {
        when_metered! {
            metrics::gauge!("mcpool_calls_in_flight", "server" => server.as_str().to_owned()).increment(change);
        }
    }

    pub(crate) fn catalog_age(server: &ServerName, age: Duration) {
        when_metered! {
            metrics::gauge!("mcpool_catalog_age_seconds", "server" => server.as_str().to_owned())
                .set(age.as_secs_f64());
        }
    }

    pub(crate) fn catalog_fetched(server: &ServerName, method: &'static str) {
        when_metered! {
            metrics::counter!("mcpool_catalog_fetches_total", "server" => server.as_str().to_owned(), "method" => method)
                .increment(1);
        }
    }

    pub(crate) fn events_dropped(missed: u64) {
        when_metered! {
            metrics::counter!("mcpool_events_dropped_total").increment(missed);
        }
    }
}

pub(crate) use record::*;
