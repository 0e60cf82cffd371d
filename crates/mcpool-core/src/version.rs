//! Protocol versions.

use std::{borrow::Cow, fmt};

use serde::{Deserialize, Serialize};

/// A revision of MCP, as it stands on the wire: a date. They order by date.
///
/// ```
/// use mcpool_core::ProtocolVersion;
///
/// assert!(ProtocolVersion::V_2025_11_25.has_initialize());
/// assert!(!ProtocolVersion::V_2026_07_28.has_initialize());
/// assert!(ProtocolVersion::V_2025_06_18 < ProtocolVersion::LATEST);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ProtocolVersion(Cow<'static, str>);

impl ProtocolVersion {
    /// 2024-11-05: stdio and HTTP+SSE.
    pub const V_2024_11_05: Self = Self::known("2024-11-05");
    /// 2025-03-26: Streamable HTTP, batches.
    pub const V_2025_03_26: Self = Self::known("2025-03-26");
    /// 2025-06-18: no batches, the `MCP-Protocol-Version` header.
    pub const V_2025_06_18: Self = Self::known("2025-06-18");
    /// 2025-11-25: the last with `initialize` and sessions.
    pub const V_2025_11_25: Self = Self::known("2025-11-25");
    /// 2026-07-28: no sessions, `server/discover`.
    pub const V_2026_07_28: Self = Self::known("2026-07-28");
    /// The newest that mcpool speaks.
    pub const LATEST: Self = Self::V_2026_07_28;
    /// The newest that begins with `initialize`.
    pub const LATEST_WITH_INITIALIZE: Self = Self::V_2025_11_25;

    /// Every version that mcpool speaks, oldest first.
    pub const KNOWN: &'static [Self] = &[
        Self::V_2024_11_05,
        Self::V_2025_03_26,
        Self::V_2025_06_18,
        Self::V_2025_11_25,
        Self::V_2026_07_28,
    ];

    const fn known(text: &'static str) -> Self {
        Self(Cow::Borrowed(text))
    }

    /// A version by its text, known or not.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        let text = text.into();
        match Self::KNOWN.iter().find(|known| known.0 == text) {
            Some(known) => known.clone(),
            None => Self(Cow::Owned(text)),
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether mcpool speaks it.
    #[must_use]
    pub fn is_known(&self) -> bool {
        Self::KNOWN.contains(self)
    }

    /// Whether a session of this version begins with `initialize`.
    #[must_use]
    pub fn has_initialize(&self) -> bool {
        *self <= Self::LATEST_WITH_INITIALIZE
    }
}

impl fmt::Display for ProtocolVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
