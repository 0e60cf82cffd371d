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

/// Declares groups: `#[group("limits", Limits)]` is one that sets members of the policy `Limits`.
/// Of a field, `#[between(1, 1000)]` says which values are allowed, and `#[sets(max_pages)]` which
/// member it sets.
macro_rules! groups {
    ($(
        #[group($group:literal, $policy:ty)]
        $(#[doc = $group_doc:literal])*
        #[non_exhaustive]
        pub struct $settings:ident {
            $(
                $(#[doc = $doc:literal])*
                $(#[between($min:literal, $max:literal)])?
                $(#[sets($member:ident)])?
                pub $field:ident: Option<$type:ty>,
            )*
        }
    )*) => { $(
        $(#[doc = $group_doc])*
        #[derive(Clone, Debug, Default, PartialEq, Serialize)]
        #[cfg_attr(feature = "schema", derive(JsonSchema))]
        #[serde(deny_unknown_fields)]
        #[non_exhaustive]
        pub struct $settings {
            $(
                $(#[doc = $doc])*
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
    #[group("reconnect", ReconnectPolicy)]
    /// The numbers of a reconnect policy.
    #[non_exhaustive]
    pub struct ReconnectSettings {
        /// What the other fields change. Default `default`.
        pub preset: Option<ReconnectPreset>,
        /// The first step. Default `500ms`.
        #[sets(base)]
        pub base: Option<HumanDuration>,
        /// The growth of each step. Default 2.
        #[between(1.0, 1000.0)]
        #[sets(factor)]
        pub factor: Option<f64>,
        /// No delay is longer. Default `30s`.
        #[sets(cap)]
        pub cap: Option<HumanDuration>,
        /// The randomness. Default `full`.
        #[sets(jitter)]
        pub jitter: Option<JitterSettings>,
        /// How many attempts before the slow re-probe; `"unlimited"` for ever. Default 10.
        #[sets(max_attempts)]
        pub max_attempts: Option<Attempts>,
        /// How often the slow re-probe runs; `"never"` gives up. Default `5m`.
        #[sets(dormant_interval)]
        pub dormant_interval: Option<Interval>,
        /// How long a connection must have lasted for the ladder to be reset. Default `1m`.
        #[sets(reset_after)]
        pub reset_after: Option<HumanDuration>,
        /// Whether the first attempt after a stable connection is made at once. Default `true`.
        #[sets(immediate_first)]
        pub immediate_first: Option<bool>,
    }

    #[group("health", HealthPolicy)]
    /// The numbers of the heartbeat.
    #[non_exhaustive]
    pub struct HealthSettings {
        /// Whether idle connections are probed at all. Default `true`.
        #[sets(enabled)]
        pub enabled: Option<bool>,
        /// The time between two heartbeats. Default `45s`.
        #[sets(interval)]
        pub interval: Option<HumanDuration>,
        /// How long one may take. Default `5s`.
        #[sets(timeout)]
        pub timeout: Option<HumanDuration>,
        /// How many must fail in a row before a reconnect. Default 2.
        #[between(1, 1000)]
        #[sets(misses)]
        pub misses: Option<u32>,
    }

    #[group("limits", Limits)]
    /// Sizes and counts.
    #[non_exhaustive]
    pub struct LimitSettings {
        /// The longest message from the server. Default `64MiB`.
        #[sets(max_message_bytes)]
        pub max_message: Option<ByteSize>,
        /// How many lines of stderr are kept. Default 200.
        #[between(0, 1_000_000)]
        #[sets(stderr_lines)]
        pub stderr_lines: Option<u32>,
        /// Requests in flight at once. Default 256.
        #[between(1, 1_000_000)]
        #[sets(max_in_flight)]
        pub max_in_flight: Option<u32>,
        /// The most pages of one list. Default 1000.
        #[between(1, 1_000_000)]
        #[sets(max_pages)]
        pub max_pages: Option<u32>,
        /// The most rounds of one multi-round-trip request. Default 10.
        #[between(1, 10_000)]
        #[sets(max_rounds)]
        pub max_rounds: Option<u32>,
    }

    #[group("shutdown", ShutdownPolicy)]
    /// How a connection is closed.
    #[non_exhaustive]
    pub struct ShutdownSettings {
        /// How long a process may take to exit after its stdin is closed. Default `2s`.
        #[sets(stdin_grace)]
        pub stdin_grace: Option<HumanDuration>,
        /// How long it may take after SIGTERM. Default `2s`.
        #[sets(term_grace)]
        pub term_grace: Option<HumanDuration>,
        /// The bound of the whole close. Default `5s`.
        #[sets(total)]
        pub total: Option<HumanDuration>,
        /// Whether the next process may start while the last one is being ended. Default `false`.
        #[sets(overlap)]
        pub overlap: Option<bool>,
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
