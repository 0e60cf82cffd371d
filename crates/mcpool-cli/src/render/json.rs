//! Events as JSON, one object a line; the same words as in the log and the metrics.

use std::time::SystemTime;

use mcpool::Event;
use serde_json::{Value, json};

/// An event as one JSON object: `at`, `server`, `event`, and what belongs to the event.
pub(crate) fn event(event: &Event) -> Value {
    // An event is an object of texts and numbers; only a time after the year 9999 is none.
    serde_json::to_value(event).unwrap_or_default()
}

/// The line that says that the reader was too slow.
pub(crate) fn missed(count: u64) -> Value {
    let at = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
    json!({"at": at, "server": null, "event": "missed", "count": count})
}
