//! From settings to what is connected.

mod oauth;

use std::path::{Path, PathBuf};

use mcpool_core::{
    EnvInheritance, HttpSpec, ProtocolChoice, Result, Secret, ServerSpec, StartMode, StdioSpec,
    ToolFilter, TransportSpec,
};

use crate::{
    settings::{
        InheritName, InheritSettings, PolicySettings, ServerSettings, StartName, TransportName,
    },
    template::{Syntax, Template},
};

/// The spec of an entry, placeholders still in it, no resolver attached.
///
/// # Errors
/// [`InvalidSpec`](mcpool_core::ErrorKind::InvalidSpec) when the name is not possible.
pub(crate) fn spec(name: &str, settings: &ServerSettings, base: &Path) -> Result<ServerSpec> {
    let transport = match (&settings.command, &settings.url, settings.transport) {
        (Some(command), _, None | Some(TransportName::Stdio)) => {
            TransportSpec::Stdio(stdio(command, settings, base))
        }
        (_, Some(url), transport) => {
            let http = http(url, settings, base)?;
            match transport {
                Some(TransportName::Http) => TransportSpec::Http(http),
                Some(TransportName::Sse) => TransportSpec::Sse(http),
                _ => TransportSpec::Auto(http),
            }
        }
        _ => {
            return Err(mcpool_core::Error::new(
                mcpool_core::ErrorKind::InvalidSpec,
                format!("the server {name:?} has neither a `command` nor a `url`"),
            ));
        }
    };
    let mut spec = ServerSpec::new(name, transport)?
        .with_enabled(settings.enabled.unwrap_or(true))
        .with_protocol(protocol(settings.protocol.as_deref()))
        .with_start(start(&settings.policies));
    settings.policies.apply(&mut spec);
    let timeouts = &mut spec.policy.timeouts;
    if let Some(timeout) = settings.timeout {
        timeouts.request = timeout.0;
    }
    if let Some(timeout) = settings.startup_timeout {
        timeouts.startup = timeout.0;
    }
    // A request that may take longer than the bound of all requests means both.
    timeouts.request_max = timeouts.request_max.max(timeouts.request);
    if let Some(tools) = &settings.tools {
        let mut filter = ToolFilter::default().with_deny(tools.deny.iter());
        filter.allow = tools.allow.clone();
        spec = spec.with_tools(filter);
    }
    Ok(spec)
}

fn stdio(command: &str, settings: &ServerSettings, base: &Path) -> StdioSpec {
    let mut spec = StdioSpec::new(command).with_args(settings.args.iter());
    for (name, value) in &settings.env {
        spec = spec.with_env(name, Secret::new(value.as_str()));
    }
    spec.inherit_env = match &settings.inherit_env {
        None | Some(InheritSettings::Set(InheritName::Safe)) => EnvInheritance::SafeList,
        Some(InheritSettings::Set(InheritName::All)) => EnvInheritance::All,
        Some(InheritSettings::Set(InheritName::None)) => EnvInheritance::Nothing,
        Some(InheritSettings::Names(names)) => EnvInheritance::Names(names.clone()),
    };
    spec.cwd = settings.cwd.as_deref().map(|cwd| anchored(cwd, base));
    spec
}

fn http(url: &str, settings: &ServerSettings, base: &Path) -> Result<HttpSpec> {
    let mut spec = HttpSpec::new(url);
    for (name, value) in &settings.headers.0 {
        spec = spec.with_header(name, Secret::new(value.as_str()));
    }
    let has_authorization = settings
        .headers
        .0
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case("authorization"));
    if let Some(token) = &settings.bearer_token
        && !has_authorization
    {
        spec = spec.with_header("Authorization", Secret::new(format!("Bearer {token}")));
    }
    settings.http.apply(&mut spec);
    spec.read_idle_timeout = settings.read_idle_timeout.map(|timeout| timeout.0);
    spec.ca_file = settings.ca_file.as_deref().map(|file| anchored(file, base));
    spec.proxy = settings.proxy.clone();
    if let Some(settings) = &settings.oauth {
        spec = spec.with_oauth(oauth::spec(settings, base)?);
    }
    Ok(spec)
}

/// A path relative to the file that names it. One that begins with a placeholder is left alone:
/// the resolver anchors it once it is known.
pub(crate) fn anchored(path: &str, base: &Path) -> PathBuf {
    let is_literal =
        Template::parse(path, Syntax::native()).is_ok_and(|template| template.is_literal());
    let path = PathBuf::from(path);
    if is_literal && path.is_relative() && !path.starts_with("~") {
        // The directory's name is no template, and what it is joined to will be read as one.
        Path::new(&crate::template::escape(&base.to_string_lossy())).join(path)
    } else {
        path
    }
}

fn protocol(text: Option<&str>) -> ProtocolChoice {
    match text {
        None | Some("auto") => ProtocolChoice::Auto,
        Some("legacy") => ProtocolChoice::Legacy,
        Some("modern") => ProtocolChoice::Modern,
        Some(version) => {
            // rmcp's version type is a transparent string with no constructor of its own.
            match serde_json::from_value(serde_json::Value::String(version.to_owned())) {
                Ok(version) => ProtocolChoice::Pinned(version),
                Err(_) => ProtocolChoice::Auto,
            }
        }
    }
}

fn start(settings: &PolicySettings) -> StartMode {
    let lazy = settings.lazy == Some(true);
    match settings.start {
        Some(StartName::Lazy) => StartMode::Lazy(settings.idle_timeout.map(|idle| idle.0)),
        None if lazy => StartMode::Lazy(settings.idle_timeout.map(|idle| idle.0)),
        Some(StartName::Background) => StartMode::Background,
        Some(StartName::Eager) | None => StartMode::Eager,
    }
}
