//! What a file gives to its entries beside their own text.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    dialects::{Dialect, Folder},
    hosts::{self, Folders},
    inputs::InputDeclaration,
    source::Source,
};

/// What a file gives to its entries beside their own text, for copies of them elsewhere.
#[derive(Debug, Clone, Default)]
pub(crate) struct Home {
    /// Where relative paths begin.
    pub(crate) base: PathBuf,
    /// Placeholders that mean something only in this file, with their values.
    pub(crate) places: Vec<(String, String)>,
    /// Those of them that are folders for a plugin's data, which have to be there.
    pub(crate) data: Vec<(&'static str, PathBuf)>,
    /// Whether the path says whose project it is, so that processes start there.
    pub(crate) is_of_project: bool,
    /// The inputs that it declares.
    pub(crate) inputs: Arc<HashMap<String, InputDeclaration>>,
}

impl Home {
    /// What the file means by where it lies: its base, its plugin's folders, and its project where
    /// the path names one.
    pub(crate) fn of(source: &Source, dialect: Dialect, base: &Path, folders: &Folders) -> Self {
        let project = source
            .path()
            .and_then(|path| hosts::project_of(path, dialect, folders));
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let mut data = Vec::new();
        let mut places: Vec<(String, String)> =
            places(source, dialect, project.as_deref(), folders)
                .map(|(name, folder, path)| {
                    let value = text(&path);
                    if folder == Folder::Data {
                        data.push((name, path));
                    }
                    (name.to_owned(), value)
                })
                .collect();
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
            data,
            is_of_project: project.is_some(),
            inputs: Arc::default(),
        }
    }

    pub(crate) fn with_inputs(mut self, inputs: Arc<HashMap<String, InputDeclaration>>) -> Self {
        self.inputs = inputs;
        self
    }
}

/// The folders that the placeholders of a host name in a file, where they are known.
pub(crate) fn places<'a>(
    source: &'a Source,
    dialect: Dialect,
    project: Option<&'a Path>,
    folders: &'a Folders,
) -> impl Iterator<Item = (&'static str, Folder, PathBuf)> + 'a {
    let path = source.path();
    dialect
        .rules()
        .places
        .iter()
        .filter_map(move |(name, folder)| {
            let place = match folder {
                Folder::Package => path.and_then(hosts::package_of),
                Folder::Data => path.and_then(|path| hosts::data_of(path, folders)),
                Folder::Workspace => project.map(Path::to_path_buf),
            };
            Some((*name, *folder, place?))
        })
}
