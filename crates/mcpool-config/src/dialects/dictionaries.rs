//! The dictionaries that FastMCP and the LangChain adapters take, saved as files: with
//! `mcpServers` around them or with nothing.

use super::{BareUrl, Dialect, Key, Located, Place, Rules, Unit, recognise::is_bare_map};
use crate::{document::Node, template::Syntax};

/// FastMCP: milliseconds; a bare `url` is SSE when its path says so.
pub(super) const FASTMCP: Rules = Rules {
    dialect: Dialect::FastMcp,
    title: "FastMCP",
    fields: &[
        ("sse_read_timeout", Key::ReadIdleTimeout(None)),
        ("authentication", Key::Auth),
        ("icon", Key::Ignore),
        ("include_tags", Key::Ignore),
        ("exclude_tags", Key::Ignore),
        ("keep_alive", Key::Ignore),
        ("transforms", Key::Ignore),
    ],
    unit: Unit::Milliseconds,
    bare_url: BareUrl::ByPath,
    syntax: Syntax::none(),
    locate,
};

/// LangChain: seconds.
pub(super) const LANGCHAIN: Rules = Rules {
    dialect: Dialect::LangChain,
    title: "LangChain",
    fields: &[
        ("sse_read_timeout", Key::ReadIdleTimeout(None)),
        ("encoding", Key::Ignore),
        ("encoding_error_handler", Key::Ignore),
        ("session_kwargs", Key::Ignore),
        ("terminate_on_close", Key::Ignore),
        ("httpx_client_factory", Key::Ignore),
    ],
    unit: Unit::Seconds,
    bare_url: BareUrl::Detect,
    syntax: Syntax::none(),
    locate,
};

fn locate(root: &Node, _: &Place<'_>) -> Located {
    let wrapped = Located::first_of(root, &[&["mcpServers"]]);
    if wrapped.root_found || !is_bare_map(root) {
        return wrapped;
    }
    Located::map(root, "the file")
}
