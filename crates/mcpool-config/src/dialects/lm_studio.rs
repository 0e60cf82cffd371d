//! LM Studio: `~/.lmstudio/mcp.json`, in the notation of Cursor.

use super::{Dialect, Rules, USUAL, UserFile};

pub(super) const RULES: Rules = Rules {
    dialect: Dialect::LmStudio,
    name: "lm-studio",
    title: "LM Studio",
    user: &[
        UserFile::Home(".lmstudio/mcp.json"),
        UserFile::Home(".cache/lm-studio/mcp.json"),
    ],
    ..USUAL
};
