//! The committed JSON Schema is the one that the types give, and accepts every native example.

use std::path::Path;

use mcpool_config::{Loader, json_schema};
use serde_json::Value;

#[test]
fn the_committed_schema_is_fresh() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/mcpool.schema.json");
    let fresh = serde_json::to_string_pretty(&json_schema()).unwrap() + "\n";
    if std::env::var_os("MCPOOL_BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &fresh).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap();
    assert!(
        committed == fresh,
        "docs/mcpool.schema.json is stale: run `mcpool config schema > docs/mcpool.schema.json`"
    );
}

/// Every field of the native format with what is said of it, the names of other hosts left out.
fn fields() -> Vec<(String, String)> {
    fn collect(schema: &Value, fields: &mut Vec<(String, String)>) {
        if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
            fields.extend(properties.iter().map(|(name, property)| {
                let words = property["description"].as_str().unwrap_or_default();
                (name.clone(), words.replace('\n', " "))
            }));
        }
        match schema {
            Value::Object(members) => members.values().for_each(|value| collect(value, fields)),
            Value::Array(items) => items.iter().for_each(|item| collect(item, fields)),
            _ => {}
        }
    }
    let mut fields = Vec::new();
    let schema = schemars::schema_for!(mcpool_config::settings::FileSettings);
    collect(&schema.to_value(), &mut fields);
    fields
}

fn page() -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/config.md");
    std::fs::read_to_string(page).unwrap()
}

#[test]
fn every_field_is_in_the_documentation() {
    let page = page();
    let mut names: Vec<String> = fields().into_iter().map(|(name, _)| name).collect();
    assert!(names.contains(&"max_in_flight".to_owned()), "{names:?}");
    names.retain(|name| {
        let forms = [
            format!("`{name}`"),
            format!(".{name}`"),
            format!("\"{name}\""),
        ];
        !forms.iter().any(|form| page.contains(form))
    });
    assert!(names.is_empty(), "docs/config.md does not have {names:?}");
}

#[test]
fn the_documentation_has_the_defaults_of_the_declarations() {
    let page = page();
    let mut checked = 0;
    let mut wrong = Vec::new();
    for (name, words) in fields() {
        let Some((_, rest)) = words.split_once("Default ") else {
            continue;
        };
        let default = rest.split(['.', ',', ';', ':']).next().unwrap_or(rest);
        let default = default.trim_matches('`');
        // A name may stand in several tables; one of its rows has the default.
        let mut rows = page.lines().filter(|line| {
            let cell = line.split('|').nth(1).unwrap_or_default();
            line.starts_with('|')
                && (cell.contains(&format!("`{name}`"))
                    || cell.contains(&format!(".{name}`"))
                    || line.contains(&format!("\"{name}\":")))
        });
        checked += 1;
        if !rows.any(|row| row.contains(default)) {
            wrong.push(format!("{name}: {default}"));
        }
    }
    assert!(checked >= 30, "{checked}");
    assert!(
        wrong.is_empty(),
        "docs/config.md has another default: {wrong:?}"
    );
}

/// Comments and trailing commas removed, through the loader's own parser: strict JSON.
fn strict(text: &str) -> Value {
    jsonc_parser::parse_to_serde_value(
        text.trim_start_matches('\u{feff}'),
        &jsonc_parser::ParseOptions::default(),
    )
    .unwrap()
}

#[test]
fn the_schema_accepts_what_the_loader_accepts() {
    let validator = jsonschema::draft202012::new(&json_schema()).unwrap();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut count = 0;
    for folder in [
        "native",
        "mission",
        "gotcha-bom",
        "gotcha-crlf",
        "claude-code",
        "claude-desktop",
        "roo",
    ] {
        for file in std::fs::read_dir(fixtures.join(folder)).unwrap() {
            let path = file.unwrap().path();
            if !path.is_file() || path.ends_with("expected.json") {
                continue;
            }
            let mut value = strict(&std::fs::read_to_string(&path).unwrap());
            // What a host has beside its servers is not ours to describe.
            if let Some(map) = value.as_object_mut() {
                map.remove("globalShortcut");
            }
            if folder == "claude-code" {
                // Bare numbers for durations are the host's, not ours.
                value["mcpServers"]["stdio"]
                    .as_object_mut()
                    .unwrap()
                    .remove("timeout");
                value["mcpServers"]["login"]
                    .as_object_mut()
                    .unwrap()
                    .remove("oauth");
            }
            let errors: Vec<String> = validator
                .iter_errors(&value)
                .map(|error| format!("{}: {error}", error.instance_path()))
                .collect();
            assert!(errors.is_empty(), "{}: {errors:?}", path.display());
            count += 1;
        }
    }
    assert!(count >= 6, "{count}");
}

#[test]
fn the_schema_refuses_what_the_loader_refuses() {
    let validator = jsonschema::draft202012::new(&json_schema()).unwrap();
    for server in [
        r#"{ "command": 7 }"#,
        r#"{ "command": "x", "args": "a" }"#,
        r#"{ "command": "x", "timeout": 30 }"#,
        r#"{ "command": "x", "timeout": "thirty" }"#,
        r#"{ "command": "x", "limits": { "max_message": 16 } }"#,
        r#"{ "command": "x", "transport": "ws" }"#,
        r#"{ "command": "x", "reconnect": "sometimes" }"#,
        r#"{ "command": "x", "instances": 0 }"#,
        r#"{ "command": "x", "health": { "misses": 0 } }"#,
        r#"{ "command": "x", "enabled": 1 }"#,
    ] {
        // A file that says it is ours is held to all of it.
        let text = format!(
            "{{ \"$schema\": \"mcpool.schema.json\", \"mcpServers\": {{ \"a\": {server} }} }}"
        );
        assert!(
            !validator.is_valid(&serde_json::from_str(&text).unwrap()),
            "{server}"
        );
        let loaded = Loader::new().with_text("x", &text).load().unwrap();
        assert!(loaded.has_errors(), "{server}");
    }
    // A typing mistake in a field's name is an error in an editor, a warning here.
    let text = r#"{ "mcpServers": { "a": { "command": "x", "tiemout": "30s" } } }"#;
    assert!(!validator.is_valid(&serde_json::from_str(text).unwrap()));
    assert_eq!(
        Loader::new()
            .with_text("x", text)
            .load()
            .unwrap()
            .problems
            .len(),
        1
    );
}
