//! A copy of an entry in another file means the same.

use mcpool_config::{Edit, Entry, Folders, Loader, Portable, edit_file};
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
    assert_eq!(user.portable().settings.args, ["${workspaceFolder}"]);
}

#[tokio::test]
async fn an_unset_variable_is_an_error_in_the_copy() {
    let folder = tempfile::tempdir().unwrap();
    let from = entry(
        folder.path(),
        "home/.cursor/mcp.json",
        r#"{ "mcpServers": { "a": { "url": "https://example.org/${UNSET:-x}",
            "headers": { "Authorization": "Bearer ${env:UNSET}", "X-B": "$5 ${env:KEY}" } } } }"#,
    );
    // The host passes it on as it stands.
    assert!(from.spec.resolved().await.is_ok());
    let settings = from.portable().settings;
    assert_eq!(
        settings.url.as_deref(),
        Some("https://example.org/${UNSET:-x}")
    );
    let values: Vec<&str> = settings
        .headers
        .0
        .iter()
        .map(|(_, value)| &**value)
        .collect();
    assert_eq!(values, ["Bearer ${env:UNSET}", "$5 ${env:KEY}"]);
    let text = serde_json::json!({ "mcpServers": { "a": settings } }).to_string();
    let copy = entry(folder.path(), "own/mcp.json", &text);
    let error = copy.spec.resolved().await.unwrap_err();
    assert!(error.to_string().contains("${env:UNSET}"), "{error}");
    // What an argument of a program, or of a shell, fills in by itself, stays.
    for (command, arg) in [("sh", "for i in 1; do echo ${i}; done"), ("x", "K:${OWN}")] {
        let text = serde_json::json!({ "mcpServers": { "a": {
            "command": command, "args": [arg], "env": { "OWN": "1" } } } });
        let from = entry(folder.path(), "home/.cursor/mcp.json", &text.to_string());
        let text = serde_json::json!({ "mcpServers": { "a": from.portable().settings } });
        let copy = entry(folder.path(), "own/mcp.json", &text.to_string());
        let TransportSpec::Stdio(stdio) = copy.spec.resolved().await.unwrap().transport else {
            panic!("not stdio");
        };
        assert_eq!(stdio.args, [arg]);
    }
}

#[tokio::test]
async fn inputs_go_along() {
    let folder = tempfile::tempdir().unwrap();
    let from = entry(
        folder.path(),
        "project/.vscode/mcp.json",
        r#"{ "inputs": [
            { "type": "promptString", "id": "tok", "description": "Token", "password": true },
            { "type": "pickString", "id": "env", "options": ["dev", { "label": "P", "value": "prod" }], "default": "dev" },
            { "type": "promptString", "id": "other" } ],
          "servers": { "a": { "type": "http", "url": "https://example.org/${input:env}",
            "headers": { "Authorization": "Bearer ${input:tok}" } } } }"#,
    );
    let portable = from.portable();
    let ids: Vec<&str> = portable.inputs.keys().map(String::as_str).collect();
    assert_eq!(ids, ["env", "tok"]);
    assert_eq!(portable.inputs["env"].options, ["dev", "prod"]);
    for (file, begin) in [("own/mcp.json", "{}"), ("own/mcp.toml", "")] {
        let path = folder.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, begin).unwrap();
        let mut edits = vec![Edit::Add {
            name: "a".to_owned(),
            settings: Box::new(portable.settings.clone()),
            replace: false,
        }];
        // Once is enough.
        for (id, declaration) in portable.inputs.iter().chain(&portable.inputs) {
            edits.push(Edit::AddInput {
                id: id.clone(),
                declaration: Box::new(declaration.clone()),
            });
        }
        edit_file(&path, &edits).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.matches("promptString").count(), 1, "{text}");
        let copy = entry(folder.path(), file, &text);
        assert_eq!(copy.portable().inputs, portable.inputs, "{text}");
        let missing = copy.missing_variables().await;
        assert_eq!(missing.len(), 1, "{missing:?}");
        assert!(missing[0].message.contains("${input:tok}"), "{missing:?}");
        let other = Edit::AddInput {
            id: "tok".to_owned(),
            declaration: Box::default(),
        };
        let error = edit_file(&path, &[other]).unwrap_err();
        assert!(error.to_string().contains("in another way"), "{error}");
    }
}
