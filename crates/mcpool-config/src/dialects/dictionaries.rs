//! The dictionaries that FastMCP and the LangChain adapters take, saved as files: with
//! `mcpServers` around them or with nothing.

use super::{BareUrl, Dialect, Key, Rules, USUAL, Unit, Variable};
use crate::template::Syntax;

/// FastMCP: milliseconds; a bare `url` is SSE when its path says so.
pub(super) const FASTMCP: Rules = Rules {
    dialect: Dialect::FastMcp,
    name: "fastmcp",
    title: "FastMCP",
    fields: &[("authentication", Key::Auth)],
    ignored: &["include_tags", "exclude_tags", "keep_alive", "transforms"],
    unit: Unit::Milliseconds,
    bare_url: BareUrl::ByPath,
    syntax: Syntax::none(),
    variable: Variable::NONE,
    ..USUAL
};

/// LangChain: seconds.
pub(super) const LANGCHAIN: Rules = Rules {
    dialect: Dialect::LangChain,
    name: "langchain",
    title: "LangChain",
    ignored: &[
        "encoding",
        "encoding_error_handler",
        "session_kwargs",
        "terminate_on_close",
        "httpx_client_factory",
    ],
    unit: Unit::Seconds,
    syntax: Syntax::none(),
    variable: Variable::NONE,
    ..USUAL
};
