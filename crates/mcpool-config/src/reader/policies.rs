//! The policy fields of an entry: timeouts, reconnect, health, limits, shutdown.

use super::entry::EntryReader;
use crate::{
    dialects::Key,
    document::{Node, Value},
    problem::nearest,
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
            Key::ByType(field) => self.by_type(field, name, node),
            Key::Protocol => self.protocol(name, node),
            Key::Timeout(unit) => {
                self.note_field("timeout", node);
                // Some hosts write an object of several timeouts.
                if node.is_object() && !self.rules.strict {
                    return self.timeouts(node);
                }
                self.settings.timeout = self.duration(name, node, unit);
            }
            Key::StartupTimeout(unit) => {
                self.note_field("startup_timeout", node);
                self.settings.startup_timeout = self.duration(name, node, unit);
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
            // Every other key is read where the entry is read.
            _ => {}
        }
    }

    /// Reads a field by its type alone.
    fn by_type(&mut self, field: &str, name: &str, node: &Node) {
        self.note_field(field, node);
        let mut settings = std::mem::take(&mut self.settings);
        let known = settings.policies.read_field(self, field, name, node)
            || settings.http.read_field(self, field, name, node);
        debug_assert!(known, "a dialect names {field}, which is no field");
        self.settings = settings;
    }

    /// Reads an object of fields that are read by their types alone.
    fn group<G: Default>(
        &mut self,
        name: &str,
        node: &Node,
        fields: &[&str],
        read_field: fn(&mut G, &mut Self, &str, &str, &Node) -> bool,
    ) -> Option<G> {
        if !node.is_object() {
            self.wrong_type(name, node, "an object");
            return None;
        }
        self.known_fields(name, node, fields);
        let mut group = G::default();
        for field in fields {
            if let Some(value) = node.get(field) {
                read_field(&mut group, self, field, &format!("{name}.{field}"), value);
            }
        }
        Some(group)
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
        let settings = self.group(
            name,
            node,
            ReconnectSettings::FIELDS,
            ReconnectSettings::read_field,
        )?;
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
        let settings = self.group(
            name,
            node,
            HealthSettings::FIELDS,
            HealthSettings::read_field,
        )?;
        let is_zero = |interval: HumanDuration| interval.0.is_zero();
        if let Some(node) = node.get("interval")
            && settings.interval.is_some_and(is_zero)
        {
            self.wrong_value("`health.interval` must be longer than zero; `\"health\": false` switches heartbeats off", node);
        }
        Some(Health::Custom(settings))
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
}

impl ReadValue<Reconnect> for EntryReader<'_> {
    fn value(&mut self, field: Field<'_, Reconnect>) -> Option<Reconnect> {
        self.reconnect(field.path, field.node)
    }
}

impl ReadValue<Health> for EntryReader<'_> {
    fn value(&mut self, field: Field<'_, Health>) -> Option<Health> {
        self.health(field.path, field.node)
    }
}

impl ReadValue<LimitSettings> for EntryReader<'_> {
    fn value(&mut self, field: Field<'_, LimitSettings>) -> Option<LimitSettings> {
        self.group(
            field.path,
            field.node,
            LimitSettings::FIELDS,
            LimitSettings::read_field,
        )
    }
}

impl ReadValue<ShutdownSettings> for EntryReader<'_> {
    fn value(&mut self, field: Field<'_, ShutdownSettings>) -> Option<ShutdownSettings> {
        self.group(
            field.path,
            field.node,
            ShutdownSettings::FIELDS,
            ShutdownSettings::read_field,
        )
    }
}

impl ReadValue<StartName> for EntryReader<'_> {
    fn value(&mut self, field: Field<'_, StartName>) -> Option<StartName> {
        let words = [
            ("eager", StartName::Eager),
            ("background", StartName::Background),
            ("lazy", StartName::Lazy),
        ];
        self.word(field.path, field.node, &words)
    }
}

impl ReadValue<SharingName> for EntryReader<'_> {
    fn value(&mut self, field: Field<'_, SharingName>) -> Option<SharingName> {
        let words = [("pool", SharingName::Pool), ("client", SharingName::Client)];
        self.word(field.path, field.node, &words)
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
