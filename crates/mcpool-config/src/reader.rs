//! From a document to entries: finds the servers, reads each by the rules of its dialect, and
//! collects what is to be said about them.

mod advice;
mod entry;
mod http;
mod oauth;
mod policies;
mod pool;
mod process;
mod profiles;
mod transport;
#[cfg(feature = "url")]
mod url;
mod values;

use std::{
    collections::{HashMap, HashSet},
    ops::Range,
    path::Path,
    sync::Arc,
};

pub(crate) use profiles::Named;

use crate::{
    dialects::{self, Dialect, Found, Located, Place, Rules},
    document::{Member, Node, Value},
    inputs::InputDeclaration,
    origin::{Fields, Origin},
    problem::{Problem, nearest},
    settings::{ImportOrder, PoolSettings, ServerSettings},
    source::{Source, Span},
    template::Reference,
};

/// What one document gave.
#[derive(Default)]
pub(crate) struct Reading {
    pub(crate) entries: Vec<ReadEntry>,
    pub(crate) problems: Vec<Problem>,
    pub(crate) imports: Vec<(Dialect, Span)>,
    pub(crate) import_order: ImportOrder,
    pub(crate) pool: PoolSettings,
    pub(crate) inputs: HashMap<String, InputDeclaration>,
    /// What the profiles name.
    pub(crate) profiles: Vec<Named>,
}

/// One server of a document, read without an error.
pub(crate) struct ReadEntry {
    pub(crate) name: String,
    pub(crate) settings: ServerSettings,
    pub(crate) origin: Origin,
    /// Variables without a default that the host lets be unset.
    pub(crate) optional: Vec<Optional<Span>>,
}

/// A variable that the host lets be unset, and its place.
pub(crate) struct Optional<P> {
    pub(crate) reference: Reference,
    pub(crate) place: P,
    /// What then stands there, in words.
    pub(crate) becomes: &'static str,
}

/// Reads a whole document.
pub(crate) fn read(
    source: &Arc<Source>,
    root: &Node,
    dialect: Dialect,
    workspace: Option<&Path>,
) -> Reading {
    let mut out = Reading::default();
    let mut secrets = Vec::new();
    let place = Place {
        workspace,
        path: source.path(),
    };
    let located = (dialect.rules().locate)(root, &place);
    let rules = located.rules.unwrap_or_else(|| dialect.rules());

    let mut defaults = ServerSettings::default();
    let has_header = dialect == Dialect::Native || dialect == Dialect::McPorter;
    // What is no configuration of ours has no header of ours.
    if has_header && located.root_found {
        let mut header = Header {
            source,
            out: &mut out,
            secrets: &mut secrets,
        };
        defaults = header.read(root, rules);
    }
    // Elsewhere a sandbox beside the servers is for the commands of the host itself.
    let holds_servers = matches!(dialect, Dialect::VsCode | Dialect::Gemini);
    let sandboxes = root.members().iter().filter(|member| is_sandbox(member));
    for member in sandboxes.filter(|_| holds_servers) {
        let place = Span::new(source, member.key_range.clone());
        out.problems.push(not_sandboxed(&member.key).at(place));
    }
    let inputs = root
        .get("inputs")
        .or_else(|| root.get("mcp").and_then(|mcp| mcp.get("inputs")));
    if let Some(inputs) = inputs {
        out.inputs = InputDeclaration::read_all(inputs);
    }
    not_read(source, root, dialect, &located, &mut out.problems);
    for (first, second) in duplicate_entries(&located.entries) {
        let (first, second) = (&located.entries[first], &located.entries[second]);
        out.problems.push(duplicate(
            source,
            &format!("the server {:?} is declared twice", second.name),
            &first.name_range,
            &second.name_range,
        ));
    }
    let mut last = HashMap::new();
    for (index, found) in located.entries.iter().enumerate() {
        last.insert(found.name.as_str(), index);
    }
    for (index, found) in located.entries.iter().enumerate() {
        let entry = entry::read(source, rules, found, &defaults, &mut secrets);
        let failed = entry.switched_off || entry.problems.iter().any(Problem::is_error);
        out.problems.extend(entry.problems);
        if !failed && last.get(found.name.as_str()) == Some(&index) {
            out.entries.push(ReadEntry {
                name: found.name.clone(),
                settings: entry.settings,
                origin: Origin::in_file(
                    dialect,
                    Span::new(source, found.name_range.clone()),
                    entry.fields,
                ),
                optional: entry
                    .optional
                    .into_iter()
                    .map(|optional| Optional {
                        reference: optional.reference,
                        place: Span::new(source, optional.place),
                        becomes: optional.becomes,
                    })
                    .collect(),
            });
        }
    }
    let read: HashSet<Range<usize>> = located
        .entries
        .iter()
        .map(|found| found.node.range.clone())
        .collect();
    hide_the_rest(root, &read, &mut secrets);
    source.set_secrets(secrets);
    out
}

/// What is said of a document beside its entries: that there are none, and which were left out.
fn not_read(
    source: &Arc<Source>,
    root: &Node,
    dialect: Dialect,
    located: &Located,
    problems: &mut Vec<Problem>,
) {
    let at = |range: &Range<usize>| Span::new(source, range.clone());
    if !located.root_found {
        let start = root.range.start;
        problems
            .push(dialects::no_servers(dialect, root, source.path()).at(at(&(start..start + 1))));
    }
    if let Some((name, range, found)) = &located.wrong_root {
        problems.push(
            Problem::error(
                "wrong-type",
                format!("`{name}` must be an object of servers, and is {found}"),
            )
            .at(at(range))
            .label("expected an object"),
        );
    }
    if let Some((file, range)) = &located.elsewhere {
        problems.push(
            Problem::warning(
                "elsewhere",
                format!("the servers stand in another file: {file:?}"),
            )
            .at(at(range))
            .help("name that file instead of this one"),
        );
    }
    for (name, range, reason) in &located.skipped {
        let problem = Problem::note("skipped", format!("left out: {reason}")).at(at(range));
        problems.push(about(problem, name));
    }
    for (number, range) in &located.nameless {
        let problem = Problem::error("no-name", "this entry of a list of servers has no `name`")
            .at(at(range))
            .label("which server is it?")
            .help("write `{ \"name\": \"files\", … }`, or an object of servers: `\"mcpServers\": { \"files\": { … } }`");
        problems.push(about(problem, &format!("(entry {number})")));
    }
}

/// Hides every text outside the entries: a host's settings hold tokens of their own, and the
/// lines around a problem are shown with it.
fn hide_the_rest(node: &Node, read: &HashSet<Range<usize>>, secrets: &mut Vec<Range<usize>>) {
    if read.contains(&node.range) && node.is_object() {
        return;
    }
    match &node.value {
        Value::String(_) => secrets.push(node.range.clone()),
        Value::Array(items) => {
            for item in items {
                hide_the_rest(item, read, secrets);
            }
        }
        Value::Object(members) => {
            for member in members {
                let harmless =
                    ["$schema", "imports", "defaults", "profiles"].contains(&member.key.as_str());
                if !harmless {
                    hide_the_rest(&member.value, read, secrets);
                }
            }
        }
        _ => {}
    }
}

/// Whether a member asks a host to lock its servers in: `sandbox`, `sandboxEnabled` and the like.
fn is_sandbox(member: &Member) -> bool {
    let asks = !matches!(member.value.value, Value::Null | Value::Bool(false));
    asks && member.key.to_ascii_lowercase().starts_with("sandbox")
}

/// Who asked for a sandbox has to know that there is none.
fn not_sandboxed(key: &str) -> Problem {
    Problem::warning(
        "no-sandbox",
        format!("`{key}` is not honoured: mcpool runs servers with all rights of the user"),
    )
    .label("no sandbox here")
    .help("name a program as `command` that locks its server in, such as `bwrap` or `docker`")
}

fn about(mut problem: Problem, server: &str) -> Problem {
    problem.server = Some(server.to_owned());
    problem
}

fn duplicate(
    source: &Arc<Source>,
    message: &str,
    first: &Range<usize>,
    second: &Range<usize>,
) -> Problem {
    Problem::warning("duplicate-key", message.to_owned())
        .at(Span::new(source, second.clone()))
        .label("this one counts")
        .related("this one is ignored", Span::new(source, first.clone()))
        .help("remove one of the two")
}

fn duplicate_entries(entries: &[Found]) -> Vec<(usize, usize)> {
    let mut seen: HashMap<&str, usize> = HashMap::new();
    let mut pairs = Vec::new();
    for (index, found) in entries.iter().enumerate() {
        if let Some(first) = seen.insert(&found.name, index) {
            pairs.push((first, index));
        }
    }
    pairs
}

/// Equal keys of one object, as pairs of the earlier and the later.
fn duplicate_members(members: &[Member]) -> Vec<(&Member, &Member)> {
    let mut seen: HashMap<&str, &Member> = HashMap::new();
    let mut pairs = Vec::new();
    for member in members {
        if let Some(first) = seen.insert(&member.key, member) {
            pairs.push((first, member));
        }
    }
    pairs
}

/// What stands beside the servers in our own format.
struct Header<'a> {
    source: &'a Arc<Source>,
    out: &'a mut Reading,
    secrets: &'a mut Vec<Range<usize>>,
}

impl Header<'_> {
    /// The keys that are no fields of [`PoolSettings`].
    const KEYS: &'static [&'static str] =
        &["$schema", "mcpServers", "defaults", "imports", "inputs"];

    fn read(&mut self, root: &Node, rules: &Rules) -> ServerSettings {
        let mut defaults = ServerSettings::default();
        for (first, second) in duplicate_members(root.members()) {
            self.out.problems.push(duplicate(
                self.source,
                &format!("the key `{}` stands twice", second.key),
                &first.key_range,
                &second.key_range,
            ));
        }
        for member in root.members() {
            let value = &member.value;
            match member.key.as_str() {
                "defaults" => {
                    let found = Found {
                        name: "defaults".to_owned(),
                        name_range: member.key_range.clone(),
                        node: value.clone(),
                    };
                    let read = entry::read_defaults(self.source, rules, &found, self.secrets);
                    // What is wrong here is wrong for every server: it spoils the file.
                    self.out
                        .problems
                        .extend(read.problems.into_iter().map(|mut problem| {
                            problem.server = None;
                            problem
                        }));
                    defaults = read.settings;
                }
                "imports" => self.imports(value),
                key if Self::KEYS.contains(&key) || self.pool_field(key, value) => {}
                "servers" | "mcp_servers" if root.member("mcpServers").is_none() => {}
                key if rules.strict && !key.starts_with(['$', '_']) && !key.starts_with("x-") => {
                    let mut problem = Problem::warning(
                        "unknown-field",
                        format!("unknown key `{key}` at the top of the file"),
                    )
                    .at(Span::new(self.source, member.key_range.clone()))
                    .label("ignored");
                    let known = Self::KEYS.iter().chain(PoolSettings::FIELDS).copied();
                    if let Some(near) = nearest(key, known) {
                        problem = problem.help(format!("did you mean `{near}`?"));
                    }
                    self.out.problems.push(problem);
                }
                _ => {}
            }
        }
        defaults
    }

    fn imports(&mut self, node: &Node) {
        let list = match &node.value {
            Value::Object(_) => {
                match node.get("order").and_then(Node::as_str) {
                    Some("last-wins") => self.out.import_order = ImportOrder::LastWins,
                    Some("first-wins") | None => {}
                    Some(_) => self.wrong(node, "`order` is `first-wins` or `last-wins`"),
                }
                node.get("from")
            }
            _ => Some(node),
        };
        let Some(list) = list.filter(|list| matches!(list.value, Value::Array(_))) else {
            self.wrong(node, "`imports` is a list of hosts, such as `[\"cursor\"]`");
            return;
        };
        for item in list.items() {
            match item.as_str().map(str::parse::<Dialect>) {
                Some(Ok(dialect)) => self
                    .out
                    .imports
                    .push((dialect, Span::new(self.source, item.range.clone()))),
                Some(Err(error)) => {
                    let message = error.message().to_owned();
                    self.wrong(item, &message);
                }
                None => self.wrong(item, "`imports` is a list of hosts, such as `[\"cursor\"]`"),
            }
        }
    }

    /// Reads a field of the pool; `false` when there is none of this name.
    fn pool_field(&mut self, key: &str, node: &Node) -> bool {
        // An explicit null is the same as nothing, as in an entry.
        if node.value == Value::Null {
            return PoolSettings::FIELDS.contains(&key);
        }
        let mut pool = std::mem::take(&mut self.out.pool);
        let known = pool.read_field(self, key, node);
        self.out.pool = pool;
        known
    }

    fn wrong(&mut self, node: &Node, message: &str) {
        self.out.problems.push(
            Problem::error("wrong-value", message.to_owned())
                .at(Span::new(self.source, node.range.clone())),
        );
    }
}

/// The places of an entry's fields, as they are collected.
pub(crate) type FieldRanges = Vec<(String, Range<usize>)>;

/// Turns ranges into spans.
pub(crate) fn spans(source: &Arc<Source>, ranges: FieldRanges) -> Fields {
    ranges
        .into_iter()
        .map(|(field, range)| (field, Span::new(source, range)))
        .collect()
}
