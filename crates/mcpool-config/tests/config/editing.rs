//! Edits keep comments, order, unknown keys and line ends.

use std::fs;

use mcpool_config::{
    Edit, Format, Loader, edit_file, edit_text,
    settings::{HeaderMap, ServerSettings},
};
use mcpool_core::ErrorKind;

fn stdio(command: &str) -> Box<ServerSettings> {
    let mut settings = ServerSettings::default();
    settings.command = Some(command.to_owned());
    settings.args = vec!["-y".to_owned(), "a \"quoted\" \\ arg".to_owned()];
    settings
        .env
        .insert("TOKEN".to_owned(), "${TOKEN}".to_owned());
    Box::new(settings)
}

/// What `stdio` is once it was read: the transport is settled.
fn read_back(command: &str) -> ServerSettings {
    let mut settings = *stdio(command);
    settings.transport = Some(mcpool_config::settings::TransportName::Stdio);
    settings
}

fn add(name: &str) -> Edit {
    Edit::Add {
        name: name.to_owned(),
        settings: stdio("npx"),
        replace: false,
    }
}

fn enable(name: &str, enabled: bool) -> Edit {
    Edit::SetEnabled {
        name: name.to_owned(),
        enabled,
    }
}

fn remove(name: &str) -> Edit {
    Edit::Remove {
        name: name.to_owned(),
    }
}

const JSON: &str = r#"// at the top
{
  "future": [1, 2,   3], // unknown, and stays
  "mcpServers": {
    /* about a */
    "a": { "command": "x", "odd": { "k": null } },
    // about b
    "b": {
      "command": "y", // behind
      "disabled": false,
    },
  },
}
"#;

#[test]
fn json_keeps_everything_else() {
    let out = edit_text(JSON, Format::Json, &[enable("b", false)]).unwrap();
    assert_eq!(
        out,
        JSON.replace("\"disabled\": false", "\"disabled\": true")
    );
    let out = edit_text(JSON, Format::Json, &[enable("a", true)]).unwrap();
    assert_eq!(out, JSON, "what holds already is left alone");

    let out = edit_text(JSON, Format::Json, &[add("c")]).unwrap();
    for line in JSON.lines() {
        assert!(out.contains(line.trim()), "{line} is lost in {out}");
    }
    let loaded = Loader::new().with_text("x", &out).load().unwrap();
    assert_eq!(loaded.entry("c").unwrap().settings, read_back("npx"));

    let out = edit_text(&out, Format::Json, &[remove("c")]).unwrap();
    assert!(!out.contains("quoted"), "{out}");
    assert!(
        out.contains("/* about a */")
            && out.contains("// about b")
            && out.contains("// at the top")
    );
    let back = Loader::new().with_text("x", &out).load().unwrap();
    assert_eq!(back.servers.len(), 2);

    let out = edit_text(JSON, Format::Json, &[enable("a", false)]).unwrap();
    assert!(
        !Loader::new()
            .with_text("x", &out)
            .load()
            .unwrap()
            .entry("a")
            .unwrap()
            .spec
            .enabled
    );
}

#[test]
fn windows_line_ends_and_a_byte_order_mark_stay() {
    let text = format!("\u{feff}{}", JSON.replace('\n', "\r\n"));
    let out = edit_text(&text, Format::Json, &[add("c"), enable("c", false)]).unwrap();
    assert!(out.starts_with('\u{feff}'));
    assert_eq!(
        out.matches('\n').count(),
        out.matches("\r\n").count(),
        "{out:?}"
    );
    let toml = "# top\r\n[mcpServers.a]\r\ncommand = \"x\" # behind\r\n";
    let out = edit_text(toml, Format::Toml, &[add("b"), enable("a", false)]).unwrap();
    assert!(
        out.contains("# behind\r\n") && out.starts_with("# top\r\n"),
        "{out:?}"
    );
    assert_eq!(
        out.matches('\n').count(),
        out.matches("\r\n").count(),
        "{out:?}"
    );
}

#[test]
fn toml_keeps_everything_else() {
    let text = "# top\nfuture = [1,  2]\n\n# about a\n[mcpServers.a]\ncommand = \"x\"   # behind\nodd = 1\n\n[mcpServers.b] # b\ncommand = \"y\"\nenabled = true # on\n";
    let out = edit_text(text, Format::Toml, &[enable("b", false)]).unwrap();
    assert_eq!(
        out,
        text.replace("enabled = true # on", "enabled = false # on")
    );
    let out = edit_text(text, Format::Toml, &[add("c")]).unwrap();
    assert!(out.starts_with(text), "{out}");
    let loaded = Loader::new().with_text("x.toml", &out).load().unwrap();
    assert_eq!(
        loaded.entry("c").unwrap().settings,
        read_back("npx"),
        "{out}"
    );
    let out = edit_text(&out, Format::Toml, &[remove("c")]).unwrap();
    assert_eq!(out.trim_end(), text.trim_end());
}

#[test]
fn what_cannot_be_done_is_said() {
    let kind = |edit: Edit| edit_text(JSON, Format::Json, &[edit]).unwrap_err();
    assert_eq!(kind(add("a")).kind(), ErrorKind::InvalidArgument);
    let error = kind(remove("aa"));
    assert_eq!(error.kind(), ErrorKind::UnknownServer);
    assert_eq!(kind(add(" x")).kind(), ErrorKind::InvalidSpec);
    assert_eq!(
        edit_text("{", Format::Json, &[add("a")])
            .unwrap_err()
            .kind(),
        ErrorKind::InvalidSpec
    );
    let yaml = edit_text("mcpServers: {}\n", Format::Yaml, &[add("a")]).unwrap_err();
    assert!(yaml.to_string().contains("by hand"), "{yaml}");
    let other = edit_text(
        "{ \"servers\": { \"a\": { \"command\": \"x\" } } }",
        Format::Json,
        &[add("b")],
    )
    .unwrap_err();
    assert!(other.to_string().contains("import vscode"), "{other}");
}

#[test]
fn a_new_file_is_strict_json_and_the_owners_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/er/mcp.json");
    assert!(edit_file(&path, &[add("a")]).unwrap());
    let mut url = ServerSettings::default();
    url.url = Some("https://example.org/mcp".to_owned());
    url.headers = HeaderMap(vec![("Authorization".to_owned(), "Bearer ${T}".to_owned())]);
    let edit = Edit::Add {
        name: "b".to_owned(),
        settings: Box::new(url),
        replace: false,
    };
    assert!(edit_file(&path, &[edit]).unwrap());
    assert!(
        !edit_file(&path, &[enable("a", true)]).unwrap(),
        "nothing to change"
    );
    let text = fs::read_to_string(&path).unwrap();
    let value: serde_json::Value = serde_json::from_str(&text).expect("strict JSON");
    assert_eq!(value["mcpServers"]["b"]["url"], "https://example.org/mcp");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        // A symbolic link stays one.
        let link = folder.path().join("link.json");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        edit_file(&link, &[enable("a", false)]).unwrap();
        assert!(
            fs::symlink_metadata(&link)
                .unwrap()
                .file_type()
                .is_symlink()
        );
        assert!(
            fs::read_to_string(&path)
                .unwrap()
                .contains("\"enabled\": false")
        );
    }
    let left: Vec<_> = fs::read_dir(path.parent().unwrap())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(
        left,
        ["mcp.json"],
        "no temporary file, no lock file is left"
    );
}

#[test]
fn edits_at_the_same_time_are_all_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mcp.json");
    std::thread::scope(|scope| {
        for n in 0..16 {
            let path = &path;
            scope.spawn(move || edit_file(path, &[add(&format!("s{n}"))]).unwrap());
        }
    });
    let loaded = Loader::new().with_file(&path).load().unwrap();
    assert_eq!(loaded.servers.len(), 16);
}
