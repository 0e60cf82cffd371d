//! No secret of a configuration is seen anywhere: not in `Debug`, errors, JSON, problems, logs.

use std::sync::{Arc, Mutex};

use mcpool_config::{Admission, Loaded, Loader, TrustStore};
use mcpool_core::{Masker, Sensitivity};

const TEXT: &str = r#"{
  "mcpServers": {
    "process": {
      "command": "npx",
      "args": ["--api-key", "canary-01", "--token=canary-02", "sk-canary-03-long-enough", "https://u:canary-04@h/x?k=canary-05", "Authorization: Bearer canary-06", "--header=X-Api-Key: canary-24"],
      "env": { "PLAIN": "canary-07", "TOKEN": "canary-08", "MIXED": "x${A:-canary-09}y", "DSN": "postgres://u:canary-10@h/d" },
      "timout": "canary"
    },
    "remote": {
      "url": "https://user:canary-11@example.org/mcp?key=canary-12#canary-13",
      "headers": { "Authorization": "Bearer canary-14", "X-Any": "canary-15", "X-Set": "${SET} canary-16" },
      "proxy": "http://u:canary-17@proxy.example.org",
      "oauth": { "client_id": "id", "client_secret": "canary-18", "private_key": "canary-28", "id_token": "canary-29", "assertion": "canary-30", "idp": { "issuer": "https://idp", "token_endpoint": "https://idp/t", "client_id": "c", "client_secret": "canary-31" } }
    },
    "bearer": { "url": "https://example.org", "bearer_token": "canary-19" },
    "missing": { "command": "x", "env": { "A": "${UNSET_VARIABLE}", "TOKEN": "canary-20" } },
    "wrong": { "command": "x", "env": { "TOKEN": "canary-21", "OTHER": ["canary-22"] }, "timeout": 30, "headers": { "bad name": "canary-23" } },
    "lists": { "command": "x", "env": ["TOKEN=canary-25"], "bearer_token": ["canary-26"], "args": { "a": "canary-27" } }
  }
}"#;

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn clean(what: &str, text: &str) {
    let at = text.find("canary-");
    assert!(
        at.is_none(),
        "{what} shows {}",
        &text[at.unwrap()..][..text.len().min(at.unwrap() + 40) - at.unwrap()]
    );
}

async fn everything(loaded: &Loaded) {
    clean("Debug of Loaded", &format!("{loaded:#?}"));
    clean("the JSON", &loaded.to_json(true).to_string());
    for problem in &loaded.problems {
        clean("a problem", &problem.render());
        clean("Debug of a problem", &format!("{problem:?}"));
        if let Some(span) = &problem.span {
            clean("the shown text", span.source().shown_text());
        }
    }
    for entry in loaded.entries() {
        clean("Debug of an entry", &format!("{entry:#?}"));
        match entry.spec.resolved().await {
            Ok(spec) => clean("Debug of an expanded spec", &format!("{spec:#?}")),
            Err(error) => {
                clean("an error", &error.to_string());
                clean("Debug of an error", &format!("{error:#?}"));
            }
        }
        for problem in entry.missing_variables().await {
            clean("a missing variable", &problem.render());
        }
    }
}

#[tokio::test]
async fn canaries_are_never_seen() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    // With one subscriber alone, a call site that a test without one reaches first stays silent.
    let _second = tracing::Dispatch::new(tracing_subscriber::registry());
    let guard = tracing::subscriber::set_default(subscriber);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mcp.json");
    std::fs::write(&path, TEXT).unwrap();
    let loader = Loader::new()
        .with_project_file(&path)
        .with_env([("SET", "canary-30"), ("A", "")]);
    let loaded = loader.load().unwrap().trusting_project();
    assert_eq!(loaded.servers.len(), 4, "{:?}", loaded.problems);
    everything(&loaded).await;
    clean("Debug of the loader", &format!("{loader:?}"));
    let error = loader.clone().strict(true).load().unwrap_err();
    clean("a strict error", &format!("{error} {error:?}"));
    // Broken in the middle: nothing of the structure is known.
    for (at, _) in TEXT.match_indices(['"', '{', '}', '[', ']', ',', '\n']) {
        for broken in [
            TEXT[..at].to_owned(),
            format!("{}@{}", &TEXT[..at], &TEXT[at..]),
        ] {
            let loaded = Loader::new().with_text("broken", broken).load().unwrap();
            for problem in &loaded.problems {
                let shown = problem.render();
                clean(&format!("{shown}\na problem of a broken file"), &shown);
            }
        }
    }
    let store = TrustStore::at(folder.path().join("trust.json"));
    let Admission::Asked(requests) = store.admit(&loaded).unwrap() else {
        panic!("not asked about");
    };
    clean("a question of trust", &format!("{requests:?}"));
    clean(
        "a refusal",
        &format!("{:?}", TrustStore::refusal(&requests)),
    );
    store.approve(&requests[0]).unwrap();
    clean(
        "the trust store",
        &std::fs::read_to_string(folder.path().join("trust.json")).unwrap(),
    );
    drop(guard);
    let logged = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(
        logged.contains("configuration read") && logged.contains("value resolved"),
        "{logged}"
    );
    clean("the log", &logged);
}

/// The application that shares its masker can take what was filled in out of its own output.
#[tokio::test]
async fn the_masker_learns_what_is_filled_in() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    write("key.pem", "--BEGIN--\n/canary+in/a/line\n--END--\n");
    write("more.env", "FROM_FILE=canary-in-env-file\n");
    let config = r#"{ "mcpServers": {
        "process": {
            "command": "x-${WHERE}", "cwd": "/tmp/${PLACE}", "env_file": "more.env",
            "args": ["--key", "${file:key.pem}", "${HOME}", "--token=canary-of-argument"],
            "env": { "REGION": "${REGION}", "TOKEN": "canary-literal" }
        },
        "remote": { "url": "https://example.org/${PATH_PART}", "headers": { "Authorization": "Bearer ${ANY}" } }
    } }"#;
    write("mcp.json", config);
    let masker = Masker::new();
    let loaded = Loader::new()
        .with_file(dir.path().join("mcp.json"))
        .with_env([
            ("WHERE", "canary-in-command"),
            ("PLACE", "canary-in-directory"),
            ("HOME", "/home/me"),
            ("REGION", "canary-region"),
            ("PATH_PART", "canary/in-path"),
            ("ANY", "canary-in-header"),
        ])
        .with_masker(masker.clone())
        .load()
        .unwrap();
    assert!(masker.is_empty(), "nothing was filled in yet");
    for spec in &loaded.servers {
        spec.resolved().await.unwrap();
    }
    let secrets = "/canary+in/a/line canary-in-env-file canary-of-argument canary-literal \
                   canary-in-header";
    let values = "canary-in-command canary-in-directory canary-region canary%2Fin-path";
    let everywhere = masker.mask(secrets, Sensitivity::Secret);
    let in_errors = masker.mask(values, Sensitivity::Value);
    let left: Vec<&str> = everywhere
        .split(' ')
        .filter(|word| word.contains("canary"))
        .collect();
    // A name says nothing of this one.
    assert_eq!(left, ["canary-in-env-file"]);
    assert!(!in_errors.contains("canary"), "{in_errors}");
    assert!(!masker.mask(secrets, Sensitivity::Value).contains("canary"));
    assert_eq!(masker.mask(values, Sensitivity::Secret), values);
    assert_eq!(masker.mask("/home/me/x", Sensitivity::Value), "/home/me/x");
}
