//! The effective configuration as JSON, secrets overwritten.

use mcpool_core::{HttpSpec, Secret, ServerSpec, StdioSpec, TransportSpec};
use serde_json::{Map, Value, json};

use crate::{
    loader::Loaded,
    merge::Entry,
    secrets,
    settings::{OAuthSettings, ServerSettings},
    template::{Syntax, Template},
};

/// What stands in the place of a secret.
const REDACTED: &str = "[redacted]";

/// Variables whose values nobody hides.
const HARMLESS_NAMES: &[&str] = &[
    "accept",
    "content-type",
    "debug",
    "home",
    "host",
    "lang",
    "log_level",
    "mcp-protocol-version",
    "node_env",
    "path",
    "port",
    "rust_log",
    "tz",
    "user-agent",
];

impl Loaded {
    /// The effective configuration: `{"servers": {name: {…}}}`, each server in the native fields
    /// with `transport` one of `stdio`, `sse`, `http`, `auto`, and beside `servers` what the files
    /// say of the pool (`budget`, `credentials`, `profiles`). Placeholders stay; literal values
    /// of variables and headers, and the credentials of URLs, are `[redacted]`.
    ///
    /// With `origins` each server also has `origin`: its `scope`, `dialect` and `place`, the
    /// place of each of its `fields`, and the places of the entries that it `shadows`.
    #[must_use]
    pub fn to_json(&self, origins: bool) -> Value {
        let servers: Map<String, Value> = self
            .entries()
            .iter()
            .map(|entry| {
                let mut shown = show(entry);
                if origins {
                    shown.insert("origin".to_owned(), origin(entry));
                }
                (entry.name.to_string(), Value::Object(shown))
            })
            .collect();
        let mut shown = json!({ "servers": servers });
        if let (Some(shown), Ok(Value::Object(pool))) =
            (shown.as_object_mut(), serde_json::to_value(self.pool()))
        {
            shown.extend(pool);
        }
        shown
    }
}

fn show(entry: &Entry) -> Map<String, Value> {
    let spec = &entry.spec;
    let mut out = Map::new();
    out.insert("transport".to_owned(), spec.transport.as_str().into());
    out.insert("enabled".to_owned(), spec.enabled.into());
    match &spec.transport {
        TransportSpec::Stdio(stdio) => show_stdio(&mut out, stdio),
        TransportSpec::Http(http) | TransportSpec::Sse(http) | TransportSpec::Auto(http) => {
            show_http(&mut out, http);
        }
        _ => {}
    }
    show_policies(&mut out, spec, &entry.settings);
    out
}

fn show_stdio(out: &mut Map<String, Value>, stdio: &StdioSpec) {
    out.insert("command".to_owned(), url_text(&stdio.command).into());
    out.insert("args".to_owned(), redacted_args(&stdio.args).into());
    out.insert("env".to_owned(), values(stdio.env.iter()));
    if let Some(cwd) = &stdio.cwd {
        out.insert("cwd".to_owned(), cwd.to_string_lossy().into());
    }
}

fn show_http(out: &mut Map<String, Value>, http: &HttpSpec) {
    out.insert("url".to_owned(), url_text(&http.url).into());
    out.insert(
        "headers".to_owned(),
        values(http.headers.iter().map(|(name, value)| (name, value))),
    );
    if let Some(file) = &http.ca_file {
        out.insert("ca_file".to_owned(), file.to_string_lossy().into());
    }
    if let Some(proxy) = &http.proxy {
        out.insert("proxy".to_owned(), url_text(proxy).into());
    }
}

/// Variables or headers, without literal texts.
fn values<'a>(of: impl Iterator<Item = (&'a String, &'a Secret)>) -> Value {
    let shown = of.map(|(name, value)| (name.clone(), value_text(name, value.expose()).into()));
    Value::Object(shown.collect())
}

/// The remaining fields as they were written, from the settings.
fn show_policies(out: &mut Map<String, Value>, spec: &ServerSpec, settings: &ServerSettings) {
    let mut rest = settings.clone();
    rest.command = None;
    rest.args.clear();
    rest.env.clear();
    rest.cwd = None;
    rest.url = None;
    rest.headers.0.clear();
    rest.bearer_token = None;
    rest.transport = None;
    rest.enabled = None;
    rest.ca_file = None;
    rest.proxy = None;
    rest.headers_helper = rest.headers_helper.map(|helper| redacted_line(&helper));
    if let Some(oauth) = &mut rest.oauth {
        redact_oauth(oauth);
    }
    if let Ok(Value::Object(rest)) = serde_json::to_value(rest) {
        for (field, value) in rest {
            out.entry(field).or_insert(value);
        }
    }
    if spec.instances != 1 {
        out.insert("instances".to_owned(), spec.instances.into());
    }
}

/// Overwrites the secrets of a login.
pub(crate) fn redact_oauth(oauth: &mut OAuthSettings) {
    let idp = oauth.idp.as_mut();
    let idp_secret = idp.and_then(|idp| idp.client_secret.as_mut());
    // Each has the name of a secret, so that nothing literal is shown.
    for secret in [
        oauth.client_secret.as_mut(),
        oauth.private_key.as_mut(),
        oauth.id_token.as_mut(),
        oauth.assertion.as_mut(),
        idp_secret,
    ]
    .into_iter()
    .flatten()
    {
        *secret = value_text("client_secret", secret);
    }
    let (issuer, endpoint) = match &mut oauth.idp {
        Some(idp) => (Some(&mut idp.issuer), Some(&mut idp.token_endpoint)),
        None => (None, None),
    };
    let urls = [
        oauth.metadata_url.as_mut(),
        oauth.client_metadata_url.as_mut(),
        oauth.issuer.as_mut(),
        issuer,
        endpoint,
    ];
    for url in urls.into_iter().flatten() {
        *url = url_text(url);
    }
}

fn origin(entry: &Entry) -> Value {
    let origin = &entry.origin;
    let fields: Map<String, Value> = origin
        .fields()
        .map(|(field, span)| (field.to_owned(), span.to_string().into()))
        .collect();
    json!({
        "scope": origin.scope,
        "dialect": origin.dialect.map(crate::Dialect::as_str),
        "place": origin.span.as_ref().map(ToString::to_string),
        "fields": fields,
        "shadows": entry.shadowed.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

/// The value of a variable or header: placeholders are shown, literal texts are not.
pub(crate) fn value_text(name: &str, text: &str) -> String {
    let harmless = HARMLESS_NAMES.contains(&name.to_ascii_lowercase().as_str())
        || (matches!(text, "" | "true" | "false" | "0" | "1") && !secrets::is_secret_name(name));
    if harmless && !secrets::is_secret_value(text) && secrets::url_secret_ranges(text).is_empty() {
        return text.to_owned();
    }
    match Template::parse(text, Syntax::native()) {
        Ok(template) => template.shown(REDACTED),
        Err(_) => REDACTED.to_owned(),
    }
}

/// A URL, or a text that may be one, without its credentials and the values of its query.
pub(crate) fn url_text(text: &str) -> String {
    if !text.contains("://") {
        return text.to_owned();
    }
    secrets::replace_url_secrets(text, |_, part| {
        let only_placeholders = Template::parse(part, Syntax::native())
            .is_ok_and(|template| template.shown("") == part);
        let shown = if only_placeholders && !part.is_empty() {
            part
        } else {
            REDACTED
        };
        shown.into()
    })
}

/// Arguments without the secrets among them.
pub(crate) fn redacted_args(args: &[String]) -> Vec<String> {
    args.iter()
        .enumerate()
        .map(|(index, arg)| {
            let after_flag = index
                .checked_sub(1)
                .and_then(|before| args.get(before))
                .is_some_and(|before| secrets::is_secret_flag(before));
            if after_flag || secrets::is_secret_value(arg) {
                return value_text("secret", arg);
            }
            if let Some(part) = secrets::named_part(arg) {
                return format!("{}{}", &arg[..part.start], value_text("secret", &arg[part]));
            }
            url_text(arg)
        })
        .collect()
}

/// A shell line without the words that look like secrets.
pub(crate) fn redacted_line(line: &str) -> String {
    let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
    redacted_args(&words).join(" ")
}
