//! The policy fields of an entry: timeouts, reconnect, health, limits, shutdown.

use super::entry::EntryReader;
use crate::{
    diagnose::nearest,
    dialects::Key,
    document::{Node, Value},
    settings::{
        Attempts, Field, Health, HealthSettings, InheritName, InheritSettings, Interval,
        JitterName, JitterSettings, LimitSettings, Never, ReadValue, Reconnect, ReconnectPreset,
        ReconnectSettings, SharingName, ShutdownSettings, StartName, Unlimited,
    },
    units::{ByteSize, HumanDuration},
};

impl EntryReader<'_> {
    pub(super) fn policy(&mut self, key: Key, name: &str, node: &Node) {
        match key {
            Key::Start => {
                self.note_field("start", node);
                self.settings.start = self.word(
                    name,
                    node,
                    &[
                        ("eager", StartName::Eager),
                        ("background", StartName::Background),
                        ("lazy", StartName::Lazy),
                    ],
                );
            }
            Key::Lazy => {
                self.note_field("lazy", node);
                self.settings.lazy = self.boolean(name, node);
            }
            Key::IdleTimeout => {
                self.note_field("idle_timeout", node);
                self.settings.idle_timeout = self.duration(name, node, None);
            }
            Key::Instances => {
                self.note_field("instances", node);
                self.settings.instances = self.whole(name, node, 1, 1000);
            }
            Key::Sharing => {
                self.note_field("sharing", node);
                let words = [("pool", SharingName::Pool), ("client", SharingName::Client)];
                self.settings.sharing = self.word(name, node, &words);
            }
            Key::Protocol => self.protocol(name, node),
            Key::Timeout(unit) => {
                self.note_field("timeout", node);
                // Some hosts write an object of several timeouts.
                if node.is_object() && !self.rules.strict {
                    return self.timeouts(node);
                }
                self.settings.timeout = self.duration(name, node, unit);
            }
            Key::MaxTimeout => {
                self.note_field("max_timeout", node);
                self.settings.max_timeout = self.duration(name, node, None);
            }
            Key::StartupTimeout(unit) => {
                self.note_field("startup_timeout", node);
                self.settings.startup_timeout = self.duration(name, node, unit);
            }
            Key::DiscoverTimeout => {
                self.note_field("discover_timeout", node);
                self.settings.discover_timeout = self.duration(name, node, None);
            }
            Key::ConnectTimeout => {
                self.note_field("connect_timeout", node);
                self.settings.connect_timeout = self.duration(name, node, None);
            }
            Key::ReadIdleTimeout(unit) => {
                self.note_field("read_idle_timeout", node);
                self.settings.read_idle_timeout = self.duration(name, node, unit);
            }
            Key::CaFile => {
                self.note_field("ca_file", node);
                self.settings.ca_file = self.text(name, node);
            }
            Key::Proxy => {
                self.note_field("proxy", node);
                self.hide_credentials(node);
                self.settings.proxy = self.text(name, node);
            }
            Key::AllowCleartextCredentials => {
                self.note_field("allow_cleartext_credentials", node);
                self.settings.allow_cleartext_credentials = self.boolean(name, node);
            }
            Key::Reconnect => {
                self.note_field("reconnect", node);
                self.settings.reconnect = self.reconnect(name, node);
            }
            Key::Health => {
                self.note_field("health", node);
                self.settings.health = self.health(name, node);
            }
            Key::Limits => {
                self.note_field("limits", node);
                self.settings.limits = self.limits(name, node);
            }
            Key::Shutdown => {
                self.note_field("shutdown", node);
                self.settings.shutdown = self.shutdown(name, node);
            }
            Key::CatalogTtl => {
                self.note_field("catalog_ttl", node);
                self.settings.catalog_ttl = self.duration(name, node, None);
            }
            Key::TrustAnnotations => {
                self.note_field("trust_annotations", node);
                self.settings.trust_annotations = self.boolean(name, node);
            }
            // Every other key is read where the entry is read.
            _ => {}
        }
    }

    pub(super) fn inherit_env(&mut self, name: &str, node: &Node) {
        self.note_field("inherit_env", node);
        self.settings.inherit_env = match &node.value {
            Value::Array(_) => self.strings(name, node).map(InheritSettings::Names),
            _ => self
                .word(
                    name,
                    node,
                    &[
                        ("safe", InheritName::Safe),
                        ("all", InheritName::All),
                        ("none", InheritName::None),
                    ],
                )
                .map(InheritSettings::Set),
        };
    }

    /// One of a few words.
    pub(super) fn word<T: Copy>(
        &mut self,
        name: &str,
        node: &Node,
        known: &[(&str, T)],
    ) -> Option<T> {
        let text = self.text(name, node)?;
        let plain = text.to_lowercase().replace('-', "_");
        if let Some((_, value)) = known.iter().find(|(word, _)| *word == plain) {
            return Some(*value);
        }
        let words: Vec<&str> = known.iter().map(|(word, _)| *word).collect();
        let hint = match nearest(&text, words.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("it is one of {}", words.join(", ")),
        };
        self.wrong_value(format!("`{name}` cannot be `{text}`: {hint}"), node);
        None
    }

    fn timeouts(&mut self, node: &Node) {
        if let Some(startup) = node.get("startup") {
            self.settings.startup_timeout = self.duration("timeout.startup", startup, None);
        }
        for key in ["request", "execution"] {
            if let Some(request) = node.get(key) {
                self.settings.timeout = self.duration("timeout.request", request, None);
            }
        }
    }

    fn protocol(&mut self, name: &str, node: &Node) {
        let Some(text) = self.text(name, node) else {
            return;
        };
        // Elsewhere it is a word for the transport.
        if !self.rules.strict && self.is_transport_word(&text) {
            return self.transport_name(name, node);
        }
        self.note_field("protocol", node);
        let bytes = text.as_bytes();
        let is_date = bytes.len() == 10
            && bytes.iter().enumerate().all(|(index, byte)| match index {
                4 | 7 => *byte == b'-',
                _ => byte.is_ascii_digit(),
            });
        if is_date || ["auto", "legacy", "modern"].contains(&text.as_str()) {
            self.settings.protocol = Some(text);
        } else {
            let hint = match nearest(&text, ["auto", "legacy", "modern"]) {
                Some(near) => format!("did you mean `{near}`?"),
                None => {
                    "it is `auto`, `legacy`, `modern`, or a version such as `2025-06-18`".to_owned()
                }
            };
            self.wrong_value(format!("`{name}` cannot be `{text}`: {hint}"), node);
        }
    }

    fn reconnect(&mut self, name: &str, node: &Node) -> Option<Reconnect> {
        if let Value::Bool(false) = node.value {
            return Some(Reconnect::Preset(ReconnectPreset::Never));
        }
        if node.as_str().is_some() {
            return self.preset(name, node).map(Reconnect::Preset);
        }
        if !node.is_object() {
            self.wrong_type(name, node, "the name of a preset or an object");
            return None;
        }
        self.known_fields(name, node, ReconnectSettings::FIELDS);
        let settings = ReconnectSettings::read(self, node);
        if let (Some(base), Some(cap)) = (settings.base, settings.cap)
            && base > cap
        {
            self.wrong_value("`reconnect.base` is longer than `reconnect.cap`", node);
        }
        Some(Reconnect::Custom(settings))
    }

    fn preset(&mut self, name: &str, node: &Node) -> Option<ReconnectPreset> {
        self.word(
            name,
            node,
            &[
                ("default", ReconnectPreset::Default),
                ("unlimited", ReconnectPreset::Unlimited),
                ("retrying", ReconnectPreset::Retrying),
                ("five_then_stop", ReconnectPreset::FiveThenStop),
                ("never", ReconnectPreset::Never),
            ],
        )
    }

    fn number(&mut self, path: &str, node: &Node, min: f64, max: f64) -> Option<f64> {
        let number = match node.value {
            #[allow(clippy::cast_precision_loss)] // far outside the allowed range anyway
            Value::Integer(number) => number as f64,
            Value::Float(number) => number,
            _ => {
                self.wrong_type(path, node, "a number");
                return None;
            }
        };
        if (min..=max).contains(&number) {
            Some(number)
        } else {
            self.wrong_value(format!("`{path}` must be between {min} and {max}"), node);
            None
        }
    }

    fn health(&mut self, name: &str, node: &Node) -> Option<Health> {
        if let Value::Bool(enabled) = node.value {
            return Some(Health::Enabled(enabled));
        }
        if !node.is_object() {
            self.wrong_type(name, node, "`true`, `false` or an object");
            return None;
        }
        self.known_fields(name, node, HealthSettings::FIELDS);
        let settings = HealthSettings::read(self, node);
        let is_zero = |interval: HumanDuration| interval.0.is_zero();
        if let Some(node) = node.get("interval")
            && settings.interval.is_some_and(is_zero)
        {
            self.wrong_value("`health.interval` must be longer than zero; `\"health\": false` switches heartbeats off", node);
        }
        Some(Health::Custom(settings))
    }

    fn limits(&mut self, name: &str, node: &Node) -> Option<LimitSettings> {
        if !node.is_object() {
            self.wrong_type(name, node, "an object");
            return None;
        }
        self.known_fields(name, node, LimitSettings::FIELDS);
        Some(LimitSettings::read(self, node))
    }

    fn size(&mut self, path: &str, node: &Node) -> Option<ByteSize> {
        match &node.value {
            Value::String(text) => match ByteSize::parse(text) {
                Ok(ByteSize(0)) => {
                    self.wrong_value(format!("`{path}` must be more than nothing"), node);
                    None
                }
                Ok(size) => Some(size),
                Err(message) => {
                    self.wrong_value(format!("`{path}`: {message}"), node);
                    None
                }
            },
            Value::Integer(number) => {
                self.wrong_value(
                    format!("`{path}` is a number without a unit: write \"{number}B\", or for example \"16MiB\""),
                    node,
                );
                None
            }
            _ => {
                self.wrong_type(path, node, "a size such as \"16MiB\"");
                None
            }
        }
    }

    fn shutdown(&mut self, name: &str, node: &Node) -> Option<ShutdownSettings> {
        if !node.is_object() {
            self.wrong_type(name, node, "an object");
            return None;
        }
        self.known_fields(name, node, ShutdownSettings::FIELDS);
        Some(ShutdownSettings::read(self, node))
    }
}

impl ReadValue<bool> for EntryReader<'_> {
    fn value(&mut self, field: Field<'_, bool>) -> Option<bool> {
        self.boolean(field.path, field.node)
    }
}

impl ReadValue<u32> for EntryReader<'_> {
    fn value(&mut self, field: Field<'_, u32>) -> Option<u32> {
        let (min, max) = field.range.unwrap_or(0..=u32::MAX).into_inner();
        self.whole(field.path, field.node, min, max)
    }
}

impl ReadValue<f64> for EntryReader<'_> {
    fn value(&mut self, field: Field<'_, f64>) -> Option<f64> {
        let (min, max) = field.range.unwrap_or(f64::MIN..=f64::MAX).into_inner();
        self.number(field.path, field.node, min, max)
    }
}

impl ReadValue<HumanDuration> for EntryReader<'_> {
    fn value(&mut self, field: Field<'_, HumanDuration>) -> Option<HumanDuration> {
        self.duration(field.path, field.node, None)
    }
}

impl ReadValue<ByteSize> for EntryReader<'_> {
    fn value(&mut self, field: Field<'_, ByteSize>) -> Option<ByteSize> {
        self.size(field.path, field.node)
    }
}

impl ReadValue<ReconnectPreset> for EntryReader<'_> {
    fn value(&mut self, field: Field<'_, ReconnectPreset>) -> Option<ReconnectPreset> {
        self.preset(field.path, field.node)
    }
}

impl ReadValue<Attempts> for EntryReader<'_> {
    fn value(&mut self, field: Field<'_, Attempts>) -> Option<Attempts> {
        match field.node.as_str() {
            Some("unlimited") => Some(Attempts::Named(Unlimited::Unlimited)),
            _ => self
                .whole(field.path, field.node, 0, u32::MAX)
                .map(Attempts::Count),
        }
    }
}

impl ReadValue<Interval> for EntryReader<'_> {
    fn value(&mut self, field: Field<'_, Interval>) -> Option<Interval> {
        match field.node.as_str() {
            Some("never") => Some(Interval::Named(Never::Never)),
            _ => self
                .duration(field.path, field.node, None)
                .map(Interval::Every),
        }
    }
}

impl ReadValue<JitterSettings> for EntryReader<'_> {
    fn value(&mut self, field: Field<'_, JitterSettings>) -> Option<JitterSettings> {
        let Field { path, node, .. } = field;
        if let Some(share) = node.get("additive") {
            return self
                .number(&format!("{path}.additive"), share, 0.0, 10.0)
                .map(|additive| JitterSettings::Additive { additive });
        }
        let words = [
            ("none", JitterName::None),
            ("full", JitterName::Full),
            ("equal", JitterName::Equal),
        ];
        self.word(path, node, &words).map(JitterSettings::Named)
    }
}
