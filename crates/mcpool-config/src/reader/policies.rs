//! The policy fields of an entry: timeouts, reconnect, health, limits, shutdown.

use super::entry::EntryReader;
use crate::{
    diagnose::nearest,
    dialects::Key,
    document::{Node, Value},
    settings::{
        Attempts, Health, HealthSettings, InheritName, InheritSettings, Interval, JitterName,
        JitterSettings, LimitSettings, Never, Reconnect, ReconnectPreset, ReconnectSettings,
        SharingName, ShutdownSettings, StartName, Unlimited,
    },
    units::ByteSize,
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
        self.known_fields(
            name,
            node,
            &[
                "preset",
                "base",
                "factor",
                "cap",
                "jitter",
                "max_attempts",
                "dormant_interval",
                "reset_after",
                "immediate_first",
            ],
        );
        let mut settings = ReconnectSettings::default();
        if let Some(node) = node.get("preset") {
            settings.preset = self.preset("reconnect.preset", node);
        }
        if let Some(node) = node.get("base") {
            settings.base = self.duration("reconnect.base", node, None);
        }
        if let Some(node) = node.get("cap") {
            settings.cap = self.duration("reconnect.cap", node, None);
        }
        if let Some(node) = node.get("reset_after") {
            settings.reset_after = self.duration("reconnect.reset_after", node, None);
        }
        if let Some(node) = node.get("factor") {
            settings.factor = self.number("reconnect.factor", node, 1.0, 1000.0);
        }
        if let Some(node) = node.get("immediate_first") {
            settings.immediate_first = self.boolean("reconnect.immediate_first", node);
        }
        if let Some(node) = node.get("max_attempts") {
            settings.max_attempts = match node.as_str() {
                Some("unlimited") => Some(Attempts::Named(Unlimited::Unlimited)),
                _ => self
                    .whole("reconnect.max_attempts", node, 0, u32::MAX)
                    .map(Attempts::Count),
            };
        }
        if let Some(node) = node.get("dormant_interval") {
            settings.dormant_interval = match node.as_str() {
                Some("never") => Some(Interval::Named(Never::Never)),
                _ => self
                    .duration("reconnect.dormant_interval", node, None)
                    .map(Interval::Every),
            };
        }
        if let Some(node) = node.get("jitter") {
            settings.jitter = match node.get("additive") {
                Some(share) => self
                    .number("reconnect.jitter.additive", share, 0.0, 10.0)
                    .map(|additive| JitterSettings::Additive { additive }),
                None => self
                    .word(
                        "reconnect.jitter",
                        node,
                        &[
                            ("none", JitterName::None),
                            ("full", JitterName::Full),
                            ("equal", JitterName::Equal),
                        ],
                    )
                    .map(JitterSettings::Named),
            };
        }
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
                ("heartbeat", ReconnectPreset::Heartbeat),
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
        self.known_fields(name, node, &["enabled", "interval", "timeout", "misses"]);
        let mut settings = HealthSettings::default();
        if let Some(node) = node.get("enabled") {
            settings.enabled = self.boolean("health.enabled", node);
        }
        if let Some(node) = node.get("interval") {
            settings.interval = self.duration("health.interval", node, None);
            if settings
                .interval
                .is_some_and(|interval| interval.0.is_zero())
            {
                self.wrong_value("`health.interval` must be longer than zero; `\"health\": false` switches heartbeats off", node);
            }
        }
        if let Some(node) = node.get("timeout") {
            settings.timeout = self.duration("health.timeout", node, None);
        }
        if let Some(node) = node.get("misses") {
            settings.misses = self.whole("health.misses", node, 1, 1000);
        }
        Some(Health::Custom(settings))
    }

    fn limits(&mut self, name: &str, node: &Node) -> Option<LimitSettings> {
        if !node.is_object() {
            self.wrong_type(name, node, "an object");
            return None;
        }
        self.known_fields(
            name,
            node,
            &[
                "max_message",
                "stderr_lines",
                "max_in_flight",
                "max_pages",
                "max_rounds",
            ],
        );
        let mut settings = LimitSettings::default();
        if let Some(node) = node.get("max_message") {
            settings.max_message = self.size("limits.max_message", node);
        }
        if let Some(node) = node.get("stderr_lines") {
            settings.stderr_lines = self.whole("limits.stderr_lines", node, 0, 1_000_000);
        }
        if let Some(node) = node.get("max_in_flight") {
            settings.max_in_flight = self.whole("limits.max_in_flight", node, 1, 1_000_000);
        }
        if let Some(node) = node.get("max_pages") {
            settings.max_pages = self.whole("limits.max_pages", node, 1, 1_000_000);
        }
        if let Some(node) = node.get("max_rounds") {
            settings.max_rounds = self.whole("limits.max_rounds", node, 1, 10_000);
        }
        Some(settings)
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
        self.known_fields(
            name,
            node,
            &["stdin_grace", "term_grace", "total", "overlap"],
        );
        let mut settings = ShutdownSettings::default();
        if let Some(node) = node.get("stdin_grace") {
            settings.stdin_grace = self.duration("shutdown.stdin_grace", node, None);
        }
        if let Some(node) = node.get("term_grace") {
            settings.term_grace = self.duration("shutdown.term_grace", node, None);
        }
        if let Some(node) = node.get("total") {
            settings.total = self.duration("shutdown.total", node, None);
        }
        if let Some(node) = node.get("overlap") {
            settings.overlap = self.boolean("shutdown.overlap", node);
        }
        Some(settings)
    }
}
