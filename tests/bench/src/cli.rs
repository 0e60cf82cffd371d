//! One-shot calls of the program: from its start to its answer, and to its end, beside the bare
//! minimum that starts the same server.

use std::{
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    Outcome,
    rounds::{self, Options},
    stdio::Limit,
};

/// The program under test: `MCPOOL_BIN`, or the one beside this one.
fn program() -> Outcome<PathBuf> {
    if let Some(path) = std::env::var_os("MCPOOL_BIN") {
        return Ok(path.into());
    }
    let path = std::env::current_exe()?.with_file_name("mcpool");
    if path.exists() {
        return Ok(path);
    }
    Err(format!("{} is not built; set MCPOOL_BIN", path.display()).into())
}

pub(crate) fn run(options: &Options) -> Outcome {
    let program = program()?;
    let server = std::env::current_exe()?;
    let directory = std::env::temp_dir().join(format!("mcpool-bench-{}", std::process::id()));
    std::fs::create_dir_all(&directory)?;
    let config = directory.join("mcp.json");
    let document = serde_json::json!({
        "mcpServers": {"bench": {"command": server, "args": ["serve-stdio"]}}
    });
    std::fs::write(&config, document.to_string())?;
    let (mut limit, mut answered, mut ended) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..options.rounds.max(5) {
        let began = Instant::now();
        let mut bare = Limit::start()?;
        bare.run("hi", 1, 1)?;
        limit.push(millis(began.elapsed()));
        drop(bare);

        let began = Instant::now();
        let mut child = Command::new(&program)
            .arg("--config")
            .arg(&config)
            .args(["call", "bench", "echo", "text=hi"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().ok_or("no stdout")?).read_line(&mut line)?;
        answered.push(millis(began.elapsed()));
        let status = child.wait()?;
        ended.push(millis(began.elapsed()));
        if !status.success() || line.trim() != "hi" {
            return Err(format!("the call failed: {status}, {line:?}").into());
        }
    }
    std::fs::remove_dir_all(&directory)?;
    let limit = Some(rounds::median(limit));
    for (work, took) in [
        (
            "`mcpool call`, one shot over stdio, to its answer",
            answered,
        ),
        ("`mcpool call`, one shot over stdio, to its end", ended),
    ] {
        rounds::figure(work, "ms", rounds::median(took), limit, None);
    }
    Ok(())
}

fn millis(took: Duration) -> f64 {
    took.as_secs_f64() * 1e3
}
