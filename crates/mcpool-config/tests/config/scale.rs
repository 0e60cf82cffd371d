//! A thousand servers in one file, in time that grows with their number.

use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

use mcpool_config::{Loader, Problem};

fn file(servers: usize, tag: &str) -> String {
    let mut text = String::from("{ \"mcpServers\": {\n");
    for n in 0..servers {
        let comma = if n + 1 == servers { "" } else { "," };
        writeln!(
            text,
            r#"  "server-{n}": {{ "command": "npx", "args": ["-y", "package-{n}", "{tag}"], "env": {{ "KEY": "${{KEY_{n}}}", "OTHER": "v" }}, "timeout": "20s" }}{comma}"#
        )
        .unwrap();
    }
    text.push_str("} }\n");
    text
}

/// The best of several, so that a busy machine does not count.
fn best(mut run: impl FnMut()) -> Duration {
    (0..5)
        .map(|_| {
            let start = Instant::now();
            run();
            start.elapsed()
        })
        .min()
        .unwrap()
}

#[test]
fn loading_grows_linearly() {
    let mut figures = Vec::new();
    for servers in [500, 1_000, 2_000, 4_000] {
        let (one, two) = (file(servers, "a"), file(servers, "b"));
        let time = best(|| {
            let loaded = Loader::new()
                .with_text("one", one.as_str())
                .with_text("two", two.as_str())
                .load()
                .unwrap();
            assert_eq!(loaded.servers.len(), servers);
            assert!(
                loaded
                    .problems
                    .iter()
                    .all(|problem: &Problem| !problem.is_error())
            );
        });
        println!("load, validate and merge 2 × {servers} servers: {time:?}");
        figures.push(time);
    }
    // Eight times the servers: eight times the time, and far from the 64 of a square.
    let ratio = figures[3].as_secs_f64() / figures[0].as_secs_f64();
    println!("8 × the servers take {ratio:.1} × the time");
    assert!(ratio < 24.0, "{figures:?}");
}
