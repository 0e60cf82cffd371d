//! Trae: `.trae/mcp.json`, in the notation of Cursor.

use super::{Dialect, Rules, USUAL, UserFile};

pub(super) const RULES: Rules = Rules {
    dialect: Dialect::Trae,
    name: "trae",
    title: "Trae",
    ignored: &["fromGalleryId"],
    user: &[
        UserFile::Application("Trae/User/mcp.json"),
        UserFile::Application("Trae CN/User/mcp.json"),
        UserFile::Home(".trae/mcp.json"),
    ],
    project: &[".trae/mcp.json"],
    ..USUAL
};
