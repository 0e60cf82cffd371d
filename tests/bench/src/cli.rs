//! One-shot calls of the program: from its start to its answer, and to its end.

use std::{
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::Outcome;

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

pub(crate) fn run(rounds: usize) -> Outcome {
    let program = program()?;
    let server = std::env::current_exe()?;
    let directory = std::env::temp_dir().join(format!("mcpool-bench-{}", std::process::id()));
    std::fs::create_dir_all(&directory)?;
    let config = directory.join("mcp.json");
    let document = serde_json::json!({
        "mcpServers": {"bench": {"command": server, "args": ["serve-stdio"]}}
    });
    std::fs::write(&config, document.to_string())?;
    let mut answered = Vec::new();
    let mut ended = Vec::new();
    for _ in 0..rounds.max(5) {
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
        answered.push(began.elapsed());
        let status = child.wait()?;
        ended.push(began.elapsed());
        if !status.success() || line.trim() != "hi" {
            return Err(format!("the call failed: {status}, {line:?}").into());
        }
    }
    std::fs::remove_dir_all(&directory)?;
    println!("\nmcpool call, one shot over stdio");
    println!("  start to answer  {:>7.1} ms", median(&mut answered));
    println!("  start to end     {:>7.1} ms", median(&mut ended));
    Ok(())
}

fn median(took: &mut [Duration]) -> f64 {
    took.sort();
    took.get(took.len() / 2)
        .map_or(f64::NAN, |took| took.as_secs_f64() * 1e3)
}
