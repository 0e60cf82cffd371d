//! Qwen Code: as Gemini CLI, which it was made from.

use super::{Dialect, Key, Rules, USUAL, Unit, UserFile, gemini};

pub(super) const RULES: Rules = Rules {
    dialect: Dialect::Qwen,
    name: "qwen",
    title: "Qwen Code",
    fields: &[(
        "discoveryTimeoutMs",
        Key::StartupTimeout(Some(Unit::Milliseconds)),
    )],
    ignored: gemini::IGNORED,
    unit: Unit::Milliseconds,
    url_first: true,
    syntax: gemini::SYNTAX,
    variable: super::Variable::Written("$NAME"),
    user: &[UserFile::Home(".qwen/settings.json")],
    project: &[".qwen/settings.json"],
    ..USUAL
};
