//! The directories that are watched: those of the files, of every symbolic link on the way to one,
//! and directories of files themselves.

use std::{
    collections::{HashMap, HashSet},
    ffi::OsString,
    fs::Metadata,
    path::{Component, Path, PathBuf},
    time::SystemTime,
};

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};

use crate::{hosts, loader::Loader};

/// Links that are followed on the way to one file: as many as Linux follows.
const MAX_LINKS: usize = 40;

/// How often the way to the files is looked at again when links turn while it is looked at.
const MAX_ROUNDS: usize = 8;

/// A directory that cannot be watched.
pub(super) struct Unwatched {
    pub(super) folder: PathBuf,
    pub(super) error: notify::Error,
}

/// The directories that are watched, each with what lay at its path then: a directory that is
/// removed and made again is another one, which the system does not watch by itself.
pub(super) struct Folders {
    watcher: RecommendedWatcher,
    watched: HashMap<PathBuf, Option<Identity>>,
}

/// What lies at a path, whatever its name. A number may be used again at once, a time is not.
type Identity = (u64, u64, Option<SystemTime>);

impl Folders {
    pub(super) fn new(watcher: RecommendedWatcher) -> Self {
        Self {
            watcher,
            watched: HashMap::new(),
        }
    }

    /// Watches the directories that the files of a loader lie in now, and no others.
    pub(super) fn follow(&mut self, loader: &Loader) -> Vec<Unwatched> {
        let mut failed = Vec::new();
        for _ in 0..MAX_ROUNDS {
            let wanted: HashMap<PathBuf, Option<Identity>> = on_the_way(loader)
                .into_iter()
                .map(|folder| {
                    let identity = std::fs::metadata(&folder).ok().and_then(|m| identity(&m));
                    (folder, identity)
                })
                .collect();
            // What turned before it was watched is seen in the next round.
            if wanted == self.watched {
                break;
            }
            failed.clear();
            let watched = std::mem::take(&mut self.watched);
            for (folder, _) in watched.iter().filter(|(folder, identity)| {
                wanted
                    .get(folder.as_path())
                    .is_none_or(|now| now != *identity)
            }) {
                // The system has forgotten one that was removed.
                let _ = self.watcher.unwatch(folder);
            }
            for (folder, identity) in &wanted {
                if watched.get(folder) == Some(identity) {
                    continue;
                }
                let begun = self.watcher.watch(folder, RecursiveMode::NonRecursive);
                if let Err(error) = begun {
                    failed.push(Unwatched {
                        folder: folder.clone(),
                        error,
                    });
                }
            }
            self.watched = wanted;
        }
        failed
    }
}

fn on_the_way(loader: &Loader) -> HashSet<PathBuf> {
    let mut folders = HashSet::new();
    for path in loader.paths() {
        add_way(path, &mut folders);
        if path.is_dir() {
            for file in hosts::config_files_in(path).unwrap_or_default() {
                add_way(&file, &mut folders);
            }
        }
    }
    folders
}

/// Adds the directory of each link on the way to a file, and its own; where something is missing,
/// the directory in which that would appear.
fn add_way(path: &Path, folders: &mut HashSet<PathBuf>) {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    // What is still to go, the next step last.
    let mut steps = steps_of(&path);
    let mut at = PathBuf::new();
    let mut links = 0;
    while let Some(step) = steps.pop() {
        let next = at.join(&step);
        match std::fs::symlink_metadata(&next) {
            Err(_) => {
                let there = at.ancestors().find(|folder| folder.is_dir());
                folders.extend(there.map(Path::to_path_buf));
                return;
            }
            Ok(found) if found.is_symlink() => {
                // On macOS `/tmp` and `/var` are links, and a watch of `/` sees every file of the machine.
                if !cfg!(target_os = "macos") || at.parent().is_some() {
                    folders.insert(at.clone());
                }
                links += 1;
                let Some(target) = std::fs::read_link(&next)
                    .ok()
                    .filter(|_| links <= MAX_LINKS)
                else {
                    return;
                };
                steps.append(&mut steps_of(&target));
            }
            // What was made of links is a path without any, so that `..` means what it says.
            Ok(_) if step == ".." => {
                at.pop();
            }
            Ok(_) => at = next,
        }
    }
    if let Some(folder) = at.parent() {
        folders.insert(folder.to_path_buf());
    }
    if at.is_dir() {
        folders.insert(at);
    }
}

/// The parts of a path, the first one last.
fn steps_of(path: &Path) -> Vec<OsString> {
    let mut steps: Vec<OsString> = Vec::new();
    let mut components = path.components().peekable();
    while let Some(component) = components.next() {
        let mut step = component.as_os_str().to_owned();
        // `C:` alone is another place than `C:\`.
        if matches!(component, Component::Prefix(_))
            && let Some(root) = components.next_if_eq(&Component::RootDir)
        {
            step.push(root);
        }
        steps.push(step);
    }
    steps.reverse();
    steps
}

#[cfg(unix)]
fn identity(metadata: &Metadata) -> Option<Identity> {
    use std::os::unix::fs::MetadataExt as _;
    Some((metadata.dev(), metadata.ino(), metadata.created().ok()))
}

#[cfg(not(unix))]
fn identity(_: &Metadata) -> Option<Identity> {
    None
}

#[cfg(all(test, unix))]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::unix::fs::symlink;

    use super::*;

    fn way(path: &Path) -> HashSet<PathBuf> {
        let mut folders = HashSet::new();
        add_way(path, &mut folders);
        folders
    }

    #[test]
    fn every_link_on_the_way_counts() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        for folder in ["a", "b", "c/d", "e"] {
            std::fs::create_dir_all(root.join(folder)).unwrap();
        }
        // a/config -> ../b/link -> turned/file, with b/turned -> ../c/d.
        symlink("../b/link", root.join("a/config")).unwrap();
        symlink("turned/file", root.join("b/link")).unwrap();
        symlink(root.join("c/d"), root.join("b/turned")).unwrap();
        let wanted = |names: &[&str]| names.iter().map(|name| root.join(name)).collect();
        let found = way(&root.join("a/config"));
        assert_eq!(found, wanted(&["a", "b", "c/d"]));
        std::fs::write(root.join("c/d/file"), "").unwrap();
        assert_eq!(
            way(&root.join("e/../a/./config")),
            wanted(&["a", "b", "c/d"])
        );
        // A directory counts itself, and what is missing where it would appear.
        assert_eq!(way(&root.join("b/turned")), wanted(&["b", "c", "c/d"]));
        assert_eq!(way(&root.join("e/x/y/file")), wanted(&["e"]));
        symlink("loop", root.join("e/loop")).unwrap();
        assert_eq!(way(&root.join("e/loop")), wanted(&["e"]));
    }
}
