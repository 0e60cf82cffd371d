//! `cargo xtask conformance`: the official conformance suite, counted strictly.
//!
//! Every client scenario runs at every wire version that it applies to. A pair is good when the
//! suite's own exit code is 0 (which covers failed checks, warnings, the client's exit code where
//! the scenario expects success, and timeouts) **and** at least one check succeeded: the suite
//! counts a scenario without any check as passed.

mod server;

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    Outcome,
    tools::{self, cargo, root, target},
};

const SUITE: &str = "@modelcontextprotocol/conformance";
const SUITE_VERSION: &str = "0.2.0-alpha.12";
const NODE_MAJOR: u32 = 22;
const SCENARIO_TIMEOUT: Duration = Duration::from_secs(60);
/// A scenario mostly waits for processes to start; more at once only makes timeouts.
const MAX_PARALLEL: usize = 4;
const DOCUMENT: &str = "docs/conformance.md";
/// Vacuous for a client that does not read skills: reported, not counted.
const NOT_COUNTED: &str = "sep-2640-";
const EXTENSION: &str = "extension";

/// A scenario at a wire version.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Pair {
    scenario: String,
    version: String,
}

struct Verdict {
    pair: Pair,
    good: bool,
    checks: usize,
    seconds: f64,
    problems: Vec<String>,
}

/// The command line's entry: `[server] [--update] [PATTERN…]`.
pub(crate) fn run(args: &[String]) -> Outcome {
    if let Some((first, rest)) = args.split_first()
        && first == "server"
    {
        return server::run(rest);
    }
    let update = args.iter().any(|arg| arg == "--update");
    let patterns: Vec<&String> = args.iter().filter(|arg| !arg.starts_with("--")).collect();
    let home = install()?;
    tools::run(&mut cargo([
        "build",
        "--quiet",
        "--package",
        "mcpool-conformance",
    ]))?;
    let client = target().join("debug").join(format!(
        "mcpool-conformance{}",
        std::env::consts::EXE_SUFFIX
    ));
    let all = pairs(&tools::output(suite(&home)?.args(["list", "--client"]))?);
    if all.is_empty() {
        return Err("the suite names no scenario".to_owned());
    }
    let chosen: Vec<Pair> = all
        .iter()
        .filter(|pair| {
            let name = format!("{}@{}", pair.scenario, pair.version);
            patterns.is_empty() || patterns.iter().any(|pattern| name.contains(*pattern))
        })
        .cloned()
        .collect();
    let verdicts = run_all(&home, &client, &chosen)?;
    let table = table(&verdicts);
    println!("\n{table}");
    let bad = |verdict: &&Verdict| !verdict.good && is_counted(&verdict.pair);
    for verdict in verdicts.iter().filter(bad) {
        println!("{} at {}:", verdict.pair.scenario, verdict.pair.version);
        for problem in &verdict.problems {
            println!("  {problem}");
        }
    }
    let whole = patterns.is_empty();
    let path = root().join(DOCUMENT);
    if update && whole {
        return fs::write(&path, document(&table)).map_err(|error| format!("{DOCUMENT}: {error}"));
    }
    let committed = fs::read_to_string(&path).map_err(|error| format!("{DOCUMENT}: {error}"))?;
    let lost = lost(&committed, &verdicts, whole);
    match lost.as_slice() {
        [] => Ok(()),
        lost => Err(format!(
            "less than the table in {DOCUMENT}: {}",
            lost.join(", ")
        )),
    }
}

/// Installs suite and Node under `target/`, unless they are there.
fn install() -> Outcome<PathBuf> {
    let home = target().join("conformance");
    let installed = fs::read_to_string(home.join("node_modules").join(SUITE).join("package.json"))
        .ok()
        .and_then(|text| serde_json::from_str::<Value>(&text).ok())
        .is_some_and(|package| package["version"] == SUITE_VERSION);
    if installed && node(&home).is_file() {
        return Ok(home);
    }
    fs::create_dir_all(&home).map_err(|error| format!("{}: {error}", home.display()))?;
    fs::write(home.join("package.json"), "{\"private\":true}\n")
        .map_err(|error| format!("package.json: {error}"))?;
    let npm = if cfg!(windows) { "npm.cmd" } else { "npm" };
    tools::run(
        Command::new(npm)
            .current_dir(&home)
            .args(["install", "--no-audit", "--no-fund", "--save-exact"])
            // The package `node` fetches its binary in an install script.
            .arg("--foreground-scripts")
            .arg(format!("{SUITE}@{SUITE_VERSION}"))
            .arg(format!("node@{NODE_MAJOR}")),
    )?;
    Ok(home)
}

fn node(home: &Path) -> PathBuf {
    home.join("node_modules/node/bin")
        .join(format!("node{}", std::env::consts::EXE_SUFFIX))
}

fn suite(home: &Path) -> Outcome<Command> {
    let node = node(home);
    let version = tools::output(Command::new(&node).arg("--version"))?;
    let major = version
        .trim()
        .trim_start_matches('v')
        .split('.')
        .next()
        .and_then(|major| major.parse::<u32>().ok());
    if major.is_none_or(|major| major < NODE_MAJOR) {
        return Err(format!("Node {NODE_MAJOR} is needed, not {version}"));
    }
    let mut command = Command::new(node);
    command.arg(home.join("node_modules").join(SUITE).join("dist/index.js"));
    Ok(command)
}

/// Reads lines such as `  - tools_call [2025-06-18,2025-11-25]`.
fn pairs(list: &str) -> Vec<Pair> {
    list.lines()
        .filter_map(|line| line.trim().strip_prefix("- "))
        .filter_map(|line| line.split_once(" ["))
        .flat_map(|(scenario, versions)| {
            versions
                .trim_end_matches(']')
                .split(',')
                .map(|version| Pair {
                    scenario: scenario.trim().to_owned(),
                    version: version.trim().to_owned(),
                })
                .collect::<Vec<_>>()
        })
        .collect()
}

fn run_all(home: &Path, client: &Path, pairs: &[Pair]) -> Outcome<Vec<Verdict>> {
    let results = home.join("results");
    let _ = fs::remove_dir_all(&results);
    let next = AtomicUsize::new(0);
    let verdicts = Mutex::new(Vec::new());
    let workers = thread::available_parallelism()
        .map_or(2, usize::from)
        .clamp(2, MAX_PARALLEL);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(pair) = pairs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let verdict = run_one(home, client, &results, pair);
                    eprintln!(
                        "  {}  {:<45} {:<10} {:>3} checks {:>5.1} s",
                        if verdict.good { "good  " } else { "FAILED" },
                        pair.scenario,
                        pair.version,
                        verdict.checks,
                        verdict.seconds
                    );
                    verdicts
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(verdict);
                }
            });
        }
    });
    let mut verdicts = verdicts
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    verdicts.sort_by_key(|verdict| pairs.iter().position(|pair| *pair == verdict.pair));
    Ok(verdicts)
}

fn run_one(home: &Path, client: &Path, results: &Path, pair: &Pair) -> Verdict {
    let start = Instant::now();
    let directory = results.join(format!(
        "{}@{}",
        pair.scenario.replace('/', "_"),
        pair.version
    ));
    let outcome = suite(home).and_then(|mut command| {
        fs::create_dir_all(&directory).map_err(|error| error.to_string())?;
        command
            .args(["client", "--command"])
            .arg(client)
            .args(["--scenario", &pair.scenario, "--timeout"])
            .arg(SCENARIO_TIMEOUT.as_millis().to_string())
            .arg("-o")
            .arg(&directory);
        if pair.version != EXTENSION {
            command.args(["--spec-version", &pair.version]);
        }
        command.output().map_err(|error| error.to_string())
    });
    let mut problems = Vec::new();
    let mut succeeded = 0;
    match outcome {
        Err(error) => problems.push(error),
        Ok(output) => {
            (succeeded, problems) = judged(&directory);
            if succeeded == 0 {
                problems.push("no check succeeded".to_owned());
            }
            if !output.status.success() {
                problems.push(format!("the suite ended with {}", output.status));
                let stderr = String::from_utf8_lossy(&output.stderr);
                problems.extend(
                    stderr
                        .lines()
                        .skip_while(|line| !line.starts_with("Stderr:"))
                        .take_while(|line| !line.starts_with("Results saved"))
                        .map(str::to_owned),
                );
            }
        }
    }
    Verdict {
        pair: pair.clone(),
        good: problems.is_empty(),
        checks: succeeded,
        seconds: start.elapsed().as_secs_f64(),
        problems,
    }
}

/// How many checks of one run succeeded, and what is wrong with the others.
fn judged(directory: &Path) -> (usize, Vec<String>) {
    let mut succeeded = 0;
    let mut problems = Vec::new();
    for check in checks(directory) {
        let text = |name: &str| check[name].as_str().unwrap_or_default();
        match text("status") {
            "SUCCESS" => succeeded += 1,
            status @ ("FAILURE" | "WARNING") => problems.push(format!(
                "{status} {}: {}",
                text("id"),
                match text("errorMessage") {
                    "" => text("description"),
                    message => message,
                }
            )),
            _ => {}
        }
    }
    (succeeded, problems)
}

/// The checks of one run; the suite puts them into a directory of its own naming.
fn checks(directory: &Path) -> Vec<Value> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(checks(&path));
        } else if path.file_name().is_some_and(|name| name == "checks.json")
            && let Ok(text) = fs::read_to_string(&path)
            && let Ok(Value::Array(checks)) = serde_json::from_str(&text)
        {
            found.extend(checks);
        }
    }
    found
}

fn is_counted(pair: &Pair) -> bool {
    !pair.scenario.starts_with(NOT_COUNTED)
}

fn table(verdicts: &[Verdict]) -> String {
    let mut versions: Vec<&str> = verdicts
        .iter()
        .map(|verdict| verdict.pair.version.as_str())
        .collect();
    versions.sort_unstable();
    versions.dedup();
    let mut rows: Vec<(&str, BTreeMap<&str, &str>)> = Vec::new();
    for verdict in verdicts {
        let Pair { scenario, version } = &verdict.pair;
        if rows.last().map(|(name, _)| *name) != Some(scenario) {
            rows.push((scenario, BTreeMap::new()));
        }
        if let Some((_, cells)) = rows.last_mut() {
            let cell = match verdict.good {
                true => "pass",
                false if !is_counted(&verdict.pair) => "not read",
                false => "fail",
            };
            cells.insert(version, cell);
        }
    }
    let mut text = format!("| scenario | {} |\n", versions.join(" | "));
    let _ = writeln!(text, "|---|{}", "---|".repeat(versions.len()));
    for (scenario, cells) in rows {
        let _ = write!(text, "| {scenario} |");
        for version in &versions {
            let cell = cells.get(version).copied().unwrap_or_default();
            let _ = write!(text, " {cell} |");
        }
        text.push('\n');
    }
    let score = |extension: bool| {
        let counted = verdicts
            .iter()
            .filter(|verdict| is_counted(&verdict.pair))
            .filter(|verdict| (verdict.pair.version == EXTENSION) == extension);
        let (good, all) = counted.fold((0, 0), |(good, all), verdict| {
            (good + usize::from(verdict.good), all + 1)
        });
        format!("{good} of {all}")
    };
    let _ = writeln!(
        text,
        "\nDated revisions: **{}**. Extensions: **{}**. The scenarios `{NOT_COUNTED}*` (skills) \
         are vacuous for a client that reads no skills, and are not counted.",
        score(false),
        score(true)
    );
    text
}

fn document(table: &str) -> String {
    format!(
        "# Conformance\n\n\
         The official suite, npm `{SUITE}` {SUITE_VERSION}, with `tests/conformance` as its \
         client: a small program on the public API, in automatic mode (transport and protocol \
         era are negotiated, never pinned). Counted strictly: each scenario at each wire version \
         that it applies to, the suite's exit code, no warning, no timeout, at least one \
         successful check.\n\n\
         `cargo xtask conformance` runs it and fails on anything less than this table; \
         `cargo xtask conformance --update` rewrites the table.\n\n{table}"
    )
}

/// What the committed table promises and this run did not bring.
fn lost(committed: &str, verdicts: &[Verdict], whole: bool) -> Vec<String> {
    let mut lines = committed.lines().filter(|line| line.starts_with('|'));
    let cells = |line: &str| -> Vec<String> {
        line.trim_matches('|')
            .split('|')
            .map(|cell| cell.trim().to_owned())
            .collect()
    };
    let header = lines.next().map(cells).unwrap_or_default();
    let mut lost = Vec::new();
    let mut promised = 0;
    for row in lines.map(cells) {
        let Some(scenario) = row.first() else {
            continue;
        };
        for (version, cell) in header.iter().zip(&row).skip(1) {
            if cell != "pass" {
                continue;
            }
            promised += 1;
            let verdict = verdicts.iter().find(|verdict| {
                verdict.pair.scenario == *scenario && verdict.pair.version == *version
            });
            let good = verdict.map_or(!whole, |verdict| verdict.good);
            if !good {
                lost.push(format!("{scenario} at {version}"));
            }
        }
    }
    if promised == 0 {
        lost.push("the table promises nothing".to_owned());
    }
    lost
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(scenario: &str, version: &str, good: bool) -> Verdict {
        Verdict {
            pair: Pair {
                scenario: scenario.to_owned(),
                version: version.to_owned(),
            },
            good,
            checks: 1,
            seconds: 0.0,
            problems: Vec::new(),
        }
    }

    #[test]
    fn the_list_is_read() {
        let list = "Client scenarios:\n  - a [1,2]\n  - b/c [extension]\n";
        let pairs = pairs(list);
        assert_eq!(pairs.len(), 3);
        assert_eq!(pairs[2].scenario, "b/c");
        assert_eq!(pairs[1].version, "2");
    }

    #[test]
    fn less_than_the_table_is_lost() {
        let before = [verdict("a", "1", true), verdict("a", "2", true)];
        let committed = document(&table(&before));
        assert!(lost(&committed, &before, true).is_empty());
        let after = [verdict("a", "1", true), verdict("a", "2", false)];
        assert_eq!(lost(&committed, &after, true), ["a at 2"]);
        // What did not run is lost in a whole run only.
        let part = [verdict("a", "1", true)];
        assert_eq!(lost(&committed, &part, true), ["a at 2"]);
        assert!(lost(&committed, &part, false).is_empty());
        assert!(!lost("", &before, true).is_empty());
    }
}
