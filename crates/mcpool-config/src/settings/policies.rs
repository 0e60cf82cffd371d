//! Fields that are read by their types: those of an entry, and the groups `reconnect`, `health`,
//! `limits` and `shutdown`.
//!
//! Each field is declared once, in [`groups!`]. Its type for the writer and the JSON Schema, how a
//! file is read, hints at a mistyped name, and what it sets in the core's spec come from the
//! declaration.

use std::time::Duration;

use mcpool_core::{
    HealthPolicy, HttpSpec, Jitter, Limits, ReconnectPolicy, ServerSpec, Sharing, ShutdownPolicy,
};
#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::Serialize;

use super::{Field, ReadValue, SharingName, StartName};
use crate::{
    document::Node,
    units::{ByteSize, HumanDuration},
};

/// What a value is in the core's spec.
trait ToSpec<T> {
    fn to_spec(&self) -> T;
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

/// Declares groups of fields: `#[group(Limits)]` is one that sets members of `Limits`. Of a field,
/// `#[between(1, 1000)]` says which values are allowed, and `#[sets(max_pages)]` which member it
/// sets.
macro_rules! groups {
    ($(
        #[group($target:ty)]
        $(#[doc = $group_doc:literal])*
        #[non_exhaustive]
        pub struct $settings:ident {
            $(
                $(#[doc = $doc:literal])*
                $(#[between($min:literal, $max:literal)])?
                $(#[sets($($member:ident).+)])?
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

            /// Reads the value of a field, which messages call `path`; `false` when there is no
            /// such field.
            pub(crate) fn read_field<R>(
                &mut self,
                reader: &mut R,
                field: &str,
                path: &str,
                node: &Node,
            ) -> bool
            where
                $(R: ReadValue<$type>,)*
            {
                match field {
                    $(
                        stringify!($field) => {
                            let range = range!($($min, $max)?);
                            self.$field = reader.value(Field::<$type> { path, node, range });
                        }
                    )*
                    _ => return false,
                }
                true
            }

            /// Sets in the spec what is set here.
            pub(crate) fn apply(&self, target: &mut $target) {
                $($(
                    if let Some(value) = &self.$field {
                        target.$($member).+ = value.to_spec();
                    }
                )?)*
            }
        }
    )* };
}

groups! {
    #[group(ServerSpec)]
    /// How a server is treated, whatever its transport.
    #[non_exhaustive]
    pub struct PolicySettings {
        /// Whether a failure to connect it fails the whole start. Default `false`.
        #[sets(required)]
        pub required: Option<bool>,
        /// When it is connected. Default `eager`.
        pub start: Option<StartName>,
        /// Short for `"start": "lazy"`. Default `false`.
        pub lazy: Option<bool>,
        /// A lazy server is closed after so long without use. Default: never.
        pub idle_timeout: Option<HumanDuration>,
        /// How many processes or sessions serve it. Default 1.
        #[between(1, 1000)]
        #[sets(instances)]
        pub instances: Option<u32>,
        /// Whether the clients of `mcpool serve` share it. Default `pool`.
        #[sets(sharing)]
        pub sharing: Option<SharingName>,
        /// From a request to its answer, whatever the progress. Default `10m`.
        #[sets(policy.timeouts.request_max)]
        pub max_timeout: Option<HumanDuration>,
        /// How long a stdio server may be silent on the protocol probe. Default `2s`.
        #[sets(policy.timeouts.discover)]
        pub discover_timeout: Option<HumanDuration>,
        /// How a lost connection is made again: the name of a preset, or an object.
        #[sets(policy.reconnect)]
        pub reconnect: Option<Reconnect>,
        /// Heartbeats; `false` switches them off.
        #[sets(policy.health)]
        pub health: Option<Health>,
        /// Sizes and counts.
        #[sets(policy.limits)]
        pub limits: Option<LimitSettings>,
        /// How a connection is closed.
        #[sets(policy.shutdown)]
        pub shutdown: Option<ShutdownSettings>,
        /// How long a cached catalog counts as fresh. Default: until the server says it changed.
        #[sets(policy.catalog_ttl)]
        pub catalog_ttl: Option<HumanDuration>,
        /// Whether `readOnlyHint` and `idempotentHint` of this server are believed. Default `false`.
        #[sets(policy.trust_annotations)]
        pub trust_annotations: Option<bool>,
    }

    #[group(HttpSpec)]
    /// How a server is reached over HTTP.
    #[non_exhaustive]
    pub struct HttpSettings {
        /// Name resolution, TCP and TLS of an HTTP server. Default `10s`.
        #[sets(connect_timeout)]
        pub connect_timeout: Option<HumanDuration>,
        /// Whether credentials may go over plain `http` to another host than this one, where anybody
        /// on the way can read them. Default `false`: the server is not connected.
        #[sets(allow_cleartext_credentials)]
        pub allow_cleartext_credentials: Option<bool>,
    }

    #[group(ReconnectPolicy)]
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

    #[group(HealthPolicy)]
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

    #[group(Limits)]
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

    #[group(ShutdownPolicy)]
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

impl ToSpec<bool> for bool {
    fn to_spec(&self) -> bool {
        *self
    }
}

impl ToSpec<u32> for u32 {
    fn to_spec(&self) -> u32 {
        *self
    }
}

impl ToSpec<usize> for u32 {
    fn to_spec(&self) -> usize {
        usize::try_from(*self).unwrap_or(usize::MAX)
    }
}

impl ToSpec<f64> for f64 {
    fn to_spec(&self) -> f64 {
        *self
    }
}

impl ToSpec<usize> for ByteSize {
    fn to_spec(&self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl ToSpec<Duration> for HumanDuration {
    fn to_spec(&self) -> Duration {
        self.0
    }
}

impl ToSpec<Option<u32>> for Attempts {
    fn to_spec(&self) -> Option<u32> {
        match self {
            Self::Count(count) => Some(*count),
            Self::Named(Unlimited::Unlimited) => None,
        }
    }
}

impl ToSpec<Option<Duration>> for Interval {
    fn to_spec(&self) -> Option<Duration> {
        match self {
            Self::Every(interval) => Some(interval.0),
            Self::Named(Never::Never) => None,
        }
    }
}

impl ToSpec<Jitter> for JitterSettings {
    fn to_spec(&self) -> Jitter {
        match self {
            Self::Named(JitterName::None) => Jitter::None,
            Self::Named(JitterName::Full) => Jitter::Full,
            Self::Named(JitterName::Equal) => Jitter::Equal,
            Self::Additive { additive } => Jitter::Additive(*additive),
        }
    }
}

impl ToSpec<Option<Duration>> for HumanDuration {
    fn to_spec(&self) -> Option<Duration> {
        Some(self.0)
    }
}

impl ToSpec<Sharing> for SharingName {
    fn to_spec(&self) -> Sharing {
        match self {
            Self::Pool => Sharing::Pool,
            Self::Client => Sharing::Client,
        }
    }
}

impl ToSpec<ReconnectPolicy> for ReconnectPreset {
    fn to_spec(&self) -> ReconnectPolicy {
        match self {
            Self::Default => ReconnectPolicy::default(),
            Self::Unlimited => ReconnectPolicy::unlimited(),
            Self::Retrying => ReconnectPolicy::retrying(3),
            Self::FiveThenStop => ReconnectPolicy::five_then_stop(),
            Self::Never => ReconnectPolicy::never(),
        }
    }
}

impl ToSpec<ReconnectPolicy> for Reconnect {
    fn to_spec(&self) -> ReconnectPolicy {
        match self {
            Self::Preset(preset) => preset.to_spec(),
            Self::Custom(custom) => {
                let preset = custom.preset.unwrap_or(ReconnectPreset::Default);
                let mut policy = preset.to_spec();
                custom.apply(&mut policy);
                policy
            }
        }
    }
}

impl ToSpec<HealthPolicy> for Health {
    fn to_spec(&self) -> HealthPolicy {
        let mut policy = HealthPolicy::default();
        match self {
            Self::Enabled(enabled) => policy.enabled = *enabled,
            Self::Custom(custom) => custom.apply(&mut policy),
        }
        policy
    }
}

impl ToSpec<Limits> for LimitSettings {
    fn to_spec(&self) -> Limits {
        let mut limits = Limits::default();
        self.apply(&mut limits);
        limits
    }
}

impl ToSpec<ShutdownPolicy> for ShutdownSettings {
    fn to_spec(&self) -> ShutdownPolicy {
        let mut policy = ShutdownPolicy::default();
        self.apply(&mut policy);
        policy
    }
}
