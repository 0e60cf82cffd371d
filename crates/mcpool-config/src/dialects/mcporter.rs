//! mcporter: `mcporter.json`. The command may be a list, the URL is `baseUrl`, variables fail
//! when unset. Its own `imports` are read as ours.

use super::{BareUrl, Dialect, Key, Rules, Unit, mcp_servers};
use crate::template::Syntax;

pub(super) const RULES: Rules = Rules {
    dialect: Dialect::McPorter,
    title: "mcporter",
    fields: &[
        ("base_url", Key::Url),
        ("server_url", Key::Url),
        ("http_url", Key::HttpUrl),
        ("executable", Key::Command),
        ("bearer_token_env", Key::BearerEnv),
        ("tokenCacheDir", Key::Ignore),
        ("token_cache_dir", Key::Ignore),
        ("clientName", Key::Ignore),
        ("client_name", Key::Ignore),
        ("oauthRedirectUrl", Key::Ignore),
        ("oauthScope", Key::Scopes),
        ("oauthCommand", Key::Ignore),
        ("lifecycle", Key::Ignore),
        ("logging", Key::Ignore),
    ],
    unit: Unit::Milliseconds,
    bare_url: BareUrl::Detect,
    syntax: Syntax::native().without_dollar_dollar().with_dollar_env(),
    locate: mcp_servers,
};
