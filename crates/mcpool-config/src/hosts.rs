//! Where each host keeps its files. The paths themselves stand with the dialects.

use std::path::{Path, PathBuf};

use etcetera::BaseStrategy;
use sha2::{Digest as _, Sha256};

use crate::{
    dialects::{Dialect, UserFile, ends_with, fits},
    origin::Scope,
};

/// How many files a pattern such as `extensions/*/x.json` may give.
const MAX_MATCHES: usize = 1000;

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
    /// Where applications keep data of their own: `~/.local/share`, or what stands in for it.
    pub data: Option<PathBuf>,
    /// The project.
    pub workspace: Option<PathBuf>,
}

impl Folders {
    /// Those of this process: the user's, and the current directory as the project.
    #[must_use]
    pub fn of_process() -> Self {
        let home = etcetera::home_dir().ok();
        let strategy = etcetera::base_strategy::choose_base_strategy().ok();
        let config = strategy.as_ref().map(BaseStrategy::config_dir);
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
            data: strategy.as_ref().map(BaseStrategy::data_dir),
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
            data: Some(home.join(".local/share")),
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
    dialect
        .rules()
        .user
        .iter()
        .flat_map(|file| {
            let root = match file {
                UserFile::Home(_) => folders.home.clone(),
                UserFile::Config(_) => folders.config.clone(),
                UserFile::Application(_) => folders.application.clone(),
                UserFile::Codex(_) => folders
                    .codex
                    .clone()
                    .or_else(|| Some(folders.home.as_ref()?.join(".codex"))),
            };
            root.map(|root| matching(root, file.tail()))
                .unwrap_or_default()
        })
        .collect()
}

/// The project-scope files of a host.
fn project_files(dialect: Dialect, folders: &Folders) -> Vec<PathBuf> {
    let Some(workspace) = &folders.workspace else {
        return Vec::new();
    };
    dialect
        .rules()
        .project
        .iter()
        .flat_map(|path| matching(workspace.clone(), path))
        .collect()
}

/// The paths below a folder that a pattern gives: one, there or not, or with a `*` those that
/// are there, sorted by name.
fn matching(root: PathBuf, pattern: &str) -> Vec<PathBuf> {
    let mut paths = vec![root];
    for part in pattern.split('/') {
        if !part.contains('*') {
            for path in &mut paths {
                path.push(part);
            }
            continue;
        }
        let mut next = Vec::new();
        for folder in &paths {
            let Ok(entries) = std::fs::read_dir(folder) else {
                continue;
            };
            let mut found: Vec<PathBuf> = entries
                .filter_map(|entry| Some(entry.ok()?.path()))
                .filter(|path| {
                    path.file_name()
                        .is_some_and(|name| fits(&name.to_string_lossy(), part))
                })
                .take(MAX_MATCHES)
                .collect();
            found.sort();
            next.append(&mut found);
            if next.len() >= MAX_MATCHES {
                next.truncate(MAX_MATCHES);
                break;
            }
        }
        paths = next;
    }
    if pattern.ends_with('*') {
        // The last part says nothing of how the file is written.
        paths.retain(|path| crate::document::Format::of_path(path).is_some());
    }
    paths
}

/// The project that a host's project file belongs to, by its path: `/p` for `/p/.vscode/mcp.json`.
/// `None` for a file that lies elsewhere, and for the user's own, which belong to no project.
pub(crate) fn project_of(path: &Path, dialect: Dialect, folders: &Folders) -> Option<PathBuf> {
    let path = std::path::absolute(path).ok()?;
    if user_files(dialect, folders).contains(&path) {
        return None;
    }
    let parts = dialect
        .rules()
        .project
        .iter()
        .filter_map(|end| ends_with(&path, end))
        .max()?;
    path.ancestors().nth(parts).map(Path::to_path_buf)
}

/// The folder of the plugin or extension that a file belongs to: the nearest one above it that
/// holds the mark of a plugin, or the file's own.
pub(crate) fn package_of(path: &Path) -> Option<PathBuf> {
    let path = std::path::absolute(path).ok()?;
    let folder = path.parent()?;
    let is_mark = |folder: &Path| {
        folder
            .file_name()
            .map(|name| name.to_string_lossy())
            .is_some_and(|name| name == ".plugin" || fits(&name, ".*-plugin"))
    };
    if is_mark(folder) {
        return folder.parent().map(Path::to_path_buf);
    }
    Some(folder.to_path_buf())
}

/// Where the plugin that a file belongs to may keep data: always the same folder, and no other
/// plugin's.
pub(crate) fn data_of(path: &Path, folders: &Folders) -> Option<PathBuf> {
    let package = package_of(path)?;
    let digest = Sha256::digest(package.as_os_str().as_encoded_bytes());
    let mark: String = digest
        .iter()
        .take(4)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let name = package.file_name().unwrap_or_default().to_string_lossy();
    let data = folders.data.as_ref()?;
    Some(data.join("mcpool/plugins").join(format!("{name}-{mark}")))
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
