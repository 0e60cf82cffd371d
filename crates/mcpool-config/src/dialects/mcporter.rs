//! mcporter: `mcporter.json`. The command may be a list, the URL is `baseUrl`, variables fail
//! when unset. Its own `imports` are read as ours.

use super::{Dialect, Key, Rules, USUAL, Unit, UserFile};
use crate::template::Syntax;

pub(super) const RULES: Rules = Rules {
    dialect: Dialect::McPorter,
    name: "mcporter",
    title: "mcporter",
    fields: &[
        ("bearer_token_env", Key::BearerEnv),
        ("oauthScope", Key::Scopes),
    ],
    ignored: &[
        "tokenCacheDir",
        "token_cache_dir",
        "clientName",
        "client_name",
        "oauthRedirectUrl",
        "oauthCommand",
        "lifecycle",
        "logging",
    ],
    unit: Unit::Milliseconds,
    syntax: Syntax::native().without_dollar_dollar().with_dollar_env(),
    user: &[UserFile::Home(".mcporter/mcporter.json")],
    project: &["config/mcporter.json"],
    names: &["mcporter.json", "mcporter.jsonc"],
    ..USUAL
};
