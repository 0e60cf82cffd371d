//! Which directories a file means: its project, where its relative paths begin, and where its
//! servers start.

use std::path::{Path, PathBuf};

use crate::{
    dialects::Dialect,
    expand::PlaceSource,
    home,
    hosts::{self, Folders},
    origin::Scope,
    source::Source,
};

/// The project: the one that the path of a host's project file names, else the caller's.
pub(super) fn workspace(source: &Source, dialect: Dialect, folders: &Folders) -> Option<PathBuf> {
    source
        .path()
        .and_then(|path| hosts::project_of(path, dialect, folders))
        .or_else(|| folders.workspace.clone())
}

/// The folders that a file's placeholders may name.
pub(super) fn places(
    source: &Source,
    dialect: Dialect,
    folders: &Folders,
    workspace: &Path,
) -> PlaceSource {
    let places = PlaceSource::new(folders.home.clone(), Some(workspace.to_path_buf()));
    home::places(source, dialect, Some(workspace), folders)
        .fold(places, |places, (name, _, path)| {
            places.with_place(name, path)
        })
}

/// Where a process starts whose entry does not say: in the project when a file of the project or a
/// file that was named says so, else in the home. Never where the user happens to be, which may be
/// anybody's directory.
pub(super) fn start_in(source: &Source, scope: Scope, folders: &Folders, base: &Path) -> PathBuf {
    let is_own = matches!(scope, Scope::Import | Scope::User | Scope::Environment);
    let home = folders.home.as_deref().filter(|home| home.is_dir());
    match home {
        Some(home) if is_own || source.path().is_none() => home.to_path_buf(),
        _ => base.to_path_buf(),
    }
}

/// What relative paths are relative to: our own files to themselves, a host's to the project when
/// it is one of the project's files.
pub(super) fn base(source: &Source, dialect: Dialect, workspace: Option<&Path>) -> PathBuf {
    let folder = source.path().and_then(|path| {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
        Some(path.parent()?.to_path_buf())
    });
    match (dialect, folder, workspace) {
        (Dialect::Native, Some(folder), _) | (_, Some(folder), None) => folder,
        (_, Some(folder), Some(workspace)) if folder.starts_with(workspace) => {
            workspace.to_path_buf()
        }
        (_, Some(folder), Some(_)) => folder,
        (_, None, Some(workspace)) => workspace.to_path_buf(),
        (_, None, None) => PathBuf::from("."),
    }
}
