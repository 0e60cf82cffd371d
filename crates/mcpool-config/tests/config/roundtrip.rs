//! Parsing what was written gives what was meant.

use std::time::Duration;

use mcpool_config::{
    ByteSize, Edit, Format, HumanDuration, Loader, edit_text,
    settings::{
        Attempts, HeaderMap, Health, HealthSettings, JitterSettings, LimitSettings, Reconnect,
        ReconnectPreset, ReconnectSettings, ServerSettings, ToolSettings, TransportName,
    },
};
use proptest::prelude::*;

fn name() -> impl Strategy<Value = String> {
    "[a-zA-Z][a-zA-Z0-9_. é\"\\\\-]{0,10}[a-z0-9]"
}

/// A text that is one in every host's eyes: it may hold quotes, line ends and dollars that are
/// no placeholders.
fn text() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9 é\"'\\\\\n\t{}#=:,.$/-]{0,20}".prop_map(|text| text.replace("${", "$ {"))
}

fn duration() -> impl Strategy<Value = HumanDuration> {
    (0u64..10_000_000).prop_map(|ms| HumanDuration(Duration::from_millis(ms)))
}

fn settings() -> impl Strategy<Value = ServerSettings> {
    let process = (
        "[a-z/]{1,10}",
        proptest::collection::vec(text(), 0..4),
        proptest::collection::btree_map("[A-Z_]{1,8}", text(), 0..4),
    );
    let http = proptest::collection::vec(("[a-zA-Z-]{1,10}", text()), 0..4);
    let policies = (
        proptest::option::of(duration()),
        proptest::option::of(any::<bool>()),
        proptest::option::of(1u32..100),
        proptest::option::of(proptest::collection::vec(text(), 0..3)),
        proptest::option::of((0u32..20, 1u64..1 << 40, any::<bool>())),
    );
    (any::<bool>(), process, http, policies).prop_map(
        |(
            is_process,
            (command, args, env),
            headers,
            (timeout, enabled, instances, tools, numbers),
        )| {
            let mut settings = ServerSettings::default();
            if is_process {
                settings.command = Some(command);
                settings.args = args;
                settings.env = env;
                settings.transport = Some(TransportName::Stdio);
            } else {
                settings.url = Some("https://example.org/mcp".to_owned());
                settings.transport = Some(TransportName::Http);
                let mut seen = std::collections::HashSet::new();
                settings.headers = HeaderMap(
                    headers
                        .into_iter()
                        .filter(|(name, _)| seen.insert(name.to_lowercase()))
                        .collect(),
                );
            }
            settings.timeout = timeout;
            settings.startup_timeout = timeout;
            settings.enabled = enabled;
            settings.policies.required = enabled;
            settings.policies.instances = instances;
            settings.tools = tools.map(|names| {
                let mut tools = ToolSettings::default();
                tools.allow = Some(names.clone());
                tools.deny = names;
                tools
            });
            if let Some((count, bytes, flag)) = numbers {
                let mut limits = LimitSettings::default();
                limits.max_message = Some(ByteSize(bytes));
                limits.stderr_lines = Some(count);
                settings.policies.limits = Some(limits);
                let mut reconnect = ReconnectSettings::default();
                reconnect.preset = Some(ReconnectPreset::Unlimited);
                reconnect.max_attempts = Some(Attempts::Count(count));
                reconnect.jitter = Some(JitterSettings::Additive {
                    additive: f64::from(count) / 4.0,
                });
                reconnect.immediate_first = Some(flag);
                settings.policies.reconnect = Some(Reconnect::Custom(reconnect));
                settings.policies.health = Some(if flag {
                    Health::Enabled(flag)
                } else {
                    let mut health = HealthSettings::default();
                    health.misses = Some(count + 1);
                    Health::Custom(health)
                });
            }
            settings
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn what_is_written_is_read_back(
        servers in proptest::collection::btree_map(name(), settings(), 1..5),
        toml in any::<bool>(),
    ) {
        let edits: Vec<Edit> = servers
            .iter()
            .map(|(name, settings)| Edit::Add {
                name: name.clone(),
                settings: Box::new(settings.clone()),
                replace: false,
            })
            .collect();
        let format = if toml { Format::Toml } else { Format::Json };
        let text = edit_text("", format, &edits).unwrap();
        let loaded = Loader::new().with_text(if toml { "x.toml" } else { "x.json" }, &text).load().unwrap();
        prop_assert!(!loaded.has_errors(), "{}\n{:?}", text, loaded.problems);
        for (name, settings) in &servers {
            let entry = loaded.entry(name).unwrap();
            prop_assert_eq!(
                serde_json::to_value(&entry.settings).unwrap(),
                serde_json::to_value(settings).unwrap(),
                "{}", text
            );
        }
        // Taking them all out again leaves a file with no servers in it.
        let removes: Vec<Edit> = servers.keys().map(|name| Edit::Remove { name: name.clone() }).collect();
        let empty = edit_text(&text, format, &removes).unwrap();
        prop_assert!(Loader::new().with_text("x", &empty).load().unwrap().servers.is_empty());
    }
}
