//! mcpool's own format: `mcpServers` with policies. A file of the same shape that nobody wrote
//! for mcpool is read more leniently.

use super::{BareUrl, Dialect, Located, Place, Rules, USUAL, Unit, UserFile, located::usual};
use crate::{
    document::{Node, Value},
    template::Syntax,
    units::HumanDuration,
};

pub(super) const RULES: Rules = Rules {
    dialect: Dialect::Native,
    name: "native",
    title: "mcpool",
    strict: true,
    unit: Unit::Refuse,
    bare_url: BareUrl::Detect,
    syntax: Syntax::native(),
    user: &[UserFile::Config("mcpool/mcp.json")],
    project: &["mcp.json"],
    locate,
    ..USUAL
};

/// The rules of a plain `mcp.json`: our placeholders, everybody's names.
static PLAIN: Rules = Rules {
    strict: false,
    unit: Unit::Guess,
    user: &[],
    project: &[],
    ..RULES
};

fn locate(root: &Node, place: &Place<'_>) -> Located {
    let mut located = usual(root);
    if !is_ours(root, &located, place) {
        located.rules = Some(&PLAIN);
    }
    located
}

/// Keys at the top that only our files have.
const OUR_KEYS: &[&str] = &["defaults", "imports", "budget", "credentials", "profiles"];

/// Fields of a server that no host knows.
const OUR_FIELDS: &[&str] = &[
    "bearer_token",
    "ca_file",
    "catalog_ttl",
    "discover_timeout",
    "headers_helper",
    "health",
    "idle_timeout",
    "inherit_env",
    "limits",
    "max_timeout",
    "read_idle_timeout",
    "reconnect",
    "shutdown",
    "startup_timeout",
    "trust_annotations",
];

/// Whether a file was written for mcpool: it lies in our folder, or says something that only we
/// understand.
fn is_ours(root: &Node, located: &Located, place: &Place<'_>) -> bool {
    let in_our_folder = place
        .path
        .and_then(|path| path.parent()?.file_name())
        .is_some_and(|folder| folder == "mcpool");
    let by_schema = root
        .get("$schema")
        .and_then(Node::as_str)
        .is_some_and(|schema| schema.contains("mcpool"));
    let by_key = OUR_KEYS.iter().any(|key| root.member(key).is_some());
    let by_field = located.entries.iter().any(|found| {
        found.node.members().iter().any(|member| {
            OUR_FIELDS.contains(&member.key.as_str())
                || (member.key == "timeout"
                    && matches!(&member.value.value, Value::String(text) if HumanDuration::parse(text).is_ok()))
        })
    });
    in_our_folder || by_schema || by_key || by_field
}
