//! mcpool's own format: `mcpServers` with policies. A file of the same shape that nobody wrote
//! for mcpool is read more leniently.

use super::{BareUrl, Dialect, Located, Place, Rules, USUAL, Unit, UserFile, located::usual};
use crate::{
    document::{Node, Value},
    settings::{PoolSettings, ServerSettings},
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

/// Whether only our files have such a key at the top.
fn is_our_key(key: &str) -> bool {
    ["defaults", "imports"].contains(&key) || PoolSettings::FIELDS.contains(&key)
}

/// Fields with our names that are met in files of others.
const MET_ELSEWHERE: &[&str] = &["connect_timeout", "instances", "lazy", "required", "start"];

/// Whether no host knows such a field of a server.
fn is_our_field(field: &str) -> bool {
    [
        "bearer_token",
        "ca_file",
        "headers_helper",
        "inherit_env",
        "read_idle_timeout",
        "startup_timeout",
    ]
    .contains(&field)
        || ServerSettings::fields_by_type()
            .any(|ours| ours == field && !MET_ELSEWHERE.contains(&field))
}

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
    let by_key = root.members().iter().any(|member| is_our_key(&member.key));
    let by_field = located.entries.iter().any(|found| {
        found.node.members().iter().any(|member| {
            is_our_field(&member.key)
                || (member.key == "timeout"
                    && matches!(&member.value.value, Value::String(text) if HumanDuration::parse(text).is_ok()))
        })
    });
    in_our_folder || by_schema || by_key || by_field
}
