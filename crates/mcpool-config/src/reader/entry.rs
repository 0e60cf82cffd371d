//! One entry: every field by its meaning, whatever the host calls it.

use std::{ops::Range, sync::Arc};

use super::{FieldRanges, Optional, about, duplicate, duplicate_members, spans};
use crate::{
    dialects::{Dialect, Found, Key, Rules},
    document::{Member, Node, Value},
    origin::Fields,
    problem::{Problem, Severity, nearest},
    settings::{ServerSettings, ToolSettings},
    source::{Source, Span},
};

/// What an entry gave.
pub(super) struct Entry {
    pub(super) settings: ServerSettings,
    pub(super) fields: Fields,
    pub(super) problems: Vec<Problem>,
    pub(super) optional: Vec<Optional<Range<usize>>>,
    /// It only switches a server off that another file declares.
    pub(super) switched_off: bool,
}

pub(super) fn read(
    source: &Arc<Source>,
    rules: &Rules,
    found: &Found,
    defaults: &ServerSettings,
    secrets: &mut Vec<Range<usize>>,
) -> Entry {
    let mut reader = EntryReader::new(source, rules, &found.name, secrets);
    reader.settings = defaults.clone();
    if reader.fields_of(found) {
        reader.name(found);
        reader.settle_api_key();
        reader.settle_scopes();
        if !rules.strict {
            reader.settle_own_variables();
        }
        reader.transport(found);
    }
    reader.finish()
}

/// Reads `defaults`: policies only.
pub(super) fn read_defaults(
    source: &Arc<Source>,
    rules: &Rules,
    found: &Found,
    secrets: &mut Vec<Range<usize>>,
) -> Entry {
    let mut reader = EntryReader::new(source, rules, &found.name, secrets);
    reader.fields_of(found);
    for field in [
        "command",
        "args",
        "env",
        "url",
        "headers",
        "bearer_token",
        "env_file",
        "headers_helper",
        "oauth",
    ] {
        if let Some(range) = reader.range_of(field) {
            reader.problem(
                Problem::error(
                    "wrong-place",
                    format!("`{field}` cannot stand in `defaults`: it belongs to one server"),
                ),
                &range,
            );
        }
    }
    reader.finish()
}

/// Reads one entry and remembers what it saw.
pub(super) struct EntryReader<'a> {
    pub(super) source: &'a Arc<Source>,
    pub(super) rules: &'a Rules,
    pub(super) server: &'a str,
    pub(super) secrets: &'a mut Vec<Range<usize>>,
    pub(super) settings: ServerSettings,
    pub(super) fields: FieldRanges,
    pub(super) problems: Vec<Problem>,
    /// A URL field that names its transport: `httpUrl`.
    pub(super) url_is_http: bool,
    /// The variables that the entry itself sets.
    pub(super) own_env: Vec<String>,
    /// It is disabled and has no transport.
    pub(super) switched_off: bool,
    /// OAuth scopes that stand beside the `oauth` object, before or after it.
    pub(super) scopes: Option<Vec<String>>,
    /// A key that goes into a header, said in several fields.
    pub(super) api_key: ApiKey,
    /// Variables without a default, where the host does not make an error of an unset one.
    pub(super) optional: Vec<Optional<Range<usize>>>,
}

/// A key that goes into a header, as far as it was said.
#[derive(Default)]
pub(super) struct ApiKey {
    /// The key, or the placeholder for it.
    pub(super) value: Option<String>,
    pub(super) header: Option<String>,
    /// The header's value, with `{token}` in the place of the key.
    pub(super) format: Option<String>,
    pub(super) place: Range<usize>,
}

impl<'a> EntryReader<'a> {
    fn new(
        source: &'a Arc<Source>,
        rules: &'a Rules,
        server: &'a str,
        secrets: &'a mut Vec<Range<usize>>,
    ) -> Self {
        Self {
            source,
            rules,
            server,
            secrets,
            settings: ServerSettings::default(),
            fields: Vec::new(),
            problems: Vec::new(),
            url_is_http: false,
            own_env: Vec::new(),
            switched_off: false,
            scopes: None,
            api_key: ApiKey::default(),
            optional: Vec::new(),
        }
    }

    fn finish(self) -> Entry {
        Entry {
            settings: self.settings,
            fields: spans(self.source, self.fields),
            problems: self.problems,
            switched_off: self.switched_off,
            optional: self.optional,
        }
    }

    pub(super) fn problem(&mut self, problem: Problem, range: &Range<usize>) {
        let problem = problem.at(Span::new(self.source, range.clone()));
        self.problems.push(about(problem, self.server));
    }

    pub(super) fn wrong_type(&mut self, path: &str, node: &Node, expected: &str) {
        self.problem(
            Problem::error(
                "wrong-type",
                format!("`{path}` must be {expected}, and is {}", node.type_name()),
            )
            .label(format!("expected {expected}")),
            &node.range,
        );
    }

    pub(super) fn wrong_value(&mut self, message: impl Into<String>, node: &Node) {
        self.problem(Problem::error("wrong-value", message.into()), &node.range);
    }

    pub(super) fn note_field(&mut self, path: &str, node: &Node) {
        self.fields.push((path.to_owned(), node.range.clone()));
    }

    pub(super) fn range_of(&self, path: &str) -> Option<Range<usize>> {
        self.fields
            .iter()
            .rev()
            .find(|(field, _)| field == path)
            .map(|(_, range)| range.clone())
    }

    /// Warns of equal keys.
    pub(super) fn duplicates(&mut self, node: &Node) {
        let pairs: Vec<_> = duplicate_members(node.members())
            .into_iter()
            .map(|(first, second)| {
                duplicate(
                    self.source,
                    &format!("the key `{}` stands twice", second.key),
                    &first.key_range,
                    &second.key_range,
                )
            })
            .collect();
        for problem in pairs {
            self.problems.push(about(problem, self.server));
        }
    }

    /// Reads all fields; `false` when the entry is no object at all.
    fn fields_of(&mut self, found: &Found) -> bool {
        let node = &found.node;
        if !node.is_object() {
            self.hide(node);
            self.problem(
                Problem::error(
                    "wrong-type",
                    format!("a server must be an object, and is {}", node.type_name()),
                )
                .label("expected an object")
                .help("write `{ \"command\": … }` or `{ \"url\": … }`"),
                &node.range,
            );
            return false;
        }
        self.duplicates(node);
        let env = node
            .members()
            .iter()
            .filter(|member| self.rules.key(&member.key) == Some(Key::Env));
        self.own_env = env
            .flat_map(|env| env.value.members())
            .map(|variable| variable.key.clone())
            .collect();
        for (index, member) in node.members().iter().enumerate() {
            // Of equal keys the last one counts.
            if node.members()[index + 1..]
                .iter()
                .any(|later| later.key == member.key)
            {
                continue;
            }
            match self.rules.key(&member.key) {
                _ if super::is_sandbox(member) => {
                    self.hide(&member.value);
                    let problem = super::not_sandboxed(&member.key);
                    self.problem(problem, &member.key_range);
                }
                // What is not read may hold anything.
                Some(Key::Ignore) => self.hide(&member.value),
                // An explicit null is the same as nothing, as most hosts have it; so is an empty
                // text where a text is wanted.
                Some(_) if member.value.value == Value::Null => {}
                Some(key)
                    if takes_text(key) && member.value.as_str().is_some_and(str::is_empty) => {}
                Some(key) if key.is_policy() && !self.rules.strict => {
                    let before = self.problems.len();
                    self.field(key, &member.key, &member.value);
                    for problem in &mut self.problems[before..] {
                        if problem.is_error() {
                            problem.severity = Severity::Warning;
                            problem.message.push_str(": it is left out");
                        }
                    }
                }
                Some(key) => self.field(key, &member.key, &member.value),
                None if member.key.starts_with("x-") || member.key.starts_with('$') => {
                    self.hide(&member.value);
                }
                None => self.unknown_field(&member.key, member),
            }
        }
        true
    }

    /// What is not understood is said, and not shown.
    pub(super) fn unknown_field(&mut self, path: &str, member: &Member) {
        self.hide(&member.value);
        let near = nearest(&member.key, self.rules.names());
        let mut problem =
            Problem::warning("unknown-field", format!("unknown field `{path}`")).label("ignored");
        if let Some(near) = near {
            problem = problem.help(format!("did you mean `{near}`?"));
        }
        self.problem(problem, &member.key_range);
    }

    pub(super) fn field(&mut self, key: Key, name: &str, node: &Node) {
        match key {
            Key::Ignore => {}
            Key::Description => self.settings.description = self.text(name, node),
            Key::Command => self.command(name, node),
            Key::CommandLine => self.command_line(name, node),
            Key::Args => {
                if let Some(args) = self.arguments(name, node) {
                    self.settings.args.extend(args);
                }
            }
            Key::Env => self.env(name, node),
            Key::EnvNames => self.env_names(name, node),
            Key::EnvFile => {
                self.note_field("env_file", node);
                self.settings.env_file = self.template("env_file", name, node);
            }
            Key::InheritEnv => self.inherit_env(name, node),
            Key::Cwd => {
                self.note_field("cwd", node);
                self.settings.cwd = self.template("cwd", name, node);
            }
            Key::Url | Key::HttpUrl => self.url(key, name, node),
            Key::Headers => self.headers(name, node),
            Key::EnvHeaders => self.env_headers(name, node),
            Key::HeadersHelper => {
                self.note_field("headers_helper", node);
                self.settings.headers_helper = self.text(name, node);
                let line = self.settings.headers_helper.as_deref().unwrap_or_default();
                if crate::show::redacted_line(line) != line {
                    self.hide(node);
                }
            }
            Key::BearerToken => self.bearer_token(name, node),
            Key::BearerEnv => {
                if let Some(variable) = self.text(name, node) {
                    self.note_field("bearer_token", node);
                    self.settings.bearer_token = Some(format!("${{{variable}}}"));
                }
            }
            Key::ApiKeyEnv => {
                if let Some(variable) = self.text(name, node) {
                    self.api_key.value = Some(format!("${{{variable}:-}}"));
                    self.api_key.place = node.range.clone();
                    self.left_out_when_unset(&variable, node);
                }
            }
            Key::ApiKeyHeader => self.api_key.header = self.text(name, node),
            Key::ApiKeyFormat => self.api_key.format = self.text(name, node),
            Key::KeyedHeader => self.api_key_object(name, node),
            Key::RequestOptions => {
                if let Some(headers) = node.get("headers") {
                    self.headers("requestOptions.headers", headers);
                }
            }
            Key::OAuth => self.oauth(name, node),
            Key::Auth => match &node.value {
                Value::String(word) if word == "oauth" || word == "oauth2" => {
                    self.settings.oauth.get_or_insert_default();
                }
                // No token, but a word for the kind of it.
                Value::String(word) if AUTH_WORDS.contains(&word.to_lowercase().as_str()) => {}
                Value::Bool(false) => {}
                Value::String(_) => self.bearer_token(name, node),
                Value::Object(_) if self.is_static_auth(node) => self.static_auth(name, node),
                _ => self.oauth(name, node),
            },
            Key::Scopes => {
                if let Some(scopes) = self.words(name, node) {
                    self.note_field("oauth.scopes", node);
                    self.scopes = Some(scopes);
                }
            }
            Key::Transport => self.transport_name(name, node),
            Key::Enabled => {
                self.note_field("enabled", node);
                self.settings.enabled = self.boolean(name, node);
            }
            Key::Disabled => {
                self.note_field("enabled", node);
                self.settings.enabled = self.boolean(name, node).map(|disabled| !disabled);
            }
            Key::Tools => self.tools(name, node),
            Key::ToolsAllow => {
                if let Some(names) = self.tool_names(name, node) {
                    self.allow(names);
                    self.note_field("tools.allow", node);
                }
            }
            Key::ToolsDeny => {
                if let Some(names) = self.tool_names(name, node) {
                    self.note_field("tools.deny", node);
                    self.settings.tools.get_or_insert_default().deny = names;
                }
            }
            policy => self.policy(policy, name, node),
        }
    }

    /// A list of names; elsewhere also one text of them.
    fn tool_names(&mut self, name: &str, node: &Node) -> Option<Vec<String>> {
        match self.rules.strict {
            true => self.strings(name, node),
            false => self.words(name, node),
        }
    }

    fn tools(&mut self, name: &str, node: &Node) {
        self.note_field("tools", node);
        match &node.value {
            // What some hosts remember of the tools: nothing for us.
            Value::Array(items) if !self.rules.strict && items.iter().any(Node::is_object) => {}
            // Only Copilot means none by an empty list.
            Value::Array(items)
                if items.is_empty()
                    && !self.rules.strict
                    && self.rules.dialect != Dialect::CopilotCli => {}
            Value::Array(_) => {
                if let Some(names) = self.strings(name, node) {
                    self.allow(names);
                }
            }
            Value::String(word) if !self.rules.strict && (word == "*" || word == "all") => {}
            Value::Object(members)
                if !self.rules.strict
                    && members
                        .iter()
                        .any(|m| m.key == "include" || m.key == "exclude") =>
            {
                if let Some(names) = node.get("include") {
                    self.field(Key::ToolsAllow, "tools.include", names);
                }
                if let Some(names) = node.get("exclude") {
                    self.field(Key::ToolsDeny, "tools.exclude", names);
                }
            }
            // A map of tool → settings, as two hosts have it: nothing for us.
            Value::Object(members)
                if !self.rules.strict
                    && !members.iter().any(|m| m.key == "allow" || m.key == "deny") => {}
            Value::Object(_) => {
                self.known_fields(name, node, &["allow", "deny"]);
                let mut tools = ToolSettings::default();
                if let Some(allow) = node.get("allow") {
                    tools.allow = self.strings("tools.allow", allow);
                }
                if let Some(deny) = node.get("deny") {
                    tools.deny = self.strings("tools.deny", deny).unwrap_or_default();
                }
                self.settings.tools = Some(tools);
            }
            _ => self.wrong_type(name, node, "an object with `allow` and `deny`"),
        }
    }

    fn allow(&mut self, names: Vec<String>) {
        // Goose and Copilot write all tools as an empty list or a star.
        let all = names.iter().any(|name| name == "*")
            || (names.is_empty() && self.rules.dialect == Dialect::Goose);
        if !all {
            self.settings.tools.get_or_insert_default().allow = Some(names);
        }
    }
}

/// Words for kinds of authentication, and for none.
const AUTH_WORDS: &[&str] = &[
    "api_key", "apikey", "basic", "bearer", "false", "header", "no", "none", "token", "true",
];

/// Whether a field is one text, so that an empty one says nothing.
fn takes_text(key: Key) -> bool {
    matches!(
        key,
        Key::Description
            | Key::Command
            | Key::CommandLine
            | Key::Args
            | Key::EnvFile
            | Key::Cwd
            | Key::Url
            | Key::HttpUrl
            | Key::HeadersHelper
            | Key::BearerToken
            | Key::BearerEnv
            | Key::ApiKeyEnv
            | Key::ApiKeyHeader
            | Key::ApiKeyFormat
            | Key::Auth
            | Key::Transport
            | Key::CaFile
            | Key::Proxy
    )
}
