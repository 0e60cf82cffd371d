//! The heads of frames: `docs/fleet-wire.md`, "Heads" and "Kinds". Pure.

use std::{fmt, str::FromStr, time::Duration};

use async_nats::HeaderMap;

use crate::identity::Epoch;

/// The version of the wire that is spoken here.
pub(crate) const VERSION: Version = Version { major: 1, minor: 1 };

const KIND: &str = "Mcpool-Kind";
const WIRE_VERSION: &str = "Mcpool-Version";
const SESSION: &str = "Mcpool-Session";
const NUMBER: &str = "Mcpool-Number";
const EPOCH: &str = "Mcpool-Epoch";
const STAMP: &str = "Mcpool-Stamp";
const TIMEOUT: &str = "Mcpool-Timeout";
const OF: &str = "Mcpool-Of";
const PART: &str = "Mcpool-Part";
const TOTAL: &str = "Mcpool-Total";
const ANSWERS: &str = "Mcpool-Answers";
const CHECKSUM: &str = "Mcpool-Checksum";
const CREDIT: &str = "Mcpool-Credit";

/// The longest id of a session that is read, in bytes.
const MAX_SESSION: usize = 64;

/// A version of the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) major: u32,
    pub(crate) minor: u32,
}

impl Version {
    /// Whether frames of that version are understood: minor versions only add.
    pub(crate) fn understands(self, other: Self) -> bool {
        self.major == other.major
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl FromStr for Version {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (major, minor) = text.split_once('.').ok_or(())?;
        Ok(Self {
            major: major.parse().map_err(drop)?,
            minor: minor.parse().map_err(drop)?,
        })
    }
}

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Discover,
    Workers,
    Probe,
    Alive,
    Open,
    Opened,
    Message,
    Part,
    Credit,
    Abandon,
    Refused,
    Failed,
    Beat,
    End,
    /// Of a newer version; counted and ignored.
    Other,
}

const KINDS: [(&str, Kind); 14] = [
    ("discover", Kind::Discover),
    ("workers", Kind::Workers),
    ("probe", Kind::Probe),
    ("alive", Kind::Alive),
    ("open", Kind::Open),
    ("opened", Kind::Opened),
    ("message", Kind::Message),
    ("part", Kind::Part),
    ("credit", Kind::Credit),
    ("abandon", Kind::Abandon),
    ("refused", Kind::Refused),
    ("failed", Kind::Failed),
    ("beat", Kind::Beat),
    ("end", Kind::End),
];

impl Kind {
    fn as_str(self) -> &'static str {
        let known = KINDS.iter().find(|(_, kind)| *kind == self);
        known.map_or("other", |(name, _)| name)
    }

    fn read(text: &str) -> Self {
        let known = KINDS.iter().find(|(name, _)| *name == text);
        known.map_or(Self::Other, |(_, kind)| *kind)
    }
}

/// The head of a frame. What a frame does not have is 0 or empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) version: Version,
    pub(crate) kind: Kind,
    pub(crate) session: String,
    pub(crate) number: u64,
    pub(crate) epoch: Epoch,
    /// Milliseconds on the worker's clock.
    pub(crate) stamp: u64,
    pub(crate) timeout: Option<Duration>,
    /// The number of the frame with which a message began.
    pub(crate) of: u64,
    /// Which part of how many.
    pub(crate) part: Option<(u32, u32)>,
    /// Bytes of the whole message.
    pub(crate) total: u64,
    /// The id of ours that the message answers.
    pub(crate) answers: Option<u64>,
    pub(crate) checksum: Option<String>,
    /// Parts that may be sent in all.
    pub(crate) credit: u32,
}

impl Head {
    pub(crate) fn new(kind: Kind) -> Self {
        Self {
            version: VERSION,
            kind,
            session: String::new(),
            number: 0,
            epoch: Epoch::NONE,
            stamp: 0,
            timeout: None,
            of: 0,
            part: None,
            total: 0,
            answers: None,
            checksum: None,
            credit: 0,
        }
    }

    /// A frame about the message that began with this number.
    pub(crate) fn of(mut self, number: u64) -> Self {
        self.of = number;
        self
    }

    /// The head as NATS headers.
    pub(crate) fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(WIRE_VERSION, self.version.to_string());
        headers.insert(KIND, self.kind.as_str());
        if !self.session.is_empty() {
            headers.insert(SESSION, self.session.as_str());
        }
        let mut count = |name: &'static str, value: u64| {
            if value != 0 {
                headers.insert(name, value.to_string());
            }
        };
        count(NUMBER, self.number);
        count(EPOCH, self.epoch.get());
        count(STAMP, self.stamp);
        count(OF, self.of);
        count(TOTAL, self.total);
        count(CREDIT, u64::from(self.credit));
        if let Some(timeout) = self.timeout {
            let millis = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
            headers.insert(TIMEOUT, millis.to_string());
        }
        if let Some((part, parts)) = self.part {
            headers.insert(PART, format!("{part}/{parts}"));
        }
        if let Some(answers) = self.answers {
            headers.insert(ANSWERS, answers.to_string());
        }
        if let Some(checksum) = &self.checksum {
            headers.insert(CHECKSUM, checksum.as_str());
        }
        headers
    }

    /// Reads NATS headers; `None` when they are no head, or hold nonsense where a number is due.
    pub(crate) fn read(headers: Option<&HeaderMap>) -> Option<Self> {
        let headers = headers?;
        let text = |name: &'static str| headers.get(name).map(|value| value.as_str());
        let count = |name: &'static str| match text(name) {
            None => Some(0),
            Some(text) => text.parse::<u64>().ok(),
        };
        let version = text(WIRE_VERSION)?.parse().ok()?;
        let session = text(SESSION).unwrap_or_default();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        if session.len() > MAX_SESSION || !session.bytes().all(plain) {
            return None;
        }
        let part = match text(PART) {
            None => None,
            Some(text) => {
                let (part, parts) = text.split_once('/')?;
                Some((part.parse().ok()?, parts.parse().ok()?))
            }
        };
        let optional = |name: &'static str| match text(name) {
            None => Some(None),
            Some(text) => text.parse::<u64>().ok().map(Some),
        };
        Some(Self {
            version,
            kind: Kind::read(text(KIND)?),
            session: session.to_owned(),
            number: count(NUMBER)?,
            epoch: Epoch::new(count(EPOCH)?),
            stamp: count(STAMP)?,
            timeout: optional(TIMEOUT)?.map(Duration::from_millis),
            of: count(OF)?,
            part,
            total: count(TOTAL)?,
            answers: optional(ANSWERS)?,
            checksum: text(CHECKSUM).map(str::to_owned),
            credit: u32::try_from(count(CREDIT)?).ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Head {
        Head {
            session: "abc".to_owned(),
            number: 7,
            epoch: Epoch::new(3),
            stamp: 12_345,
            timeout: Some(Duration::from_millis(250)),
            part: Some((1, 4)),
            total: 99,
            answers: Some(0),
            checksum: Some("00ff".to_owned()),
            credit: 8,
            ..Head::new(Kind::Part).of(6)
        }
    }

    #[test]
    fn a_head_is_read_as_it_was_written() {
        for head in [full(), Head::new(Kind::Open), Head::new(Kind::End)] {
            assert_eq!(Head::read(Some(&head.headers())), Some(head));
        }
    }

    #[test]
    fn a_newer_minor_version_with_unknown_kinds_and_headers_is_read() {
        let mut headers = full().headers();
        headers.insert("Mcpool-Version", "1.9");
        headers.insert("Mcpool-Kind", "overture");
        headers.insert("Mcpool-Colour", "blue");
        let head = Head::read(Some(&headers)).unwrap();
        assert_eq!(head.kind, Kind::Other);
        assert!(VERSION.understands(head.version));
        assert_eq!(head.number, 7);
        headers.insert("Mcpool-Version", "2.0");
        let head = Head::read(Some(&headers)).unwrap();
        assert!(!VERSION.understands(head.version));
    }

    #[test]
    fn nonsense_is_no_head() {
        assert_eq!(Head::read(None), None);
        assert_eq!(Head::read(Some(&HeaderMap::new())), None);
        for (name, value) in [
            ("Mcpool-Version", "1"),
            ("Mcpool-Number", "-1"),
            ("Mcpool-Part", "1"),
            ("Mcpool-Credit", "99999999999"),
            ("Mcpool-Session", "a.b"),
            ("Mcpool-Timeout", "soon"),
        ] {
            let mut headers = full().headers();
            headers.insert(name, value);
            assert_eq!(Head::read(Some(&headers)), None, "{name}");
        }
    }
}
