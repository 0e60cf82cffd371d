//! Roo Code: `.roo/mcp.json`. A bare `url` is refused by the host, numbers are seconds.

use super::{BareUrl, Dialect, Rules, USUAL, Unit, UserFile};

pub(super) const RULES: Rules = Rules {
    dialect: Dialect::Roo,
    name: "roo",
    title: "Roo Code",
    ignored: &["watchPaths"],
    unit: Unit::Seconds,
    bare_url: BareUrl::HostRefuses,
    variable: super::Variable::Written("${env:NAME}"),
    user: &[UserFile::Application(
        "Code/User/globalStorage/rooveterinaryinc.roo-cline/settings/mcp_settings.json",
    )],
    project: &[".roo/mcp.json"],
    names: &["mcp_settings.json"],
    ..USUAL
};
