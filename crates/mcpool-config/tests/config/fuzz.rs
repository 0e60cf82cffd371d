//! Fuzzing without a nightly compiler: mutations of real files under a time budget.
//!
//! `MCPOOL_FUZZ_SECONDS` sets the budget of each target; default 1. `MCPOOL_FUZZ_SEED` repeats a
//! run. Each target prints how many executions it made. A failure prints its input.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

use mcpool_config::{
    Dialect, Edit, Format, Loader, Syntax, Template, edit_text, settings::ServerSettings,
};

/// A small generator (xorshift64*): the same seed gives the same run everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound.max(1)).unwrap()).unwrap()
    }
}

fn corpus() -> Vec<Vec<u8>> {
    fn walk(folder: &std::path::Path, out: &mut Vec<Vec<u8>>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, out);
            } else {
                out.push(std::fs::read(&path).unwrap());
            }
        }
    }
    let mut out = vec![Vec::new()];
    walk(
        &std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures"),
        &mut out,
    );
    out.sort();
    out
}

const TOKENS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    "\"",
    "'",
    ":",
    ",",
    "\n",
    "\r\n",
    "//",
    "/*",
    "*/",
    "#",
    "=",
    "- ",
    "  ",
    "&a ",
    "*a",
    "<<: *a",
    "null",
    "true",
    "1e999",
    "-1",
    "\\u0000",
    "\\",
    "\u{feff}",
    "é",
    "😀",
    "${",
    "${A:-",
    "$$",
    "|",
    "%A%",
    "{env:A}",
    "${{ secrets.A }}",
    "{{A}}",
    "$(a)",
    "${PLUGIN_DATA}",
    "\"$schema\": \"https://agent-plugins.org/mcp.schema.json\",",
    "<<<<<<< a\n",
    "<<: [*a, *a]",
    "\t",
    "[[mcp_servers]]",
    "\"mcp\"",
    "\"registry\"",
    "\"name\"",
    "\"mcpServers\"",
    "\"command\"",
    "\"args\"",
    "\"url\"",
    "\"env\"",
    "\"timeout\"",
    "\"defaults\"",
    "https://a:b@c?d#e",
    "[mcpServers.x]",
    "mcpServers:",
    "---\n",
    "!!str ",
    "\"\"\"",
    "'''",
];

/// A few random changes of a file: bytes, slices, tokens, and pieces of other files.
fn mutate(random: &mut Random, corpus: &[Vec<u8>]) -> String {
    let mut data = corpus[random.below(corpus.len())].clone();
    for _ in 0..=random.below(6) {
        let at = random.below(data.len() + 1);
        match random.below(7) {
            0 if at < data.len() => data[at] = (random.next() & 0xff) as u8,
            1 => {
                let end = (at + random.below(20)).min(data.len());
                data.drain(at..end);
            }
            2 => {
                let other = &corpus[random.below(corpus.len())];
                let from = random.below(other.len() + 1);
                let to = (from + random.below(40)).min(other.len());
                data.splice(at..at, other[from..to].iter().copied());
            }
            3 => data.truncate(at),
            4 => {
                let end = (at + random.below(60)).min(data.len());
                let piece = data[at..end].to_vec();
                for _ in 0..random.below(4) {
                    data.splice(at..at, piece.iter().copied());
                }
            }
            5 => {
                let token = TOKENS[random.below(TOKENS.len())]
                    .repeat(1 + random.below(3) * random.below(60));
                data.splice(at..at, token.bytes());
            }
            _ => {
                let token = TOKENS[random.below(TOKENS.len())];
                data.splice(at..at, token.bytes());
            }
        }
    }
    String::from_utf8_lossy(&data).into_owned()
}

fn run(target: &str, mut execute: impl FnMut(&mut Random, &str)) {
    let seconds = std::env::var("MCPOOL_FUZZ_SECONDS")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or(1.0);
    let seed = std::env::var("MCPOOL_FUZZ_SEED")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or_else(|| {
            // A fixed seed would test the same inputs for ever.
            let now = std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .unwrap();
            u64::from(now.subsec_nanos()) ^ now.as_secs() | 1
        });
    let corpus = corpus();
    let mut random = Random(seed);
    let start = Instant::now();
    let mut executions = 0_u64;
    while start.elapsed() < Duration::from_secs_f64(seconds) {
        let input = mutate(&mut random, &corpus);
        let began = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| execute(&mut random, &input)));
        assert!(
            outcome.is_ok(),
            "{target}, seed {seed}, execution {executions}, panics on:\n{input:?}"
        );
        assert!(
            began.elapsed() < Duration::from_secs(30),
            "{target}, seed {seed}, hangs on:\n{input:?}"
        );
        executions += 1;
    }
    println!(
        "fuzz {target}: {executions} executions in {:.1} s, seed {seed}",
        start.elapsed().as_secs_f64()
    );
    assert!(executions > 0);
}

#[test]
fn parse() {
    run("parse", |random, input| {
        let name = ["x.json", "x.toml", "x.yaml", "x"][random.below(4)];
        let mut loader = Loader::new().with_env([("A", "b")]);
        if random.below(2) == 0 {
            loader = loader.with_dialect(Dialect::ALL[random.below(Dialect::ALL.len())]);
        }
        // By a path, so that each of the three parsers meets each input.
        let loaded = loader.with_text(name, input).load().unwrap();
        for problem in &loaded.problems {
            let _ = problem.render();
        }
        let _ = loaded.to_json(true);
    });
}

#[test]
fn expand() {
    run("expand", |random, input| {
        let from = random.below(input.len() + 1);
        let Some(piece) = input
            .get(from..)
            .map(|rest| rest.chars().take(300).collect::<String>())
        else {
            return;
        };
        let mut text = piece;
        for _ in 0..random.below(4) {
            text.push_str(TOKENS[random.below(TOKENS.len())]);
        }
        if let Ok(template) = Template::parse(&text, Syntax::native()) {
            assert!(template.references().len() <= text.len());
        }
        // Through a whole spec, with a resolver and the environment.
        let server = serde_json::json!({ "mcpServers": { "a": { "command": "x", "args": [text], "env": { "A": text } } } });
        let loaded = Loader::new()
            .with_text("x", server.to_string())
            .with_env([("A", "${A}")])
            .load()
            .unwrap();
        for spec in &loaded.servers {
            let outcome = tokio::runtime::Builder::new_current_thread()
                .build()
                .unwrap()
                .block_on(spec.resolved());
            if let Err(error) = outcome {
                assert!(!error.to_string().is_empty());
            }
        }
    });
}

#[test]
fn edit() {
    run("edit", |random, input| {
        let format = if random.below(2) == 0 {
            Format::Json
        } else {
            Format::Toml
        };
        let mut settings = ServerSettings::default();
        settings.command = Some(input.chars().take(random.below(30)).collect());
        settings.args = vec![input.chars().rev().take(random.below(30)).collect()];
        let name = ["a", "x", "local", "remote", "new \"one\""][random.below(5)].to_owned();
        let edit = match random.below(3) {
            0 => Edit::Add {
                name: name.clone(),
                settings: Box::new(settings),
                replace: random.below(2) == 0,
            },
            1 => Edit::Remove { name: name.clone() },
            _ => Edit::SetEnabled {
                name: name.clone(),
                enabled: random.below(2) == 0,
            },
        };
        match edit_text(input, format, std::slice::from_ref(&edit)) {
            // What an edit wrote can be edited again.
            Ok(text) => {
                if matches!(edit, Edit::Add { .. }) {
                    edit_text(&text, format, &[Edit::Remove { name }])
                        .expect("what was added can be removed");
                }
            }
            Err(error) => assert_ne!(
                error.kind(),
                mcpool_core::ErrorKind::Internal,
                "{error} on {input:?}"
            ),
        }
    });
}
