//! Events as JSON, one object a line; the same words as in the log and the metrics.

use std::time::{Duration, SystemTime};

use mcpool::{Error, ErrorStatus, Event, EventKind};
use serde_json::{Map, Value, json};

/// An event as one JSON object: `at`, `server`, `event`, and what belongs to the event.
pub(crate) fn event(event: &Event) -> Value {
    let (name, fields) = kind(&event.kind);
    let mut object = Map::new();
    object.insert("at".to_owned(), time(event.at));
    object.insert("server".to_owned(), json!(event.server.as_str()));
    object.insert("event".to_owned(), json!(name));
    if let Value::Object(fields) = fields {
        object.extend(fields);
    }
    Value::Object(object)
}

/// The line that says that the reader was too slow.
pub(crate) fn missed(count: u64) -> Value {
    json!({"at": time(SystemTime::now()), "server": null, "event": "missed", "count": count})
}

/// An instant in RFC 3339, UTC, with milliseconds.
fn time(at: SystemTime) -> Value {
    json!(humantime::format_rfc3339_millis(at).to_string())
}

fn ms(duration: Duration) -> Value {
    json!(u64::try_from(duration.as_millis()).ok())
}

fn error_json(error: &Error) -> Value {
    json!(ErrorStatus::from(error))
}

fn kind(kind: &EventKind) -> (&'static str, Value) {
    match kind {
        EventKind::StateChanged { from, to } => ("state_changed", json!({"from": from, "to": to})),
        EventKind::Connected {
            transport,
            elapsed,
            attempt,
        } => (
            "connected",
            json!({"transport": transport, "elapsed_ms": ms(*elapsed), "attempt": attempt}),
        ),
        EventKind::ConnectFailed {
            attempt,
            elapsed,
            error,
        } => (
            "connect_failed",
            json!({"attempt": attempt, "elapsed_ms": ms(*elapsed), "error": error_json(error)}),
        ),
        EventKind::Disconnected { cause, uptime } => (
            "disconnected",
            json!({"cause": cause, "uptime_ms": ms(*uptime)}),
        ),
        EventKind::RetryScheduled { attempt, delay } => (
            "retry_scheduled",
            json!({"attempt": attempt, "delay_ms": ms(*delay)}),
        ),
        EventKind::HeartbeatOk { latency } => (
            "heartbeat_ok",
            json!({"latency_us": u64::try_from(latency.as_micros()).ok()}),
        ),
        EventKind::HeartbeatMissed { misses, error } => (
            "heartbeat_missed",
            json!({"misses": misses, "error": error_json(error)}),
        ),
        EventKind::ToolsChanged {
            added,
            removed,
            changed,
            generation,
        } => (
            "tools_changed",
            json!({
                "added": &added[..],
                "removed": &removed[..],
                "changed": &changed[..],
                "generation": generation,
            }),
        ),
        EventKind::PromptsChanged => ("prompts_changed", json!({})),
        EventKind::ResourcesChanged => ("resources_changed", json!({})),
        EventKind::ResourceUpdated { uri } => ("resource_updated", json!({"uri": uri})),
        EventKind::CatalogStale { error } => ("catalog_stale", json!({"error": error_json(error)})),
        EventKind::CatalogItemsRejected { items } => {
            ("catalog_items_rejected", json!({"items": &items[..]}))
        }
        EventKind::CallsCancelled { count } => ("calls_cancelled", json!({"count": count})),
        EventKind::OrphansKilled { count } => ("orphans_killed", json!({"count": count})),
        EventKind::Reconfigured => ("reconfigured", json!({})),
        EventKind::ConfigRejected { error } => {
            ("config_rejected", json!({"error": error_json(error)}))
        }
        EventKind::Resumed { asleep } => ("resumed", json!({"asleep_ms": ms(*asleep)})),
        _ => ("other", json!({})),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_says_who_what_and_when() {
        let mut told = Event::now(
            "files".parse().unwrap(),
            EventKind::RetryScheduled {
                attempt: 2,
                delay: Duration::from_millis(750),
            },
        );
        told.at = SystemTime::UNIX_EPOCH;
        assert_eq!(
            event(&told).to_string(),
            r#"{"at":"1970-01-01T00:00:00.000Z","server":"files","event":"retry_scheduled","attempt":2,"delay_ms":750}"#
        );
    }
}
