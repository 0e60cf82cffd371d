//! What the program must say of each file.

use std::process::Command;

use super::{Bench, Seen};
use crate::Outcome;

/// A file, and what the program must say of it.
pub(super) struct Expected {
    /// From the folder of the cases.
    file: &'static str,
    /// What is asked of the program. `FILE` stands for the file, `SCRATCH` for a folder.
    pub(super) words: &'static [&'static str],
    code: i32,
    /// `CASE` stands for the folder of the case.
    says: &'static [&'static str],
    silent: &'static [&'static str],
}

const CHECK: &[&str] = &["config", "check"];
const SHOW: &[&str] = &["config", "show", "--json"];
const IMPORT: &[&str] = &[
    "config",
    "import",
    "cursor",
    "--from",
    "FILE",
    "--file",
    "SCRATCH/imported.json",
    "--dry-run",
];

/// A file that is good, and what is said of it.
const fn good(
    file: &'static str,
    words: &'static [&'static str],
    says: &'static [&'static str],
) -> Expected {
    Expected {
        file,
        words,
        code: 0,
        says,
        silent: &[],
    }
}

/// A file that is not, and what is said of it.
const fn bad(file: &'static str, says: &'static [&'static str]) -> Expected {
    Expected {
        file,
        words: CHECK,
        code: 2,
        says,
        silent: &[],
    }
}

impl Expected {
    const fn silent_of(self, silent: &'static [&'static str]) -> Self {
        Self { silent, ..self }
    }
}

#[rustfmt::skip]
pub(super) const EXPECTED: &[Expected] = &[
    bad("args-string/.mcp.json", &["`args` must be a list of strings", "`\"args\": [\"--port\", \"80\"]`"]),
    good("broken-longline/mcp.json", CHECK, &["… and 297 more like this: unknown field `foo`", "300 good servers"]),
    bad("broken-merge-conflict/mcp.json", &["an unresolved merge conflict"]),
    bad("broken-tabs-yaml/mcp.yaml", &["a tab stands in the indentation", "replace each tab"]),
    good("codex-placeholder-literal/.codex/config.toml", CHECK, &["is not a placeholder in Codex", "`env_vars = [\"API_TOKEN\"]`"]),
    good("continue-secrets/.continue/config.yaml", CHECK, &["the variable \"GH_TOKEN\" is not set"]).silent_of(&["never closed"]),
    bad("crush-read-as-opencode/crush.json", &["`$(…)` is a command that Crush runs"]),
    good("empty-url-beside-command/mcp.json", CHECK, &["3 good servers, 0 errors, 0 warnings"]),
    good("env-beside-url/mcp.json", CHECK, &["an HTTP server has no `args`", "an HTTP server has no `env`", "an HTTP server has no `cwd`", "a stdio server has no `headers`"]),
    good("import-relative/proj/.cursor/mcp.json", IMPORT, &["would be imported", "written out, because they depend on where the file of the host is: a.args[0], a.cwd, a.env_file"]),
    good("kiro-oauth/.kiro/settings/mcp.json", SHOW, &["\"client_id\": \"x\"", "\"r\"", "\"timeout\": \"1m\""]),
    bad("list-without-names/mcp.json", &["this entry of a list of servers has no `name`"]),
    good("live-codex-unset/.codex/config.toml", CHECK, &["\"UNSET_ONE\" is not set; as in Codex, it is left out", "\"UNSET_TWO\" is not set", "2 good servers, 0 errors"]),
    good("live-gemini-sse/.cursor/mcp.json", SHOW, &["\"transport\": \"auto\""]),
    good("live-gemini-sse/.gemini/settings.json", SHOW, &["\"transport\": \"auto\""]),
    good("live-workspace/.codex/config.toml", SHOW, &["\"cwd\": \"CASE/sub\""]),
    good("live-workspace/.cursor/mcp.json", SHOW, &["\"cwd\": \"CASE/sub\""]),
    good("live-workspace/.gemini/settings.json", SHOW, &["\"cwd\": \"CASE/sub\""]),
    good("live-workspace/.roo/mcp.json", SHOW, &["\"cwd\": \"CASE/sub\""]),
    good("live-workspace/.vscode/mcp.json", SHOW, &["\"cwd\": \"CASE/sub\""]),
    good("opencode-disable-inherited/opencode.json", CHECK, &["1 good server, 0 errors", "it is disabled"]),
    good("opencode-wrong-placeholder/opencode.json", CHECK, &["is not a placeholder in opencode", "`{env:TOKEN}`"]).silent_of(&["`${TOKEN}`\n"]),
    good("plain-mcp-json-timeout/mcp.json", CHECK, &["read as 60000ms", "read as 30s", "2 good servers"]),
    good("plugin-json/.claude-plugin/plugin.json", CHECK, &["1 good server, 0 errors, 0 warnings"]),
    bad("registry-server-json/server.json", &["this describes a server for the MCP registry", "config add x -- npx -y x@1.0.0"]).silent_of(&["⚠"]),
    bad("template-double-brace/mcp.json", &["is Continue's placeholder; write `${T}`"]).silent_of(&["never closed"]),
    good("token-false-positive/mcp.json", CHECK, &["1 good server, 0 errors, 0 warnings"]),
    good("vscode-null-env/.vscode/mcp.json", SHOW, &["\"PORT\": \"8080\""]),
    good("vscode-settings-mcp/.vscode/settings.json", SHOW, &["\"KEY\": \"${env:KEY:-}\"", "\"url\": \"https://example.org/mcp\""]),
    good("yaml-anchors/mcp.yaml", SHOW, &["\"A\": \"1\"", "\"enabled\": true"]).silent_of(&["\"<<\""]),
];

impl Expected {
    /// The folder of the case, and its file where a case has several.
    pub(super) fn name(&self) -> &'static str {
        self.file
    }

    /// The program with its arguments.
    pub(super) fn command(&self, bench: &Bench) -> Command {
        let file = bench.cases.join("config").join(self.file);
        let file = file.to_string_lossy();
        let mut command = Command::new(&bench.program);
        // From a folder that is none of the file's.
        command.current_dir(&bench.scratch);
        if !self.words.contains(&"FILE") {
            command.args(["--config", &file]);
        }
        for word in self.words {
            let word = word.replace("FILE", &file);
            command.arg(word.replace("SCRATCH", &bench.scratch.to_string_lossy()));
        }
        command
    }

    pub(super) fn judge(&self, bench: &Bench, seen: &Seen) -> Outcome {
        seen.ended_with(self.code)?;
        let case = self.file.split('/').next().unwrap_or_default();
        let case = bench.cases.join("config").join(case);
        // Words are wrapped to the width of a terminal.
        let text = unwrapped(&seen.text);
        let seen = Seen {
            code: seen.code,
            text,
        };
        for part in self.says {
            let part = part.replace("CASE", &case.to_string_lossy());
            seen.says(&[&part])?;
        }
        seen.is_silent_of(self.silent)
    }
}

/// A message that was wrapped, on one line.
fn unwrapped(text: &str) -> String {
    let mut whole = String::new();
    for line in text.lines() {
        let rest = line.trim_start_matches([' ', '│']);
        let goes_on = line.starts_with("  │ ") || line.starts_with("        ");
        match goes_on && !whole.is_empty() {
            true => whole.push(' '),
            false if !whole.is_empty() => whole.push('\n'),
            false => {}
        }
        whole += if goes_on { rest } else { line };
    }
    whole
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn wrapped_words_are_one_line() {
        let text =
            "  ⚠ server: is passed on as it\n  │ stands\n   ╭─[x]\n  help: a and\n        b\n";
        let whole = unwrapped(text);
        assert!(whole.contains("as it stands\n"));
        assert!(whole.contains("help: a and b"));
    }

    #[test]
    fn every_file_belongs_to_a_folder() {
        for expected in EXPECTED {
            assert!(
                Path::new(expected.file)
                    .parent()
                    .is_some_and(|it| it != Path::new(""))
            );
        }
    }
}
