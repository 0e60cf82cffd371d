//! A copy of an entry in another file means the same.

use mcpool_config::{Entry, Folders, Loader, Portable};
use mcpool_core::TransportSpec;

fn entry(folder: &std::path::Path, file: &str, text: &str) -> Entry {
    let path = folder.join(file);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, text).unwrap();
    let loaded = Loader::new()
        .with_file(&path)
        .with_folders(Folders::below(folder.join("home")).with_workspace("/work/elsewhere"))
        .with_env([("KEY", "canary-key")])
        .load()
        .unwrap();
    loaded.entry("a").unwrap().clone()
}

#[tokio::test]
async fn relative_paths_and_folders_of_the_project() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("project");
    let text = r#"{ "mcpServers": { "a": { "command": "./run.sh", "cwd": "srv", "envFile": ".env",
        "args": ["${workspaceFolder}/x", "$5"], "env": { "KEY": "${env:KEY}", "N": "${workspaceFolderBasename}" } } } }"#;
    let from = entry(&root, ".cursor/mcp.json", text);
    std::fs::write(root.join(".env"), "FROM=file\n").unwrap();
    let Portable {
        settings, changed, ..
    } = from.portable();
    let path = |end: &str| Some(root.join(end).to_string_lossy().into_owned());
    assert_eq!(settings.cwd, path("srv"));
    assert_eq!(settings.env_file, path(".env"));
    assert_eq!(Some(settings.args[0].clone()), path("x"));
    assert_eq!(changed, ["args[0]", "env.N", "cwd", "env_file"]);
    // In a file of ours, in another place, it is the same server.
    let text = serde_json::json!({ "mcpServers": { "a": settings } }).to_string();
    let copy = entry(folder.path(), "own/mcp.json", &text);
    let (old, new) = (
        from.spec.resolved().await.unwrap(),
        copy.spec.resolved().await.unwrap(),
    );
    let (TransportSpec::Stdio(old), TransportSpec::Stdio(new)) = (old.transport, new.transport)
    else {
        panic!("not stdio");
    };
    assert_eq!(old, new);
    assert_eq!(new.args[1], "$5");
    assert_eq!(new.env["FROM"].expose(), "file");
    assert_eq!(new.env["N"].expose(), "project");
}

#[test]
fn a_projects_process_starts_in_the_project() {
    let folder = tempfile::tempdir().unwrap();
    let of_project = entry(
        folder.path(),
        "project/.cursor/mcp.json",
        r#"{ "mcpServers": { "a": { "command": "node", "args": ["./server.js"] } } }"#,
    );
    let project = folder.path().join("project").to_string_lossy().into_owned();
    assert_eq!(of_project.portable().settings.cwd, Some(project));
    assert_eq!(of_project.portable().changed, ["cwd"]);
    let remote = entry(
        folder.path(),
        "other/.cursor/mcp.json",
        r#"{ "mcpServers": { "a": { "url": "https://example.org/mcp" } } }"#,
    );
    assert!(remote.portable().changed.is_empty());
}

#[test]
fn a_plugins_folder_is_written_out_and_a_users_project_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let plugin = entry(
        folder.path(),
        "plugin/.claude-plugin/plugin.json",
        r#"{ "mcpServers": { "a": { "command": "${CLAUDE_PLUGIN_ROOT}/x", "cwd": "~/y" } } }"#,
    );
    let portable = plugin.portable();
    let command = folder
        .path()
        .join("plugin/x")
        .to_string_lossy()
        .into_owned();
    assert_eq!(portable.settings.command, Some(command));
    assert_eq!(portable.changed, ["command"]);
    // The user's own file means whatever project is worked on.
    let user = entry(
        folder.path(),
        "home/.cursor/mcp.json",
        r#"{ "mcpServers": { "a": { "command": "x", "args": ["${workspaceFolder}"] } } }"#,
    );
    assert!(user.portable().changed.is_empty());
    assert_eq!(user.portable().settings, user.settings);
}
