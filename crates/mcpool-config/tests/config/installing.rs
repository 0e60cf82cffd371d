//! An entry in another host's file, and out again: nothing of the rest is lost.

use std::path::{Path, PathBuf};

use mcpool_config::{Dialect, HostServer, HostWriter};
use proptest::prelude::*;

fn gateway() -> HostServer {
    HostServer::Command(
        ["/opt/mcpool", "serve", "--stdio"]
            .map(str::to_owned)
            .into(),
    )
}

fn writer(host: Dialect) -> HostWriter {
    HostWriter::of(host).unwrap()
}

const JSON: &str = "// mine\n{\n  \"theme\": \"dark\", // stays\n  \"mcpServers\": {\n    // about a\n    \"a\": { \"command\": \"x\", \"n\": 1e400 },\n    \"b\": { \"url\": \"https://b\" },\n  },\n  \"more\": [1,   2]\n}\n";

const TOML: &str = "# mine\nmodel = \"o\" # stays\n\n[mcp_servers.a]\ncommand = \"x\" # why\n\n[mcp_servers.b]\nurl = \"https://b\"\n\n[other]\nk = 1\n";

#[test]
fn the_entry_stands_where_the_host_looks() {
    let example = |host, server: &HostServer| writer(host).example("mcpool", server).unwrap();
    let claude = example(Dialect::ClaudeCode, &gateway());
    let claude: serde_json::Value = serde_json::from_str(&claude).unwrap();
    assert_eq!(
        claude,
        serde_json::json!({"mcpServers": {"mcpool": {
            "type": "stdio", "command": "/opt/mcpool", "args": ["serve", "--stdio"]}}})
    );
    assert_eq!(
        example(Dialect::Codex, &gateway()),
        "[mcp_servers.mcpool]\ncommand = \"/opt/mcpool\"\nargs = [\"serve\", \"--stdio\"]\n"
    );
    let url = HostServer::Url("http://127.0.0.1:7332/mcp".to_owned());
    for host in HostWriter::hosts() {
        for server in [gateway(), url.clone()] {
            // The host's own reader finds what was written for it.
            let text = example(host, &server);
            let name = if host == Dialect::Codex {
                "x.toml"
            } else {
                "x.json"
            };
            let loaded = mcpool_config::Loader::new()
                .with_text(name, &text)
                .with_dialect(host)
                .load()
                .unwrap();
            assert_eq!(
                loaded.servers.len(),
                1,
                "{host}: {text} {:?}",
                loaded.problems
            );
            assert!(!loaded.has_errors(), "{host}: {text} {:?}", loaded.problems);
        }
    }
}

#[test]
fn the_rest_of_the_file_stays() {
    for (host, text) in [(Dialect::Cursor, JSON), (Dialect::Codex, TOML)] {
        let new = writer(host)
            .install(text, "mcpool", &gateway(), &[])
            .unwrap();
        for line in text.lines() {
            assert!(
                new.contains(line.trim_end_matches(',')),
                "{line:?} in {new}"
            );
        }
        assert_eq!(writer(host).names(&new).unwrap(), ["a", "b", "mcpool"]);
        let moved = writer(host)
            .install(text, "mcpool", &gateway(), &["a".to_owned()])
            .unwrap();
        assert_eq!(writer(host).names(&moved).unwrap(), ["b", "mcpool"]);
        assert!(moved.contains("stays") && moved.contains("mine"));
        // A second time changes nothing.
        let again = writer(host)
            .install(&new, "mcpool", &gateway(), &[])
            .unwrap();
        assert_eq!(again, new);
    }
}

#[test]
fn what_has_changed_since_is_kept_when_the_entry_is_taken_out() {
    for (host, text) in [(Dialect::Cursor, JSON), (Dialect::Codex, TOML)] {
        let writer = writer(host);
        let moved = ["a".to_owned(), "b".to_owned()];
        let new = writer.install(text, "mcpool", &gateway(), &moved).unwrap();
        assert!(writer.is_untouched(&new, "mcpool", text));
        let touched = writer.install(&new, "later", &gateway(), &[]).unwrap();
        assert!(!writer.is_untouched(&touched, "mcpool", text));
        let back = writer.uninstall(&touched, "mcpool", Some(text)).unwrap();
        let mut names = writer.names(&back).unwrap();
        names.sort();
        assert_eq!(names, ["a", "b", "later"]);
        assert!(host != Dialect::Cursor || back.contains("1e400"), "{back}");
        // Without what stood there before, the entry alone goes.
        let bare = writer.uninstall(&new, "mcpool", None).unwrap();
        assert!(writer.names(&bare).unwrap().is_empty());
    }
}

#[test]
fn what_comes_back_has_its_comments() {
    let entry = "{\n      \"command\": \"x\", // the good one\n      /* n */ \"n\": 1e400,\n      \"args\": [\n        \"-a\", // why\n      ],\n    }";
    let text = format!("{{\n  \"mcpServers\": {{\n    \"a\": {entry}\n  }}\n}}\n");
    let writer = writer(Dialect::Cursor);
    let moved = ["a".to_owned()];
    let new = writer.install(&text, "mcpool", &gateway(), &moved).unwrap();
    let touched = writer.install(&new, "later", &gateway(), &[]).unwrap();
    let back = writer.uninstall(&touched, "mcpool", Some(&text)).unwrap();
    assert!(back.contains(&format!("\"a\": {entry}")), "{back}");
    assert_eq!(writer.names(&back).unwrap(), ["later", "a"]);
}

#[test]
fn what_cannot_be_read_is_left_alone() {
    let cursor = writer(Dialect::Cursor);
    for text in [
        "{",
        "[]",
        "3",
        r#"{"mcpServers": []}"#,
        r#"{"mcpServers": "file"}"#,
    ] {
        assert!(
            cursor.install(text, "mcpool", &gateway(), &[]).is_err(),
            "{text}"
        );
        assert!(cursor.uninstall(text, "mcpool", None).is_err(), "{text}");
    }
    assert!(cursor.install("{}", "", &gateway(), &[]).is_err());
    let codex = writer(Dialect::Codex);
    assert!(codex.install("a = ", "mcpool", &gateway(), &[]).is_err());
    assert!(
        codex
            .install("mcp_servers = 3", "mcpool", &gateway(), &[])
            .is_err()
    );
    assert!(HostWriter::of(Dialect::Goose).is_none());
}

/// Every file of the fixtures, whatever host it is of.
fn files() -> Vec<PathBuf> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => walk(&path, found),
                false => found.push(path),
            }
        }
    }
    let mut found = Vec::new();
    walk(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures"),
        &mut found,
    );
    found.sort();
    found
}

/// Into a file, and out again, with some of its servers moved away: true when it could be written.
fn there_and_back(host: Dialect, text: &str, picks: &[bool], touch: bool) -> bool {
    let writer = writer(host);
    let Ok(names) = writer.names(text) else {
        return false;
    };
    let mut unique = names.clone();
    unique.sort();
    unique.dedup();
    if unique.len() != names.len() || names.iter().any(|name| name == "mcpool" || name == "later") {
        return false;
    }
    let picked = names.iter().zip(picks.iter().cycle());
    let moved: Vec<String> = picked
        .filter(|(_, pick)| **pick)
        .map(|(name, _)| name.clone())
        .collect();
    let new = writer.install(text, "mcpool", &gateway(), &moved).unwrap();
    let kept: Vec<String> = names
        .iter()
        .filter(|name| !moved.contains(name))
        .cloned()
        .collect();
    let mut now = writer.names(&new).unwrap();
    assert_eq!(now.pop().as_deref(), Some("mcpool"));
    assert_eq!(now, kept);
    assert!(writer.is_untouched(&new, "mcpool", text));
    let new = match touch {
        true => writer.install(&new, "later", &gateway(), &[]).unwrap(),
        false => new,
    };
    let back = writer.uninstall(&new, "mcpool", Some(text)).unwrap();
    let mut found = writer.names(&back).unwrap();
    found.retain(|name| name != "later");
    found.sort();
    assert_eq!(found, unique, "{host}: {back}");
    true
}

#[test]
fn every_real_file_survives_it() {
    let mut written = 0;
    for path in files() {
        let Ok(text) = std::fs::read_to_string(&path) else {
            continue;
        };
        let is_toml = path.extension().is_some_and(|end| end == "toml");
        for host in HostWriter::hosts() {
            if is_toml == (host == Dialect::Codex) {
                for picks in [[false], [true]] {
                    written += usize::from(there_and_back(host, &text, &picks, true));
                }
            }
        }
    }
    assert!(written > 100, "{written}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn no_server_is_lost(
        names in proptest::collection::btree_set("[a-z\"\\\\é .]{1,8}", 0..6),
        picks in proptest::collection::vec(any::<bool>(), 1..6),
        windows in any::<bool>(),
        mark in any::<bool>(),
        touch in any::<bool>(),
    ) {
        let quoted = |name: &String| serde_json::to_string(name).unwrap();
        let line = |name: &String| format!("    // of {}\n    {}: {{ \"command\": \"x\" }}", name.len(), quoted(name));
        let json = format!("{{\n  // top\n  \"mcpServers\": {{\n{}\n  }}\n}}\n", names.iter().map(line).collect::<Vec<_>>().join(",\n"));
        let table = |name: &String| format!("[mcp_servers.{}]\ncommand = \"x\" # why\n", quoted(name));
        let toml = format!("# top\nmodel = 1\n\n{}", names.iter().map(table).collect::<Vec<_>>().join("\n"));
        for (host, text) in [(Dialect::Cursor, json), (Dialect::Codex, toml)] {
            let text = if windows { text.replace('\n', "\r\n") } else { text };
            let text = if mark && host == Dialect::Cursor { format!("\u{feff}{text}") } else { text };
            prop_assert!(there_and_back(host, &text, &picks, touch));
        }
    }
}

#[test]
fn a_file_that_was_changed_meanwhile_is_neither_written_nor_removed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mcp.json");
    std::fs::write(&file, "{\"theirs\": 1}").unwrap();
    for done in [
        mcpool_config::write_host_file(&file, Some("{}"), "{\"ours\": 1}"),
        mcpool_config::remove_host_file(&file, Some("{}")),
    ] {
        let message = done.unwrap_err().to_string();
        assert!(message.contains("changed by another program"), "{message}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "{\"theirs\": 1}");
    }
    mcpool_config::remove_host_file(&file, Some("{\"theirs\": 1}")).unwrap();
    assert!(!file.exists());
}
