//! The profiles of the gateway: parts of the pool, at the top of a file.

use std::collections::BTreeMap;

use mcpool_core::ServerName;

use super::Header;
use crate::{document::Node, settings::ProfileSettings};

impl Header<'_> {
    pub(super) fn profiles(&mut self, node: &Node) {
        if !node.is_object() {
            self.wrong(
                node,
                "`profiles` is an object of profiles, such as `{ \"reading\": { \"allow\": [\"files__read_*\"] } }`",
            );
            return;
        }
        let mut profiles = BTreeMap::new();
        for member in node.members() {
            // It stands in a path and in the line of a key.
            let is_word = member
                .key
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
            if !is_word || member.key.is_empty() {
                self.wrong(
                    &member.value,
                    "the name of a profile has letters, digits, `-`, `_` and `.` alone",
                );
                continue;
            }
            // One that is half understood may allow too much.
            if let Some(profile) = self.profile(&member.value) {
                profiles.insert(member.key.clone(), profile);
            }
        }
        self.out.profiles = profiles;
    }

    fn profile(&mut self, node: &Node) -> Option<ProfileSettings> {
        if !node.is_object() {
            self.wrong(node, "a profile is an object");
            return None;
        }
        let mut profile = ProfileSettings::default();
        let mut good = true;
        for member in node.members() {
            let value = &member.value;
            let wrong = match member.key.as_str() {
                "servers" => match names(value) {
                    Some(names) if names.iter().all(|name| ServerName::new(name).is_ok()) => {
                        profile.servers = Some(names);
                        continue;
                    }
                    _ => "`servers` is a list of names of servers",
                },
                "allow" => match names(value) {
                    Some(names) => {
                        profile.allow = Some(names);
                        continue;
                    }
                    None => "`allow` is a list of names of tools as the pool has them, with `*`",
                },
                "deny" => match names(value) {
                    Some(names) => {
                        profile.deny = names;
                        continue;
                    }
                    None => "`deny` is a list of names of tools as the pool has them, with `*`",
                },
                "rename" => match pairs(value) {
                    Some(pairs) => {
                        profile.rename = pairs;
                        continue;
                    }
                    None => {
                        "`rename` is an object of names of tools as the pool has them, and other \
                         names, no two of them the same"
                    }
                },
                "tool_search" => match value.value {
                    crate::document::Value::Bool(searched) => {
                        profile.tool_search = Some(searched);
                        continue;
                    }
                    _ => "`tool_search` is `true` or `false`",
                },
                _ => "a profile has `servers`, `allow`, `deny`, `rename` and `tool_search`",
            };
            self.wrong(value, wrong);
            good = false;
        }
        good.then_some(profile)
    }
}

fn names(node: &Node) -> Option<Vec<String>> {
    if !matches!(node.value, crate::document::Value::Array(_)) {
        return None;
    }
    let names = node.items().iter().map(Node::as_str);
    names.map(|name| name.map(str::to_owned)).collect()
}

fn pairs(node: &Node) -> Option<BTreeMap<String, String>> {
    if !node.is_object() {
        return None;
    }
    let mut pairs = BTreeMap::new();
    for member in node.members() {
        let to = member.value.as_str().filter(|to| !to.is_empty())?;
        if pairs.values().any(|known| known == to) {
            return None;
        }
        pairs.insert(member.key.clone(), to.to_owned());
    }
    Some(pairs)
}

#[cfg(test)]
mod tests {
    use crate::{Loaded, Loader};

    fn load(profiles: &str) -> Loaded {
        let text = format!(r#"{{ "mcpServers": {{}}, "profiles": {profiles} }}"#);
        Loader::new().with_text("t", text).load().unwrap()
    }

    #[test]
    fn profiles_are_read() {
        let loaded = load(
            r#"{ "reading": { "servers": ["files"], "allow": ["files__read_*"],
                "deny": ["files__read_secret"], "rename": { "files__read_file": "read" },
                "tool_search": true },
                "all": {} }"#,
        );
        assert!(loaded.problems.is_empty(), "{:?}", loaded.problems);
        let reading = &loaded.profiles()["reading"];
        assert_eq!(reading.servers.as_deref(), Some(&["files".to_owned()][..]));
        assert_eq!(
            reading.allow.as_deref(),
            Some(&["files__read_*".to_owned()][..])
        );
        assert_eq!(reading.deny, ["files__read_secret"]);
        assert_eq!(reading.rename["files__read_file"], "read");
        assert_eq!(reading.tool_search, Some(true));
        assert_eq!(loaded.profiles()["all"], Default::default());
    }

    #[test]
    fn one_that_is_half_understood_is_left_out() {
        for bad in [
            r#"[]"#,
            r#"{ "a b": {} }"#,
            r#"{ "p": [] }"#,
            r#"{ "p": { "servers": ["files"], "alow": [] } }"#,
            r#"{ "p": { "servers": "files" } }"#,
            r#"{ "p": { "servers": [""] } }"#,
            r#"{ "p": { "allow": [1] } }"#,
            r#"{ "p": { "tool_search": "yes" } }"#,
            r#"{ "p": { "rename": { "a": "x", "b": "x" } } }"#,
        ] {
            let loaded = load(bad);
            assert!(loaded.profiles().is_empty(), "{bad}");
            assert!(
                loaded.problems.iter().any(crate::Problem::is_error),
                "{bad}"
            );
        }
    }

    #[test]
    fn the_later_file_wins_by_name_and_a_project_has_no_say() {
        let text = |deny: &str| {
            format!(r#"{{ "mcpServers": {{}}, "profiles": {{ "p": {{ "deny": ["{deny}"] }} }} }}"#)
        };
        let loaded = Loader::new()
            .with_text("a", text("a"))
            .with_text("b", text("b"))
            .load()
            .unwrap();
        assert_eq!(loaded.profiles()["p"].deny, ["b"]);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("mcp.json");
        std::fs::write(&file, text("c")).unwrap();
        let loaded = Loader::new().with_project_file(file).load().unwrap();
        assert!(loaded.profiles().is_empty());
        assert!(!loaded.problems.is_empty());
    }
}
