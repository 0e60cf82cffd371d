//! What strangers write reaches the terminal and the log escaped and bounded, no matter who wrote it, and
//! whichever command is run.

use std::{
    fs,
    io::{Read as _, Write as _},
    path::Path,
    process::{Command, Stdio},
};

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{
    canned::{self, initialized},
    support::{Place, Run, good},
};

/// What a terminal would obey or hide: a bell, the title, the clipboard, the screen, C1, links,
/// bidirectional controls, zero-width characters, line separators, tags.
const HOSTILE: &str = "\x1b]52;c;UFdORUQ=\x07\x1b[2J\x1b[31mRED\x1b[0m\u{9b}31mC1\x1b]8;;http://evil/\x07\
                       LINK\x1b]8;;\x07\u{202e}BIDI\u{202c}\u{2066}iso\u{2069}\u{200b}ZW\u{2028}LS\
                       \u{85}NEL\x08\x08\x7f\rCR\u{e0041}\u{feff}";

/// Everything but the lines of our own text.
fn assert_clean(what: &str, text: &str) {
    let dirty = |c: &char| !matches!(c, '\n' | '\t') && is_unshowable(*c);
    let found: Vec<String> = text
        .chars()
        .filter(dirty)
        .map(|c| c.escape_unicode().to_string())
        .collect();
    assert!(found.is_empty(), "{what}: {found:?}\n{text:?}");
}

/// The categories Cc, Cf, Zl and Zp as they stand in the issue: not the program's own list, so that
/// a hole in that is seen.
fn is_unshowable(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

fn assert_run_clean(what: &str, run: &Run) {
    for text in [run.stdout(), run.stderr()] {
        assert_clean(what, &text);
        assert!(!text.contains("panicked"), "{what}: {text}");
    }
    assert_ne!(run.code(), 101, "{what}");
}

/// A server that puts a text wherever a server can.
fn hostile_server(dir: &Path, name: &str, text: &dyn Fn() -> String) -> Value {
    let t = text;
    let schema = json!({"type": "object", "description": t(), "properties": {t(): {"title": t()}}});
    let info = json!({"name": t(), "version": t(), "title": t()});
    canned::server(
        dir,
        name,
        t().as_bytes(),
        &[
            (
                "initialize",
                initialized(&json!({"serverInfo": info, "instructions": t()})),
            ),
            (
                "tools/list",
                json!({"result": {"tools": [
                    {"name": t(), "title": t(), "description": t(), "inputSchema": schema},
                    {"name": "tool", "description": t(), "inputSchema": {"type": "object"}},
                ]}}),
            ),
            (
                "resources/list",
                json!({"result": {"resources": [
                    {"uri": t(), "name": t(), "title": t(), "description": t(), "mimeType": t()},
                ]}}),
            ),
            (
                "resources/templates/list",
                json!({"result": {"resourceTemplates": [
                    {"uriTemplate": t(), "name": t(), "description": t(), "mimeType": t()},
                ]}}),
            ),
            (
                "resources/read",
                json!({"result": {"contents": [
                    {"uri": t(), "mimeType": t(), "text": t()},
                    {"uri": t(), "mimeType": t(), "blob": "AAAA"},
                ]}}),
            ),
            (
                "prompts/list",
                json!({"result": {"prompts": [
                    {"name": t(), "description": t(), "arguments": [{"name": t(), "description": t()}]},
                ]}}),
            ),
            (
                "prompts/get",
                json!({"result": {"description": t(), "messages": [
                    {"role": "user", "content": {"type": "text", "text": t()}},
                    {"role": "assistant", "content": {"type": "resource_link", "uri": t(), "name": t()}},
                ]}}),
            ),
            (
                "tools/call",
                json!({"result": {"isError": true, "structuredContent": {t(): t()}, "content": [
                    {"type": "text", "text": t()},
                    {"type": "image", "mimeType": t(), "data": "AAAA"},
                    {"type": "resource_link", "uri": t(), "name": t()},
                    {"type": "resource", "resource": {"uri": t(), "text": t()}},
                ]}}),
            ),
        ],
    )
}

/// Servers that refuse with a text: the handshake, every list and every call, the start itself.
fn refusing_servers(dir: &Path, text: &dyn Fn() -> String) -> Vec<(&'static str, Value)> {
    let refusal =
        || json!({"error": {"code": -32000, "message": text(), "data": {text(): text()}}});
    let no_handshake = [("initialize", refusal()), ("other", refusal())];
    let methods = [
        "tools/list",
        "resources/list",
        "prompts/list",
        "tools/call",
        "ping",
    ];
    let nothing: Vec<_> = methods.iter().map(|method| (*method, refusal())).collect();
    let stderr = text().into_bytes();
    let ends = "printf '%s\\n' \"$0\" >&2; printf '%s\\n' \"$0\"; exit 3";
    vec![
        (
            "handshake",
            canned::server(dir, "handshake", &stderr, &no_handshake),
        ),
        ("nothing", canned::server(dir, "nothing", &stderr, &nothing)),
        (
            "ends",
            json!({"command": "sh", "args": ["-c", ends, text()]}),
        ),
        (
            "absent",
            json!({"command": format!("/no/{}", text()), "cwd": text()}),
        ),
        (
            "variable",
            json!({"command": format!("${{{}}}", text()), "env_file": text()}),
        ),
        (
            "url",
            json!({"url": format!("http://{}/", text()), "headers": {text(): text()}}),
        ),
        (
            "port",
            json!({"url": "http://127.0.0.1:1/", "proxy": text(), "ca_file": text()}),
        ),
    ]
}

/// Every command that shows what is not the program's own, as people and as programs run it.
const COMMANDS: &[&[&str]] = &[
    &["status"],
    &["status", "-vvv"],
    &["tools"],
    &["tools", "hostile", "tool"],
    &["tools", "hostile.tool", "--schema"],
    &["tools", "--search", "tool"],
    &["list"],
    &["resources"],
    &["resources", "hostile", "--read", "x:y"],
    &["prompts"],
    &["prompts", "hostile", "--get", "p"],
    &["call", "hostile", "tool"],
    &["call", "hostile", "tool", "--save", "saved"],
    &["call", "hostile.tool", "-vvv", "--trace", "trace"],
    &["call", "nothing", "tool"],
    &["health"],
    &["doctor"],
    &["auth", "status"],
    &["config", "check"],
    &["config", "show", "--origins"],
];

fn run_all(place: &Place, commands: &[&[&str]]) {
    for command in commands {
        for json in [&[][..], &["--json"]] {
            let args = [*command, json].concat();
            let run = place.run(&args);
            assert_run_clean(&format!("{args:?}"), &run);
            if !json.is_empty() {
                let text = run.stdout();
                let parsed = serde_json::from_str::<Value>(&text);
                assert!(parsed.is_ok(), "{args:?}: {text}\n{}", run.stderr());
            }
        }
    }
}

/// A place whose every foreign field holds a text, and that is run in full.
fn attack(text: &dyn Fn() -> String) {
    let place = Place::empty();
    let mut servers = serde_json::Map::new();
    servers.insert(
        "hostile".to_owned(),
        hostile_server(place.path(), "hostile", text),
    );
    for (name, server) in refusing_servers(place.path(), text) {
        servers.insert(name.to_owned(), server);
    }
    let mut config = json!({ "mcpServers": servers, text(): text(), "defaults": {text(): 1} });
    // A name that is no name, and fields that are no fields.
    config["mcpServers"][text()] = json!({"command": text(), "args": [text()], text(): text()});
    config["mcpServers"]["nothing"][text()] = json!({text(): [text()]});
    config["mcpServers"]["ends"]["env"] = json!({text(): text(), "TOKEN": text()});
    config["mcpServers"]["ends"]["description"] = text().into();
    fs::write(place.path().join("servers.json"), config.to_string()).unwrap();
    run_all(&place, COMMANDS);

    // The same as a project's file, which is shown before it is trusted, and as another host's.
    let project = Place::empty();
    fs::write(project.path().join("mcp.json"), config.to_string()).unwrap();
    fs::create_dir_all(project.path().join(".cursor")).unwrap();
    fs::write(project.path().join(".cursor/mcp.json"), config.to_string()).unwrap();
    run_all(
        &project,
        &[
            &["status"],
            &["trust"],
            &["config", "find"],
            &[
                "config",
                "import",
                "cursor",
                "--dry-run",
                "--file",
                "own.json",
            ],
        ],
    );

    // A broken file, named as nobody names a file; arguments and variables.
    let name: String = text().replace('/', "").chars().take(60).collect();
    let name = format!("x{name}.json");
    fs::write(
        project.path().join(&name),
        format!("{{ \"mcpServers\": {}", text()),
    )
    .unwrap();
    for args in [
        &["config", "check", &name][..],
        &["status", "--config", &name],
        &["call", "a", "b", &text(), "--config", &name],
        &[&text()],
    ] {
        assert_run_clean(&format!("{args:?}"), &project.run(args));
    }
    let mut with_variables: Command = project.command(&["--help"]);
    with_variables
        .env("MCPOOL_LOG", text())
        .env("MCPOOL_CONFIG", text());
    assert_run_clean("variables", &Run::of(&mut with_variables));
    let mut with_variables: Command = project.command(&["status"]);
    with_variables
        .env("MCPOOL_LOG", text())
        .env("MCPOOL_CONFIG", text());
    assert_run_clean("variables", &Run::of(&mut with_variables));
}

#[test]
fn no_stranger_steers_the_terminal() {
    attack(&|| HOSTILE.to_owned());
}

/// The tests of this file could not fail if what is hostile were not shown at all.
#[test]
fn what_is_hostile_is_shown() {
    let place = Place::empty();
    let text = || HOSTILE.to_owned();
    let mut servers = serde_json::Map::new();
    servers.insert(
        "hostile".to_owned(),
        hostile_server(place.path(), "hostile", &text),
    );
    servers.extend(
        refusing_servers(place.path(), &text)
            .into_iter()
            .map(|(n, s)| (n.to_owned(), s)),
    );
    servers["nothing"][HOSTILE] = json!(1);
    let place = Place::with(json!(servers));
    for command in COMMANDS {
        // These show states, names of our own, and what is asked of nobody.
        if ["auth"].contains(&command[0]) {
            continue;
        }
        let run = place.run(command);
        let shown = run.stdout() + &run.stderr();
        let escapes = [r"\u{1b}]52;c;", r"\u001b]52;c;"];
        assert!(
            escapes.iter().any(|escape| shown.contains(escape)),
            "{command:?}: {shown}"
        );
    }
}

/// Runs it on a terminal until it ends; types `q` once this is seen. Gives all that the terminal
/// got.
fn on_a_terminal(command: &mut Command, quit_at: Option<&str>) -> String {
    let size = nix::pty::Winsize {
        ws_row: 50,
        ws_col: 160,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let terminal = nix::pty::openpty(Some(&size), None).unwrap();
    let mut child = command
        .stdin(terminal.slave.try_clone().unwrap())
        .stdout(terminal.slave.try_clone().unwrap())
        .stderr(terminal.slave)
        .spawn()
        .unwrap();
    // The command holds the terminal too, and it would never end.
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut screen = fs::File::from(terminal.master);
    let (mut bytes, mut buffer, mut typed) = (Vec::new(), [0; 4096], false);
    // Reading fails once the program has closed the terminal.
    while let Ok(length @ 1..) = screen.read(&mut buffer) {
        bytes.extend_from_slice(&buffer[..length]);
        let seen = String::from_utf8_lossy(&bytes);
        if !typed && quit_at.is_some_and(|words| seen.contains(words)) {
            screen.write_all(b"q").unwrap();
            typed = true;
        }
    }
    child.wait().unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A text without what sets colours and, for a moving picture, the cursor: `CSI … letter`.
fn without_csi(text: &str, finals: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\x1b[") {
        out.push_str(before);
        let end = after
            .find(|c: char| !c.is_ascii_digit() && !";?".contains(c))
            .unwrap_or(0);
        let is_ours = after[end..].starts_with(|c| finals.contains(c));
        if !is_ours {
            out.push_str("\x1b[");
        }
        rest = if is_ours { &after[end + 1..] } else { after };
    }
    out + rest
}

#[test]
fn on_a_terminal_only_our_colours_and_pictures_steer_it() {
    let place = Place::empty();
    let text = || HOSTILE.to_owned();
    let hostile = hostile_server(place.path(), "hostile", &text);
    let ends = json!({"command": "sh", "args": ["-c", "printf '%s' \"$0\" >&2; exit 3", HOSTILE], HOSTILE: 1});
    let place = Place::with(json!({ "hostile": hostile, "ends": ends }));
    let line_ends = |text: String| text.replace("\r\n", "\n");

    let check = line_ends(on_a_terminal(
        &mut place.command(&["config", "check"]),
        None,
    ));
    assert!(check.contains("\x1b["), "no colours: {check:?}");
    assert_clean("config check", &without_csi(&check, "m"));
    assert!(check.contains(r"\u{1b}[31mRED"), "{check:?}");

    // Progress and the live table move the cursor, clear the screen and hide the cursor.
    let tools = line_ends(on_a_terminal(&mut place.command(&["tools", "-vv"]), None));
    let watched = on_a_terminal(&mut place.command(&["watch"]), Some("2J"));
    for (what, shown) in [("tools", tools), ("watch", watched)] {
        let left = without_csi(&shown.replace('\r', ""), "mABCDGHJKhlqru");
        // The title, the clipboard, links: no picture of ours needs an OSC.
        assert!(!left.contains('\x1b'), "{what}: {shown:?}");
        assert_clean(what, &left);
        assert!(shown.contains(r"\u{1b}]52;c;"), "{what}: {shown:?}");
    }
}

/// A text without the one character that no argument and no variable can hold.
fn any_text() -> impl Strategy<Value = String> {
    let hostile = prop::sample::select(HOSTILE.chars().collect::<Vec<_>>());
    let character = prop_oneof![hostile, any::<char>(), prop::char::range(' ', '~')];
    prop::collection::vec(character, 0..24)
        .prop_map(|text| text.into_iter().filter(|c| *c != '\0').collect())
}

proptest! {
    // Each case runs the program some forty times.
    #![proptest_config(ProptestConfig { cases: 4, max_shrink_iters: 0, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_unicode_in_any_foreign_field_of_any_command_is_clean(
        texts in prop::collection::vec(any_text(), 97),
    ) {
        // Another text in each field: a prime number of them, so that they meet differently.
        let next = std::cell::Cell::new(0);
        attack(&|| {
            next.set(next.get() + 1);
            texts[next.get() % texts.len()].clone()
        });
    }
}

#[test]
fn json_holds_what_the_server_said() {
    let place = Place::empty();
    let server = hostile_server(place.path(), "hostile", &|| HOSTILE.to_owned());
    let place = Place::with(json!({ "hostile": server }));
    let tools = place.run(&["tools", "--json"]).json(0);
    assert_eq!(tools["tools"][0]["name"], HOSTILE);
    let read = place
        .run(&["resources", "hostile", "--read", "x:y", "--json"])
        .json(0);
    assert_eq!(read["contents"][0]["text"], HOSTILE);
}

#[test]
fn an_unknown_key_of_a_project_does_not_reach_the_terminal_before_trust_is_asked() {
    let place = Place::empty();
    // The clipboard, the screen, and lines that pass for the program's own.
    let rows = [
        "\x1b[1;1H$ mcpool status",
        "\x1b[2;1HThe project's file is new.\nTrust it? [y/N] y",
    ];
    let mut config = json!({
        "mcpServers": {"evil": {
            "command": "sh",
            "args": ["-c", "touch PWNED; exec cat"],
            "x\x1b]52;c;UFdORUQ=\x07\x1b[2J": 1,
        }},
        "x\x1b]52;c;UFdORUQ=\x07\x1b[2J": 1,
    });
    for row in rows {
        config[row] = json!(1);
    }
    fs::write(place.path().join("mcp.json"), config.to_string()).unwrap();
    for args in [&["config", "check"][..], &["status"], &["trust"]] {
        let run = place.run(args);
        assert_run_clean(&format!("{args:?}"), &run);
        let lines = run.stderr();
        assert!(
            !lines.lines().any(|line| line.starts_with("Trust it?")),
            "{lines}"
        );
    }
    let check = place.run(&["config", "check"]);
    assert!(
        check
            .stderr()
            .contains(r"x\u{1b}]52;c;UFdORUQ=\u{7}\u{1b}[2J"),
        "{}",
        check.stderr()
    );
    assert!(!place.path().join("PWNED").exists());
}

#[test]
fn the_log_shows_what_a_server_wrote_escaped() {
    let place = Place::empty();
    let refusal = json!({"error": {"code": -32000, "message": format!("{HOSTILE} init error")}});
    let answers = [("initialize", refusal.clone()), ("other", refusal)];
    let server = canned::server(place.path(), "e", HOSTILE.as_bytes(), &answers);
    let place = Place::with(json!({ "e": server }));
    for level in ["-v", "-vv", "-vvv"] {
        let run = place.run(&[level, "status"]);
        assert_run_clean(level, &run);
        assert!(
            run.stderr().contains(r"\u{1b}]52;c;UFdORUQ=\u{7}"),
            "{}",
            run.stderr()
        );
    }
}

#[test]
fn a_problem_far_into_a_line_is_a_warning_and_many_are_counted() {
    let place = Place::empty();
    let write = |name: &str, text: String| fs::write(place.path().join(name), text).unwrap();
    let padding = "x".repeat(70_000);
    let mut far = json!({"mcpServers": {"a": good()}});
    far["mcpServers"]["a"]["description"] = padding.into();
    far["mcpServers"]["a"]["timeot"] = "1s".into();
    write("far.json", far.to_string());
    let typos: Vec<String> = (0..800)
        .map(|n| format!(r#""s{n}":{{"comand":"x"}}"#))
        .collect();
    write(
        "many.json",
        format!(r#"{{"mcpServers":{{{}}}}}"#, typos.join(",")),
    );
    write(
        "cut.json",
        format!(r#"{{"mcpServers":{{{}"#, typos.join(",")),
    );
    let unlike: Vec<String> = (0..800)
        .map(|n| format!(r#""s{n}":{{"field-{n}":"x"}}"#))
        .collect();
    write(
        "unlike.json",
        format!(r#"{{"mcpServers":{{{}}}}}"#, unlike.join(",")),
    );

    // What nothing is kept up by is one line of a command that is about something else.
    let far = place.run(&["--config", "far.json", "status"]);
    assert_eq!(far.code(), 0, "{}", far.stderr());
    assert_eq!(
        far.stderr(),
        "1 warning in far.json: `mcpool --config far.json config check`\n"
    );
    let far = place.run(&["--config", "far.json", "config", "check"]);
    assert_eq!(far.code(), 0, "{}", far.stderr());
    assert!(
        far.stderr().contains("did you mean `timeout`?"),
        "{}",
        far.stderr()
    );
    assert!(far.stderr().len() < 4_000, "{}", far.stderr().len());

    for (name, most) in [
        ("many.json", 16_000),
        ("cut.json", 16_000),
        ("unlike.json", 64_000),
    ] {
        for command in [&["status"][..], &["config", "check"], &["config", "show"]] {
            let run = place.run(&[command, &["--config", name]].concat());
            assert_eq!(run.code(), 2, "{name} {command:?}: {}", run.stderr());
            let length = run.stderr().len();
            assert!(length < most, "{name} {command:?}: {length}");
        }
    }
    let many = place.run(&["--config", "many.json", "config", "check"]);
    assert!(
        many.stderr().contains("… and 797 more like this"),
        "{}",
        many.stderr()
    );
}
