//! Scopes, directories, imports, overrides, and the origins that are shown.

use std::fs;

use mcpool_config::{Folders, Loader, Scope, find};
use mcpool_core::{ServerSpec, StdioSpec};

#[test]
fn stronger_scopes_win_with_whole_entries() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    };
    let user = write(
        "user.json",
        r#"{ "budget": { "stdio": 2, "http": 3 }, "mcpServers": { "a": { "command": "user", "args": ["1"] }, "u": { "command": "u" } } }"#,
    );
    let project = write(
        "project.json",
        r#"{ "mcpServers": { "a": { "command": "project" }, "p": { "command": "p" } } }"#,
    );
    write("dir/2.toml", "[mcpServers.a]\ncommand = \"second\"\n");
    write(
        "dir/1.yaml",
        "mcpServers: { a: { command: first }, d: { command: d } }\n",
    );
    write("dir/ignored.txt", "{");
    // The order of the calls does not matter between scopes.
    let loader = Loader::new()
        .with_project_file(&project)
        .with_user_file(&user)
        .with_user_file(folder.path().join("none.json"));
    let loaded = loader.load().unwrap();
    let a = loaded.entry("a").unwrap();
    assert_eq!(a.settings.command.as_deref(), Some("project"));
    assert!(a.settings.args.is_empty(), "fields are never mixed");
    assert_eq!(a.origin.scope, Scope::Project);
    assert_eq!(a.shadowed.len(), 1);
    assert!(
        a.shadowed[0].to_string().contains("user.json:1:"),
        "{}",
        a.shadowed[0]
    );
    assert_eq!(loaded.budget().unwrap().stdio, 2);
    let shown = loaded.to_json(false);
    assert_eq!(
        shown["budget"],
        serde_json::json!({ "stdio": 2, "http": 3 })
    );

    let loader = loader
        .with_directory(folder.path().join("dir"))
        .with_env([(
            "LAYER",
            r#"{ "mcpServers": { "d": { "command": "env" } } }"#,
        )])
        .with_environment_layer("LAYER")
        .with_server(ServerSpec::stdio("u", StdioSpec::new("program")).unwrap());
    let loaded = loader.load().unwrap();
    let json = loaded.to_json(true);
    for (name, command, scope) in [
        ("a", "second", "named"),
        ("p", "p", "project"),
        ("d", "env", "environment"),
        ("u", "program", "program"),
    ] {
        assert_eq!(json["servers"][name]["command"], command, "{name}");
        assert_eq!(json["servers"][name]["origin"]["scope"], scope, "{name}");
    }
    let field = json["servers"]["a"]["origin"]["fields"]["command"]
        .as_str()
        .unwrap();
    assert!(field.ends_with("2.toml:2:11"), "{field}");
    assert_eq!(
        json["servers"]["a"]["origin"]["shadows"]
            .as_array()
            .unwrap()
            .len(),
        3
    );
}

#[test]
fn imports_come_from_the_hosts_own_files() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    fs::create_dir_all(home.join(".cursor")).unwrap();
    fs::create_dir_all(home.join(".codex")).unwrap();
    fs::write(home.join(".cursor/mcp.json"), r#"{ "mcpServers": { "both": { "command": "cursor" }, "own": { "command": "cursor" }, "bad": {} } }"#).unwrap();
    fs::write(
        home.join(".codex/config.toml"),
        "[mcp_servers.both]\ncommand = \"codex\"\n",
    )
    .unwrap();
    let folders = Folders::below(&home).with_workspace(folder.path());
    let load = |imports: &str| {
        Loader::new()
            .with_folders(folders.clone())
            .with_text("mcp.json", format!(r#"{{ "imports": {imports}, "mcpServers": {{ "own": {{ "command": "mine" }} }} }}"#))
            .load()
            .unwrap()
    };
    let command = |loaded: &mcpool_config::Loaded, name: &str| {
        loaded
            .entry(name)
            .unwrap()
            .settings
            .command
            .clone()
            .unwrap()
    };
    let loaded = load(r#"["cursor", "codex", "zed"]"#);
    assert_eq!(command(&loaded, "own"), "mine");
    assert_eq!(command(&loaded, "both"), "cursor", "the first host wins");
    assert_eq!(loaded.entry("both").unwrap().origin.scope, Scope::Import);
    assert!(
        !loaded.has_errors(),
        "what is wrong in another's file is a warning: {:?}",
        loaded.problems
    );
    let loaded = load(r#"{ "from": ["cursor", "codex"], "order": "last-wins" }"#);
    assert_eq!(command(&loaded, "both"), "codex");
    let loaded = load(r#"["cursr"]"#);
    assert!(
        loaded.problems[0]
            .to_string()
            .contains("did you mean `cursor`?"),
        "{:?}",
        loaded.problems
    );

    let found = find(&folders);
    let hosts: Vec<&str> = found.iter().map(|file| file.dialect.as_str()).collect();
    assert_eq!(hosts, ["cursor", "codex"]);
}
