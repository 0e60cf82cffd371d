//! One entry: every field by its meaning, whatever the host calls it.

use std::{ops::Range, sync::Arc};

use super::{FieldRanges, about, duplicate, duplicate_members, spans};
use crate::{
    diagnose::{Problem, nearest},
    dialects::{BareUrl, Dialect, Found, Key, Rules, Unit},
    document::{Node, Value},
    origin::Fields,
    secrets,
    settings::{InheritSettings, OAuthSettings, ServerSettings, ToolSettings, TransportName},
    source::{Source, Span},
    template::{Reference, Template, WhenUnset},
    units::HumanDuration,
};

/// What an entry gave.
pub(super) struct Entry {
    pub(super) settings: ServerSettings,
    pub(super) fields: Fields,
    pub(super) problems: Vec<Problem>,
    pub(super) bare_variables: Vec<(Reference, Range<usize>)>,
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
    source: &'a Arc<Source>,
    pub(super) rules: &'a Rules,
    server: &'a str,
    secrets: &'a mut Vec<Range<usize>>,
    pub(super) settings: ServerSettings,
    fields: FieldRanges,
    problems: Vec<Problem>,
    /// A URL field that names its transport: `httpUrl`.
    url_is_http: bool,
    /// Variables without a default, where the host does not make an error of an unset one.
    bare_variables: Vec<(Reference, Range<usize>)>,
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
            bare_variables: Vec::new(),
        }
    }

    fn finish(self) -> Entry {
        Entry {
            settings: self.settings,
            fields: spans(self.source, self.fields),
            problems: self.problems,
            bare_variables: self.bare_variables,
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

    fn range_of(&self, path: &str) -> Option<Range<usize>> {
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
        for (index, member) in node.members().iter().enumerate() {
            // Of equal keys the last one counts.
            if node.members()[index + 1..]
                .iter()
                .any(|later| later.key == member.key)
            {
                continue;
            }
            match self.rules.key(&member.key) {
                // What is not read may hold anything.
                Some(Key::Ignore) => self.hide(&member.value),
                // An explicit null is the same as nothing, as most hosts have it.
                Some(_) if member.value.value == Value::Null => {}
                Some(key) => self.field(key, &member.key, &member.value),
                None if member.key.starts_with("x-") || member.key.starts_with('$') => {
                    self.hide(&member.value);
                }
                None => {
                    self.hide(&member.value);
                    let names = self.rules.names();
                    let near = nearest(&member.key, names);
                    let mut problem = Problem::warning(
                        "unknown-field",
                        format!("unknown field `{}`", member.key),
                    )
                    .label("ignored");
                    if let Some(near) = near {
                        problem = problem.help(format!("did you mean `{near}`?"));
                    }
                    self.problem(problem, &member.key_range);
                }
            }
        }
        true
    }

    fn field(&mut self, key: Key, name: &str, node: &Node) {
        match key {
            Key::Ignore => {}
            Key::Description => self.settings.description = self.text(name, node),
            Key::Command => self.command(name, node),
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
            Key::Url => self.url(name, node),
            Key::HttpUrl => {
                self.url_is_http = true;
                self.url(name, node);
            }
            Key::Headers => self.headers(name, node),
            Key::EnvHeaders => self.env_headers(name, node),
            Key::HeadersHelper => {
                self.note_field("headers_helper", node);
                self.settings.headers_helper = self.text(name, node);
            }
            Key::BearerToken => self.bearer_token(name, node),
            Key::BearerEnv => {
                if let Some(variable) = self.text(name, node) {
                    self.note_field("bearer_token", node);
                    self.settings.bearer_token = Some(format!("${{{variable}}}"));
                }
            }
            Key::RequestOptions => {
                if let Some(headers) = node.get("headers") {
                    self.headers("requestOptions.headers", headers);
                }
            }
            Key::OAuth => self.oauth(name, node),
            Key::Auth => match &node.value {
                Value::String(word) if word == "oauth" => {
                    self.settings.oauth.get_or_insert_default();
                }
                Value::String(_) => self.bearer_token(name, node),
                _ => self.oauth(name, node),
            },
            Key::Scopes => {
                if let Some(scopes) = self.words(name, node) {
                    self.settings.oauth.get_or_insert_default().scopes = scopes;
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
            Key::Required => {
                self.note_field("required", node);
                self.settings.required = self.boolean(name, node);
            }
            Key::Tools => self.tools(name, node),
            Key::ToolsAllow => {
                if let Some(names) = self.strings(name, node) {
                    self.allow(names);
                    self.note_field("tools.allow", node);
                }
            }
            Key::ToolsDeny => {
                if let Some(names) = self.strings(name, node) {
                    self.note_field("tools.deny", node);
                    self.settings.tools.get_or_insert_default().deny = names;
                }
            }
            policy => self.policy(policy, name, node),
        }
    }

    // Fields of a process.

    fn command(&mut self, name: &str, node: &Node) {
        self.note_field("command", node);
        match &node.value {
            // A whole argument list, as some hosts have it.
            Value::Array(items) => {
                let mut words = Vec::new();
                for (index, item) in items.iter().enumerate() {
                    if index == 0 {
                        self.note_field("command", item);
                    } else {
                        self.note_field(&format!("args[{}]", index - 1), item);
                    }
                    words.extend(self.argument(name, item, items.get(index.wrapping_sub(1))));
                }
                if words.is_empty() {
                    self.wrong_value("`command` is an empty list", node);
                    return;
                }
                self.settings.command = Some(words.remove(0));
                words.append(&mut self.settings.args);
                self.settings.args = words;
            }
            // An older notation of Zed: {path, args, env}.
            Value::Object(_) => {
                if let Some(path) = node.get("path") {
                    self.command(name, path);
                }
                if let Some(args) = node.get("args") {
                    self.settings.args = self.arguments("args", args).unwrap_or_default();
                }
                if let Some(env) = node.get("env").filter(|env| env.value != Value::Null) {
                    self.env("env", env);
                }
                if node.get("path").is_none() {
                    self.wrong_type(name, node, "a string");
                }
            }
            Value::String(text) => {
                for range in secrets::url_secret_ranges(text)
                    .into_iter()
                    .filter(|_| is_url(text))
                {
                    self.hide_part(node, range);
                }
                self.settings.command = self.template("command", name, node);
            }
            _ => self.wrong_type(name, node, "a string"),
        }
    }

    fn arguments(&mut self, name: &str, node: &Node) -> Option<Vec<String>> {
        let Value::Array(items) = &node.value else {
            if let Value::String(_) = node.value {
                self.problem(
                    Problem::error(
                        "wrong-type",
                        format!("`{name}` must be a list of strings, and is a string"),
                    )
                    .label("expected a list")
                    .help("put each argument in quotes of its own: `[\"-y\", \"package\"]`"),
                    &node.range,
                );
            } else {
                self.hide(node);
                self.wrong_type(name, node, "a list of strings");
            }
            return None;
        };
        let mut args = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            self.note_field(&format!("args[{index}]"), item);
            args.extend(self.argument(
                name,
                item,
                index.checked_sub(1).and_then(|before| items.get(before)),
            ));
        }
        Some(args)
    }

    fn argument(&mut self, name: &str, node: &Node, before: Option<&Node>) -> Option<String> {
        let text = self.scalar(name, node)?;
        let after_flag = before
            .and_then(Node::as_str)
            .is_some_and(secrets::is_secret_flag);
        let inline = secrets::named_part(&text);
        let template = self.translate(name, &text, node)?;
        let literal = Template::parse(&template, crate::template::Syntax::native())
            .is_ok_and(|template| template.is_literal());
        if let Some(part) = inline {
            if literal && !secrets::is_dummy(&text[part.clone()]) {
                self.literal_secret("an argument", node);
            }
            self.hide_part(node, part);
        } else if after_flag || secrets::is_secret_value(&text) {
            self.hide(node);
            if literal && !secrets::is_dummy(&text) {
                self.literal_secret("an argument", node);
            }
        } else if is_url(&text) {
            for range in secrets::url_secret_ranges(&text) {
                self.hide_part(node, range);
            }
        }
        Some(template)
    }

    fn env(&mut self, name: &str, node: &Node) {
        if !node.is_object() {
            self.hide(node);
            self.wrong_type(name, node, "an object of texts");
            return;
        }
        self.duplicates(node);
        for member in node.members() {
            self.spaces(&member.key, &member.key_range, "the name of a variable");
            let path = format!("env.{}", member.key);
            self.note_field(&path, &member.value);
            if member.key.is_empty() || member.key.contains(['=', '\0']) {
                self.problem(
                    Problem::error(
                        "wrong-value",
                        format!("{:?} cannot be the name of a variable", member.key),
                    ),
                    &member.key_range,
                );
                continue;
            }
            self.hide(&member.value);
            if let Some(value) = self.secret_template(&path, &member.key, &member.value) {
                self.settings.env.insert(member.key.clone(), value);
            }
        }
    }

    fn env_names(&mut self, name: &str, node: &Node) {
        let Value::Array(items) = &node.value else {
            self.wrong_type(name, node, "a list of names");
            return;
        };
        for item in items {
            let variable = match &item.value {
                Value::String(variable) => Some(variable.clone()),
                Value::Object(_) => item.get("name").and_then(Node::as_str).map(str::to_owned),
                _ => None,
            };
            match variable {
                Some(variable) => {
                    self.note_field(&format!("env.{variable}"), item);
                    self.pass_through(variable);
                }
                None => self.wrong_type(name, item, "the name of a variable"),
            }
        }
    }

    fn pass_through(&mut self, variable: String) {
        if self.rules.dialect == Dialect::Codex {
            // Codex refuses to start a server whose variable is not set.
            let value = format!("${{{variable}}}");
            self.settings.env.insert(variable, value);
            return;
        }
        match &mut self.settings.inherit_env {
            Some(InheritSettings::Names(names)) => names.push(variable),
            _ => self.settings.inherit_env = Some(InheritSettings::Names(vec![variable])),
        }
    }

    // Fields of an HTTP server.

    fn url(&mut self, name: &str, node: &Node) {
        self.note_field("url", node);
        self.hide_credentials(node);
        self.settings.url = self.template("url", name, node);
    }

    fn headers(&mut self, name: &str, node: &Node) {
        if !node.is_object() {
            self.hide(node);
            self.wrong_type(name, node, "an object of texts");
            return;
        }
        self.duplicates(node);
        for member in node.members() {
            let path = format!("headers.{}", member.key);
            self.note_field(&path, &member.value);
            self.hide(&member.value);
            if !self.header_name(&member.key, &member.key_range) {
                continue;
            }
            if let Some(value) = self.secret_template(&path, &member.key, &member.value) {
                self.set_header(member.key.clone(), value);
            }
        }
    }

    fn set_header(&mut self, name: String, value: String) {
        let headers = &mut self.settings.headers.0;
        headers.retain(|(known, _)| !known.eq_ignore_ascii_case(&name));
        headers.push((name, value));
    }

    fn header_name(&mut self, name: &str, range: &Range<usize>) -> bool {
        let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        if name.is_empty() || !name.chars().all(token) {
            // RFC 9110, section 5.6.2.
            self.problem(
                Problem::error(
                    "wrong-value",
                    format!("{name:?} cannot be the name of a header"),
                )
                .help("a header's name has letters, digits and `-`, and no space or colon"),
                range,
            );
            return false;
        }
        true
    }

    fn env_headers(&mut self, name: &str, node: &Node) {
        if !node.is_object() {
            self.wrong_type(name, node, "an object of names of variables");
            return;
        }
        for member in node.members() {
            match member.value.as_str() {
                Some(variable) if self.header_name(&member.key, &member.key_range) => {
                    self.note_field(&format!("headers.{}", member.key), &member.value);
                    self.set_header(member.key.clone(), format!("${{{variable}}}"));
                }
                Some(_) => {}
                None => self.wrong_type(name, &member.value, "the name of a variable"),
            }
        }
    }

    fn bearer_token(&mut self, name: &str, node: &Node) {
        self.note_field("bearer_token", node);
        self.hide(node);
        self.settings.bearer_token = self.secret_template("bearer_token", name, node);
    }

    fn oauth(&mut self, name: &str, node: &Node) {
        self.note_field("oauth", node);
        if let Value::Bool(enabled) = node.value {
            self.settings.oauth.get_or_insert_default().enabled = Some(enabled);
            return;
        }
        if !node.is_object() {
            self.wrong_type(name, node, "an object");
            return;
        }
        self.duplicates(node);
        let mut oauth = OAuthSettings::default();
        for member in node.members() {
            let value = &member.value;
            let path = format!("{name}.{}", member.key);
            match member.key.as_str() {
                "enabled" => oauth.enabled = self.boolean(&path, value),
                "grant" | "grant_type" | "grantType" => oauth.grant = self.text(&path, value),
                "client_id" | "clientId" | "CLIENT_ID" => {
                    self.note_field("oauth.client_id", value);
                    oauth.client_id = self.template("oauth.client_id", &path, value);
                }
                "client_secret" | "clientSecret" | "CLIENT_SECRET" => {
                    self.hide(value);
                    self.note_field("oauth.client_secret", value);
                    oauth.client_secret =
                        self.secret_template("oauth.client_secret", "client_secret", value);
                }
                "private_key_file" | "privateKeyFile" => {
                    oauth.private_key_file = self.template("oauth.private_key_file", &path, value);
                }
                "scopes" | "scope" => oauth.scopes = self.words(&path, value).unwrap_or_default(),
                "callback_port" | "callbackPort" => {
                    oauth.callback_port = self
                        .whole(&path, value, 1, 65_535)
                        .and_then(|port| u16::try_from(port).ok());
                }
                "metadata_url" | "authServerMetadataUrl" | "metadataUrl" => {
                    self.hide_credentials(value);
                    oauth.metadata_url = self.text(&path, value);
                }
                // Hosts have many more; what they mean is not ours to guess.
                _ if self.rules.dialect != Dialect::Native => self.hide(value),
                key => {
                    self.hide(value);
                    let known = [
                        "enabled",
                        "grant",
                        "client_id",
                        "client_secret",
                        "private_key_file",
                        "scopes",
                        "callback_port",
                        "metadata_url",
                    ];
                    let mut problem =
                        Problem::warning("unknown-field", format!("unknown field `{path}`"))
                            .label("ignored");
                    if let Some(near) = nearest(key, known) {
                        problem = problem.help(format!("did you mean `{near}`?"));
                    }
                    self.problem(problem, &member.key_range);
                }
            }
        }
        self.settings.oauth = Some(oauth);
    }

    // The transport.

    fn transport_name(&mut self, name: &str, node: &Node) {
        self.note_field("transport", node);
        // Cline nests it: `transport: {type, command, …}`.
        if node.is_object() {
            for member in node.members() {
                match self.rules.key(&member.key) {
                    Some(Key::Ignore) | None => {}
                    Some(key) => self.field(key, &member.key, &member.value),
                }
            }
            return;
        }
        let Some(text) = self.text(name, node) else {
            return;
        };
        let plain = text.to_lowercase().replace(['-', '_', ' '], "");
        self.settings.transport = match plain.as_str() {
            "stdio" | "local" => Some(TransportName::Stdio),
            "http" | "streamablehttp" | "remote" => Some(TransportName::Http),
            "sse" => Some(TransportName::Sse),
            "auto" => Some(TransportName::Auto),
            "ws" | "wss" | "websocket" | "tcp" => {
                self.problem(
                    Problem::error(
                        "unsupported-transport",
                        format!("the transport `{text}` is not one of MCP's and mcpool does not speak it"),
                    )
                    .help("use `stdio`, `http` or `sse`"),
                    &node.range,
                );
                None
            }
            _ => {
                let known = ["stdio", "http", "streamable-http", "sse", "auto"];
                let help = match nearest(&text, known) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => "use `stdio`, `http`, `sse` or `auto`".to_owned(),
                };
                self.problem(
                    Problem::error("wrong-value", format!("unknown transport `{text}`")).help(help),
                    &node.range,
                );
                None
            }
        };
    }

    fn name(&mut self, found: &Found) {
        if let Err(error) = mcpool_core::ServerName::new(&found.name) {
            self.problem(
                Problem::error("server-name", error.message().to_owned()).help(
                    "a name has 1 to 128 bytes, no control characters, and no space at either end",
                ),
                &found.name_range,
            );
        }
    }

    /// Settles how the server is reached, from all that was read.
    fn transport(&mut self, found: &Found) {
        let command_range = self
            .range_of("command")
            .unwrap_or_else(|| found.name_range.clone());
        let url_range = self
            .range_of("url")
            .unwrap_or_else(|| found.name_range.clone());
        if self.url_is_http && self.settings.transport.is_none() {
            self.settings.transport = Some(TransportName::Http);
        }
        if self
            .problems
            .iter()
            .any(|p| p.code == "unsupported-transport")
        {
            return;
        }
        self.url_in_command(&command_range);
        let settings = &self.settings;
        match (&settings.command, &settings.url, settings.transport) {
            // Say nothing more of an entry whose command or URL was already refused.
            (None, None, _)
                if self.range_of("command").is_some() || self.range_of("url").is_some() => {}
            (None, None, _) => {
                let range = found.name_range.clone();
                self.problem(
                    Problem::error("no-transport", "neither `command` nor `url` is there")
                        .label("this server cannot be reached")
                        .help("give a `command` for a process or a `url` for an HTTP server"),
                    &range,
                );
            }
            (Some(_), Some(_), None) => self.problem(
                Problem::error("two-transports", "both `command` and `url` are there")
                    .help("remove one, or say which with `transport`"),
                &url_range,
            ),
            (None, Some(_), Some(TransportName::Stdio)) => self.problem(
                Problem::error(
                    "wrong-transport",
                    "the transport is `stdio`, and there is a `url` instead of a `command`",
                )
                .help("give a `command`, or set `transport` to `http` or `sse`"),
                &url_range,
            ),
            (
                Some(_),
                None,
                Some(TransportName::Http | TransportName::Sse | TransportName::Auto),
            ) => {
                self.problem(
                    Problem::error(
                        "wrong-transport",
                        "the transport is HTTP, and there is a `command` instead of a `url`",
                    )
                    .help("give a `url`, or remove `transport`"),
                    &command_range,
                );
            }
            (Some(_), None, _) => self.settings.transport = Some(TransportName::Stdio),
            (None, Some(_), None) => self.bare_url(&url_range),
            _ => {}
        }
        match self.settings.transport {
            Some(TransportName::Stdio) => self.check_command(&command_range),
            Some(_) => self.check_url(&url_range),
            // The transport was refused: that is enough.
            None => {}
        }
    }

    /// The notation of an older system: the URL in `command`, the headers in `env`.
    fn url_in_command(&mut self, range: &Range<usize>) {
        let http = !matches!(self.settings.transport, Some(TransportName::Stdio));
        let Some(command) = self
            .settings
            .command
            .clone()
            .filter(|text| http && is_url(text))
        else {
            return;
        };
        if self.settings.url.is_some() {
            return;
        }
        self.settings.url = Some(command);
        self.settings.command = None;
        self.fields.push(("url".to_owned(), range.clone()));
        let mut help = "write it as `url`".to_owned();
        let env = std::mem::take(&mut self.settings.env);
        if !env.is_empty() {
            help.push_str(", and the headers as `headers` instead of `env`");
        }
        for (name, value) in env {
            let place = self
                .range_of(&format!("env.{name}"))
                .unwrap_or_else(|| range.clone());
            if self.header_name(&name, &place) {
                self.fields.push((format!("headers.{name}"), place));
                self.set_header(name, value);
            }
        }
        self.problem(
            Problem::note(
                "url-in-command",
                "the URL stands in `command`; it is read as `url`",
            )
            .help(help),
            range,
        );
    }

    fn bare_url(&mut self, range: &Range<usize>) {
        let title = self.rules.title;
        self.settings.transport = Some(match self.rules.bare_url {
            BareUrl::Detect => TransportName::Auto,
            BareUrl::Http => TransportName::Http,
            BareUrl::Sse => TransportName::Sse,
            BareUrl::ByPath => {
                let path_says_sse = self.settings.url.as_deref().is_some_and(|url| {
                    url.split(['?', '#'])
                        .next()
                        .unwrap_or_default()
                        .split('/')
                        .skip(3)
                        .any(|segment| segment == "sse")
                });
                if path_says_sse {
                    TransportName::Sse
                } else {
                    TransportName::Http
                }
            }
            BareUrl::HostRefuses => {
                self.problem(
                    Problem::warning(
                        "bare-url",
                        format!("there is a `url` without a `type`: {title} refuses it, mcpool tries Streamable HTTP and then SSE"),
                    )
                    .help("add `\"type\": \"http\"` or `\"type\": \"sse\"`"),
                    range,
                );
                TransportName::Auto
            }
        });
    }

    fn check_command(&mut self, range: &Range<usize>) {
        let Some(command) = self.settings.command.clone() else {
            return;
        };
        if command.trim().is_empty() {
            self.problem(Problem::error("wrong-value", "`command` is empty"), range);
        } else if command.contains('\0') {
            self.problem(
                Problem::error("wrong-value", "`command` holds a NUL character"),
                range,
            );
        } else if command.contains(' ')
            && self.settings.args.is_empty()
            && !command.contains(['/', '\\', '$'])
        {
            self.problem(
                Problem::warning(
                    "command-line",
                    "`command` holds spaces and is not run by a shell",
                )
                .help("put the program in `command` and the rest in `args`"),
                range,
            );
        }
        if !self.settings.headers.is_empty() {
            let place = self
                .settings
                .headers
                .0
                .first()
                .and_then(|(name, _)| self.range_of(&format!("headers.{name}")))
                .unwrap_or_else(|| range.clone());
            self.problem(
                Problem::warning(
                    "useless-field",
                    "a stdio server has no `headers`: they are ignored",
                ),
                &place,
            );
        }
    }

    fn check_url(&mut self, range: &Range<usize>) {
        let Some(url) = self.settings.url.clone() else {
            return;
        };
        if !secrets::url_secret_ranges(&url).is_empty()
            && url::Url::parse(&url)
                .is_ok_and(|url| url.password().is_some() || !url.username().is_empty())
        {
            self.problem(
                Problem::warning("url-credentials", "the URL holds a user name or a password")
                    .help("send them as a header: `\"Authorization\": \"Basic ${CREDENTIALS}\"`"),
                range,
            );
        }
        // What placeholders give is checked when it is connected.
        let probe = match Template::parse(&url, crate::template::Syntax::native()) {
            Ok(template) if template.is_literal() => url,
            _ => return,
        };
        match url::Url::parse(&probe) {
            Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => {}
            Ok(url) if matches!(url.scheme(), "ws" | "wss") => self.problem(
                Problem::error(
                    "unsupported-transport",
                    "WebSocket is not one of MCP's transports and mcpool does not speak it",
                )
                .help("use the server's `https://` address"),
                range,
            ),
            Ok(url) => {
                let scheme = url.scheme().to_owned();
                self.problem(
                    Problem::error(
                        "wrong-value",
                        format!("the URL's scheme is `{scheme}`, and must be `http` or `https`"),
                    ),
                    range,
                );
            }
            Err(error) => self.problem(
                Problem::error("wrong-value", format!("this is not a URL: {error}"))
                    .help("write the whole address: `https://host/path`"),
                range,
            ),
        }
    }

    fn tools(&mut self, name: &str, node: &Node) {
        self.note_field("tools", node);
        match &node.value {
            Value::Array(_) => {
                if let Some(names) = self.strings(name, node) {
                    self.allow(names);
                }
            }
            // A map of tool → settings, as two hosts have it: nothing for us.
            Value::Object(members)
                if self.rules.dialect != Dialect::Native
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

    // Values.

    pub(super) fn text(&mut self, path: &str, node: &Node) -> Option<String> {
        match &node.value {
            Value::String(text) => Some(text.clone()),
            _ => {
                self.wrong_type(path, node, "a string");
                None
            }
        }
    }

    /// A text; numbers and booleans are taken as they are written, with a warning.
    fn scalar(&mut self, path: &str, node: &Node) -> Option<String> {
        match &node.value {
            Value::String(text) => Some(text.clone()),
            Value::Bool(_) | Value::Integer(_) | Value::Float(_) => {
                self.problem(
                    Problem::warning(
                        "not-a-string",
                        format!("`{path}` is {}; it is read as a string", node.type_name()),
                    )
                    .help("put it in quotes"),
                    &node.range,
                );
                Some(match &node.value {
                    Value::Bool(value) => value.to_string(),
                    Value::Integer(value) => value.to_string(),
                    _ => self
                        .source
                        .text()
                        .get(node.range.clone())
                        .unwrap_or_default()
                        .to_owned(),
                })
            }
            _ => {
                self.wrong_type(path, node, "a string");
                None
            }
        }
    }

    /// A text with placeholders, in the native syntax.
    fn template(&mut self, path: &str, name: &str, node: &Node) -> Option<String> {
        let text = self.text(name, node)?;
        self.spaces(&text, &node.range, &format!("`{path}`"));
        self.translate(path, &text, node)
    }

    fn secret_template(&mut self, path: &str, name: &str, node: &Node) -> Option<String> {
        let text = self.scalar(path, node)?;
        self.spaces(&text, &node.range, &format!("`{path}`"));
        let template = self.translate(path, &text, node)?;
        let parsed = Template::parse(&template, crate::template::Syntax::native());
        if parsed.is_ok_and(|template| template.is_literal())
            && !secrets::is_dummy(&text)
            && text.len() >= 4
            && (secrets::is_secret_name(name) || secrets::is_secret_value(&text))
        {
            self.literal_secret(&format!("`{path}`"), node);
        }
        Some(template)
    }

    fn literal_secret(&mut self, what: &str, node: &Node) {
        self.problem(
            Problem::warning(
                "literal-secret",
                format!("{what} holds what looks like a secret"),
            )
            .label("in plain text")
            .help(
                "put it in a variable and write `${NAME}`, or in a file and write `${file:path}`",
            ),
            &node.range,
        );
    }

    /// Brings a text from the host's syntax into ours.
    fn translate(&mut self, path: &str, text: &str, node: &Node) -> Option<String> {
        let syntax = self.rules.syntax;
        match Template::parse(text, syntax) {
            Ok(_) if self.rules.dialect == Dialect::Native => Some(text.to_owned()),
            Ok(template) => {
                if syntax.when_unset != WhenUnset::Fail {
                    let bare = template.bare_references();
                    self.bare_variables
                        .extend(bare.into_iter().map(|bare| (bare, node.range.clone())));
                }
                Some(template.to_native(syntax.when_unset))
            }
            Err(error) => {
                let range = match self.offset_of(node, text) {
                    Some(start) => {
                        start + error.offset..(start + error.offset + 2).min(node.range.end)
                    }
                    None => node.range.clone(),
                };
                self.problem(
                    Problem::error("placeholder", format!("`{path}`: {}", error.message)),
                    &range,
                );
                None
            }
        }
    }

    /// Where a text begins in the source, when it stands there as it is (no escapes).
    fn offset_of(&self, node: &Node, text: &str) -> Option<usize> {
        let raw = self.source.text().get(node.range.clone())?;
        let at = raw.len().checked_sub(text.len())? / 2;
        (raw.get(at..at + text.len())? == text).then_some(node.range.start + at)
    }

    /// Remembers that a value is not for showing.
    fn hide(&mut self, node: &Node) {
        let place = node
            .as_str()
            .and_then(|text| Some((self.offset_of(node, text)?, text.len())));
        match place {
            Some((start, length)) => self.secrets.push(start..start + length),
            // A number, a list, a text with escapes: all of it.
            None => self.secrets.push(node.range.clone()),
        }
    }

    /// Remembers the credentials in a URL.
    pub(super) fn hide_credentials(&mut self, node: &Node) {
        let url = node.as_str().unwrap_or_default();
        for range in secrets::url_secret_ranges(url) {
            self.hide_part(node, range);
        }
    }

    fn hide_part(&mut self, node: &Node, part: Range<usize>) {
        match self.offset_of(node, node.as_str().unwrap_or_default()) {
            Some(start) => self.secrets.push(start + part.start..start + part.end),
            None => self.secrets.push(node.range.clone()),
        }
    }

    /// Warns of spaces that nobody sees.
    fn spaces(&mut self, text: &str, range: &Range<usize>, what: &str) {
        let invisible = |c: char| matches!(c, '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}' | '\u{00ad}' | '\u{202a}'..='\u{202e}');
        if text.chars().any(invisible) {
            self.problem(
                Problem::warning(
                    "hidden-character",
                    format!("{what} holds an invisible character"),
                )
                .help("type it anew"),
                range,
            );
        } else if text.trim() != text {
            self.problem(
                Problem::warning(
                    "hidden-space",
                    format!("{what} begins or ends with white space"),
                )
                .help("remove it, unless it is meant"),
                range,
            );
        }
    }

    pub(super) fn boolean(&mut self, path: &str, node: &Node) -> Option<bool> {
        match &node.value {
            Value::Bool(value) => Some(*value),
            Value::String(text) if text == "true" || text == "false" => {
                self.problem(
                    Problem::warning(
                        "not-a-boolean",
                        format!("`{path}` is a string; it is read as `{text}`"),
                    )
                    .help(format!("write `{text}` without quotes")),
                    &node.range,
                );
                Some(text == "true")
            }
            _ => {
                self.wrong_type(path, node, "`true` or `false`");
                None
            }
        }
    }

    pub(super) fn whole(&mut self, path: &str, node: &Node, min: u32, max: u32) -> Option<u32> {
        match node.value {
            Value::Integer(number) => match u32::try_from(number) {
                Ok(number) if (min..=max).contains(&number) => Some(number),
                _ => {
                    self.wrong_value(format!("`{path}` must be between {min} and {max}"), node);
                    None
                }
            },
            _ => {
                self.wrong_type(path, node, "a whole number");
                None
            }
        }
    }

    pub(super) fn strings(&mut self, path: &str, node: &Node) -> Option<Vec<String>> {
        let Value::Array(items) = &node.value else {
            self.wrong_type(path, node, "a list of strings");
            return None;
        };
        let mut strings = Vec::with_capacity(items.len());
        for item in items {
            strings.push(self.text(path, item)?);
        }
        Some(strings)
    }

    /// A list of words, or one string of words.
    fn words(&mut self, path: &str, node: &Node) -> Option<Vec<String>> {
        match &node.value {
            Value::String(text) => Some(
                text.split([' ', ','])
                    .filter(|word| !word.is_empty())
                    .map(str::to_owned)
                    .collect(),
            ),
            _ => self.strings(path, node),
        }
    }

    /// A duration with its unit, or a number in the unit of the host.
    pub(super) fn duration(
        &mut self,
        path: &str,
        node: &Node,
        unit: Option<Unit>,
    ) -> Option<HumanDuration> {
        let number = match &node.value {
            Value::String(text) => {
                return match HumanDuration::parse(text) {
                    Ok(duration) => Some(duration),
                    Err(message) => {
                        self.wrong_value(format!("`{path}`: {message}"), node);
                        None
                    }
                };
            }
            #[allow(clippy::cast_precision_loss)] // durations over 2^53 are refused anyway
            Value::Integer(number) => *number as f64,
            Value::Float(number) => *number,
            _ => {
                self.wrong_type(path, node, "a duration such as \"30s\"");
                return None;
            }
        };
        let seconds = match unit.unwrap_or(self.rules.unit) {
            Unit::Seconds => number,
            Unit::Milliseconds => number / 1000.0,
            Unit::Refuse => {
                let suggestion = if number >= 1000.0 && number % 100.0 == 0.0 {
                    format!("write \"{number}ms\" if it means milliseconds, or \"{number}s\"")
                } else {
                    format!("write \"{number}s\" if it means seconds, or \"{number}ms\"")
                };
                self.problem(
                    Problem::error("no-unit", format!("`{path}` is a number without a unit"))
                        .label("seconds or milliseconds?")
                        .help(suggestion),
                    &node.range,
                );
                return None;
            }
            Unit::Unknown => {
                let title = self.rules.title;
                self.problem(
                    Problem::warning("no-unit", format!("`{path}` is a number, and {title} does not say in which unit: it is left out"))
                        .help("write it with its unit, such as \"30s\""),
                    &node.range,
                );
                return None;
            }
        };
        match std::time::Duration::try_from_secs_f64(seconds) {
            Ok(duration) if seconds < 3.2e9 => Some(HumanDuration(duration)),
            _ => {
                self.wrong_value(format!("`{path}` is not a possible duration"), node);
                None
            }
        }
    }

    /// Warns of the fields of an object that are not known.
    pub(super) fn known_fields(&mut self, path: &str, node: &Node, known: &[&str]) {
        self.duplicates(node);
        for member in node.members() {
            if !known.contains(&member.key.as_str()) {
                self.hide(&member.value);
                let mut problem = Problem::warning(
                    "unknown-field",
                    format!("unknown field `{path}.{}`", member.key),
                )
                .label("ignored");
                problem = match nearest(&member.key, known.iter().copied()) {
                    Some(near) => problem.help(format!("did you mean `{near}`?")),
                    None => problem.help(format!("it has {}", known.join(", "))),
                };
                self.problem(problem, &member.key_range);
            }
        }
    }
}

fn is_url(text: &str) -> bool {
    let text = text.trim_start();
    text.starts_with("http://") || text.starts_with("https://")
}
