//! `docs/dependencies.md` says of every direct dependency why it is there.

use std::{collections::BTreeSet, fs};

use crate::{
    Outcome,
    tools::{metadata, root},
};

/// Fails on a dependency that the document does not name.
pub(crate) fn run() -> Outcome {
    let path = root().join("docs/dependencies.md");
    let document =
        fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let metadata = metadata()?;
    let missing = undocumented(&metadata, &document);
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!(
        "docs/dependencies.md does not say why these are there: {}",
        missing.join(", ")
    ))
}

/// The registry dependencies of the workspace that the document does not name in backticks.
fn undocumented(metadata: &serde_json::Value, document: &str) -> Vec<String> {
    let dependencies = metadata["packages"]
        .as_array()
        .into_iter()
        .flatten()
        .flat_map(|package| package["dependencies"].as_array().into_iter().flatten());
    let names: BTreeSet<&str> = dependencies
        .filter(|dependency| dependency["path"].is_null())
        .filter_map(|dependency| dependency["name"].as_str())
        .collect();
    names
        .into_iter()
        .filter(|name| !document.contains(&format!("`{name}`")))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_registry_crates_have_to_be_named() {
        let metadata = json!({"packages": [{"dependencies": [
            {"name": "explained", "path": null},
            {"name": "unexplained"},
            {"name": "ours", "path": "/w"},
        ]}]});
        assert_eq!(
            undocumented(&metadata, "| `explained` | why |"),
            ["unexplained"]
        );
    }
}
