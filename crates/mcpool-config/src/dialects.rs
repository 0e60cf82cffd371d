//! How each host writes down its servers: one file a host, each mostly a table.
//!
//! A dialect says where the entries stand, what its fields are called, what a bare number and a
//! bare `url` mean, which placeholders it knows, and where its files lie. Everything else is read
//! the same way for all, in `reader.rs`, and every dialect also accepts the native names.

mod agent_plugin;
mod amazon_q;
mod amp;
mod antigravity;
mod augment;
mod cherry_studio;
mod claude_code;
mod claude_desktop;
mod claude_plugin;
mod cline;
mod codex;
mod r#continue;
mod copilot_cli;
mod crush;
mod cursor;
mod dictionaries;
mod docker_mcp;
mod factory;
mod gemini;
mod gemini_extension;
mod goose;
mod inspector;
mod junie;
mod kilo;
mod kiro;
mod librechat;
mod lm_studio;
mod located;
mod mcporter;
mod mistral_vibe;
mod native;
mod opencode;
mod openhands;
mod qwen;
mod recognise;
mod roo;
mod rules;
mod trae;
mod unserved;
mod vscode;
mod warp;
mod windsurf;
mod zed;

use std::{fmt, str::FromStr};

use mcpool_core::{Error, ErrorKind};

pub(crate) use located::{Found, Located};
pub(crate) use recognise::{ends_with, fits, recognise};
#[cfg(feature = "schema")]
pub(crate) use rules::COMMON;
pub(crate) use rules::{BareUrl, Folder, Key, Place, Rules, Unit, UserFile, Variable};
pub(crate) use unserved::problem as no_servers;

use crate::problem::nearest;
use rules::USUAL;

/// A host's way of writing down its servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Dialect {
    /// mcpool's own, which is `mcpServers` with policies.
    Native,
    /// Claude Desktop.
    ClaudeDesktop,
    /// Claude Code: `.mcp.json`, and `~/.claude.json` with its per-project maps.
    ClaudeCode,
    /// A plugin of Claude Code: `plugin.json`.
    ClaudePlugin,
    /// Cursor.
    Cursor,
    /// Visual Studio Code.
    VsCode,
    /// Windsurf.
    Windsurf,
    /// A plugin as Agent Plugins 1.0 writes it, for several hosts.
    AgentPlugin,
    /// Zed.
    Zed,
    /// Codex.
    Codex,
    /// Gemini CLI.
    Gemini,
    /// An extension of Gemini CLI or Qwen Code.
    GeminiExtension,
    /// Qwen Code.
    Qwen,
    /// Goose.
    Goose,
    /// Cline.
    Cline,
    /// Roo Code.
    Roo,
    /// Kilo Code, the extension and the program.
    Kilo,
    /// Continue.
    Continue,
    /// LM Studio.
    LmStudio,
    /// Kiro.
    Kiro,
    /// Amazon Q Developer.
    AmazonQ,
    /// opencode, both versions.
    Opencode,
    /// Crush.
    Crush,
    /// Amp.
    Amp,
    /// GitHub Copilot CLI.
    CopilotCli,
    /// LibreChat.
    LibreChat,
    /// Mistral Vibe.
    MistralVibe,
    /// OpenHands.
    OpenHands,
    /// Cherry Studio.
    CherryStudio,
    /// Augment.
    Augment,
    /// A catalog of Docker MCP.
    DockerMcp,
    /// Trae.
    Trae,
    /// Factory's Droid.
    Factory,
    /// Junie.
    Junie,
    /// Warp.
    Warp,
    /// Antigravity.
    Antigravity,
    /// A FastMCP dictionary.
    FastMcp,
    /// A LangChain dictionary.
    LangChain,
    /// mcporter.
    McPorter,
    /// The catalog of the MCP Inspector.
    Inspector,
}

/// The rules of all dialects, in the order of [`Dialect`].
static RULES: &[Rules] = &[
    native::RULES,
    claude_desktop::RULES,
    claude_code::RULES,
    claude_plugin::RULES,
    cursor::RULES,
    vscode::RULES,
    windsurf::RULES,
    agent_plugin::RULES,
    zed::RULES,
    codex::RULES,
    gemini::RULES,
    gemini_extension::RULES,
    qwen::RULES,
    goose::RULES,
    cline::RULES,
    roo::RULES,
    kilo::RULES,
    r#continue::RULES,
    lm_studio::RULES,
    kiro::RULES,
    amazon_q::RULES,
    opencode::RULES,
    crush::RULES,
    amp::RULES,
    copilot_cli::RULES,
    librechat::RULES,
    mistral_vibe::RULES,
    openhands::RULES,
    cherry_studio::RULES,
    augment::RULES,
    docker_mcp::RULES,
    trae::RULES,
    factory::RULES,
    junie::RULES,
    warp::RULES,
    antigravity::RULES,
    dictionaries::FASTMCP,
    dictionaries::LANGCHAIN,
    mcporter::RULES,
    inspector::RULES,
];

impl Dialect {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::Native,
        Self::ClaudeDesktop,
        Self::ClaudeCode,
        Self::ClaudePlugin,
        Self::Cursor,
        Self::VsCode,
        Self::Windsurf,
        Self::AgentPlugin,
        Self::Zed,
        Self::Codex,
        Self::Gemini,
        Self::GeminiExtension,
        Self::Qwen,
        Self::Goose,
        Self::Cline,
        Self::Roo,
        Self::Kilo,
        Self::Continue,
        Self::LmStudio,
        Self::Kiro,
        Self::AmazonQ,
        Self::Opencode,
        Self::Crush,
        Self::Amp,
        Self::CopilotCli,
        Self::LibreChat,
        Self::MistralVibe,
        Self::OpenHands,
        Self::CherryStudio,
        Self::Augment,
        Self::DockerMcp,
        Self::Trae,
        Self::Factory,
        Self::Junie,
        Self::Warp,
        Self::Antigravity,
        Self::FastMcp,
        Self::LangChain,
        Self::McPorter,
        Self::Inspector,
    ];

    /// The word for it on the command line and in `imports`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.rules().name
    }

    /// The host's name for people.
    #[must_use]
    pub fn title(self) -> &'static str {
        self.rules().title
    }

    pub(crate) fn rules(self) -> &'static Rules {
        // The table has an entry for each of them: tested below.
        &RULES[self as usize]
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Other words for hosts, without case, `-` and `_`.
const OTHER_WORDS: &[(&str, &str)] = &[
    ("agentplugins", "agentplugin"),
    ("claude", "claudecode"),
    ("code", "vscode"),
    ("copilot", "copilotcli"),
    ("geminicli", "gemini"),
    ("roocode", "roo"),
    ("kilocode", "kilo"),
    ("qwencode", "qwen"),
    ("q", "amazonq"),
    ("vibe", "mistralvibe"),
    ("cherry", "cherrystudio"),
    ("auggie", "augment"),
    ("augmentcode", "augment"),
    ("docker", "dockermcp"),
    ("droid", "factory"),
];

impl FromStr for Dialect {
    type Err = Error;

    /// Case, `-` and `_` do not matter.
    fn from_str(name: &str) -> Result<Self, Error> {
        let plain = |text: &str| text.to_lowercase().replace(['-', '_', ' '], "");
        let given = plain(name);
        let wanted = OTHER_WORDS
            .iter()
            .find(|(other, _)| *other == given)
            .map_or(given.as_str(), |(_, word)| *word);
        Self::ALL
            .iter()
            .copied()
            .find(|dialect| plain(dialect.as_str()) == wanted)
            .ok_or_else(|| {
                let names: Vec<&str> = Self::ALL.iter().map(|dialect| dialect.as_str()).collect();
                let hint = match nearest(name, names.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("it knows {}", names.join(", ")),
                };
                Error::new(
                    ErrorKind::InvalidArgument,
                    format!("{name:?} is not a host that mcpool knows; {hint}"),
                )
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_dialect_has_its_rules() {
        assert_eq!(RULES.len(), Dialect::ALL.len());
        for (index, dialect) in Dialect::ALL.iter().enumerate() {
            assert_eq!(*dialect as usize, index, "{dialect}");
            assert_eq!(RULES[index].dialect, *dialect, "{dialect}");
            assert!(!dialect.title().is_empty(), "{dialect}");
        }
        for (other, word) in OTHER_WORDS {
            let dialect: Dialect = other.parse().unwrap();
            assert_eq!(dialect.as_str().replace('-', ""), *word);
        }
    }
}
