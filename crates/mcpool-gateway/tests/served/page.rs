//! The page and the API beneath it: what they say, to whom, and whom they refuse.

use mcpool_core::{Client, ProtocolVersion};
use mcpool_gateway::{
    AccessKeys, Fleet, FleetServer, FleetWorker, Gateway, Grant, HttpOptions, HttpServer, Profile,
};
use mcpool_testkit::{Behavior, Era};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};

use crate::support::{Answers, PATIENCE, Served, by_hand, call, of_era};

fn asked(served: &Served, method: Method, path: &str) -> RequestBuilder {
    by_hand().request(method, served.url(path))
}

async fn get(served: &Served, path: &str) -> Response {
    asked(served, Method::GET, path).send().await.unwrap()
}

pub(crate) async fn json_of(served: &Served, path: &str) -> Value {
    let response = get(served, path).await;
    assert_eq!(response.status(), StatusCode::OK, "{path}");
    response.json().await.unwrap()
}

async fn act(served: &Served, path: &str) -> Response {
    let request = asked(served, Method::POST, path);
    request.json(&json!({})).send().await.unwrap()
}

/// The events of a stream until one of this kind, with the words before it.
async fn until(stream: &mut Response, seen: &mut String, kind: &str) {
    let found = async {
        while !seen.contains(kind) {
            let chunk = stream.chunk().await.unwrap().expect("the stream ended");
            seen.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    };
    tokio::time::timeout(PATIENCE, found)
        .await
        .unwrap_or_else(|_| panic!("{kind} did not come: {seen}"));
}

#[tokio::test]
async fn the_page_loads_nothing_of_others_and_is_framed_by_nobody() {
    let served = Served::one(Era::Modern).await;
    for (path, kind) in [
        ("/", "text/html"),
        ("/page.js", "text/javascript"),
        ("/tools.js", "text/javascript"),
        ("/page.css", "text/css"),
    ] {
        let file = get(&served, path).await;
        assert_eq!(file.status(), StatusCode::OK, "{path}");
        let header = |name: &str| file.headers()[name].to_str().unwrap().to_owned();
        assert!(header("content-type").starts_with(kind), "{path}");
        let policy = header("content-security-policy");
        assert!(policy.starts_with("default-src 'none';"), "{policy}");
        assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
        assert!(
            !policy.contains("unsafe") && !policy.contains('*'),
            "{policy}"
        );
        assert_eq!(header("x-content-type-options"), "nosniff");
        assert_eq!(header("x-frame-options"), "DENY");
        let text = file.text().await.unwrap();
        // What the policy would block, and what it could not: text of servers set as HTML.
        for never in [
            "<style",
            "onclick=",
            "style=\"",
            "innerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
        ] {
            assert!(!text.contains(never), "{path}: {never}");
        }
        let foreign = text.replace("http://www.w3.org/2000/svg", "");
        assert!(!foreign.contains("://"), "{path} names another host");
    }
    let refused = asked(&served, Method::GET, "/").header("host", "evil.example");
    assert_eq!(
        refused.send().await.unwrap().status(),
        StatusCode::FORBIDDEN
    );
}

#[tokio::test]
async fn the_status_counts_calls_and_names_clients() {
    let served = Served::with(&[
        ("files", of_era(Era::Legacy)),
        ("notes", of_era(Era::Modern)),
    ])
    .await;
    let client = served.client(&ProtocolVersion::V_2025_11_25).await;
    call(&*client, "files__echo", json!({"message": "hi"})).await;
    call(&*client, "files__fail", json!({"message": "no"})).await;
    let status = json_of(&served, "/api/v1/status").await;
    assert_eq!(
        (&status["api"], &status["operator"]),
        (&json!(1), &json!(true))
    );
    let servers = status["servers"].as_array().unwrap();
    assert_eq!(servers.len(), 2);
    let files = &servers[0];
    assert_eq!(
        (&files["name"], &files["state"]),
        (&json!("files"), &json!("ready"))
    );
    assert_eq!(files["calls"]["total"], 2);
    assert_eq!(files["calls"]["failed_total"], 1);
    let counted: u64 = files["calls"]["calls"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_u64)
        .sum();
    assert_eq!(counted, 2);
    assert_eq!(servers[1]["calls"]["total"], 0);
    let clients = json_of(&served, "/api/v1/clients").await;
    let client = &clients["clients"][0];
    assert_eq!(client["protocol"], "2025-11-25");
    assert_eq!(
        (&client["carrier"], &client["scope"]),
        (&json!("http"), &json!("pool"))
    );
    assert!(client["name"].is_string(), "{clients}");
    assert!(client["requests"].as_u64().unwrap() >= 3, "{clients}");
}

#[tokio::test]
async fn the_workers_of_a_fleet_are_in_the_status_where_there_are_any() {
    let served = Served::one(Era::Modern).await;
    assert_eq!(
        json_of(&served, "/api/v1/status").await["fleet"],
        Value::Null
    );
    let server = FleetServer {
        server: "files".parse().unwrap(),
        state: "backoff".to_owned(),
        sharing: "one".to_owned(),
        epoch: 7,
        tools: 3,
        why: Some("it exits".to_owned()),
    };
    let worker = FleetWorker {
        worker: "w1".to_owned(),
        place: "rack 7".to_owned(),
        here: true,
        servers: vec![server],
    };
    let fleet = Fleet {
        pool: "tools".to_owned(),
        connected: true,
        workers: vec![worker],
    };
    let given = fleet.clone();
    let gateway = Gateway::builder(served.manager.clone()).with_fleet(move || given.clone());
    let Served {
        manager, servers, ..
    } = served;
    let served = Served::on_socket(gateway.build(), manager, servers, HttpOptions::new()).await;
    let mut status = json_of(&served, "/api/v1/status").await;
    let expected = json!({"pool": "tools", "connected": true, "workers": [{
        "worker": "w1", "place": "rack 7", "here": true, "servers": [{
            "server": "files", "state": "backoff", "sharing": "one", "epoch": 7, "tools": 3,
            "why": "it exits"}]}]});
    assert_eq!(status["fleet"], expected);
    // Who reads the API can read it as it was written.
    let read: Fleet = serde_json::from_value(status["fleet"].take()).unwrap();
    assert_eq!(read, fleet);
}

#[tokio::test]
async fn tools_are_listed_under_their_own_names_with_their_schemas() {
    let served = Served::one(Era::Modern).await;
    let list = json_of(&served, "/api/v1/servers/files/tools").await;
    let tools = list["tools"].as_array().unwrap();
    let echo = tools.iter().find(|tool| tool["name"] == "echo").unwrap();
    assert_eq!(echo["inputSchema"]["type"], "object");
    for (kind, member) in [("prompts", "name"), ("resources", "uri")] {
        let list = json_of(&served, &format!("/api/v1/servers/files/{kind}")).await;
        assert_eq!(list["at"], "servers/files/mcp");
        assert!(list[kind][0][member].is_string(), "{list}");
    }
    for path in [
        "/api/v1/servers/none/tools",
        "/api/v1/servers/none/prompts",
        "/api/v1/servers/a%2fb/tools",
        "/api/v2/status",
    ] {
        assert_eq!(
            get(&served, path).await.status(),
            StatusCode::NOT_FOUND,
            "{path}"
        );
    }
}

#[tokio::test]
async fn actions_change_the_pool_and_events_say_so() {
    let served = Served::one(Era::Legacy).await;
    let mut stream = get(&served, "/api/v1/events").await;
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    let mut seen = String::new();
    until(&mut stream, &mut seen, "event: begun").await;
    let done: Value = act(&served, "/api/v1/servers/files/disable")
        .await
        .json()
        .await
        .unwrap();
    assert_eq!(done, json!({"ok": true}));
    let status = json_of(&served, "/api/v1/status").await;
    assert_eq!(status["servers"][0]["enabled"], false);
    let at = served.address.to_string();
    assert_eq!(status["listens"], json!([at]));
    until(&mut stream, &mut seen, r#""to":"disabled""#).await;
    // A probe of what is disabled fails, and says why.
    let done: Value = act(&served, "/api/v1/servers/files/probe")
        .await
        .json()
        .await
        .unwrap();
    assert_eq!(
        (&done["ok"], done["error"]["kind"].is_string()),
        (&json!(false), true)
    );
    act(&served, "/api/v1/servers/files/enable").await;
    let done: Value = act(&served, "/api/v1/servers/files/reconnect")
        .await
        .json()
        .await
        .unwrap();
    assert_eq!(done, json!({"ok": true}));
    until(&mut stream, &mut seen, r#""event":"connected""#).await;
    for path in [
        "/api/v1/servers/files/explode",
        "/api/v1/servers/none/probe",
    ] {
        assert_eq!(act(&served, path).await.status(), StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn an_action_that_another_page_sends_is_refused() {
    let served = Served::one(Era::Legacy).await;
    let path = "/api/v1/servers/files/disable";
    let form = asked(&served, Method::POST, path).body("{}");
    assert_eq!(
        form.send().await.unwrap().status(),
        StatusCode::UNSUPPORTED_MEDIA_TYPE
    );
    // A page of this machine at another port may talk MCP, and may not do this.
    let other = asked(&served, Method::POST, path)
        .json(&json!({}))
        .header("origin", "http://localhost:1");
    assert_eq!(other.send().await.unwrap().status(), StatusCode::FORBIDDEN);
    assert_eq!(
        get(&served, path).await.status(),
        StatusCode::METHOD_NOT_ALLOWED
    );
    let own = asked(&served, Method::POST, path)
        .json(&json!({}))
        .header("origin", format!("http://{}", served.address));
    let status = json_of(&served, "/api/v1/status").await;
    assert_eq!(status["servers"][0]["enabled"], true);
    assert_eq!(own.send().await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn with_keys_everything_but_the_bare_page_asks_for_one_and_operators_are_named() {
    let served = Served::one(Era::Legacy).await;
    let (ada, of_ada) = AccessKeys::issue(&Grant::new("ada").unwrap());
    let (bob, of_bob) = AccessKeys::issue(&Grant::new("bob").unwrap());
    let keys = AccessKeys::read(&format!("{of_ada}\n{of_bob}")).unwrap();
    let options = HttpOptions::new().with_keys(keys).with_operator("ada");
    let served = Served::on_socket(served.gateway, served.manager, served.servers, options).await;
    assert_eq!(get(&served, "/").await.status(), StatusCode::OK);
    for path in ["status", "clients", "events", "servers/files/tools"] {
        let refused = get(&served, &format!("/api/v1/{path}")).await;
        assert_eq!(refused.status(), StatusCode::UNAUTHORIZED, "{path}");
    }
    let path = "/api/v1/servers/files/probe";
    let as_who = |key: &str| {
        asked(&served, Method::POST, path)
            .json(&json!({}))
            .bearer_auth(key)
            .send()
    };
    assert_eq!(
        as_who("mcpool_guess").await.unwrap().status(),
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(
        as_who(bob.expose()).await.unwrap().status(),
        StatusCode::FORBIDDEN
    );
    assert_eq!(as_who(ada.expose()).await.unwrap().status(), StatusCode::OK);
    // Each sees itself, and the operator everybody.
    for key in [&ada, &bob] {
        let begun = asked(&served, Method::POST, "/mcp")
            .header("accept", "application/json")
            .bearer_auth(key.expose())
            .json(
                &json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
                "protocolVersion": "2025-11-25", "capabilities": {},
                "clientInfo": {"name": "t", "version": "1"}}}),
            );
        assert_eq!(begun.send().await.unwrap().status(), StatusCode::OK);
    }
    for (key, sees) in [(&ada, 2), (&bob, 1)] {
        let clients = asked(&served, Method::GET, "/api/v1/clients").bearer_auth(key.expose());
        let clients: Value = clients.send().await.unwrap().json().await.unwrap();
        assert_eq!(
            clients["clients"].as_array().unwrap().len(),
            sees,
            "{clients}"
        );
    }
}

#[tokio::test]
async fn a_client_that_leaves_is_not_shown_any_more() {
    let served = Served::with(&[("files", Behavior::new())]).await;
    let version = ProtocolVersion::V_2025_11_25;
    let client = served
        .client_at("/servers/files/mcp", &version, std::sync::Arc::new(Answers))
        .await;
    let scope = json_of(&served, "/api/v1/clients").await["clients"][0]["scope"].clone();
    assert_eq!(scope, "server files");
    Client::close(&*client).await;
    let clients = json_of(&served, "/api/v1/clients").await;
    assert_eq!(clients["clients"], json!([]));
}

#[tokio::test]
async fn a_key_of_a_profile_sees_its_part_alone() {
    let served = Served::with(&[
        ("files", of_era(Era::Legacy)),
        ("notes", of_era(Era::Modern)),
    ])
    .await;
    let grant = Grant::new("ada").unwrap().with_profile("reading").unwrap();
    let (ada, line) = AccessKeys::issue(&grant);
    let only = mcpool_core::ToolFilter::allow(["files__echo"]);
    let files = mcpool_core::ServerName::new("files").unwrap();
    let profile = Profile::new("reading")
        .with_servers([files])
        .with_tools(only);
    let options = HttpOptions::new().with_keys(AccessKeys::read(&line).unwrap());
    let profiles = [profile].into_iter().collect();
    let served = served
        .with_profiles(profiles, options, HttpServer::new())
        .await;
    let get = async |path: &str| {
        let request = asked(&served, Method::GET, path).bearer_auth(ada.expose());
        request.send().await.unwrap()
    };
    let status: Value = get("/api/v1/status").await.json().await.unwrap();
    let servers = status["servers"].as_array().unwrap();
    assert_eq!((servers.len(), &servers[0]["name"]), (1, &json!("files")));
    assert_eq!(
        (&status["operator"], &status["principal"]),
        (&json!(false), &json!("ada"))
    );
    // It calls at the pool's own path, by the pool's names.
    let list: Value = get("/api/v1/servers/files/tools")
        .await
        .json()
        .await
        .unwrap();
    assert_eq!(list["at"], "mcp");
    let tools = list["tools"].as_array().unwrap();
    assert_eq!((tools.len(), &tools[0]["name"]), (1, &json!("files__echo")));
    let list: Value = get("/api/v1/servers/files/resources")
        .await
        .json()
        .await
        .unwrap();
    assert_eq!(list["at"], "mcp");
    assert!(list["resources"][0]["uri"].is_string(), "{list}");
    for kind in ["tools", "prompts", "resources"] {
        let other = get(&format!("/api/v1/servers/notes/{kind}")).await;
        assert_eq!(other.status(), StatusCode::NOT_FOUND);
    }
    // What it may not have says what it may.
    let refused = get("/servers/files/mcp").await;
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    let said: Value = refused.json().await.unwrap();
    assert_eq!(
        said["error"]["message"],
        "this key or token may use only the profile \"reading\""
    );
    // What happens at other servers is not shown either.
    let mut stream = get("/api/v1/events").await;
    let mut seen = String::new();
    until(&mut stream, &mut seen, "event: begun").await;
    served
        .manager
        .server("notes")
        .unwrap()
        .disable()
        .await
        .unwrap();
    served
        .manager
        .server("files")
        .unwrap()
        .disable()
        .await
        .unwrap();
    until(&mut stream, &mut seen, r#""to":"disabled""#).await;
    assert!(!seen.contains("notes"), "{seen}");
}

/// What a browser makes of the page. Text of a client that would be markup is shown as text.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Chromium (`chromium` in PATH); `cargo xtask ci --long` runs it"]
async fn a_browser_draws_the_page_and_no_markup_of_others() {
    let served = Served::one(Era::Legacy).await;
    let name = "<img src=x onerror=\"document.title='pwned'\">";
    let hostile = asked(&served, Method::POST, "/mcp")
        .header("accept", "application/json")
        .json(
            &json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
            "protocolVersion": "2025-11-25", "capabilities": {},
            "clientInfo": {"name": name, "version": "1"}}}),
        );
    assert_eq!(hostile.send().await.unwrap().status(), StatusCode::OK);
    let profile = tempfile::tempdir().unwrap();
    let browser = tokio::process::Command::new("chromium")
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
        ])
        .args([
            "--disable-background-networking",
            "--disable-component-update",
        ])
        .args([
            "--disable-sync",
            "--disable-quic",
            "--virtual-time-budget=5000",
            "--dump-dom",
        ])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(served.url("/#server=files"))
        .kill_on_drop(true)
        .output();
    let drawn = tokio::time::timeout(PATIENCE * 3, browser)
        .await
        .unwrap()
        .unwrap();
    let dom = String::from_utf8_lossy(&drawn.stdout).into_owned();
    assert!(dom.contains("1 of 1 servers ready"), "{dom}");
    assert!(dom.contains(r#"data-server="files""#), "{dom}");
    assert!(
        dom.contains(">echo</span>"),
        "the tools are not there: {dom}"
    );
    let url = format!("<code>{}</code>", served.url("/mcp"));
    assert!(
        dom.contains(&url),
        "the URL for clients is not there: {dom}"
    );
    assert!(
        dom.contains("Calls in the last 5 minutes: 0 (0 failed)"),
        "{dom}"
    );
    assert!(dom.contains("<h3>Prompts ("), "{dom}");
    assert!(dom.contains("<h3>Resources ("), "{dom}");
    assert!(dom.contains("&lt;img src=x onerror="), "{dom}");
    assert!(
        !dom.contains("<img src=x") && !dom.contains("<title>pwned"),
        "{dom}"
    );
}
