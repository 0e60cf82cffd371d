//! The groups of policy fields: `reconnect`, `health`, `limits`, `shutdown`.
//!
//! Each field is declared once, in [`groups!`]. Its type for the writer and the JSON Schema, how a
//! file is read and what it sets in the core's policy come from the declaration.

use std::{ops::RangeInclusive, time::Duration};

use mcpool_core::{HealthPolicy, Jitter, Limits, ReconnectPolicy, ShutdownPolicy};
#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    document::Node,
    units::{ByteSize, HumanDuration},
};

/// A field in a file.
pub(crate) struct Field<'a, T> {
    /// What messages call it: `limits.max_pages`.
    pub(crate) path: &'a str,
    /// Its value in the file.
    pub(crate) node: &'a Node,
    /// The values that are allowed, where not all are.
    pub(crate) range: Option<RangeInclusive<T>>,
}

/// Reads values of a type.
pub(crate) trait ReadValue<T> {
    /// The value; `None` when it is wrong, which is reported then.
    fn value(&mut self, field: Field<'_, T>) -> Option<T>;
}

/// What a value is in the core's policy.
trait ToPolicy<T> {
    fn to_policy(self) -> T;
}

/// The range of a [`Field`].
macro_rules! range {
    () => {
        None
    };
    ($min:literal, $max:literal) => {
        Some($min..=$max)
    };
}

/// Declares groups: `"group" => Settings for Policy`, and in it `field: Type [min..=max] => member`
/// with the member of the policy that the field sets.
macro_rules! groups {
    ($(
        $(#[$group_meta:meta])*
        $group:literal => $settings:ident for $policy:ty {
            $(
                $(#[$meta:meta])*
                $field:ident: $type:ty $([$min:literal..=$max:literal])? $(=> $member:ident)?;
            )*
        }
    )*) => { $(
        $(#[$group_meta])*
        #[derive(Clone, Debug, Default, PartialEq, Serialize)]
        #[cfg_attr(feature = "schema", derive(JsonSchema))]
        #[serde(deny_unknown_fields)]
        #[non_exhaustive]
        pub struct $settings {
            $(
                $(#[$meta])*
                #[serde(skip_serializing_if = "Option::is_none")]
                $(#[cfg_attr(feature = "schema", schemars(range(min = $min, max = $max)))])?
                pub $field: Option<$type>,
            )*
        }

        impl $settings {
            /// The fields by name.
            pub(crate) const FIELDS: &[&str] = &[$(stringify!($field)),*];

            /// Reads the members of an object.
            pub(crate) fn read<R>(reader: &mut R, node: &Node) -> Self
            where
                $(R: ReadValue<$type>,)*
            {
                let mut settings = Self::default();
                $(
                    if let Some(node) = node.get(stringify!($field)) {
                        let field = Field::<$type> {
                            path: concat!($group, ".", stringify!($field)),
                            node,
                            range: range!($($min, $max)?),
                        };
                        settings.$field = reader.value(field);
                    }
                )*
                settings
            }

            /// Sets in a policy what is set here.
            pub(crate) fn apply(&self, policy: &mut $policy) {
                $($(
                    if let Some(value) = self.$field {
                        policy.$member = value.to_policy();
                    }
                )?)*
            }
        }
    )* };
}

groups! {
    /// The numbers of a reconnect policy.
    "reconnect" => ReconnectSettings for ReconnectPolicy {
        /// What the other fields change. Default `default`.
        preset: ReconnectPreset;
        /// The first step. Default `500ms`.
        base: HumanDuration => base;
        /// The growth of each step. Default 2.
        factor: f64 [1.0..=1000.0] => factor;
        /// No delay is longer. Default `30s`.
        cap: HumanDuration => cap;
        /// The randomness. Default `full`.
        jitter: JitterSettings => jitter;
        /// How many attempts before the slow re-probe; `"unlimited"` for ever. Default 10.
        max_attempts: Attempts => max_attempts;
        /// How often the slow re-probe runs; `"never"` gives up. Default `5m`.
        dormant_interval: Interval => dormant_interval;
        /// How long a connection must have lasted for the ladder to be reset. Default `1m`.
        reset_after: HumanDuration => reset_after;
        /// Whether the first attempt after a stable connection is made at once. Default `true`.
        immediate_first: bool => immediate_first;
    }

    /// The numbers of the heartbeat.
    "health" => HealthSettings for HealthPolicy {
        /// Whether idle connections are probed at all. Default `true`.
        enabled: bool => enabled;
        /// The time between two heartbeats. Default `45s`.
        interval: HumanDuration => interval;
        /// How long one may take. Default `5s`.
        timeout: HumanDuration => timeout;
        /// How many must fail in a row before a reconnect. Default 2.
        misses: u32 [1..=1000] => misses;
    }

    /// Sizes and counts.
    "limits" => LimitSettings for Limits {
        /// The longest message from the server. Default `64MiB`.
        max_message: ByteSize => max_message_bytes;
        /// How many lines of stderr are kept. Default 200.
        stderr_lines: u32 [0..=1_000_000] => stderr_lines;
        /// Requests in flight at once. Default 256.
        max_in_flight: u32 [1..=1_000_000] => max_in_flight;
        /// The most pages of one list. Default 1000.
        max_pages: u32 [1..=1_000_000] => max_pages;
        /// The most rounds of one multi-round-trip request. Default 10.
        max_rounds: u32 [1..=10_000] => max_rounds;
    }

    /// How a connection is closed.
    "shutdown" => ShutdownSettings for ShutdownPolicy {
        /// How long a process may take to exit after its stdin is closed. Default `2s`.
        stdin_grace: HumanDuration => stdin_grace;
        /// How long it may take after SIGTERM. Default `2s`.
        term_grace: HumanDuration => term_grace;
        /// The bound of the whole close. Default `5s`.
        total: HumanDuration => total;
        /// Whether the next process may start while the last one is being ended. Default `false`.
        overlap: bool => overlap;
    }
}

/// Reconnecting: a preset, or numbers.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(untagged)]
#[non_exhaustive]
pub enum Reconnect {
    /// A preset as it is.
    Preset(ReconnectPreset),
    /// Numbers, on top of a preset.
    Custom(ReconnectSettings),
}

/// The named reconnect policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ReconnectPreset {
    /// 500 ms doubling to 30 s, full jitter, ten attempts, then every five minutes.
    Default,
    /// The same without an end, and the first attempt waits as well.
    Unlimited,
    /// 1, 2, 4 … 30 s plus up to 50 %, three attempts unless `max_attempts` says otherwise.
    Retrying,
    /// 1, 2, 4, 8, 16 s, then gives up.
    FiveThenStop,
    /// Never reconnects.
    Never,
}

/// Heartbeats: on, off, or with numbers.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(untagged)]
#[non_exhaustive]
pub enum Health {
    /// On with the defaults, or off.
    Enabled(bool),
    /// With numbers.
    Custom(HealthSettings),
}

/// The randomness of a delay.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(untagged)]
#[non_exhaustive]
pub enum JitterSettings {
    /// By name.
    Named(JitterName),
    /// The delay plus up to this share of it.
    Additive {
        /// The share, such as 0.5.
        additive: f64,
    },
}

/// The named kinds of jitter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum JitterName {
    /// None.
    None,
    /// Uniform from zero.
    Full,
    /// Uniform from the half.
    Equal,
}

/// A number of attempts, or no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(untagged)]
#[non_exhaustive]
pub enum Attempts {
    /// So many.
    Count(u32),
    /// For ever.
    Named(Unlimited),
}

/// No limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Unlimited {
    /// For ever.
    Unlimited,
}

/// An interval, or never.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(untagged)]
#[non_exhaustive]
pub enum Interval {
    /// Never.
    Named(Never),
    /// So often.
    Every(HumanDuration),
}

/// Not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Never {
    /// Not at all.
    Never,
}

impl ToPolicy<bool> for bool {
    fn to_policy(self) -> bool {
        self
    }
}

impl ToPolicy<u32> for u32 {
    fn to_policy(self) -> u32 {
        self
    }
}

impl ToPolicy<usize> for u32 {
    fn to_policy(self) -> usize {
        usize::try_from(self).unwrap_or(usize::MAX)
    }
}

impl ToPolicy<f64> for f64 {
    fn to_policy(self) -> f64 {
        self
    }
}

impl ToPolicy<usize> for ByteSize {
    fn to_policy(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl ToPolicy<Duration> for HumanDuration {
    fn to_policy(self) -> Duration {
        self.0
    }
}

impl ToPolicy<Option<u32>> for Attempts {
    fn to_policy(self) -> Option<u32> {
        match self {
            Self::Count(count) => Some(count),
            Self::Named(Unlimited::Unlimited) => None,
        }
    }
}

impl ToPolicy<Option<Duration>> for Interval {
    fn to_policy(self) -> Option<Duration> {
        match self {
            Self::Every(interval) => Some(interval.0),
            Self::Named(Never::Never) => None,
        }
    }
}

impl ToPolicy<Jitter> for JitterSettings {
    fn to_policy(self) -> Jitter {
        match self {
            Self::Named(JitterName::None) => Jitter::None,
            Self::Named(JitterName::Full) => Jitter::Full,
            Self::Named(JitterName::Equal) => Jitter::Equal,
            Self::Additive { additive } => Jitter::Additive(additive),
        }
    }
}
