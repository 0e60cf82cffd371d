//! The trace that a request belongs to (W3C Trace Context, level 1): MCP carries it in `_meta`,
//! HTTP in headers.

use serde::Deserialize;

use crate::{Raw, RawObject};

/// The longest `tracestate` that is passed on (W3C Trace Context, section 3.3.1.5).
const MAX_TRACESTATE: usize = 512;

/// Bytes of a `traceparent` of version 00.
const TRACEPARENT: usize = 55;

/// Which trace a request belongs to, and which span of it caused the request.
///
/// ```
/// use mcpool_core::{Raw, TraceContext};
///
/// let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
/// let params = Raw::of(&serde_json::json!({"_meta": {"traceparent": parent}}))?;
/// assert_eq!(TraceContext::of_params(&params).unwrap().traceparent(), parent);
/// assert!(TraceContext::new("00-0-0-01", None).is_none());
/// # Ok::<(), mcpool_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    traceparent: String,
    tracestate: Option<String>,
}

impl TraceContext {
    /// The header of HTTP, and the member of `_meta`, that says the trace and the span.
    pub const TRACEPARENT: &'static str = "traceparent";
    /// The one with what tracing systems add.
    pub const TRACESTATE: &'static str = "tracestate";

    /// Reads the two values; `None` for a `traceparent` that is none. A `tracestate` that is too long
    /// (512 characters), or could not stand in a header, is left out.
    #[must_use]
    pub fn new(traceparent: &str, tracestate: Option<&str>) -> Option<Self> {
        let is_state = |state: &&str| {
            let mut bytes = state.bytes();
            !state.is_empty()
                && state.len() <= MAX_TRACESTATE
                && bytes.all(|byte| matches!(byte, b' '..=b'~'))
        };
        is_traceparent(traceparent).then(|| Self {
            traceparent: traceparent.to_owned(),
            tracestate: tracestate
                .map(str::trim)
                .filter(is_state)
                .map(str::to_owned),
        })
    }

    /// What the `_meta` of a request's parameters says (MCP 2026-07-28, "Trace context").
    #[must_use]
    pub fn of_params(params: &Raw) -> Option<Self> {
        #[derive(Deserialize)]
        struct Params {
            #[serde(rename = "_meta")]
            meta: Meta,
        }
        // Parameters may be large, and mostly have none.
        memchr::memmem::find(params.get().as_bytes(), Self::TRACEPARENT.as_bytes())?;
        let Params { meta } = params.parse().ok()?;
        Self::new(&meta.traceparent?, meta.tracestate.as_deref())
    }

    /// What a `_meta` says.
    #[must_use]
    pub fn of_meta(meta: &RawObject) -> Option<Self> {
        let text = |name: &str| meta.get(name)?.parse::<String>().ok();
        Self::new(&text(Self::TRACEPARENT)?, text(Self::TRACESTATE).as_deref())
    }

    /// Says it in a `_meta`, in place of what stands there.
    pub fn put_into(&self, meta: &mut RawObject) {
        meta.remove(Self::TRACESTATE);
        for (name, value) in self.pairs() {
            if let Ok(value) = Raw::of(value) {
                meta.insert(name, value);
            }
        }
    }

    /// The trace and the span: `00-<trace>-<span>-<flags>`.
    #[must_use]
    pub fn traceparent(&self) -> &str {
        &self.traceparent
    }

    /// What tracing systems add.
    #[must_use]
    pub fn tracestate(&self) -> Option<&str> {
        self.tracestate.as_deref()
    }

    /// Names and values, as headers and `_meta` have them.
    pub fn pairs(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let state = self.tracestate().map(|state| (Self::TRACESTATE, state));
        [(Self::TRACEPARENT, self.traceparent())]
            .into_iter()
            .chain(state)
    }
}

#[derive(Deserialize)]
struct Meta {
    #[serde(default)]
    traceparent: Option<String>,
    #[serde(default)]
    tracestate: Option<String>,
}

/// Section 3.2: `version-trace-parent-flags` in lower-case hexadecimal, neither id all zeros. A later
/// version may have more behind it.
fn is_traceparent(text: &str) -> bool {
    let mut parts = text.split('-');
    let mut hex = |digits: usize| {
        let part = parts.next().unwrap_or_default();
        let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        (part.len() == digits && part.bytes().all(is_hex)).then_some(part)
    };
    let (Some(version), Some(trace), Some(span), Some(_)) = (hex(2), hex(32), hex(16), hex(2))
    else {
        return false;
    };
    let is_zero = |part: &str| part.bytes().all(|byte| byte == b'0');
    let is_known = match version {
        "00" => text.len() == TRACEPARENT,
        "ff" => false,
        _ => text.len() <= MAX_TRACESTATE && text.bytes().all(|byte| matches!(byte, b'!'..=b'~')),
    };
    is_known && !is_zero(trace) && !is_zero(span)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn what_is_no_trace_is_not_passed_on() {
        assert!(TraceContext::new(PARENT, None).is_some());
        assert!(TraceContext::new(&PARENT.replacen("00", "01", 1), None).is_some());
        assert!(TraceContext::new(&format!("01{}-more", &PARENT[2..]), None).is_some());
        for wrong in [
            "",
            "00",
            &PARENT.to_uppercase(),
            &PARENT.replacen("00", "ff", 1),
            &format!("{PARENT}-more"),
            &format!("01{}-é", &PARENT[2..]),
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
        ] {
            assert_eq!(TraceContext::new(wrong, None), None, "{wrong}");
        }
        for (state, kept) in [
            ("a=1,b=2", true),
            ("", false),
            ("a=1\r\nx: y", false),
            (&"x".repeat(513), false),
        ] {
            let context = TraceContext::new(PARENT, Some(state)).unwrap();
            assert_eq!(context.tracestate().is_some(), kept, "{state}");
        }
    }

    #[test]
    fn it_stands_in_meta() {
        let raw = |text: &str| Raw::from_text(text.to_owned()).unwrap();
        let params = raw(&format!(
            r#"{{"_meta":{{"traceparent":"{PARENT}","tracestate":"a=1"}}}}"#
        ));
        let context = TraceContext::of_params(&params).unwrap();
        assert_eq!(context.tracestate(), Some("a=1"));
        let mut meta = RawObject::parse(&raw(r#"{"tracestate":"old","x":1}"#)).unwrap();
        TraceContext::new(PARENT, None).unwrap().put_into(&mut meta);
        assert_eq!(
            meta.to_raw().unwrap().get(),
            format!(r#"{{"x":1,"traceparent":"{PARENT}"}}"#)
        );
        assert_eq!(TraceContext::of_meta(&meta).unwrap().traceparent(), PARENT);
        for none in [
            "{}",
            r#"{"_meta":{"traceparent":1}}"#,
            r#"{"arguments":{"traceparent":"x"}}"#,
        ] {
            assert_eq!(TraceContext::of_params(&raw(none)), None, "{none}");
        }
    }
}
