//! What `mcpool health` and `mcpool doctor` say of servers that are ill.

use std::net::TcpStream;

use serde_json::json;

use crate::{
    canned,
    support::{Place, good, scripted_life, until},
    transcript::closed_port,
};

#[test]
fn health_and_doctor_tell_of_each_server() {
    let place = Place::with(json!({"good": good(), "absent": {"command": "/does/not/exist"}}));
    let health = place.run(&["health", "--json"]).json(4);
    let of = |name: &str| {
        let servers = health["servers"].as_array().unwrap();
        servers
            .iter()
            .find(|server| server["name"] == name)
            .unwrap()
            .clone()
    };
    assert_eq!(of("good")["healthy"], true);
    assert_eq!(of("absent")["healthy"], false);
    assert_eq!(of("absent")["error"]["kind"], "command_not_found");

    let doctor = place.run(&["doctor", "good", "--json"]).json(0);
    let evidence = &doctor["servers"][0]["evidence"];
    let attempts = evidence["attempts"].as_array().unwrap();
    assert!(
        attempts.iter().any(|attempt| attempt["ok"] == true),
        "{evidence}"
    );
    assert_ne!(evidence["conclusion"], "");
}

#[test]
fn what_was_left_out_is_named_and_what_is_no_message_is_shown() {
    let place = Place::empty();
    let tools = json!({"result": {"tools": [
        {"name": "echo", "inputSchema": {"type": "object"}},
        {"name": "scene_list", "description": "no schema"},
    ]}});
    let resources = json!({"result": {"resources": [{"uri": "a://1"}, {"name": "lost"}]}});
    let prompts = json!({"result": {"prompts": [{"name": "p"}, {"title": "q"}]}});
    let odd = canned::server(
        place.path(),
        "odd",
        b"",
        &[
            ("tools/list", tools),
            ("resources/list", resources),
            ("prompts/list", prompts),
        ],
    );
    let loud = scripted_life("echo 'Listening on port 8000'", "", "");
    place.write(json!({"odd": odd, "loud": loud}));

    let named = |words: &[&str], what: &str| {
        let run = place.run(words);
        assert!(run.stderr().contains(what), "{words:?}: {}", run.stderr());
        assert_eq!(run.code(), 0, "{words:?}");
    };
    named(&["tools"], "odd: tools/list leaves out \"scene_list\":");
    named(&["status"], "odd: tools/list leaves out \"scene_list\":");
    named(
        &["status"],
        "loud: it sent something that is not a message (1 time);",
    );
    named(
        &["resources", "odd"],
        "odd: resources/list leaves out \"lost\":",
    );
    named(&["prompts", "odd"], "odd: prompts/list leaves out \"#2\":");

    let tools = place.run(&["tools", "--json"]).json(0);
    assert_eq!(tools["left_out"][0]["name"], "scene_list");
    let listed = place.run(&["resources", "odd", "--json"]).json(0);
    assert_eq!(listed["resources"][0]["name"], "a://1");
    let status = place.run(&["status", "--json"]).json(0);
    let of = |name: &str, member: &str| {
        let servers = status["servers"].as_array().unwrap();
        servers.iter().find(|it| it["name"] == name).unwrap()[member].clone()
    };
    assert_eq!(
        (of("odd", "rejected"), of("loud", "skipped")),
        (1.into(), 1.into())
    );
    let doctor = place.run(&["doctor"]);
    for shown in [
        "leaves out \"scene_list\"",
        "but not a message: 1 time\n",
        "Listening on port 8000",
    ] {
        assert!(doctor.stdout().contains(shown), "{}", doctor.stdout());
    }
}

#[test]
fn doctor_says_what_is_wrong_and_what_to_try() {
    let listens = "echo Listening on http://localhost:3000; exec sleep 60";
    let place = Place::with(json!({
        "http": {"command": "sh", "args": ["-c", listens]},
        "good": good(),
        "off": {"command": "true", "enabled": false},
    }));
    let doctor = place
        .run(&["doctor", "--connect-timeout", "2s", "--json"])
        .json(4);
    let of = |name: &str| {
        let servers = doctor["servers"].as_array().unwrap();
        servers
            .iter()
            .find(|server| server["name"] == name)
            .unwrap()
    };
    let http = of("http");
    assert_eq!(http["good"], false);
    assert!(
        http["reason"].as_str().unwrap().contains("Listening on"),
        "{http}"
    );
    assert!(
        http["next"][0].as_str().unwrap().contains("`url`"),
        "{http}"
    );
    assert_eq!(
        http["skipped_samples"][0],
        "Listening on http://localhost:3000"
    );
    let good = of("good");
    assert_eq!(
        (&good["good"], &good["offers"]["tools"]),
        (&json!(true), &json!(2))
    );
    assert!(good["protocol"].is_string(), "{good}");
    let off = place.run(&["doctor", "off"]);
    assert_eq!(off.code(), 0);
    assert!(
        off.stdout()
            .contains("mcpool --config servers.json config enable off"),
        "{}",
        off.stdout()
    );
}

#[test]
fn doctor_says_where_an_mcp_server_does_answer() {
    let address = closed_port();
    let place = Place::with(json!({"good": good()}));
    let _serving = place.start(&["serve", "--listen", &address]);
    until("it listens", || TcpStream::connect(&address).ok());
    let url =
        |path: &str, kind: &str| json!({"url": format!("http://{address}{path}"), "type": kind});
    let place = Place::with(json!({
        "path": url("/wrong", "http"),
        "transport": url("/mcp", "sse"),
    }));
    let doctor = place.run(&["doctor", "--json"]).json(4);
    for server in doctor["servers"].as_array().unwrap() {
        let right = format!("http://{address}/mcp");
        let next = format!(
            "an MCP server answers at {right}: write \"url\": \"{right}\", \"type\": \"http\""
        );
        assert_eq!(server["next"], json!([next]), "{server}");
    }
}
