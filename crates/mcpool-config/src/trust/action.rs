//! What one entry of a project's file would do.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use mcpool_core::TransportSpec;
use serde::Serialize;

use crate::{
    expand::{Bound, Digest, PlaceSource, Resolver, decides_code},
    merge::Entry,
    settings::{InheritName, InheritSettings, OAuthSettings, ServerSettings, TransportName},
    show,
    template::{Known, Reference, Syntax, Template},
};

/// What one server of a project's file would do: the project's own words, exactly.
///
/// The texts are foreign: show them with [`lines`](Self::lines), or escape them. Of a server that
/// `imports` brings, whose words are the user's, literal secrets are overwritten.
///
/// `Debug` shows no value: a log is no question.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct TrustAction {
    /// The server.
    pub server: String,
    /// How it stands to what was approved before.
    pub standing: Standing,
    /// Whether the file lets it be connected.
    pub enabled: bool,
    /// The other host's file that `imports` brings it from.
    pub imported_from: Option<PathBuf>,
    /// The program and its arguments, placeholders unfilled; empty for an HTTP server.
    pub command: Vec<String>,
    /// The directory that the program starts in, placeholders unfilled.
    pub directory: Option<PathBuf>,
    /// The address of an HTTP server, placeholders unfilled.
    pub url: Option<String>,
    /// What fills in the command, the directory or the address.
    pub takes: Vec<Taken>,
    /// What else it would do or get, in the order in which a person should see it.
    pub facts: Vec<TrustFact>,
}

/// How a server stands to what was approved before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Standing {
    /// It was not there.
    New,
    /// It did something else.
    Changed,
    /// It is as it was approved.
    Approved,
    /// It is as it was when a person said no to it.
    Refused,
}

/// One more thing that a server would do or get.
///
/// `Debug` shows no value.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct TrustFact {
    /// Of what kind it is.
    pub kind: FactKind,
    /// The variable, header or field.
    pub name: Option<String>,
    /// As it is written.
    pub value: Option<String>,
    /// Whether it decides what code runs.
    pub decides_code: bool,
    /// What fills it in.
    pub takes: Vec<Taken>,
}

/// The kinds of [`TrustFact`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FactKind {
    /// A variable of the process is set.
    Sets,
    /// The process gets this variable of the user's, or `all` of them.
    Inherits,
    /// A file of variables is read.
    EnvFile,
    /// The file of variables sets this one.
    FromEnvFile,
    /// A header is sent.
    Header,
    /// A bearer token is sent.
    BearerToken,
    /// A shell command is run, with all of the user's variables, and gives headers.
    HeadersHelper,
    /// Everything goes through a proxy.
    Proxy,
    /// More certificates are believed.
    CaFile,
    /// A login of the user's at the address is used, if there is one.
    Login,
    /// A field of `oauth`: how tokens are got, and who is asked for them.
    OAuth,
    /// Another field.
    Setting,
}

/// Something of the user's that a text is filled in with.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Taken {
    /// A variable of the environment.
    Variable(String),
    /// The text of a file, with the path as it is written.
    File(String),
    /// What a person is asked for.
    Input {
        /// Its identifier.
        id: String,
        /// What the file has in its place when nobody answers.
        default: Option<String>,
    },
    /// What a source of the application's own gives.
    Other(String),
}

impl TrustAction {
    /// What it does, to find out later whether it changed.
    pub(super) fn digest(&self) -> Digest {
        let mut plain = self.clone();
        plain.standing = Standing::New;
        // Serialising plain texts cannot fail; if it did, everything would count as changed.
        let text = serde_json::to_vec(&plain).unwrap_or_default();
        Digest::of(&text)
    }
}

impl fmt::Debug for TrustAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrustAction")
            .field("server", &self.server)
            .field("standing", &self.standing)
            .field("enabled", &self.enabled)
            .field("facts", &self.facts)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for TrustFact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrustFact")
            .field("kind", &self.kind)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// What an entry would do.
pub(super) fn of(entry: &Entry, bound: &Bound) -> TrustAction {
    let settings = &entry.settings;
    let is_own = entry.origin.imported_by.is_some();
    let mut action = TrustAction {
        server: entry.name.to_string(),
        standing: Standing::New,
        enabled: entry.spec.enabled,
        imported_from: entry
            .origin
            .path()
            .filter(|_| is_own)
            .map(Path::to_path_buf),
        command: Vec::new(),
        directory: None,
        url: None,
        takes: Vec::new(),
        facts: Vec::new(),
    };
    let mut facts = Facts {
        is_own,
        resolver: entry.resolver(),
        list: Vec::new(),
    };
    match &entry.spec.transport {
        TransportSpec::Stdio(stdio) => {
            action.command.push(stdio.command.clone());
            action.command.extend(if is_own {
                show::redacted_args(&stdio.args)
            } else {
                stdio.args.clone()
            });
            action.directory = stdio
                .cwd
                .as_deref()
                .map(words_of)
                .or_else(|| Some(entry.resolver()?.start_in()?.to_path_buf()));
            let texts = [&stdio.command].into_iter().chain(&stdio.args);
            action.takes = facts.taken(texts.chain(&settings.cwd));
            facts.process(settings, bound);
        }
        TransportSpec::Http(http) | TransportSpec::Sse(http) | TransportSpec::Auto(http) => {
            let shown = if is_own {
                show::url_text(&http.url)
            } else {
                http.url.clone()
            };
            action.url = Some(shown);
            action.takes = facts.taken([&http.url]);
            facts.http(settings);
        }
        _ => {}
    }
    facts.rest(settings);
    action.facts = facts.list;
    action
}

/// A path as it is when nothing in it stands for something else, else as it is written.
fn words_of(path: &std::path::Path) -> PathBuf {
    let template = Template::parse(&path.to_string_lossy(), Syntax::native());
    template
        .ok()
        .filter(Template::is_literal)
        .map(|template| PathBuf::from(template.expand(&Known::new()).text))
        .unwrap_or_else(|| path.to_path_buf())
}

/// Collects facts.
struct Facts<'a> {
    /// Whether the words are the user's own, so that secrets among them are not for showing.
    is_own: bool,
    resolver: Option<&'a Resolver>,
    list: Vec<TrustFact>,
}

impl Facts<'_> {
    /// What texts are filled in with, each once.
    fn taken<'t>(&self, texts: impl IntoIterator<Item = &'t String>) -> Vec<Taken> {
        let mut takes: Vec<Taken> = texts
            .into_iter()
            // What is no template is taken as it stands.
            .filter_map(|text| Template::parse(text, Syntax::native()).ok())
            .flat_map(|template| template.references())
            .filter_map(|reference| self.taken_one(&reference))
            .collect();
        takes.sort();
        takes.dedup();
        takes
    }

    fn taken_one(&self, reference: &Reference) -> Option<Taken> {
        let name = reference.name.clone();
        match reference.scheme.as_deref() {
            // Places of the project's own are nothing of the user's.
            None if PlaceSource::NAMES.contains(&name.as_str()) => None,
            None | Some("env") => Some(Taken::Variable(name)),
            Some("file") => Some(Taken::File(name)),
            Some("input") => {
                let default = self.resolver?.fallback(reference).map(str::to_owned);
                Some(Taken::Input { id: name, default })
            }
            Some(_) => Some(Taken::Other(reference.to_string())),
        }
    }

    fn add(&mut self, kind: FactKind, name: Option<&str>, value: Option<&str>) -> &mut TrustFact {
        let place = self.list.len();
        let takes = self.taken(value.map(str::to_owned).iter());
        self.list.push(TrustFact {
            kind,
            name: name.map(str::to_owned),
            value: value.map(|value| match (self.is_own, kind) {
                (true, FactKind::Proxy) => show::url_text(value),
                (true, FactKind::HeadersHelper) => show::redacted_line(value),
                (true, FactKind::BearerToken) => show::value_text("token", value),
                (true, FactKind::Sets | FactKind::Header) => {
                    show::value_text(name.unwrap_or_default(), value)
                }
                _ => value.to_owned(),
            }),
            decides_code: false,
            takes,
        });
        &mut self.list[place]
    }

    fn process(&mut self, settings: &ServerSettings, bound: &Bound) {
        if let Some(cwd) = &settings.cwd {
            self.add(FactKind::Setting, Some("cwd"), Some(cwd))
                .decides_code = true;
        }
        for (name, value) in &settings.env {
            self.add(FactKind::Sets, Some(name), Some(value))
                .decides_code = decides_code(name);
        }
        match &settings.inherit_env {
            Some(InheritSettings::Set(InheritName::All)) => {
                self.add(FactKind::Inherits, None, Some("all")).decides_code = true;
            }
            Some(InheritSettings::Names(names)) => {
                for name in names {
                    let fact = self.add(FactKind::Inherits, Some(name), None);
                    fact.decides_code = decides_code(name);
                    fact.takes = vec![Taken::Variable(name.clone())];
                }
            }
            Some(InheritSettings::Set(_)) | None => {}
        }
        if let Some(file) = &settings.env_file {
            self.add(FactKind::EnvFile, None, Some(file));
            for (name, value) in &bound.variables {
                let decides = decides_code(name);
                // The file may be the user's own: only what a person has to see is shown of it.
                let value = decides.then(|| value.expose());
                let fact = self.add(FactKind::FromEnvFile, Some(name), value);
                fact.decides_code = decides;
                fact.takes = Vec::new();
            }
        }
    }

    fn http(&mut self, settings: &ServerSettings) {
        for (name, value) in &settings.headers.0 {
            self.add(FactKind::Header, Some(name), Some(value));
        }
        if let Some(token) = &settings.bearer_token {
            self.add(FactKind::BearerToken, None, Some(token));
        }
        if let Some(helper) = &settings.headers_helper {
            let fact = self.add(FactKind::HeadersHelper, None, Some(helper));
            fact.decides_code = true;
            // The shell fills it in, with whatever it likes.
            fact.takes = Vec::new();
        }
        if let Some(proxy) = &settings.proxy {
            self.add(FactKind::Proxy, None, Some(proxy));
        }
        if let Some(file) = &settings.ca_file {
            self.add(FactKind::CaFile, None, Some(file));
        }
        let oauth = settings.oauth.as_ref();
        if oauth.is_none_or(|oauth| oauth.enabled != Some(false)) {
            self.add(FactKind::Login, None, None);
        }
        if let Some(oauth) = oauth {
            self.oauth(oauth);
        }
    }

    fn oauth(&mut self, oauth: &OAuthSettings) {
        let grant = oauth.effective_grant().as_str();
        self.add(FactKind::OAuth, Some("grant"), Some(grant));
        let mut oauth = oauth.clone();
        oauth.grant = None;
        if self.is_own {
            show::redact_oauth(&mut oauth);
        }
        for (field, value) in fields(&oauth) {
            match value {
                serde_json::Value::Object(inner) => {
                    for (name, value) in inner {
                        let field = format!("{field}.{name}");
                        self.add(FactKind::OAuth, Some(&field), Some(&text(&value)));
                    }
                }
                value => {
                    self.add(FactKind::OAuth, Some(&field), Some(&text(&value)));
                }
            }
        }
    }

    /// Whatever else the entry says, so that nothing of it goes unseen.
    fn rest(&mut self, settings: &ServerSettings) {
        let mut rest = settings.clone();
        // Words for people do nothing, and could be written to reassure.
        rest.description = None;
        rest.command = None;
        rest.args.clear();
        rest.env.clear();
        rest.env_file = None;
        rest.inherit_env = None;
        rest.cwd = None;
        rest.url = None;
        rest.headers.0.clear();
        rest.headers_helper = None;
        rest.bearer_token = None;
        rest.oauth = None;
        rest.enabled = None;
        rest.ca_file = None;
        rest.proxy = None;
        // What a command or an address implies.
        rest.transport = rest
            .transport
            .filter(|name| !matches!(name, TransportName::Stdio | TransportName::Auto));
        for (field, value) in fields(&rest) {
            self.add(FactKind::Setting, Some(&field), Some(&text(&value)))
                .takes = Vec::new();
        }
    }
}

/// The fields that are set, as they are written.
fn fields(settings: &impl Serialize) -> serde_json::Map<String, serde_json::Value> {
    match serde_json::to_value(settings) {
        Ok(serde_json::Value::Object(fields)) => fields,
        _ => serde_json::Map::new(),
    }
}

fn text(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
