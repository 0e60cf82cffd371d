//! Kilo Code: `.kilocode/mcp.json` as in Roo Code, which the extension was made from, and
//! `kilo.json` as in opencode, which the new program was made from.

use super::{BareUrl, Dialect, Located, Place, Rules, USUAL, Unit, UserFile, opencode};
use crate::document::Node;

pub(super) const RULES: Rules = Rules {
    dialect: Dialect::Kilo,
    name: "kilo",
    title: "Kilo Code",
    ignored: &["watchPaths"],
    unit: Unit::Seconds,
    bare_url: BareUrl::HostRefuses,
    variable: super::Variable::Written("${env:NAME}"),
    user: &[
        UserFile::Application(
            "Code/User/globalStorage/kilocode.kilo-code/settings/mcp_settings.json",
        ),
        UserFile::Config("kilo/kilo.json"),
        UserFile::Config("kilo/kilo.jsonc"),
    ],
    project: &[
        ".kilocode/mcp.json",
        "kilo.json",
        "kilo.jsonc",
        ".kilo/kilo.json",
        ".kilo/kilo.jsonc",
    ],
    names: &[".kilo/mcp.json"],
    locate,
    ..USUAL
};

/// The rules of the new program's file.
static NEW: Rules = Rules {
    dialect: Dialect::Kilo,
    name: "kilo",
    title: "Kilo Code",
    user: &[],
    project: &[],
    names: &[],
    ..opencode::RULES
};

fn locate(root: &Node, place: &Place<'_>) -> Located {
    if root.get("mcp").is_some() {
        let mut located = (opencode::RULES.locate)(root, place);
        located.rules = Some(&NEW);
        return located;
    }
    super::located::usual(root)
}
