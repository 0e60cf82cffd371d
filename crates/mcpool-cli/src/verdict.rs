//! What is wrong with a server that does not connect, in words, and what to try. Pure, but for a
//! look at where programs usually are.

mod program;

use mcpool::{ConnectFailure, Error, ErrorKind, HttpSpec, ServerSpec, StderrLine, TransportSpec};

use crate::{invocation::program, render::text::Text, text};

/// What is wrong, and what to try, the likeliest first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Verdict {
    /// One line.
    pub(crate) says: Text,
    /// Each one line.
    pub(crate) tries: Vec<Text>,
}

/// How a server is reached by a person.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Access<'a> {
    /// What `mcpool login` takes for it; `None` where nobody can log in at it.
    pub(crate) login: Option<&'a str>,
    /// Whether it is from a config, and not from the command line.
    pub(crate) is_configured: bool,
}

/// The verdict on a failed connect.
pub(crate) fn on(spec: &ServerSpec, error: &Error, access: Access<'_>) -> Verdict {
    let mut tries = match &spec.transport {
        TransportSpec::Stdio(stdio) => program::of_program(&stdio.command, error),
        TransportSpec::Http(http) | TransportSpec::Sse(http) | TransportSpec::Auto(http) => {
            of_address(http, error, access)
        }
        _ => Vec::new(),
    };
    tries.extend(of_any(spec, error));
    let says = match (StderrLine::telling(error.stderr_tail()), printed(error)) {
        (Some(line), _) if ended(error) => text!("{}: {}", error.message(), line),
        (None, Some(line)) if ended(error) && !error.message().contains(line) => text!(
            "{}; on standard output it printed: {}",
            error.message(),
            line
        ),
        _ => text!("{}", error.message()),
    };
    Verdict { says, tries }
}

/// The first line on standard output that was no message.
fn printed(error: &Error) -> Option<&str> {
    let evidence = ConnectFailure::evidence_of(error)?;
    evidence.skipped_samples.first().map(String::as_str)
}

fn ended(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ProcessExited | ErrorKind::ConnectionLost | ErrorKind::Timeout
    )
}

/// What to try where an address is connected to.
fn of_address(http: &HttpSpec, error: &Error, access: Access<'_>) -> Vec<Text> {
    let url = http.url.as_str();
    let said = said(error);
    let says = |words: &[&str]| words.iter().any(|word| said.contains(word));
    let is_token = |(name, _): &(String, _)| name.eq_ignore_ascii_case("authorization");
    let token = match access.is_configured {
        _ if http.headers.iter().any(is_token) => text!(
            "the token in the header Authorization is refused: it may have expired, get a new one"
        ),
        true => text!("give it a token: `headers`: {{\"Authorization\": \"Bearer ${{TOKEN}}\"}}"),
        false => text!("give it a token or key: `--bearer-env VARIABLE`"),
    };
    let mut tries = Vec::new();
    match (error.kind(), error.http_status(), access.login) {
        (ErrorKind::AuthRequired, _, Some(name)) => {
            let login = text!("log in with `{} login {}`", program(), name);
            // Where a server says how to log in, it names its metadata (RFC 9728, section 5.1).
            match error.challenge() {
                Some(challenge) if challenge.contains("resource_metadata") => tries.push(login),
                _ => {
                    tries.push(token);
                    tries.push(text!("or {}, if it has an authorization server", login));
                }
            }
        }
        (ErrorKind::AuthRequired, ..) => tries.push(token),
        (ErrorKind::Forbidden, _, Some(name)) if error.challenge().is_some() => {
            tries.push(text!(
                "ask for more rights in `oauth.scopes`, then log in with `{} login {}`",
                program(),
                name
            ));
        }
        (ErrorKind::Forbidden, Some(403), _) => tries.push(text!(
            "no login helps here: the account, the address or the header is not allowed; ask who \
             runs the server"
        )),
        (ErrorKind::Connect, ..) if says(&["refused"]) => {
            tries.push(text!(
                "nothing listens there: start the server, and check the port"
            ));
        }
        (ErrorKind::Connect, ..) if says(&["resolved"]) => {
            tries.push(text!(
                "check the name of the host, and whether this machine is online"
            ));
        }
        (ErrorKind::Connect, ..) if says(&["does not speak tls"]) => {
            tries.push(text!("begin its address with http://"));
        }
        (ErrorKind::Connect, ..) if says(&["not valid yet", "has expired"]) => tries.push(text!(
            "check this machine's clock and date; if they are right, the server needs a new \
             certificate"
        )),
        (ErrorKind::Connect, ..) if says(&["certificate"]) => tries.push(text!(
            "if the certificate is of your own authority, name its file in `ca_file`; a proxy \
             that opens TLS has one too"
        )),
        (ErrorKind::Protocol, ..) if says(&["does not speak http"]) && is_plain(url) => {
            tries.push(text!(
                "check the port, or begin its address with https:// if it speaks TLS"
            ));
        }
        (ErrorKind::Protocol, ..) if says(&["does not speak http"]) => {
            tries.push(text!(
                "something else than an HTTP server listens there: check the port"
            ));
        }
        (ErrorKind::Protocol, ..) if says(&["the head of the server's answer"]) => {
            tries.push(text!(
                "the fault is the server's, or a proxy's before it: `curl -v` with its address \
                 shows the head"
            ));
        }
        (ErrorKind::ConnectionLost, ..) if is_plain(url) => tries.push(text!(
            "if this port speaks TLS, begin its address with https://"
        )),
        (ErrorKind::HttpStatus, Some(400), _) if says(&["https server", "https port"]) => {
            tries.push(text!("begin its address with https://"));
        }
        (ErrorKind::HttpStatus, Some(404 | 405 | 406 | 410), _) => tries.push(text!(
            "a server answers at this host, but not with MCP at this path: servers often use \
             /mcp or /sse"
        )),
        (ErrorKind::HttpStatus, Some(407), _) => tries.push(text!(
            "a proxy wants a login: put name and password into `proxy` or $HTTPS_PROXY"
        )),
        (ErrorKind::HttpStatus, Some(501), _) => tries.push(text!(
            "it takes no POST: it is probably not an MCP server, or has MCP at another path"
        )),
        (ErrorKind::HttpStatus, Some(502..=504), _) => tries.push(text!(
            "a proxy in between answers for a server that is not there: start the server behind \
             it, or go around the proxy with $NO_PROXY"
        )),
        (ErrorKind::HttpStatus, Some(500..), _) => {
            tries.push(text!("the server itself failed: look at its log"));
        }
        (ErrorKind::RateLimited, ..) => tries.push(text!("wait, then try again")),
        (ErrorKind::Timeout, ..) => tries.push(text!(
            "try with `--connect-timeout 2m`; a firewall that drops packets looks like this too"
        )),
        (ErrorKind::Protocol, ..) => tries.push(text!(
            "what answers at this address is not an MCP server; it may be a proxy's page or a login \
             page: open it in a browser; servers often use the path /mcp or /sse"
        )),
        _ => {}
    }
    if error.kind() == ErrorKind::Connect && is_on_this_machine(url) && has_proxy() {
        tries.push(text!("a proxy is set: exempt this machine with $NO_PROXY"));
    }
    tries
}

/// What to try wherever it is.
fn of_any(spec: &ServerSpec, error: &Error) -> Vec<Text> {
    match error.kind() {
        ErrorKind::VersionMismatch => vec![text!(
            "update the server; if this config pins a `protocol`, take that out"
        )],
        ErrorKind::Disabled => vec![text!(
            "enable with `{} config enable {}`",
            program(),
            spec.name
        )],
        ErrorKind::Exhausted => vec![text!("raise the limit of open files (`ulimit -n`)")],
        _ => Vec::new(),
    }
}

/// What is known to have been said, in lower case.
fn said(error: &Error) -> String {
    let mut said = error.with_causes();
    for line in error.stderr_tail() {
        said.push('\n');
        said.push_str(&line.text);
    }
    said.make_ascii_lowercase();
    said
}

fn is_plain(url: &str) -> bool {
    url.starts_with("http://")
}

fn is_on_this_machine(url: &str) -> bool {
    ["://localhost", "://127.", "://[::1]"]
        .iter()
        .any(|host| url.contains(host))
}

fn has_proxy() -> bool {
    [
        "HTTP_PROXY",
        "http_proxy",
        "HTTPS_PROXY",
        "https_proxy",
        "ALL_PROXY",
        "all_proxy",
    ]
    .iter()
    .any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use mcpool::StdioSpec;

    fn lines(text: &str) -> Vec<StderrLine> {
        text.lines().map(StderrLine::now).collect()
    }

    fn access(login: bool) -> Access<'static> {
        Access {
            login: login.then_some("s"),
            is_configured: true,
        }
    }

    fn tries(spec: &ServerSpec, error: &Error, login: bool) -> String {
        let tries = on(spec, error, access(login)).tries;
        Text::join(tries, " | ").as_str().to_owned()
    }

    #[test]
    fn a_program_that_ends_is_read_by_what_it_says() {
        let spec = ServerSpec::stdio("s", StdioSpec::new("npx")).unwrap();
        for (stderr, word) in [
            ("env: node: No such file or directory", "Node.js"),
            ("/usr/bin/env: 'node': No such file or directory", "Node.js"),
            ("Error: API_KEY is not set", "`env`"),
            ("usage: server DIRECTORY", "`args`"),
            ("Usage: server TOKEN", "`args`"),
            ("a token is required", "`env`"),
            ("npm error 404 Not Found - GET x", "package's name"),
            (
                "FileNotFoundError: [Errno 2] No such file or directory: 'x.toml'",
                "`cwd`",
            ),
            ("npm error code ENOTFOUND", "network"),
            (
                "Error: listen EADDRINUSE: address already in use :::3000",
                "port",
            ),
        ] {
            let error = Error::new(ErrorKind::ProcessExited, "the server exited with status 1")
                .with_stderr_tail(lines(stderr));
            let tries = tries(&spec, &error, false);
            assert!(tries.contains(word), "{stderr}: {tries}");
            let says = on(&spec, &error, access(false)).says;
            assert!(says.as_str().ends_with(stderr), "{says:?}");
        }
        let ended = Error::new(ErrorKind::ProcessExited, "the server exited with status 0");
        assert!(tries(&spec, &ended, false).contains("not be an MCP server"));
        let missing = Error::new(ErrorKind::CommandNotFound, "no");
        assert!(tries(&spec, &missing, false).contains("Node.js"));
        let slow = Error::new(ErrorKind::Timeout, "no");
        assert!(tries(&spec, &slow, false).contains("startup_timeout"));
    }

    #[test]
    fn an_address_is_read_by_what_answered() {
        let http = |url: &str| ServerSpec::url("s", url).unwrap();
        let status = |kind, status| Error::new(kind, "x").with_http_status(status);
        let connect = |why: &str| Error::new(ErrorKind::Connect, why);
        for (error, login, word) in [
            (
                connect("cannot connect to the server: connection refused"),
                false,
                "start the server",
            ),
            (connect("its name cannot be resolved"), false, "online"),
            (
                connect("what answers does not speak TLS; x"),
                false,
                "http://",
            ),
            (
                connect("its TLS certificate is not valid yet"),
                false,
                "clock",
            ),
            (
                connect("its TLS certificate is of an issuer that is not trusted"),
                false,
                "ca_file",
            ),
            (
                Error::new(ErrorKind::Protocol, "what answers does not speak HTTP; x"),
                false,
                "check the port",
            ),
            (
                Error::new(
                    ErrorKind::Protocol,
                    "the head of the server's answer is broken: x",
                ),
                false,
                "`curl -v`",
            ),
            (status(ErrorKind::HttpStatus, 404), false, "/mcp or /sse"),
            (status(ErrorKind::HttpStatus, 407), false, "proxy wants"),
            (status(ErrorKind::HttpStatus, 501), false, "no POST"),
            (status(ErrorKind::HttpStatus, 502), false, "$NO_PROXY"),
            (status(ErrorKind::HttpStatus, 500), false, "its log"),
            (status(ErrorKind::AuthRequired, 401), true, "mcpool login s"),
            (
                status(ErrorKind::AuthRequired, 401),
                false,
                "\"Authorization\"",
            ),
            (
                status(ErrorKind::AuthRequired, 401)
                    .with_challenge("Bearer resource_metadata=\"https://host.example/x\""),
                true,
                "log in with `mcpool login s`",
            ),
            (status(ErrorKind::Forbidden, 403), true, "no login helps"),
            (
                Error::new(ErrorKind::Protocol, "no JSON-RPC"),
                false,
                "browser",
            ),
            (
                Error::new(ErrorKind::VersionMismatch, "no"),
                false,
                "update the server",
            ),
            (Error::new(ErrorKind::Timeout, "no"), false, "firewall"),
        ] {
            let tries = tries(&http("https://host.example/mcp"), &error, login);
            assert!(tries.contains(word), "{error}: {tries}");
        }
        let tls = Error::new(ErrorKind::Protocol, "what answers does not speak HTTP; x");
        assert!(tries(&http("http://h/"), &tls, false).contains("https://"));
        let broke = Error::new(ErrorKind::ConnectionLost, "the connection broke");
        assert!(tries(&http("http://h/"), &broke, false).contains("https://"));
        assert_eq!(tries(&http("https://h/"), &broke, false), "");
        let spec = ServerSpec::http("s", HttpSpec::new("http://h/")).unwrap();
        let sent = HttpSpec::new("http://h/").with_header("Authorization", "Bearer x");
        let sent = ServerSpec::http("s", sent).unwrap();
        let refused = status(ErrorKind::AuthRequired, 401);
        assert!(tries(&sent, &refused, false).contains("may have expired"));
        assert!(tries(&spec, &refused, false).contains("give it a token"));
        let challenged = status(ErrorKind::Forbidden, 403).with_challenge("Bearer scope=\"a\"");
        assert!(tries(&spec, &challenged, true).contains("oauth.scopes"));
    }
}
