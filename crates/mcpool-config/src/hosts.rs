//! Where each host keeps its files.

use std::path::{Path, PathBuf};

use etcetera::BaseStrategy;

use crate::{dialects::Dialect, origin::Scope};

/// The folders that the hosts' paths are made of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Folders {
    /// The user's home.
    pub home: Option<PathBuf>,
    /// `~/.config`, or what stands in for it.
    pub config: Option<PathBuf>,
    /// Where applications keep their settings: `~/Library/Application Support`, `%APPDATA%`, or
    /// the same as `config`.
    pub application: Option<PathBuf>,
    /// Codex's own folder, when `CODEX_HOME` moves it.
    pub codex: Option<PathBuf>,
    /// The project.
    pub workspace: Option<PathBuf>,
}

impl Folders {
    /// Those of this process: the user's, and the current directory as the project.
    #[must_use]
    pub fn of_process() -> Self {
        let home = etcetera::home_dir().ok();
        let config = etcetera::base_strategy::choose_base_strategy()
            .ok()
            .map(|strategy| strategy.config_dir());
        let application = if cfg!(target_os = "macos") {
            home.as_deref()
                .map(|home| home.join("Library/Application Support"))
        } else if cfg!(windows) {
            std::env::var_os("APPDATA").map(PathBuf::from)
        } else {
            config.clone()
        };
        Self {
            home,
            config,
            application,
            codex: std::env::var_os("CODEX_HOME").map(PathBuf::from),
            workspace: std::env::current_dir().ok(),
        }
    }

    /// Everything below one home: for tests, and for looking at another user's files.
    #[must_use]
    pub fn below(home: impl Into<PathBuf>) -> Self {
        let home = home.into();
        Self {
            config: Some(home.join(".config")),
            application: Some(home.join(".config")),
            codex: None,
            workspace: None,
            home: Some(home),
        }
    }

    /// Sets the project.
    #[must_use]
    pub fn with_workspace(mut self, workspace: impl Into<PathBuf>) -> Self {
        self.workspace = Some(workspace.into());
        self
    }
}

/// A file of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct HostFile {
    /// Whose it is.
    pub dialect: Dialect,
    /// The user's, or the project's.
    pub scope: Scope,
    /// Where it lies, or would lie.
    pub path: PathBuf,
}

/// Every file in which a host may keep servers, there or not.
#[must_use]
pub fn host_files(folders: &Folders) -> Vec<HostFile> {
    Dialect::ALL
        .iter()
        .flat_map(|dialect| {
            let of = |scope: Scope, paths: Vec<PathBuf>| {
                paths.into_iter().map(move |path| HostFile {
                    dialect: *dialect,
                    scope,
                    path,
                })
            };
            of(Scope::User, user_files(*dialect, folders))
                .chain(of(Scope::Project, project_files(*dialect, folders)))
        })
        .collect()
}

/// The files of [`host_files`] that are there.
#[must_use]
pub fn find(folders: &Folders) -> Vec<HostFile> {
    host_files(folders)
        .into_iter()
        .filter(|file| file.path.is_file())
        .collect()
}

/// The user-scope files of a host, the usual one first.
pub(crate) fn user_files(dialect: Dialect, folders: &Folders) -> Vec<PathBuf> {
    let home = |path: &str| folders.home.iter().map(|home| home.join(path)).collect();
    let config = |path: &str| {
        folders
            .config
            .iter()
            .map(|config| config.join(path))
            .collect()
    };
    let application = |path: &str| {
        folders
            .application
            .iter()
            .map(|application| application.join(path))
            .collect::<Vec<_>>()
    };
    match dialect {
        Dialect::Native => config("mcpool/mcp.json"),
        Dialect::ClaudeDesktop => application("Claude/claude_desktop_config.json"),
        Dialect::ClaudeCode => home(".claude.json"),
        Dialect::Cursor => home(".cursor/mcp.json"),
        Dialect::VsCode => [
            application("Code/User/mcp.json"),
            application("Code - Insiders/User/mcp.json"),
            application("VSCodium/User/mcp.json"),
        ]
        .concat(),
        Dialect::Windsurf => home(".codeium/windsurf/mcp_config.json"),
        Dialect::Zed => config("zed/settings.json"),
        Dialect::Codex => match &folders.codex {
            Some(codex) => vec![codex.join("config.toml")],
            None => home(".codex/config.toml"),
        },
        Dialect::Gemini => home(".gemini/settings.json"),
        Dialect::Goose => config("goose/config.yaml"),
        Dialect::Cline => application(
            "Code/User/globalStorage/saoudrizwan.claude-dev/settings/cline_mcp_settings.json",
        ),
        Dialect::Roo => application(
            "Code/User/globalStorage/rooveterinaryinc.roo-cline/settings/mcp_settings.json",
        ),
        Dialect::Continue => {
            let mut files = folder_files(folders.home.as_deref(), ".continue/mcpServers");
            files.extend(home(".continue/config.yaml"));
            files
        }
        Dialect::LmStudio => home(".lmstudio/mcp.json"),
        Dialect::Kiro => home(".kiro/settings/mcp.json"),
        Dialect::Opencode => [
            config("opencode/opencode.json"),
            config("opencode/opencode.jsonc"),
        ]
        .concat(),
        Dialect::CopilotCli => home(".copilot/mcp-config.json"),
        Dialect::McPorter => home(".mcporter/mcporter.json"),
        Dialect::Inspector => home(".mcp-inspector/mcp.json"),
        Dialect::FastMcp | Dialect::LangChain => Vec::new(),
    }
}

/// The project-scope files of a host.
fn project_files(dialect: Dialect, folders: &Folders) -> Vec<PathBuf> {
    let project = |paths: &[&str]| {
        folders
            .workspace
            .iter()
            .flat_map(|workspace| paths.iter().map(|path| workspace.join(path)))
            .collect()
    };
    match dialect {
        Dialect::Native => project(&["mcp.json"]),
        Dialect::ClaudeCode => project(&[".mcp.json"]),
        Dialect::Cursor => project(&[".cursor/mcp.json"]),
        Dialect::VsCode => project(&[".vscode/mcp.json"]),
        Dialect::CopilotCli => project(&[".github/mcp.json"]),
        Dialect::Zed => project(&[".zed/settings.json"]),
        Dialect::Codex => project(&[".codex/config.toml"]),
        Dialect::Gemini => project(&[".gemini/settings.json"]),
        Dialect::Roo => project(&[".roo/mcp.json"]),
        Dialect::Continue => folder_files(folders.workspace.as_deref(), ".continue/mcpServers"),
        Dialect::Kiro => project(&[".kiro/settings/mcp.json"]),
        Dialect::Opencode => project(&["opencode.json", "opencode.jsonc"]),
        Dialect::McPorter => project(&["config/mcporter.json"]),
        Dialect::ClaudeDesktop
        | Dialect::Windsurf
        | Dialect::Goose
        | Dialect::Cline
        | Dialect::LmStudio
        | Dialect::FastMcp
        | Dialect::LangChain
        | Dialect::Inspector => Vec::new(),
    }
}

/// The configuration files of a folder, by name; none when there is no such folder.
fn folder_files(root: Option<&Path>, folder: &str) -> Vec<PathBuf> {
    root.map(|root| config_files_in(&root.join(folder)).unwrap_or_default())
        .unwrap_or_default()
}

/// The files of a directory whose format we read, sorted by name.
pub(crate) fn config_files_in(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.is_file() && crate::document::Format::of_path(path).is_some())
        .collect();
    files.sort();
    Ok(files)
}
