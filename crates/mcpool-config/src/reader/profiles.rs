//! The profiles of a file.

use std::{collections::BTreeMap, ops::Range};

use mcpool_core::ServerName;

use super::Header;
use crate::{
    document::{Node, Value},
    problem::{Problem, nearest},
    settings::{Field, ProfileSettings, ReadValue},
    source::Span,
};

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
            let profile = self.profile(&member.key, &member.value);
            profiles.insert(member.key.clone(), profile);
        }
        Some(profiles)
    }
}

/// What a profile names, and where: to be compared with what there is.
pub(crate) struct Named {
    pub(crate) profile: String,
    /// The servers of the profile; `None` for all.
    pub(crate) servers: Option<Vec<(String, Span)>>,
    /// The patterns of the tools that it allows.
    pub(crate) allow: Vec<(String, Span)>,
}

const FIELDS: [&str; 5] = ["servers", "allow", "deny", "rename", "tool_search"];

impl Header<'_> {
    /// Reads a profile. One that is half understood may allow too much: it serves nothing.
    fn profile(&mut self, name: &str, node: &Node) -> ProfileSettings {
        let mut profile = ProfileSettings::default();
        let mut good = node.is_object();
        if !good {
            self.wrong_profile(name, &node.range, "it must be an object", None);
        }
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
                key if key.starts_with(['$', '_']) || key.starts_with("x-") => continue,
                key => {
                    good = false;
                    let help = match nearest(key, FIELDS) {
                        Some(near) => format!("did you mean `{near}`?"),
                        None => {
                            "a profile has `servers`, `allow`, `deny`, `rename` and `tool_search`"
                                .to_owned()
                        }
                    };
                    let what =
                        format!("`{key}` is no field of one, and may be meant to forbid something");
                    self.wrong_profile(name, &member.key_range, &what, Some(help));
                    continue;
                }
            };
            self.wrong_profile(name, &value.range, wrong, None);
            good = false;
        }
        if !good {
            return ProfileSettings {
                servers: Some(Vec::new()),
                ..ProfileSettings::default()
            };
        }
        let places = |key: &str| {
            let items = node.get(key).map(Node::items).unwrap_or_default().iter();
            let place = |item: &Node| {
                let span = Span::new(self.source, item.range.clone());
                Some((item.as_str()?.to_owned(), span))
            };
            items.filter_map(place).collect::<Vec<_>>()
        };
        let named = Named {
            profile: name.to_owned(),
            servers: profile.servers.is_some().then(|| places("servers")),
            allow: places("allow"),
        };
        self.out.profiles.push(named);
        profile
    }

    /// An error that costs the profile and nothing else.
    fn wrong_profile(
        &mut self,
        name: &str,
        range: &Range<usize>,
        what: &str,
        help: Option<String>,
    ) {
        let message = format!("the profile `{name}` serves nothing until this is right: {what}");
        let problem = Problem::error(Problem::WRONG_PROFILE, message);
        let problem = problem.at(Span::new(self.source, range.clone()));
        self.out.problems.push(match help {
            Some(help) => problem.help(help),
            None => problem,
        });
    }
}

impl Named {
    /// A warning for each name that no server has, and for each pattern that fits no tool of the
    /// profile's servers.
    pub(crate) fn problems(&self, known: &[&str]) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (server, place) in self.servers.iter().flatten() {
            if known.contains(&server.as_str()) {
                continue;
            }
            let message = format!(
                "the profile `{}` names the server `{server}`, and there is none here",
                self.profile
            );
            let problem = Problem::warning("unknown-server", message)
                .at(place.clone())
                .label("no such server");
            problems.push(match nearest(server, known.iter().copied()) {
                Some(near) => problem.help(format!("did you mean `{near}`?")),
                None => problem,
            });
        }
        let servers: Vec<&str> = match &self.servers {
            Some(servers) => servers.iter().map(|(name, _)| name.as_str()).collect(),
            None => known.to_vec(),
        };
        // The pool shortens long names, and marks equal ones in a way of its own.
        let is_plain = |name: &str| {
            name.len() <= PLAIN_NAME
                && name
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
        };
        if !servers.iter().all(|name| is_plain(name)) {
            return problems;
        }
        for (pattern, place) in &self.allow {
            let head = pattern.split('*').next().unwrap_or_default();
            let fits = servers.iter().any(|server| {
                let begin = format!("{server}__");
                head.starts_with(&begin) || (pattern.contains('*') && begin.starts_with(head))
            });
            if !fits {
                let message = format!(
                    "the profile `{}` allows `{pattern}`, which no tool of its servers is called",
                    self.profile
                );
                problems.push(
                    Problem::warning("useless-pattern", message)
                        .at(place.clone())
                        .label("fits nothing")
                        .help("write the name as the pool has it, `SERVER__TOOL`, of a server of the profile"),
                );
            }
        }
        problems
    }
}

/// How long the name of a server may be that begins its tools' names as it is.
const PLAIN_NAME: usize = 20;

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
    use crate::{Loaded, Loader};

    fn load(profiles: &str) -> Loaded {
        let servers = r#"{ "files": { "command": "x" } }"#;
        let text = format!(r#"{{ "mcpServers": {servers}, "profiles": {profiles} }}"#);
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
    fn one_that_is_half_understood_serves_nothing() {
        for bad in [
            r#"[]"#,
            r#"{ "servers": ["files"], "alow": [] }"#,
            r#"{ "servers": "files" }"#,
            r#"{ "servers": [""] }"#,
            r#"{ "allow": [1] }"#,
            r#"{ "tool_search": "yes" }"#,
            r#"{ "rename": { "a": "x", "b": "x" } }"#,
        ] {
            let loaded = load(&format!(r#"{{ "p": {bad}, "good": {{}} }}"#));
            let profiles = loaded.pool().profiles.as_ref().unwrap();
            assert_eq!(profiles["p"].servers.as_deref(), Some(&[][..]), "{bad}");
            assert_eq!(profiles["good"], Default::default());
            // The servers and the other profiles are as they were.
            assert!(
                loaded.has_errors() && loaded.clone().checked().is_ok(),
                "{bad}"
            );
        }
        for spoilt in [r#"[]"#, r#"{ "a b": {} }"#] {
            assert!(load(spoilt).checked().is_err(), "{spoilt}");
        }
        let loaded = load(r#"{ "p": { "renam": {}, "x-note": 1 } }"#);
        let [problem] = loaded.problems.as_slice() else {
            panic!("{:?}", loaded.problems);
        };
        assert!(problem.message.contains("`renam`"), "{problem}");
        assert_eq!(problem.help.as_deref(), Some("did you mean `rename`?"));
    }

    #[test]
    fn what_a_profile_names_is_there() {
        let of = |profile: &str| {
            let text = format!(
                r#"{{ "mcpServers": {{ "files": {{ "command": "x" }}, "web": {{ "command": "y" }},
                    "broken": {{ "command": 5 }} }}, "profiles": {{ "p": {profile} }} }}"#
            );
            let loaded = Loader::new().with_text("t", text).load().unwrap();
            let warnings = loaded.problems.into_iter().filter(|p| !p.is_error());
            warnings
                .map(|problem| problem.to_string())
                .collect::<Vec<_>>()
        };
        for good in [
            r#"{}"#,
            r#"{ "servers": ["files", "broken"], "allow": ["files__*", "fi*", "*read", "*"] }"#,
            r#"{ "allow": ["web__get", "files__read_*"] }"#,
        ] {
            assert_eq!(of(good), [""; 0], "{good}");
        }
        for (bad, what) in [
            (r#"{ "servers": ["fils"] }"#, "names the server `fils`"),
            (
                r#"{ "servers": ["files"], "allow": ["files__*", "web__*"] }"#,
                "allows `web__*`",
            ),
            (r#"{ "allow": ["read"] }"#, "allows `read`"),
        ] {
            let warnings = of(bad);
            assert_eq!(warnings.len(), 1, "{bad}: {warnings:?}");
            assert!(warnings[0].contains(what), "{bad}: {warnings:?}");
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
