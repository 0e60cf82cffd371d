//! Filling in at connect time: files, helpers, inputs, stores, and where values came from.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use mcpool_config::{
    Folders, InputDeclaration, InputProvider, Loaded, Loader, Reference, Resolver, VariableSource,
};
use mcpool_core::{Result, Secret, ServerSpec, SpecResolver as _, TransportSpec};

fn env_of(spec: &ServerSpec) -> Vec<(String, String)> {
    match &spec.transport {
        TransportSpec::Stdio(stdio) => stdio
            .env
            .iter()
            .map(|(name, value)| (name.clone(), value.expose().to_owned()))
            .collect(),
        TransportSpec::Http(http) | TransportSpec::Sse(http) | TransportSpec::Auto(http) => http
            .headers
            .iter()
            .map(|(name, value)| (name.clone(), value.expose().to_owned()))
            .collect(),
        _ => panic!("{spec:?}"),
    }
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter()
        .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
        .collect()
}

#[derive(Debug)]
struct Asked(AtomicUsize);

#[async_trait::async_trait]
impl InputProvider for Asked {
    async fn ask(&self, id: &str, declaration: &InputDeclaration) -> Result<Option<Secret>> {
        self.0.fetch_add(1, Ordering::SeqCst);
        assert!(declaration.password);
        Ok(Some(Secret::new(format!("typed-{id}"))))
    }
}

#[derive(Debug)]
struct Vault;

#[async_trait::async_trait]
impl VariableSource for Vault {
    fn name(&self) -> &'static str {
        "vault"
    }
    fn schemes(&self) -> &[&str] {
        &["vault"]
    }
    async fn lookup(&self, reference: &Reference) -> Result<Option<Secret>> {
        Ok((reference.scheme.as_deref() == Some("vault")).then(|| Secret::new("from-vault")))
    }
}

#[tokio::test]
async fn inputs_are_asked_for_once_and_stores_are_asked_first() {
    let asked = Arc::new(Asked(AtomicUsize::new(0)));
    let loaded = Loader::new()
        .with_text(
            "mcp.json",
            r#"{ "inputs": [{ "id": "k", "password": true }], "servers": {
                "a": { "command": "x", "env": { "A": "${input:k}", "B": "${vault:p/q}" } },
                "b": { "command": "x", "env": { "A": "${input:k}" } } } }"#,
        )
        .with_input_provider(Arc::<Asked>::clone(&asked))
        .with_variable_source(Arc::new(Vault))
        .load()
        .unwrap();
    let (one, two) = tokio::join!(loaded.servers[0].resolved(), loaded.servers[1].resolved());
    assert_eq!(
        env_of(&one.unwrap()),
        pairs(&[("A", "typed-k"), ("B", "from-vault")])
    );
    assert_eq!(env_of(&two.unwrap()), pairs(&[("A", "typed-k")]));
    assert_eq!(asked.0.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_agent_plugin_starts_in_its_folder_and_has_one_for_data() {
    let folder = tempfile::tempdir().unwrap();
    let plugin = folder.path().join("tool");
    std::fs::create_dir_all(&plugin).unwrap();
    std::fs::write(
        plugin.join("mcp.json"),
        r#"{ "$schema": "https://agent-plugins.org/schemas/1.0.0/mcp.schema.json", "mcpServers": {
            "a": { "type": "stdio", "command": "./bin/a", "args": ["${PLUGIN_ROOT}/x", "${PLUGIN_ROOT:-x}", "${HOME}"] },
            "b": { "type": "stdio", "command": "b", "cwd": "${PLUGIN_DATA}", "env": { "PLUGIN_ROOT": "/else" } } } }"#,
    )
    .unwrap();
    let loaded = Loader::new()
        .with_file(plugin.join("mcp.json"))
        .with_folders(Folders::below(folder.path()).with_workspace(folder.path()))
        .with_env([("HOME", "/home/me"), ("PLUGIN_ROOT", "/wrong")])
        .load()
        .unwrap();
    let data = folder.path().join(".local/share/mcpool/plugins");
    assert!(!data.exists());
    let text = |path: &std::path::Path| path.to_string_lossy().into_owned();
    let mut folders = Vec::new();
    for spec in &loaded.servers {
        let TransportSpec::Stdio(stdio) = spec.resolved().await.unwrap().transport else {
            panic!("not stdio");
        };
        assert_eq!(stdio.env["PLUGIN_ROOT"].expose(), text(&plugin));
        folders.push(stdio.env["PLUGIN_DATA"].expose().to_owned());
        if stdio.command == "b" {
            assert_eq!(stdio.cwd.as_deref().map(text), folders.pop());
        } else {
            assert_eq!(stdio.command, text(&plugin.join("bin/a")));
            assert_eq!(stdio.cwd.as_deref(), Some(plugin.as_path()));
            let root = text(&plugin.join("x"));
            assert_eq!(stdio.args, [root.as_str(), "${PLUGIN_ROOT:-x}", "${HOME}"]);
        }
    }
    // It is there, and the same for both.
    let made: Vec<_> = std::fs::read_dir(data)
        .unwrap()
        .map(|entry| text(&entry.unwrap().path()))
        .collect();
    assert_eq!(made, folders);
}

#[tokio::test]
async fn files_folders_and_files_of_variables() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    std::fs::create_dir_all(&home).unwrap();
    std::fs::write(home.join("key"), "canary-home\n").unwrap();
    std::fs::write(folder.path().join("token.txt"), "canary-file\r\n").unwrap();
    std::fs::write(
        folder.path().join(".env"),
        "# c\nFROM_FILE=canary-env\nA='kept out'\n",
    )
    .unwrap();
    let path = folder.path().join("mcp.json");
    std::fs::write(
        &path,
        r#"{ "mcpServers": { "a": { "command": "x", "cwd": "sub", "env_file": ".env",
            "env": { "A": "${file:token.txt}", "B": "${file:~/key}", "C": "${userHome}", "D": "${file:none:-d}" } } } }"#,
    )
    .unwrap();
    let loaded = Loader::new()
        .with_file(&path)
        .with_folders(Folders::below(&home))
        .load()
        .unwrap();
    let spec = loaded.servers[0].resolved().await.unwrap();
    assert_eq!(
        env_of(&spec),
        pairs(&[
            ("A", "canary-file"),
            ("B", "canary-home"),
            ("C", home.to_str().unwrap()),
            ("D", "d"),
            ("FROM_FILE", "canary-env"),
        ])
    );
    let TransportSpec::Stdio(stdio) = &spec.transport else {
        panic!()
    };
    assert_eq!(
        stdio.cwd.as_deref(),
        Some(folder.path().join("sub").as_path())
    );
    // Another file of variables is another spec, so that a reload restarts the server.
    let text = std::fs::read_to_string(&path)
        .unwrap()
        .replace(".env\"", ".env2\"");
    std::fs::write(&path, text).unwrap();
    let again = Loader::new()
        .with_file(&path)
        .with_folders(Folders::below(&home))
        .load()
        .unwrap();
    assert!(again.servers[0] != loaded.servers[0]);
    let error = again.servers[0].resolved().await.unwrap_err();
    assert!(
        error.to_string().contains(".env2") && error.to_string().contains("mcp.json:1:"),
        "{error}"
    );
}

fn one(text: &str) -> Loaded {
    Loader::new()
        .with_text("mcp.json", text)
        .with_env([("T", "canary-t")])
        .load()
        .unwrap()
}

#[cfg(unix)]
#[tokio::test]
async fn a_helper_gives_headers_or_a_clear_error() {
    let helper = |command: &str| {
        one(&format!(
            r#"{{ "mcpServers": {{ "a": {{ "url": "https://example.org/mcp", "headers": {{ "x-a": "old", "B": "b" }}, "headers_helper": {} }} }} }}"#,
            serde_json::to_string(command).unwrap()
        ))
    };
    let spec = helper(r#"printf '{"X-A":"canary-new"}'"#).servers[0]
        .resolved()
        .await
        .unwrap();
    assert_eq!(env_of(&spec), pairs(&[("B", "b"), ("X-A", "canary-new")]));
    for (command, word) in [
        ("exit 3", "failed"),
        ("echo canary-text", "must print"),
        ("echo '{\"A\": 1}'", "must print"),
    ] {
        let error = helper(command).servers[0].resolved().await.unwrap_err();
        assert!(error.to_string().contains(word), "{error}");
        assert!(!format!("{error:?}").contains("canary"), "{error:?}");
    }
}

#[tokio::test]
async fn each_value_remembers_its_source() {
    let loaded = one(
        r#"{ "mcpServers": { "a": { "command": "x", "args": ["${T}", "plain"], "env": { "A": "${N:-${T}}", "B": "lit" } } } }"#,
    );
    let entry = loaded.entry("a").unwrap();
    let resolver: &Resolver = entry.resolver().expect("loaded entries have one");
    let resolution = resolver.resolve_with_provenance(&entry.spec).await.unwrap();
    let got: Vec<(&str, &str)> = resolution
        .provenance
        .iter()
        .map(|p| (p.field.as_str(), p.source.as_str()))
        .collect();
    assert_eq!(
        got,
        [
            ("args[0]", "environment"),
            ("env.A", "environment"),
            ("env.A", "default")
        ]
    );
    // The same file gives the same, so that a reload leaves the server alone.
    let again = one(r#"{ "mcpServers": { "a": { "command": "y" } } }"#);
    let again = again.entry("a").unwrap().resolver().unwrap();
    assert_eq!(resolver.fingerprint(), again.fingerprint());
}

#[tokio::test]
async fn an_unknown_scheme_is_an_error_with_a_hint() {
    let loaded =
        one(r#"{ "mcpServers": { "a": { "command": "x", "env": { "A": "${flie:x}" } } } }"#);
    let error = loaded.servers[0].resolved().await.unwrap_err();
    assert!(
        error.to_string().contains("did you mean `file:`?"),
        "{error}"
    );
}

#[tokio::test]
async fn unset_variables_are_found_without_connecting() {
    let loaded = one(
        r#"{ "mcpServers": { "a": { "command": "x", "args": ["${T}${N}"], "env": { "A": "${input:i}", "B": "${M}" } } } }"#,
    );
    let problems = loaded.entry("a").unwrap().missing_variables().await;
    let got: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(got.len(), 3, "{got:?}");
    assert!(
        got[0].contains("mcp.json:1:") && got[0].contains("${N}"),
        "{got:?}"
    );
    assert!(
        got[1].contains("nobody can be asked for ${input:i}"),
        "{got:?}"
    );
}

#[tokio::test]
async fn an_input_that_nobody_answers_has_its_default() {
    let text = r#"{ "mcpServers": {
            "inline": { "command": "x", "env": { "A": "${input:i:-abc}" } },
            "declared": { "command": "x", "env": { "A": "${input:d}" } },
            "none": { "command": "x", "env": { "A": "${input:i}", "B": "${UNSET}" } } },
        "inputs": [{ "id": "d", "default": "def" }] }"#;
    let of = |loaded: &mcpool_config::Loaded, name: &str| loaded.entry(name).unwrap().clone();
    let loaded = one(text);
    for (name, value) in [("inline", "abc"), ("declared", "def")] {
        let entry = of(&loaded, name);
        assert!(entry.missing_variables().await.is_empty(), "{name}");
        let spec = entry.spec.resolved().await.unwrap();
        assert_eq!(env_of(&spec), pairs(&[("A", value)]), "{name}");
    }
    let error = of(&loaded, "none").spec.resolved().await.unwrap_err();
    let error = error.to_string();
    for part in [
        "a variable is not set: ${UNSET} in env.B (mcp.json:4:",
        "nobody can be asked here for ${input:i} in env.A (mcp.json:4:",
    ] {
        assert!(error.contains(part), "{error}");
    }
    // The same where somebody is asked and says nothing.
    let loaded = Loader::new()
        .with_text("mcp.json", text)
        .with_input_provider(Arc::new(Silent))
        .load()
        .unwrap();
    let spec = of(&loaded, "inline").spec.resolved().await.unwrap();
    assert_eq!(env_of(&spec), pairs(&[("A", "abc")]));
    let error = of(&loaded, "none").spec.resolved().await.unwrap_err();
    assert!(
        error.to_string().contains("no answer was given for"),
        "{error}"
    );
}

/// A person who gives no answer.
#[derive(Debug)]
struct Silent;

#[async_trait::async_trait]
impl mcpool_config::InputProvider for Silent {
    async fn ask(
        &self,
        _: &str,
        _: &mcpool_config::InputDeclaration,
    ) -> mcpool_core::Result<Option<mcpool_core::Secret>> {
        Ok(None)
    }
}

/// Attack 12: an env file that is a pipe held a connect up for ever, and a device was read
/// without end.
#[cfg(unix)]
#[tokio::test]
async fn only_regular_files_of_a_bounded_size_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, 0o600.into()).unwrap();
    let large = folder.path().join("large");
    std::fs::File::create(&large)
        .unwrap()
        .set_len(1 << 21)
        .unwrap();
    let config = folder.path().join("mcp.json");
    for (path, why) in [
        (pipe.to_str().unwrap(), "no regular file"),
        ("/dev/zero", "no regular file"),
        (large.to_str().unwrap(), "larger than 1 MiB"),
    ] {
        for server in [
            format!(r#"{{ "command": "cat", "env_file": "{path}" }}"#),
            format!(r#"{{ "command": "cat", "args": ["${{file:{path}}}"] }}"#),
        ] {
            let text = format!(r#"{{ "mcpServers": {{ "a": {server} }} }}"#);
            std::fs::write(&config, text).unwrap();
            let loaded = Loader::new().with_file(&config).load().unwrap();
            let error = loaded.servers[0].resolved().await.unwrap_err();
            assert!(error.message().contains(why), "{server}: {error}");
        }
    }
    // A file of the project's, or of the user's, is no pipe; one that is named may be.
    let error = Loader::new().with_project_file(&pipe).load().unwrap_err();
    assert!(error.message().contains("no regular file"), "{error}");
    let error = Loader::new().with_file("/dev/zero").load().unwrap_err();
    assert!(error.message().contains("larger than 16 MiB"), "{error}");
    let writer = std::thread::spawn({
        let pipe = pipe.clone();
        move || std::fs::write(pipe, r#"{ "mcpServers": { "a": { "command": "x" } } }"#)
    });
    let loaded = Loader::new().with_file(&pipe).load().unwrap();
    assert_eq!(loaded.servers.len(), 1);
    writer.join().unwrap().unwrap();
}
