//! No secret that a config holds, or fills in, comes out: whichever field it stands in, whatever a
//! server does with it, whichever command is run.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpListener,
    path::Path,
};

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::{
    canned::{self, initialized},
    support::{Place, Run},
};

/// Secrets, each with the variable that holds it.
struct Secrets(Vec<(String, String)>);

impl Secrets {
    /// One that stands in the environment; gives its placeholder.
    fn variable(&mut self, secret: &str) -> String {
        let name = format!("CANARY_{}", self.0.len());
        self.0.push((name.clone(), secret.to_owned()));
        format!("${{{name}}}")
    }
}

/// A server that repeats what it was given: on stderr, in its refusals, in its answers.
fn echoing(dir: &Path, name: &str, secret: &str, placeholder: &str) -> Value {
    let refusal = || {
        json!({"error": {
            "code": -32000, "message": format!("bad token {secret}!"), "data": {secret: [secret]},
        }})
    };
    let mut server = canned::server(
        dir,
        name,
        format!("token {secret} is bad\n{{\"token\":{}}}\n", json!(secret)).as_bytes(),
        &[
            (
                "initialize",
                initialized(&json!({"instructions": format!("Use {secret}.")})),
            ),
            (
                "tools/list",
                json!({"result": {"tools": [{
                    "name": "leak", "description": format!("With {secret}"),
                    "inputSchema": {"type": "object", "properties": {secret: {"default": secret}}},
                }]}}),
            ),
            ("tools/call", refusal()),
            ("prompts/list", refusal()),
            (
                "resources/list",
                json!({"result": {"resources": [
                    {"uri": format!("x:{secret}"), "name": secret, "description": secret},
                ]}}),
            ),
            (
                "resources/read",
                json!({"result": {"contents": [
                    {"uri": "x:y", "text": format!("the token is {secret}")},
                ]}}),
            ),
        ],
    );
    server["env"] = json!({"ECHO_TOKEN": placeholder});
    server
}

/// Answers each request with an error that repeats its headers and its path.
fn echoing_http() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut lines = BufReader::new(&stream);
                let (mut head, mut length) = (String::new(), 0);
                loop {
                    let mut line = String::new();
                    if lines.read_line(&mut line).unwrap_or(0) == 0 || line == "\r\n" {
                        break;
                    }
                    if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                        length = value.trim().parse().unwrap_or(0);
                    }
                    head.push_str(&line);
                }
                let mut body = vec![0; length];
                let _ = lines.read_exact(&mut body);
                let id =
                    serde_json::from_slice::<Value>(&body).map_or(Value::Null, |m| m["id"].clone());
                let answer = json!({"jsonrpc": "2.0", "id": id, "error": {"code": -32000, "message": head, "data": head}});
                let answer = answer.to_string();
                let _ = write!(
                    &stream,
                    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
                     Connection: close\r\n\r\n{answer}",
                    answer.len()
                );
            });
        }
    });
    port
}

/// A config with a secret in every field that can hold one, as a literal where that is a field
/// for secrets, and through a variable everywhere.
fn config(dir: &Path, secrets: &mut Secrets, one: &dyn Fn() -> String) -> Value {
    let mut servers = Map::new();
    let mut add = |name: &str, server: Value| servers.insert(name.to_owned(), server);
    let port = echoing_http();

    let secret = one();
    let placeholder = secrets.variable(&secret);
    add("echoing", echoing(dir, "echoing", &secret, &placeholder));
    let literal = one();
    let mut server = echoing(dir, "literal", &literal, &literal.replace('$', "$$"));
    server["args"]
        .as_array_mut()
        .unwrap()
        .extend([json!("--token"), json!(literal.replace('$', "$$"))]);
    secrets.0.push(("LITERAL".to_owned(), literal));
    add("literal", server);

    // Errors about what cannot work.
    let mut v = || {
        let secret = one();
        secrets.variable(&secret)
    };
    let prints = "printf '%s\\n' \"$@\" >&2; exit 3";
    add(
        "argument",
        json!({"command": "sh", "args": ["-c", prints, "sh", v(), format!("--key={}", v())]}),
    );
    add("command", json!({"command": format!("/no/{}", v())}));
    add("bare-command", json!({"command": v()}));
    add(
        "directory",
        json!({"command": "sh", "cwd": format!("/no/{}", v())}),
    );
    add(
        "env-file",
        json!({"command": "sh", "env_file": format!("/no/{}", v())}),
    );
    add(
        "ca-file",
        json!({"url": format!("https://127.0.0.1:{port}/"), "ca_file": format!("/no/{}", v())}),
    );
    add(
        "url",
        json!({"url": format!("http://{}:99999999/{}", v(), v())}),
    );
    add("no-url", json!({"url": v()}));
    add(
        "credentials",
        json!({"url": format!("http://{}:{}@127.0.0.1:{port}/?key={}", v(), v(), v())}),
    );
    add(
        "path",
        json!({"url": format!("http://127.0.0.1:{port}/{}", v())}),
    );
    add(
        "header",
        json!({
            "url": format!("http://127.0.0.1:{port}/"),
            "headers": {"Authorization": format!("Bearer {}", v()), "X-Any": v()},
        }),
    );
    add(
        "proxy",
        json!({"url": "http://example.invalid/", "proxy": format!("http://{}@127.0.0.1:1/", v())}),
    );
    add(
        "no-proxy",
        json!({"url": "http://example.invalid/", "proxy": v()}),
    );
    add(
        "helper",
        json!({"url": "http://127.0.0.1:1/", "headers_helper": format!("echo {}; exit 1", v())}),
    );
    add(
        "bearer",
        json!({"url": format!("http://127.0.0.1:{port}/"), "bearer_token": v()}),
    );
    add(
        "oauth",
        json!({
            "url": format!("http://127.0.0.1:{port}/"),
            "oauth": {"grant": "client_credentials", "client_id": "c", "client_secret": v(), "issuer": "http://127.0.0.1:1/"},
        }),
    );

    // Files that hold one.
    let in_file = one();
    fs::write(dir.join("key"), format!("{in_file}\n")).unwrap();
    add(
        "file",
        json!({"command": "sh", "args": ["-c", prints, "sh", "${file:key}"]}),
    );
    secrets.0.push(("FILE".to_owned(), in_file));
    json!({ "mcpServers": servers })
}

const COMMANDS: &[&[&str]] = &[
    &["status"],
    &["status", "-vvv"],
    &["tools"],
    &["resources"],
    &["resources", "echoing", "--read", "x:y"],
    &["prompts"],
    &["call", "echoing", "leak"],
    &["call", "literal", "leak", "-vvv"],
    &["health"],
    &["doctor"],
    &["auth", "status"],
    &["config", "check"],
    &["config", "show", "--origins"],
];

/// How a secret looks when it comes out as it is, in JSON, or on one line.
fn looks(secret: &str) -> Vec<String> {
    let json = json!(secret).to_string();
    let debug = format!("{secret:?}");
    let mut looks = vec![
        secret.to_owned(),
        json[1..json.len() - 1].to_owned(),
        debug[1..debug.len() - 1].to_owned(),
    ];
    looks.extend(secret.lines().map(str::to_owned));
    looks.retain(|look| look.len() >= 8);
    looks
}

fn attack(one: &dyn Fn() -> String) {
    let place = Place::empty();
    let mut secrets = Secrets(Vec::new());
    let config = config(place.path(), &mut secrets, one);
    fs::write(place.path().join("servers.json"), config.to_string()).unwrap();
    for command in COMMANDS {
        for json in [&[][..], &["--json"]] {
            let args = [*command, json].concat();
            let variables = secrets.0.iter().map(|(name, value)| (name, value));
            let run = Run::of(place.command(&args).envs(variables));
            for text in [run.stdout(), run.stderr()] {
                for (name, secret) in &secrets.0 {
                    for look in looks(secret) {
                        assert!(!text.contains(&look), "{args:?}: {name}={secret:?}\n{text}");
                    }
                }
            }
        }
    }
}

/// Counts up, so that no secret is a part of another.
fn numbered(form: impl Fn(usize) -> String) -> impl Fn() -> String {
    let next = std::cell::Cell::new(0);
    move || {
        next.set(next.get() + 1);
        form(next.get())
    }
}

#[test]
fn no_secret_comes_out() {
    attack(&numbered(|n| format!("canary-{n:04}-value")));
}

#[test]
fn a_secret_that_looks_like_a_path_is_one_all_the_same() {
    attack(&numbered(|n| format!("/Canary+{n:04}/value==")));
}

#[test]
fn a_secret_over_several_lines_is_one_in_each() {
    attack(&numbered(|n| {
        format!(
            "-----BEGIN {n:04} KEY-----\nMIIEcanary{n:04}\nqhkiG9w0{n:04}/+\n-----END {n:04} KEY-----"
        )
    }));
}

/// The tests of this file could not fail if the servers repeated nothing.
#[test]
fn what_is_repeated_is_masked() {
    let place = Place::empty();
    let server = echoing(
        place.path(),
        "echoing",
        "canary-0001-value",
        "${CANARY_TOKEN}",
    );
    let place = Place::with(json!({ "echoing": server }));
    for (args, words) in [
        (&["call", "echoing", "leak"][..], "bad token [redacted]!"),
        (
            &["call", "echoing", "leak", "--json"],
            "bad token [redacted]!",
        ),
        (&["doctor"], "token [redacted] is bad"),
        (&["doctor", "--json"], r#"{\"token\":\"[redacted]\"}"#),
        (&["tools", "--json"], "With [redacted]"),
        (
            &["resources", "echoing", "--read", "x:y"],
            "the token is [redacted]",
        ),
    ] {
        let run = Run::of(place.command(args).env("CANARY_TOKEN", "canary-0001-value"));
        let shown = run.stdout() + &run.stderr();
        assert!(shown.contains(words), "{args:?}: {shown}");
    }
}

#[test]
fn what_is_no_secret_stays_in_an_answer() {
    let place = Place::empty();
    let text = json!({"result": {"content": [{"type": "text", "text": "it is in eu-central-1"}]}});
    let mut server = canned::server(
        place.path(),
        "s",
        b"no eu-central-1\n",
        &[("tools/call", text)],
    );
    server["env"] = json!({"REGION": "eu-central-1"});
    let place = Place::with(json!({ "s": server }));
    assert_eq!(
        place.run(&["call", "s", "t", "--no-check"]).stdout(),
        "it is in eu-central-1\n"
    );
    let doctor = place.run(&["doctor"]).stdout();
    assert!(doctor.contains("no [redacted]"), "{doctor}");
}

proptest! {
    // Each case runs the program 26 times.
    #![proptest_config(ProptestConfig { cases: 4, max_shrink_iters: 0, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_secret_in_any_field_comes_out_of_no_command(
        // No white space within: a shell and a header would make two words of it.
        forms in prop::collection::vec("[A-Za-z0-9/+=_.~!@#%&'\"\\\\é字-]{8,24}", 11),
    ) {
        attack(&numbered(|n| format!("{}{n:04}", forms[n % forms.len()])));
    }
}
