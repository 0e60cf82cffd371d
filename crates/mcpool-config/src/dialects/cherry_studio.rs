//! Cherry Studio: what its editor shows and takes. `isActive`, `baseUrl`; numbers are seconds;
//! servers that are built in are not ours to start.

use super::{Dialect, Key, Located, Place, Rules, USUAL, Unit, Variable};
use crate::{document::Node, template::Syntax};

pub(super) const RULES: Rules = Rules {
    dialect: Dialect::CherryStudio,
    name: "cherry-studio",
    title: "Cherry Studio",
    fields: &[("isActive", Key::Enabled)],
    ignored: &[
        "configSample",
        "disabledAutoApproveTools",
        "dxtPath",
        "dxtVersion",
        "installSource",
        "installedAt",
        "isTrusted",
        "longRunning",
        "providerUrl",
        "reference",
        "registryUrl",
        "searchKey",
        "shouldConfig",
        "trustedAt",
    ],
    unit: Unit::Seconds,
    syntax: Syntax::none(),
    variable: Variable::NONE,
    locate,
    ..USUAL
};

fn locate(root: &Node, _: &Place<'_>) -> Located {
    super::located::usual(root).skipping(|node| {
        (node.get("type").and_then(Node::as_str) == Some("inMemory"))
            .then_some("it is built into Cherry Studio")
    })
}
