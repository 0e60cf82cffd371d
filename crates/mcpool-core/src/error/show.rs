//! How an error prints (one line) and serializes.

use std::fmt;

use serde::{Serialize, Serializer, ser::SerializeMap};

use super::Error;

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.0.server, self.operation()) {
            (Some(server), Some(operation)) => write!(f, "{server}: {operation}: ")?,
            (Some(server), None) => write!(f, "{server}: ")?,
            (None, Some(operation)) => write!(f, "{operation}: ")?,
            (None, None) => {}
        }
        f.write_str(&self.0.message)
    }
}

/// One object: `kind`, `message` (with its causes, in one line), `delivery`, `stderr_tail`, and
/// where they are known `server`, `operation`, `http_status`, `retry_after_ms`, `rpc`.
impl Serialize for Error {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let inner = &*self.0;
        let mut out = serializer.serialize_map(None)?;
        out.serialize_entry("kind", &inner.kind)?;
        out.serialize_entry("message", &self.with_causes())?;
        out.serialize_entry("delivery", &self.delivery())?;
        if let Some(server) = &inner.server {
            out.serialize_entry("server", server)?;
        }
        if let Some(operation) = self.operation() {
            out.serialize_entry("operation", operation)?;
        }
        if let Some(status) = inner.http_status {
            out.serialize_entry("http_status", &status)?;
        }
        if let Some(pause) = inner.retry_after {
            let ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
            out.serialize_entry("retry_after_ms", &ms)?;
        }
        if let Some(rpc) = &inner.rpc {
            out.serialize_entry("rpc", rpc)?;
        }
        let lines: Vec<&str> = inner.stderr_tail.iter().map(|l| l.text.as_str()).collect();
        out.serialize_entry("stderr_tail", &lines)?;
        out.end()
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Error");
        out.field("kind", &self.0.kind)
            .field("message", &self.0.message)
            .field("delivery", &self.delivery());
        if let Some(server) = &self.0.server {
            out.field("server", server);
        }
        if let Some(operation) = self.operation() {
            out.field("operation", &operation);
        }
        if let Some(status) = self.0.http_status {
            out.field("http_status", &status);
        }
        if let Some(source) = &self.0.source {
            out.field("source", source);
        }
        if !self.0.stderr_tail.is_empty() {
            out.field("stderr_tail", &self.0.stderr_tail);
        }
        out.finish()
    }
}
