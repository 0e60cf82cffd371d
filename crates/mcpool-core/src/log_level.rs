//! Levels of log messages.

use serde::{Deserialize, Serialize};

use crate::{Notification, Raw};

/// How severe a log message is (RFC 5424, section 6.2.1; MCP, "Logging"), least severe first. It
/// serialises as the protocol's word for it: `"warning"`.
///
/// ```
/// use mcpool_core::LogLevel;
///
/// assert!(LogLevel::Info < LogLevel::Error);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(
    clippy::exhaustive_enums,
    reason = "RFC 5424 has these eight and will have no others"
)]
pub enum LogLevel {
    /// For people who look for a fault.
    Debug,
    /// What happens.
    Info,
    /// Normal, and worth a look.
    Notice,
    /// Something may go wrong.
    Warning,
    /// Something went wrong.
    Error,
    /// A part does not work.
    Critical,
    /// Somebody must act now.
    Alert,
    /// Nothing works.
    Emergency,
}

impl LogLevel {
    /// Reads a level; `None` for JSON that is none.
    #[must_use]
    pub fn read(raw: &Raw) -> Option<Self> {
        raw.parse().ok()
    }

    /// The level of a `notifications/message`; one that cannot be read counts as `info`.
    #[must_use]
    pub fn of(notification: &Notification) -> Self {
        #[derive(Deserialize)]
        struct Params {
            level: Raw,
        }
        let params = notification.params.as_ref();
        params
            .and_then(|params| params.parse::<Params>().ok())
            .and_then(|params| Self::read(&params.level))
            .unwrap_or(Self::Info)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_read_and_ordered() {
        let of = |params: &str| {
            let params = Raw::from_text(params.to_owned()).unwrap();
            LogLevel::of(&Notification::new("notifications/message", Some(params)))
        };
        assert_eq!(of(r#"{"level":"error","data":1}"#), LogLevel::Error);
        assert_eq!(of(r#"{"level":7}"#), LogLevel::Info);
        assert_eq!(of("{}"), LogLevel::Info);
        assert!(LogLevel::Debug < LogLevel::Warning && LogLevel::Alert < LogLevel::Emergency);
        assert_eq!(Raw::of(&LogLevel::Notice).unwrap().get(), "\"notice\"");
    }
}
