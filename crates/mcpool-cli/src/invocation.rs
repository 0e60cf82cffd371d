//! How this program was started, for the command lines that its messages advise: without the config
//! that this one was given they would be about another.

use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
};

use crate::render::text::Text;

static PROGRAM: OnceLock<Text> = OnceLock::new();

/// Keeps what `--config` said. To be called once, before anything is said.
pub(crate) fn remember(configs: &[PathBuf]) {
    // A second call changes nothing.
    let _ = PROGRAM.set(with_configs(configs));
}

/// `mcpool`, with the files of `--config`.
pub(crate) fn program() -> &'static Text {
    PROGRAM.get_or_init(|| with_configs(&[]))
}

fn with_configs(configs: &[PathBuf]) -> Text {
    let mut program = crate::text!("mcpool");
    for file in configs {
        program.push(&crate::text!(" --config {}", quoted(file)));
    }
    program
}

/// A path as a shell reads it.
pub(crate) fn quoted(path: &Path) -> String {
    let path = path.to_string_lossy();
    let quoted = shlex::try_quote(&path).unwrap_or_else(|_| path.clone());
    quoted.into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_written_as_a_shell_reads_them() {
        assert_eq!(with_configs(&[]).as_str(), "mcpool");
        let files = ["a.json", "of mine/b.json"].map(PathBuf::from);
        assert_eq!(
            with_configs(&files).as_str(),
            "mcpool --config a.json --config 'of mine/b.json'"
        );
    }
}
