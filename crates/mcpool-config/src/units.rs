//! Durations as `"30s"` and sizes as `"16MiB"`.

#[cfg(feature = "schema")]
mod schema;

use std::{fmt, time::Duration};

use serde::{Serialize, Serializer};

/// A duration that is written with its unit: `"500ms"`, `"30s"`, `"1m 30s"`, `"2h"`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct HumanDuration(pub Duration);

/// The longest duration that is accepted: a hundred years. More overflows clocks.
const MAX_DURATION: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

impl HumanDuration {
    /// Reads a duration with its unit.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let trimmed = text.trim();
        if trimmed.is_empty() {
            return Err("the duration is empty; write for example \"30s\"".to_owned());
        }
        if trimmed.parse::<f64>().is_ok() && trimmed != "0" {
            return Err(format!(
                "the duration {trimmed:?} has no unit; write \"{trimmed}s\" or \"{trimmed}ms\""
            ));
        }
        let duration = humantime::parse_duration(trimmed).map_err(|_| {
            format!("{trimmed:?} is not a duration; write for example \"30s\", \"500ms\" or \"2m\"")
        })?;
        if duration > MAX_DURATION {
            return Err(format!("the duration {trimmed:?} is over a hundred years"));
        }
        Ok(Self(duration))
    }
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", humantime::format_duration(self.0))
    }
}

impl fmt::Debug for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<Duration> for HumanDuration {
    fn from(duration: Duration) -> Self {
        Self(duration)
    }
}

impl Serialize for HumanDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A number of bytes that is written with its unit: `"64KiB"`, `"16MiB"`, `"1GB"`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// Reads a size with its unit.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let trimmed = text.trim();
        if trimmed.is_empty() {
            return Err("the size is empty; write for example \"16MiB\"".to_owned());
        }
        if trimmed.parse::<f64>().is_ok() && trimmed != "0" {
            return Err(format!(
                "the size {trimmed:?} has no unit; write \"{trimmed}B\" or \"{trimmed}MiB\""
            ));
        }
        trimmed
            .parse::<bytesize::ByteSize>()
            .map(|size| Self(size.as_u64()))
            .map_err(|_| {
                format!("{trimmed:?} is not a size; write for example \"64KiB\" or \"16MiB\"")
            })
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The largest unit that loses nothing.
        for (unit, size) in [("GiB", 1_u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
            if self.0 >= size && self.0.is_multiple_of(size) {
                return write!(f, "{}{unit}", self.0 / size);
            }
        }
        write!(f, "{}B", self.0)
    }
}

impl fmt::Debug for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, ms) in [
            ("500ms", 500),
            ("30s", 30_000),
            ("1m 30s", 90_000),
            ("1h", 3_600_000),
            ("0s", 0),
            (" 2s ", 2_000),
        ] {
            assert_eq!(
                HumanDuration::parse(text).unwrap().0,
                Duration::from_millis(ms),
                "{text}"
            );
        }
        for text in [
            "",
            "30",
            "1.5",
            "thirty",
            "30 parsecs",
            "-1s",
            "999999999999y",
        ] {
            let error = HumanDuration::parse(text).unwrap_err();
            assert!(!error.is_empty(), "{text}");
        }
        assert!(HumanDuration::parse("30").unwrap_err().contains("\"30s\""));
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("16MiB", 16 << 20),
            ("64 KiB", 64 << 10),
            ("1GB", 1_000_000_000),
            ("10B", 10),
        ] {
            assert_eq!(ByteSize::parse(text).unwrap().0, bytes, "{text}");
        }
        for text in ["", "16", "many", "-1MiB"] {
            assert!(ByteSize::parse(text).is_err(), "{text}");
        }
        assert_eq!(ByteSize(16 << 20).to_string(), "16MiB");
        assert_eq!(ByteSize(1000).to_string(), "1000B");
    }
}
