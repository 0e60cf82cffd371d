//! How times and durations serialize, everywhere the same: times in RFC 3339, UTC, with
//! milliseconds; durations as whole milliseconds, in members whose names end in `_ms`; the latency of a heartbeat
//! in microseconds, `_us`.

use std::time::{Duration, SystemTime};

use serde::{Serializer, ser::Error as _};

/// A time: RFC 3339, UTC, milliseconds. A time before 1970 is shown as 1970.
///
/// # Errors
/// For a time after the year 9999, and what the serializer says.
pub fn time<S: Serializer>(at: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    // humantime panics before 1970; after 9999 it fails. Neither is a time that a clock shows.
    let at = (*at).max(SystemTime::UNIX_EPOCH);
    let mut text = String::new();
    let shown = humantime::format_rfc3339_millis(at);
    match std::fmt::Write::write_fmt(&mut text, format_args!("{shown}")) {
        Ok(()) => serializer.serialize_str(&text),
        Err(_) => Err(S::Error::custom("a time after the year 9999")),
    }
}

/// A duration as whole milliseconds; the longest ones saturate.
///
/// # Errors
/// What the serializer says.
pub fn ms<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

/// A short duration as whole microseconds; the longest ones saturate.
///
/// # Errors
/// What the serializer says.
pub fn us<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
}

/// As [`time`], or null.
///
/// # Errors
/// As [`time`].
pub fn some_time<S: Serializer>(at: &Option<SystemTime>, serializer: S) -> Result<S::Ok, S::Error> {
    match at {
        Some(at) => time(at, serializer),
        None => serializer.serialize_none(),
    }
}

/// As [`ms`], or null.
///
/// # Errors
/// What the serializer says.
pub fn some_ms<S: Serializer>(
    duration: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => ms(duration, serializer),
        None => serializer.serialize_none(),
    }
}

/// As [`us`], or null.
///
/// # Errors
/// What the serializer says.
pub fn some_us<S: Serializer>(
    duration: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => us(duration, serializer),
        None => serializer.serialize_none(),
    }
}
