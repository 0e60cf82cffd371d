//! Levels of log messages (RFC 5424, section 6.2.1), least severe first.

use mcpool_core::{Notification, Raw};
use serde::{Deserialize, Serialize};

/// How severe a log message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    Debug,
    Info,
    Notice,
    Warning,
    Error,
    Critical,
    Alert,
    Emergency,
}

impl Level {
    /// Reads a level; `None` for a word that is none.
    pub(crate) fn read(raw: &Raw) -> Option<Self> {
        raw.parse().ok()
    }

    /// The level of a `notifications/message`; one that cannot be read counts as `info`.
    pub(crate) fn of(notification: &Notification) -> Self {
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
            Level::of(&Notification::new("notifications/message", Some(params)))
        };
        assert_eq!(of(r#"{"level":"error","data":1}"#), Level::Error);
        assert_eq!(of(r#"{"level":7}"#), Level::Info);
        assert_eq!(of("{}"), Level::Info);
        assert!(Level::Debug < Level::Warning && Level::Alert < Level::Emergency);
    }
}
