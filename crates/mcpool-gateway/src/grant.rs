//! What one key allows, and the line that keeps it.

use std::{
    fmt::Write as _,
    sync::Arc,
    time::{Duration, SystemTime},
};

use mcpool_core::{Error, ErrorKind, Result};

use crate::limits::Limits;

/// 9999-12-31T23:59:59Z, the last second of RFC 3339.
const LAST_OF_9999: Duration = Duration::from_secs(253_402_300_799);

/// Who somebody is, and what he may ask for.
///
/// ```
/// use mcpool_gateway::Grant;
///
/// let grant = Grant::new("ada")?.with_profile("reading")?.with_rate(100);
/// assert_eq!(grant.to_string(), "ada profile=reading rate=100");
/// # Ok::<(), mcpool_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Grant {
    name: Arc<str>,
    profile: Option<Arc<str>>,
    rate: Option<u32>,
    in_flight: Option<usize>,
    max_body_bytes: Option<usize>,
    expires: Option<SystemTime>,
}

impl Grant {
    /// Everything that is served, within the limits of the gateway, for ever.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for a name that is not one word, or that
    /// begins with `#`.
    pub fn new(name: &str) -> Result<Self> {
        Ok(Self::of_principal(word(name)?))
    }

    /// As [`new`](Self::new), for a name that comes from somebody who was believed.
    pub(crate) fn of_principal(name: Arc<str>) -> Self {
        Self {
            name,
            profile: None,
            rate: None,
            in_flight: None,
            max_body_bytes: None,
            expires: None,
        }
    }

    /// Sets the one profile that may be used; it is served at `/mcp` too, and nothing else is.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_profile(mut self, profile: &str) -> Result<Self> {
        self.profile = Some(word(profile)?);
        Ok(self)
    }

    /// Sets how many HTTP requests may come in a second: see [`Limits::with_rate`].
    pub fn with_rate(mut self, per_second: u32) -> Self {
        self.rate = Some(per_second);
        self
    }

    /// Sets how many requests may be under way at once: see [`Limits::with_in_flight`].
    pub fn with_in_flight(mut self, requests: usize) -> Self {
        self.in_flight = Some(requests);
        self
    }

    /// Sets how large the body of a request may be: see [`Limits::with_max_body_bytes`].
    pub fn with_max_body_bytes(mut self, bytes: usize) -> Self {
        self.max_body_bytes = Some(bytes);
        self
    }

    /// Sets when it ends. Default: never. A time that RFC 3339 cannot say counts as the nearest that
    /// it can: 1970 at the earliest, 9999 at the latest.
    pub fn with_expiry(mut self, at: SystemTime) -> Self {
        let since = at
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        self.expires = Some(SystemTime::UNIX_EPOCH + since.min(LAST_OF_9999));
        self
    }

    /// Whose it is.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The one profile that may be used, if there is one.
    #[must_use]
    pub fn profile(&self) -> Option<&str> {
        self.profile.as_deref()
    }

    /// When it ends, if it does.
    #[must_use]
    pub fn expires(&self) -> Option<SystemTime> {
        self.expires
    }

    pub(crate) fn principal(&self) -> &Arc<str> {
        &self.name
    }

    /// Its limits, with those of the gateway where it has none of its own.
    pub(crate) fn limits(&self, mut limits: Limits) -> Limits {
        if let Some(rate) = self.rate {
            limits = limits.with_rate(rate);
        }
        if let Some(in_flight) = self.in_flight {
            limits = limits.with_in_flight(in_flight);
        }
        if let Some(bytes) = self.max_body_bytes {
            limits = limits.with_max_body_bytes(bytes);
        }
        limits
    }

    /// Reads words such as `rate=100` behind a name.
    pub(crate) fn read<'a>(name: &str, words: impl Iterator<Item = &'a str>) -> Option<Self> {
        let mut grant = Self::new(name).ok()?;
        for word in words {
            let (key, value) = word.split_once('=')?;
            grant = match key {
                "profile" => grant.with_profile(value).ok()?,
                "rate" => grant.with_rate(value.parse().ok()?),
                "in-flight" => grant.with_in_flight(value.parse().ok()?),
                "max-body" => grant.with_max_body_bytes(value.parse().ok()?),
                "expires" => grant.with_expiry(humantime::parse_rfc3339(value).ok()?),
                // Something that restricts it, perhaps.
                _ => return None,
            };
        }
        Some(grant)
    }
}

impl std::fmt::Display for Grant {
    /// The name, and the words that [`AccessKeys`](crate::AccessKeys) keeps of it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = self.name.to_string();
        let mut add = |key: &str, value: Option<String>| {
            value.map_or(Ok(()), |value| write!(text, " {key}={value}"))
        };
        add("profile", self.profile.as_deref().map(str::to_owned))?;
        add("rate", self.rate.map(|rate| rate.to_string()))?;
        add("in-flight", self.in_flight.map(|count| count.to_string()))?;
        add(
            "max-body",
            self.max_body_bytes.map(|bytes| bytes.to_string()),
        )?;
        let expires = self.expires.map(humantime::format_rfc3339_seconds);
        add("expires", expires.map(|at| at.to_string()))?;
        f.write_str(&text)
    }
}

fn word(text: &str) -> Result<Arc<str>> {
    let is_plain = |c: char| !c.is_whitespace() && !c.is_control();
    if !text.is_empty() && !text.starts_with('#') && text.chars().all(is_plain) {
        return Ok(text.into());
    }
    Err(Error::new(
        ErrorKind::InvalidArgument,
        "a name is one word that does not begin with `#`",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_expiry_can_be_written_and_read() {
        let day = Duration::from_secs(86_400);
        for at in [
            SystemTime::UNIX_EPOCH - day,
            SystemTime::UNIX_EPOCH,
            SystemTime::UNIX_EPOCH + LAST_OF_9999 + day,
        ] {
            let grant = Grant::new("ada").unwrap().with_expiry(at);
            let text = grant.to_string();
            let mut words = text.split(' ');
            let name = words.next().unwrap();
            assert_eq!(Grant::read(name, words), Some(grant), "{text}");
        }
    }
}
