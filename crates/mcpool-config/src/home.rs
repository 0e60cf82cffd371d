//! What a file gives to its entries by where it lies, for copies of them elsewhere.

use std::path::{Path, PathBuf};

use crate::{
    dialects::{Dialect, Folder},
    hosts::{self, Folders},
    source::Source,
};

/// What a file gives to its entries by where it lies.
#[derive(Debug, Clone, Default)]
pub(crate) struct Home {
    /// Where relative paths begin.
    pub(crate) base: PathBuf,
    /// Placeholders that mean something only in this file, with their values.
    pub(crate) places: Vec<(String, String)>,
    /// Whether the path says whose project it is, so that processes start there.
    pub(crate) is_of_project: bool,
}

impl Home {
    /// What the file means by where it lies: its base, its plugin's folder, and its project where
    /// the path names one.
    pub(crate) fn of(source: &Source, dialect: Dialect, base: &Path, folders: &Folders) -> Self {
        let package = source.path().and_then(hosts::package_of);
        let project = source
            .path()
            .and_then(|path| hosts::project_of(path, dialect, folders));
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let mut places = Vec::new();
        for (name, folder) in dialect.rules().places {
            let path = match folder {
                Folder::Package => &package,
                Folder::Workspace => &project,
            };
            places.extend(path.as_deref().map(|path| ((*name).to_owned(), text(path))));
        }
        if let Some(project) = &project {
            let name = project.file_name().map(Path::new).unwrap_or(project);
            places.extend([
                ("workspaceFolder".to_owned(), text(project)),
                ("workspaceRoot".to_owned(), text(project)),
                ("workspaceFolderBasename".to_owned(), text(name)),
            ]);
        }
        Self {
            base: base.to_path_buf(),
            places,
            is_of_project: project.is_some(),
        }
    }
}
