//! The values of the fields that stand beside the servers of a file: budget, credentials, profiles.

use std::collections::BTreeMap;

use mcpool_core::ServerName;

use super::Header;
use crate::{
    document::{Node, Value},
    settings::{BudgetSettings, CredentialStore, Field, ProfileSettings, ReadValue},
};

impl ReadValue<BudgetSettings> for Header<'_> {
    fn value(&mut self, field: Field<'_, BudgetSettings>) -> Option<BudgetSettings> {
        if !field.node.is_object() {
            self.wrong(
                field.node,
                "`budget` is an object such as `{ \"stdio\": 8, \"http\": 32 }`",
            );
            return None;
        }
        let mut budget = BudgetSettings::default();
        for member in field.node.members() {
            let count = match member.value.value {
                Value::Integer(count) => u32::try_from(count).ok().filter(|count| *count > 0),
                _ => None,
            };
            match (member.key.as_str(), count) {
                ("stdio", Some(count)) => budget.stdio = Some(count),
                ("http", Some(count)) => budget.http = Some(count),
                ("stdio" | "http", None) => self.wrong(
                    &member.value,
                    "a budget is a whole number of connects, at least 1",
                ),
                (key, _) => {
                    let message = format!("`budget` has no `{key}`: it has `stdio` and `http`");
                    self.wrong(&member.value, &message);
                }
            }
        }
        Some(budget)
    }
}

impl ReadValue<CredentialStore> for Header<'_> {
    fn value(&mut self, field: Field<'_, CredentialStore>) -> Option<CredentialStore> {
        match field.node.as_str() {
            Some("file") => Some(CredentialStore::File),
            Some("keyring") => Some(CredentialStore::Keyring),
            _ => {
                self.wrong(field.node, "`credentials` is `file` or `keyring`");
                None
            }
        }
    }
}

type Profiles = BTreeMap<String, ProfileSettings>;

impl ReadValue<Profiles> for Header<'_> {
    fn value(&mut self, field: Field<'_, Profiles>) -> Option<Profiles> {
        if !field.node.is_object() {
            self.wrong(
                field.node,
                "`profiles` is an object of profiles, such as `{ \"reading\": { \"allow\": [\"files__read_*\"] } }`",
            );
            return None;
        }
        let mut profiles = BTreeMap::new();
        for member in field.node.members() {
            // It stands in a path and in the line of a key.
            let is_word = member
                .key
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
            let is_step = matches!(&*member.key, "." | "..");
            if !is_word || is_step || member.key.is_empty() {
                self.wrong(
                    &member.value,
                    "the name of a profile has letters, digits, `-`, `_` and `.` alone, and is neither `.` nor `..`",
                );
                continue;
            }
            // One that is half understood may allow too much.
            if let Some(profile) = self.profile(&member.value) {
                profiles.insert(member.key.clone(), profile);
            }
        }
        Some(profiles)
    }
}

impl Header<'_> {
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
                    Value::Bool(searched) => {
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
    if !matches!(node.value, Value::Array(_)) {
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
    use std::collections::BTreeMap;

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
        let profiles = loaded.pool().profiles.as_ref().unwrap();
        let reading = &profiles["reading"];
        assert_eq!(reading.servers.as_deref(), Some(&["files".to_owned()][..]));
        assert_eq!(
            reading.allow.as_deref(),
            Some(&["files__read_*".to_owned()][..])
        );
        assert_eq!(reading.deny, ["files__read_secret"]);
        assert_eq!(reading.rename["files__read_file"], "read");
        assert_eq!(reading.tool_search, Some(true));
        assert_eq!(profiles["all"], Default::default());
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
            let profiles = loaded.pool().profiles.as_ref();
            assert!(profiles.is_none_or(BTreeMap::is_empty), "{bad}");
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
        assert_eq!(loaded.pool().profiles.as_ref().unwrap()["p"].deny, ["b"]);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("mcp.json");
        std::fs::write(&file, text("c")).unwrap();
        let loaded = Loader::new().with_project_file(file).load().unwrap();
        assert_eq!(loaded.pool().profiles, None);
        assert!(!loaded.problems.is_empty());
    }
}
