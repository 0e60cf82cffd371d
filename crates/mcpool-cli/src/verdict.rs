//! What is wrong with a server that does not connect, in words, and what to try. Pure, but for a
//! look at where programs usually are.

use std::path::{Path, PathBuf};

use mcpool::{ConnectFailure, Error, ErrorKind, ServerSpec, StderrLine, TransportSpec};

use crate::{render::text::Text, text};

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
        TransportSpec::Stdio(stdio) => of_program(&stdio.command, error),
        TransportSpec::Http(http) | TransportSpec::Sse(http) | TransportSpec::Auto(http) => {
            of_address(http.url.as_str(), error, access)
        }
        _ => Vec::new(),
    };
    tries.extend(of_any(spec, error));
    let says = match (telling_line(error.stderr_tail()), printed(error)) {
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

/// Whether a program that prints this waits for HTTP.
fn speaks_http(line: &str) -> bool {
    let line = line.to_lowercase();
    ["http://", "https://", "listening", "port ", "localhost:"]
        .iter()
        .any(|word| line.contains(word))
}

fn ended(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ProcessExited | ErrorKind::ConnectionLost | ErrorKind::Timeout
    )
}

/// The line of a server's stderr that says what is wrong: the first that begins as an error does,
/// else the first that has such a word, else the last.
pub(crate) fn telling_line(lines: &[StderrLine]) -> Option<&StderrLine> {
    let best = lines
        .iter()
        .enumerate()
        .filter(|(_, line)| !line.text.trim().is_empty())
        .max_by_key(|(at, line)| {
            let weight = weight(&line.text);
            // Of two errors the first is the cause; of two lines that are none the last one.
            let place = isize::try_from(*at).unwrap_or(isize::MAX);
            (weight, if weight > 0 { -place } else { place })
        });
    best.map(|(_, line)| line)
}

/// How much a line looks like the cause of an end.
fn weight(line: &str) -> u8 {
    // The frames of a stack, and what a source line says of itself.
    let quotes = ["throw ", "raise ", "at ", "File ", "Traceback", "^"];
    let text = line.trim_start();
    if text.len() != line.len() || quotes.iter().any(|quote| text.starts_with(quote)) {
        return 0;
    }
    let lower = text.to_lowercase();
    let first = lower.split([':', ' ']).next().unwrap_or_default();
    let begins = ["error", "exception", "fatal", "panic", "panicked", "usage"];
    let first = first.trim_matches(|c: char| !c.is_alphanumeric());
    if begins.iter().any(|word| first.ends_with(word)) || lower.starts_with("npm err") {
        return 2;
    }
    let words = [
        "error",
        "fatal",
        "panicked",
        "cannot",
        "could not",
        "not found",
        "no such",
        "missing",
        "required",
        "must ",
        "invalid",
        "denied",
        "refused",
        "failed",
        "unable",
        "not set",
        "usage:",
    ];
    u8::from(words.iter().any(|word| lower.contains(word)))
}

/// What to try where a program is started.
fn of_program(command: &str, error: &Error) -> Vec<Text> {
    let said = said(error);
    let says = |words: &[&str]| words.iter().any(|word| said.contains(word));
    let mut tries = Vec::new();
    match error.kind() {
        ErrorKind::CommandNotFound => {
            let home = etcetera::home_dir().ok();
            if let Some(found) = elsewhere(command, home.as_deref()) {
                tries.push(text!(
                    "it is at {}, which is not in PATH here: write that as `command`",
                    found
                ));
            }
            if let Some(how) = brought_by(command) {
                tries.push(how);
            }
        }
        ErrorKind::ProcessExited | ErrorKind::ConnectionLost => {
            if says(&[
                "env: node",
                "env: ‘node’",
                "env: 'node'",
                "node: not found",
                "node: command not found",
            ]) {
                tries.push(text!(
                    "install Node.js, or put the directory of `node` into `env.PATH` of this server"
                ));
            } else if says(&[
                "cannot find module",
                "modulenotfounderror",
                "no module named",
            ]) {
                tries.push(text!(
                    "a package that it needs is not installed where it runs"
                ));
            } else if says(&[
                "404 not found",
                "e404",
                "no matching distribution",
                "not in this registry",
            ]) {
                tries.push(text!("check the package's name in `args`"));
            } else if says(&[
                "enotfound",
                "eai_again",
                "network is unreachable",
                "name resolution",
            ]) {
                tries.push(text!(
                    "it could not reach the network: try again, or set the proxy in `env`"
                ));
            } else if says(&["eacces", "permission denied"]) {
                tries.push(text!(
                    "it may not read or write something: look at the path that it names"
                ));
            } else if says(&["eaddrinuse", "address already in use"]) {
                tries.push(text!("it wants a port that is taken: does it run already?"));
            } else if names_variable(error) {
                tries.push(text!("it wants a variable: set it in `env` of this server"));
            } else if says(&[
                "usage",
                "argument",
                "positional",
                "missing required",
                "requires",
            ]) {
                tries.push(text!(
                    "it wants other arguments: set them in `args` of this server"
                ));
            } else if says(&["token", "credential", "not set", "must be set", "secret"]) {
                tries.push(text!("it wants a variable: set it in `env` of this server"));
            } else if says(&["status 0"]) {
                tries.push(text!(
                    "it ended without a failure: it may be no MCP server, or want a word such as \
                     `stdio` or `serve` in `args`"
                ));
            }
        }
        ErrorKind::Timeout if printed(error).is_some_and(speaks_http) => tries.push(text!(
            "it seems to listen for HTTP: start it by itself and write its address as `url`, or \
             look for its option for stdio"
        )),
        ErrorKind::Timeout => {
            tries.push(text!(
                "it may be slow the first time (a package that is downloaded): try with \
                 `--connect-timeout 2m`, and set `startup_timeout` if that helps"
            ));
            tries.push(text!(
                "or it is no MCP server, or speaks HTTP only: run it in a terminal and look at \
                 what it prints"
            ));
        }
        ErrorKind::Protocol if !says(&["sends back"]) => tries.push(text!(
            "a stdio server may print nothing but MCP messages on standard output: look for an \
             option such as `stdio`, and send its log to standard error"
        )),
        _ => {}
    }
    tries
}

/// What to try where an address is connected to.
fn of_address(url: &str, error: &Error, access: Access<'_>) -> Vec<Text> {
    let said = said(error);
    let says = |words: &[&str]| words.iter().any(|word| said.contains(word));
    let token = match access.is_configured {
        true => text!("give it a token: `headers`: {{\"Authorization\": \"Bearer ${{TOKEN}}\"}}"),
        false => text!("give it a token or key: `--bearer-env VARIABLE`"),
    };
    let mut tries = Vec::new();
    match (error.kind(), error.http_status(), access.login) {
        (ErrorKind::AuthRequired, _, Some(name)) => {
            let login = text!("log in with `mcpool login {}`", name);
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
                "ask for more rights in `oauth.scopes`, then log in with `mcpool login {}`",
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
        (ErrorKind::Protocol, ..) if says(&["does not speak http"]) => {
            tries.push(text!("begin its address with https://"));
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
            "it takes no POST: it is probably no MCP server, or has MCP at another path"
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
            "what answers at this address is no MCP server, or a page of a proxy or a login: \
             open it in a browser"
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
        ErrorKind::Disabled => vec![text!("enable with `mcpool config enable {}`", spec.name)],
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

/// Whether what was said names a variable, as `GITHUB_TOKEN`, or speaks of one.
fn names_variable(error: &Error) -> bool {
    let is_variable = |word: &str| {
        let is_of_it = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
        word.len() > 4 && word.contains('_') && word.chars().all(is_of_it)
    };
    let said = said(error);
    let lines = error.stderr_tail().iter().map(|line| line.text.as_str());
    lines
        .chain([error.message()])
        .flat_map(|line| line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_'))
        .any(is_variable)
        || ["environment variable", "env var", "api key", "apikey"]
            .iter()
            .any(|word| said.contains(word))
}

/// Who brings a command that many servers are started by.
fn brought_by(command: &str) -> Option<Text> {
    Some(match command {
        "npx" | "node" | "npm" => text!("`{}` comes with Node.js: install that", command),
        "uvx" | "uv" => text!("`{}` comes with uv: install that", command),
        "bunx" | "bun" => text!("`{}` comes with Bun: install that", command),
        "docker" | "podman" => text!("install {}, and start it", command),
        "python" => text!("write `python3`, or install Python"),
        "deno" | "pipx" | "dotnet" | "java" => text!("install {}", command),
        _ => return None,
    })
}

/// Where a program is that is not in `PATH`: programs that are started from a desktop often have
/// a shorter one than a shell.
fn elsewhere(command: &str, home: Option<&Path>) -> Option<PathBuf> {
    if command.contains(['/', '\\']) {
        return None;
    }
    let of_home = [
        ".local/bin",
        ".cargo/bin",
        ".volta/bin",
        ".bun/bin",
        ".deno/bin",
        ".asdf/shims",
        ".local/share/mise/shims",
        ".nodenv/shims",
        ".pyenv/shims",
        "n/bin",
        "go/bin",
    ];
    let of_system = [
        "/usr/local/bin",
        "/opt/homebrew/bin",
        "/usr/bin",
        "/snap/bin",
    ];
    let in_home = home
        .into_iter()
        .flat_map(|home| of_home.map(|dir| home.join(dir)));
    let versions = home
        .into_iter()
        .flat_map(|home| node_versions(&home.join(".nvm/versions/node")));
    in_home
        .chain(versions)
        .chain(of_system.map(PathBuf::from))
        .map(|dir| dir.join(command))
        .find(|path| path.is_file())
}

/// The `bin` directories of nvm.
fn node_versions(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut bins: Vec<PathBuf> = entries.map(|entry| entry.path().join("bin")).collect();
    bins.sort();
    bins.reverse();
    bins
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
    use mcpool::{HttpSpec, StdioSpec};

    fn lines(text: &str) -> Vec<StderrLine> {
        text.lines().map(StderrLine::now).collect()
    }

    fn telling(text: &str) -> String {
        telling_line(&lines(text)).unwrap().text.clone()
    }

    #[test]
    fn the_line_that_says_the_cause_is_found_in_a_stack() {
        let node = "[eval]:1\nthrow new Error('KEY is not set')\n^\nError: KEY is not set\n    at [eval]:1:7\nNode.js v20";
        assert_eq!(telling(node), "Error: KEY is not set");
        let python = "Traceback (most recent call last):\n  File \"a.py\", line 1, in <module>\n    raise ValueError(1)\nModuleNotFoundError: No module named 'mcp'";
        assert_eq!(
            telling(python),
            "ModuleNotFoundError: No module named 'mcp'"
        );
        let npm = "npm error code E404\nnpm error 404 Not Found\nnpm error A complete log";
        assert_eq!(telling(npm), "npm error code E404");
        assert_eq!(telling("starting\nlistening\n\n"), "listening");
        assert!(telling_line(&[]).is_none());
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
        assert!(tries(&spec, &ended, false).contains("no MCP server"));
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
                "https://",
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
        let broke = Error::new(ErrorKind::ConnectionLost, "the connection broke");
        assert!(tries(&http("http://h/"), &broke, false).contains("https://"));
        assert_eq!(tries(&http("https://h/"), &broke, false), "");
        let spec = ServerSpec::http("s", HttpSpec::new("http://h/")).unwrap();
        let challenged = status(ErrorKind::Forbidden, 403).with_challenge("Bearer scope=\"a\"");
        assert!(tries(&spec, &challenged, true).contains("oauth.scopes"));
    }

    #[test]
    fn a_program_that_waits_for_http_says_so() {
        for (line, speaks) in [
            ("Listening on http://localhost:3000", true),
            ("Server started on port 8080", true),
            ("loading plugins", false),
        ] {
            assert_eq!(speaks_http(line), speaks, "{line}");
        }
    }

    #[test]
    fn a_program_outside_of_the_path_is_found() {
        let home = tempfile::tempdir().unwrap();
        assert_eq!(elsewhere("no-such-program-x", Some(home.path())), None);
        let bin = home.path().join(".nvm/versions/node/v20/bin");
        std::fs::create_dir_all(&bin).unwrap();
        std::fs::write(bin.join("no-such-program-x"), "").unwrap();
        let found = elsewhere("no-such-program-x", Some(home.path()));
        assert_eq!(found, Some(bin.join("no-such-program-x")));
        assert_eq!(elsewhere("/bin/no-such-program-x", Some(home.path())), None);
    }
}
