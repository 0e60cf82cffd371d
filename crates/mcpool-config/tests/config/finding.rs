//! Where each host keeps its files: all of them are known, and recognised by their paths.

use mcpool_config::{Dialect, Folders, HostFile, Loader, Scope, find, host_files};

fn shown(files: &[HostFile], root: &std::path::Path) -> Vec<String> {
    files
        .iter()
        .map(|file| {
            let path = file.path.strip_prefix(root).unwrap();
            format!("{} {} {}", file.dialect, file.scope, path.display())
        })
        .collect()
}

#[test]
fn the_files_of_every_host() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let (home, project) = (root.join("home"), root.join("project"));
    for file in [
        "home/.agents/plugins/tool/mcp.json",
        "home/.gemini/extensions/two/gemini-extension.json",
        "home/.gemini/extensions/one/gemini-extension.json",
        "home/.aws/amazonq/cli-agents/mine.json",
        "home/.claude/plugins/cache/market/mine/1.0.0/.claude-plugin/plugin.json",
        "home/.continue/mcpServers/a.yaml",
        "home/.continue/mcpServers/readme.txt",
    ] {
        let path = root.join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "{}").unwrap();
    }
    let folders = Folders::below(&home).with_workspace(&project);
    let all = host_files(&folders);
    let names = shown(&all, root);
    for want in [
        "crush user home/.config/crush/crush.json",
        "crush project project/crush.json",
        "amp user home/.config/amp/settings.json",
        "amp project project/.amp/settings.json",
        "librechat project project/librechat.yaml",
        "amazon-q user home/.aws/amazonq/mcp.json",
        "amazon-q project project/.amazonq/mcp.json",
        "mistral-vibe user home/.vibe/config.toml",
        "openhands user home/.openhands/mcp.json",
        "augment user home/.augment/settings.json",
        "docker-mcp user home/.docker/mcp/registry.yaml",
        "qwen user home/.qwen/settings.json",
        "kilo project project/.kilocode/mcp.json",
        "kilo user home/.config/kilo/kilo.json",
        "trae project project/.trae/mcp.json",
        "factory user home/.factory/mcp.json",
        "junie user home/.junie/mcp/mcp.json",
        "warp user home/.warp/.mcp.json",
        "antigravity user home/.gemini/antigravity/mcp_config.json",
        "windsurf project project/.windsurf/mcp_config.json",
        "vscode project project/.vscode/settings.json",
        "claude-code user home/.claude.json",
        "codex user home/.codex/config.toml",
    ] {
        assert!(names.contains(&want.to_owned()), "{want}: {names:#?}");
    }
    // What a pattern gives is there, in the order of its names.
    assert_eq!(
        shown(&find(&folders), root),
        [
            "claude-plugin user home/.claude/plugins/cache/market/mine/1.0.0/.claude-plugin/plugin.json",
            "agent-plugin user home/.agents/plugins/tool/mcp.json",
            "gemini-extension user home/.gemini/extensions/one/gemini-extension.json",
            "gemini-extension user home/.gemini/extensions/two/gemini-extension.json",
            "continue user home/.continue/mcpServers/a.yaml",
            "amazon-q user home/.aws/amazonq/cli-agents/mine.json",
        ]
    );
    // Those that have no file of their own are known as such.
    for dialect in Dialect::ALL {
        let has_file = all.iter().any(|file| file.dialect == *dialect);
        let fileless = [Dialect::CherryStudio, Dialect::FastMcp, Dialect::LangChain];
        assert_eq!(has_file, !fileless.contains(dialect), "{dialect}");
    }
}

#[test]
fn every_file_is_recognised_by_its_path() {
    let folder = tempfile::tempdir().unwrap();
    let folders =
        Folders::below(folder.path().join("home")).with_workspace(folder.path().join("project"));
    for file in host_files(&folders) {
        if file.dialect == Dialect::Native {
            continue;
        }
        // A file that says nothing of its own: only the path says whose it is.
        std::fs::create_dir_all(file.path.parent().unwrap()).unwrap();
        let extension = file.path.extension().unwrap().to_str().unwrap();
        let text = match extension {
            "toml" => "[mcpServers.a]\ncommand = \"x\"\n",
            _ => "{ \"mcpServers\": { \"a\": { \"command\": \"x\" } } }",
        };
        std::fs::write(&file.path, text).unwrap();
        let loaded = Loader::new()
            .with_file(&file.path)
            .with_folders(folders.clone())
            .load()
            .unwrap();
        let entry = loaded
            .entry("a")
            .unwrap_or_else(|| panic!("{file:?}: {:?}", loaded.problems));
        assert_eq!(entry.origin.dialect, Some(file.dialect), "{:?}", file.path);
        std::fs::remove_file(&file.path).unwrap();
    }
}

#[test]
fn a_users_file_belongs_to_the_project_that_is_worked_on() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    let path = home.join(".cursor/mcp.json");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(
        &path,
        r#"{ "mcpServers": { "a": { "command": "x", "args": ["${workspaceFolder}"] } } }"#,
    )
    .unwrap();
    let loaded = Loader::new()
        .with_file(&path)
        .with_folders(Folders::below(&home).with_workspace("/work/project"))
        .load()
        .unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let spec = runtime
        .block_on(loaded.entry("a").unwrap().spec.resolved())
        .unwrap();
    match spec.transport {
        mcpool_core::TransportSpec::Stdio(stdio) => assert_eq!(stdio.args, ["/work/project"]),
        other => panic!("{other:?}"),
    }
    assert_eq!(loaded.entry("a").unwrap().origin.scope, Scope::Named);
}
