//! `cargo xtask picture`: draws `docs/watch.svg` from a real run of `mcpool watch`.
//!
//! Four servers, one of them killed and one whose command does not exist. The program runs in a
//! pseudo-terminal of `script` (util-linux); what it writes is read by [`Screen`], and what stands
//! on the screen at the end becomes the picture.

mod screen;
mod svg;

use std::{
    fs,
    io::{Read as _, Write as _},
    path::Path,
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use screen::Screen;

use crate::{
    Outcome,
    programs::{self, Running, binary},
    tools::{find, root, target},
};

const FILE: &str = "docs/watch.svg";
const COLUMNS: usize = 100;
const ROWS: usize = 20;

/// How long any of the waits may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long the screen is left alone before it is taken.
const PAUSE: Duration = Duration::from_secs(3);

/// Runs it and writes the picture.
pub(crate) fn run() -> Outcome {
    let Some(script) = find("script") else {
        return Err("it needs `script` of util-linux".to_owned());
    };
    programs::build()?;
    let dir = target().join("picture");
    fs::create_dir_all(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    let program = binary("mcpool").display().to_string();
    let behind = write(&dir, "behind.json", &entry("words", &program, None))?;
    let (_gateway, address) = programs::gateway(Path::new(&behind), &[])?;
    let pid_file = dir.join("pid");
    let servers = [
        entry("calculator", &program, Some(&pid_file)),
        entry("files", &program, None),
        format!(r#""search": {{ "url": "{address}/mcp" }}"#),
        r#""tracker": { "command": "mcp-server-trackr" }"#.to_owned(),
    ];
    let config = write(&dir, "servers.json", &servers.join(", "))?;

    let line = format!(
        "stty cols {COLUMNS} rows {ROWS}; exec '{program}' --config '{config}' watch --every 2s"
    );
    let mut child = Command::new(script)
        .args(["-qfec", &line, "/dev/null"])
        .env("TERM", "xterm-256color")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("script: {error}"))?;
    let mut keys = child.stdin.take().ok_or("no keyboard")?;
    let mut output = child.stdout.take().ok_or("no screen")?;
    let mut running = Running(child);
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = output.read(&mut buffer) {
            if sender
                .send(buffer.get(..read).unwrap_or_default().to_vec())
                .is_err()
            {
                break;
            }
        }
    });

    let mut screen = Screen::new(COLUMNS, ROWS);
    wait(&mut screen, &receiver, |screen| {
        screen.text().contains("3 of 4 ready")
    })?;
    let pid = fs::read_to_string(&pid_file).map_err(|error| error.to_string())?;
    kill(pid.trim())?;
    wait(&mut screen, &receiver, |screen| {
        screen.text().contains("back")
    })?;
    let until = Instant::now() + PAUSE;
    wait(&mut screen, &receiver, |screen| {
        Instant::now() >= until && screen.text().contains("3 of 4 ready")
    })?;
    let picture = svg::draw(&screen, "mcpool watch");
    keys.write_all(b"q").map_err(|error| error.to_string())?;
    running.0.wait().map_err(|error| error.to_string())?;

    let path = root().join(FILE);
    fs::write(&path, picture).map_err(|error| format!("{}: {error}", path.display()))?;
    println!("{}", screen.text());
    println!("{FILE} is written");
    Ok(())
}

/// A demo server; it writes down its process number where that is wanted.
fn entry(name: &str, program: &str, pid_file: Option<&Path>) -> String {
    match pid_file {
        None => format!(r#""{name}": {{ "command": "{program}", "args": ["demo-server"] }}"#),
        Some(file) => format!(
            r#""{name}": {{ "command": "sh", "args": ["-c", "echo $$$$ > '{}'; exec '{program}' demo-server"] }}"#,
            file.display()
        ),
    }
}

fn write(dir: &Path, name: &str, servers: &str) -> Outcome<String> {
    let path = dir.join(name);
    fs::write(&path, format!(r#"{{ "mcpServers": {{ {servers} }} }}"#))
        .map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(path.display().to_string())
}

fn kill(pid: &str) -> Outcome {
    match Command::new("kill").args(["-9", pid]).status() {
        Ok(status) if status.success() => Ok(()),
        other => Err(format!("kill {pid}: {other:?}")),
    }
}

/// Reads what comes until the screen is as wanted.
fn wait(
    screen: &mut Screen,
    output: &mpsc::Receiver<Vec<u8>>,
    wanted: impl Fn(&Screen) -> bool,
) -> Outcome {
    let start = Instant::now();
    while !wanted(screen) {
        let left = PATIENCE.saturating_sub(start.elapsed());
        match output.recv_timeout(left) {
            Ok(bytes) => screen.feed(&bytes),
            Err(_) => return Err(format!("the screen stayed as it is:\n{}", screen.text())),
        }
    }
    Ok(())
}
