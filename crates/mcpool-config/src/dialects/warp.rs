//! Warp: `.warp/.mcp.json`. The working directory is `working_directory`.

use super::{Dialect, Rules, USUAL, UserFile, claude_code::SYNTAX};

pub(super) const RULES: Rules = Rules {
    dialect: Dialect::Warp,
    name: "warp",
    title: "Warp",
    ignored: &["start_on_launch"],
    syntax: SYNTAX,
    user: &[UserFile::Home(".warp/.mcp.json")],
    project: &[".warp/.mcp.json"],
    names: &[".warp/mcp.json"],
    ..USUAL
};
