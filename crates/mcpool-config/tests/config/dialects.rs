//! A file of every dialect, and of every gotcha, with the canonical form it must give.
//!
//! `MCPOOL_BLESS=1` writes the expected files again, to be looked at before they are committed.

use std::path::{Path, PathBuf};

use mcpool_config::{Dialect, Folders, Loaded, Loader};
use serde_json::{Value, json};

/// Folder, the file in it, the dialect it must be recognised as.
const FIXTURES: &[(&str, &str, Dialect)] = &[
    ("native", "mcp.json", Dialect::Native),
    ("native-toml", "servers.toml", Dialect::Native),
    ("native-yaml", "servers.yaml", Dialect::Native),
    ("mission", "mcp_servers.json", Dialect::Native),
    (
        "claude-desktop",
        "claude_desktop_config.json",
        Dialect::ClaudeDesktop,
    ),
    ("claude-code", ".mcp.json", Dialect::ClaudeCode),
    ("claude-code-user", ".claude.json", Dialect::ClaudeCode),
    ("cursor", ".cursor/mcp.json", Dialect::Cursor),
    ("vscode", ".vscode/mcp.json", Dialect::VsCode),
    (
        "windsurf",
        ".codeium/windsurf/mcp_config.json",
        Dialect::Windsurf,
    ),
    ("zed", ".zed/settings.json", Dialect::Zed),
    ("codex", ".codex/config.toml", Dialect::Codex),
    ("gemini", ".gemini/settings.json", Dialect::Gemini),
    ("goose", "goose/config.yaml", Dialect::Goose),
    ("cline", "cline_mcp_settings.json", Dialect::Cline),
    ("roo", ".roo/mcp.json", Dialect::Roo),
    ("continue", ".continue/config.yaml", Dialect::Continue),
    ("lm-studio", ".lmstudio/mcp.json", Dialect::LmStudio),
    ("kiro", ".kiro/settings/mcp.json", Dialect::Kiro),
    ("opencode", "opencode.jsonc", Dialect::Opencode),
    ("opencode-2", "opencode.json", Dialect::Opencode),
    (
        "copilot-cli",
        ".copilot/mcp-config.json",
        Dialect::CopilotCli,
    ),
    (
        "claude-plugin",
        ".claude-plugin/plugin.json",
        Dialect::ClaudePlugin,
    ),
    ("agent-plugin", "mcp.json", Dialect::AgentPlugin),
    ("qwen", ".qwen/settings.json", Dialect::Qwen),
    (
        "gemini-extension",
        "gemini-extension.json",
        Dialect::GeminiExtension,
    ),
    ("kilo", ".kilocode/mcp.json", Dialect::Kilo),
    ("kilo-2", "kilo.jsonc", Dialect::Kilo),
    ("amazon-q", ".amazonq/mcp.json", Dialect::AmazonQ),
    ("crush", "crush.json", Dialect::Crush),
    ("amp", ".amp/settings.json", Dialect::Amp),
    ("librechat", "librechat.yaml", Dialect::LibreChat),
    ("mistral-vibe", ".vibe/config.toml", Dialect::MistralVibe),
    ("openhands", "config.toml", Dialect::OpenHands),
    ("cherry-studio", "servers.json", Dialect::CherryStudio),
    (
        "augment",
        "augment-global-state/mcpServers.json",
        Dialect::Augment,
    ),
    ("docker-mcp", "docker-mcp.yaml", Dialect::DockerMcp),
    ("trae", ".trae/mcp.json", Dialect::Trae),
    ("factory", ".factory/mcp.json", Dialect::Factory),
    ("junie", ".junie/mcp/mcp.json", Dialect::Junie),
    ("warp", ".warp/.mcp.json", Dialect::Warp),
    (
        "antigravity",
        ".gemini/antigravity/mcp_config.json",
        Dialect::Antigravity,
    ),
    ("fastmcp", "config.json", Dialect::FastMcp),
    ("langchain", "config.json", Dialect::LangChain),
    ("mcporter", "mcporter.json", Dialect::McPorter),
    ("inspector", ".mcp-inspector/mcp.json", Dialect::Inspector),
    ("gotcha-bom", "mcp.json", Dialect::Native),
    ("gotcha-crlf", "mcp.json", Dialect::Native),
    ("gotcha-duplicates", "mcp.json", Dialect::Native),
    ("gotcha-hidden", "mcp.json", Dialect::Native),
];

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn load(folder: &str, file: &str, forced: Option<Dialect>) -> Loaded {
    let mut loader = Loader::new()
        .with_file(fixtures().join(folder).join(file))
        .with_folders(Folders::below("/home/me").with_workspace("/work/project"))
        .with_env([("KEY", "canary-key"), ("TOKEN", "canary-token")]);
    if let Some(dialect) = forced {
        loader = loader.with_dialect(dialect);
    }
    loader.load().unwrap()
}

/// The canonical form and the problems, without what depends on where the repository lies.
fn canonical(loaded: &Loaded) -> Value {
    let base = fixtures().to_string_lossy().into_owned();
    let problems: Vec<Value> = loaded
        .problems
        .iter()
        .map(|problem| {
            let place = problem.span.as_ref().map(|span| {
                let position = span.position();
                format!("{}:{}", position.line, position.column)
            });
            json!({ "severity": problem.severity, "code": problem.code, "server": problem.server, "at": place })
        })
        .collect();
    let whole = json!({ "config": loaded.to_json(false), "problems": problems });
    let text = whole.to_string().replace(&base, "FIXTURES");
    serde_json::from_str(&text).unwrap()
}

#[test]
fn every_dialect_is_recognised_and_gives_its_canonical_form() {
    let mut wrong = Vec::new();
    for (folder, file, dialect) in FIXTURES {
        let loaded = load(folder, file, None);
        for entry in loaded.entries() {
            assert_eq!(entry.origin.dialect, Some(*dialect), "{folder}");
        }
        assert!(
            !loaded.entries().is_empty(),
            "{folder}: {:?}",
            loaded.problems
        );
        let got = canonical(&loaded);
        let path = fixtures().join(folder).join("expected.json");
        if std::env::var_os("MCPOOL_BLESS").is_some() {
            std::fs::write(&path, serde_json::to_string_pretty(&got).unwrap() + "\n").unwrap();
        }
        let want: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        if got != want {
            wrong.push(format!("{folder}: {got:#}"));
        }
        // Forced by name it is the same.
        assert_eq!(
            canonical(&load(folder, file, Some(*dialect))),
            got,
            "{folder}"
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_dialect_has_a_fixture_and_a_name() {
    for dialect in Dialect::ALL {
        assert!(
            FIXTURES.iter().any(|(_, _, known)| known == dialect),
            "{dialect}"
        );
        assert_eq!(dialect.as_str().parse::<Dialect>().unwrap(), *dialect);
    }
    let error = "cursr".parse::<Dialect>().unwrap_err();
    assert!(error.to_string().contains("`cursor`"), "{error}");
}

/// What the placeholders of each host become, with KEY set and everything else unset.
#[tokio::test]
async fn placeholders_behave_as_in_their_host() {
    for (folder, file, server, want) in [
        (
            "claude-code",
            ".mcp.json",
            "stdio",
            vec!["/opt/server", "--root", "${ROOT}", "KEY=canary-key"],
        ),
        (
            "claude-desktop",
            "claude_desktop_config.json",
            "files",
            vec!["npx", "-y", "server-files", "/home/me", "PRICE=5$"],
        ),
        (
            "cursor",
            ".cursor/mcp.json",
            "remote",
            vec!["https://example.org/mcp", "X-Key=canary-key"],
        ),
        (
            "windsurf",
            ".codeium/windsurf/mcp_config.json",
            "local",
            vec!["npx", "-y", "x", "FROM_FILE=", "KEY=canary-key"],
        ),
        (
            "zed",
            ".zed/settings.json",
            "new",
            vec!["npx", "-y", "x", "A=${literal}"],
        ),
        (
            "gemini",
            ".gemini/settings.json",
            "local",
            vec![
                "python",
                "-m",
                "srv",
                "$DIR",
                "A=canary-key",
                "B=canary-key",
                "C=canary-key",
                "D=canary-key",
            ],
        ),
        (
            "opencode",
            "opencode.jsonc",
            "remote",
            // A header whose placeholders give nothing is left out.
            vec!["https://example.org/canary-key"],
        ),
        (
            "kiro",
            ".kiro/settings/mcp.json",
            "remote",
            vec!["https://example.org/mcp", "X-Key=canary-key"],
        ),
    ] {
        let loaded = load(folder, file, None);
        let entry = loaded.entry(server).unwrap();
        let spec = entry.spec.resolved().await.unwrap();
        assert_eq!(crate::rows::reached(&spec), want, "{folder}");
    }
    // An input without anybody to ask says so.
    let loaded = load("vscode", ".vscode/mcp.json", None);
    let error = loaded
        .entry("remote")
        .unwrap()
        .spec
        .resolved()
        .await
        .unwrap_err();
    assert!(error.to_string().contains("nobody can be asked"), "{error}");
}
