//! `cargo xtask conformance server`: the official server suite, run against a conforming server
//! directly and through the gateway, with the server behind it in the client's era and in the
//! other one.

use std::{
    fmt::Write as _,
    fs,
    path::Path,
    process::{Command, Stdio},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use super::{
    EXTENSION, MAX_PARALLEL, Pair, SCENARIO_TIMEOUT, SUITE, SUITE_VERSION, install, judged, pairs,
    suite,
};
use crate::{
    Outcome,
    programs::{Running, binary, first_line, gateway},
    tools::{self, cargo, root},
};

const DOCUMENT: &str = "docs/conformance-gateway.md";
const COLUMNS: [&str; 3] = ["directly", "through", "through, other era"];
/// The first version without sessions.
const MODERN: &str = "2026-07-28";
const SERVER: &str = "everything";

/// One scenario at one version, over one way.
struct Verdict {
    at: usize,
    column: usize,
    cell: &'static str,
    problems: Vec<String>,
}

/// `[--update] [PATTERN…]`.
pub(super) fn run(args: &[String]) -> Outcome {
    let update = args.iter().any(|arg| arg == "--update");
    let patterns: Vec<&String> = args.iter().filter(|arg| !arg.starts_with("--")).collect();
    let home = install()?;
    // With the features of the other checks, so that nothing is built twice.
    let packages = ["--package", "mcpool-testkit", "--package", "mcpool-cli"];
    tools::run(cargo(["build", "--quiet", "--all-features"]).args(packages))?;
    let all = pairs(&tools::output(suite(&home)?.args(["list", "--server"]))?);
    let chosen: Vec<Pair> = all
        .into_iter()
        .filter(|pair| pair.version != EXTENSION)
        .filter(|pair| {
            let name = format!("{}@{}", pair.scenario, pair.version);
            patterns.is_empty() || patterns.iter().any(|pattern| name.contains(*pattern))
        })
        .collect();
    if chosen.is_empty() {
        return Err("the suite names no such scenario".to_owned());
    }
    let servers = Servers::start(&home)?;
    let verdicts = run_all(&home, &servers, &chosen);
    let table = table(&chosen, &verdicts);
    println!("\n{table}");
    for verdict in verdicts
        .iter()
        .filter(|verdict| !verdict.problems.is_empty())
    {
        let Pair { scenario, version } = &chosen[verdict.at];
        println!("{scenario} at {version}, {}:", COLUMNS[verdict.column]);
        for problem in &verdict.problems {
            println!("  {problem}");
        }
    }
    if update && patterns.is_empty() {
        return fs::write(root().join(DOCUMENT), document(&table))
            .map_err(|error| format!("{DOCUMENT}: {error}"));
    }
    let lost = lost(&chosen, &verdicts);
    match lost.as_slice() {
        [] => Ok(()),
        lost => Err(format!(
            "good directly and not through the gateway: {}",
            lost.join(", ")
        )),
    }
}

/// The servers of both eras, and a gateway in front of each.
struct Servers {
    /// The older era first: the server, the gateway.
    urls: [[String; 2]; 2],
    _processes: Vec<Running>,
}

impl Servers {
    fn start(home: &Path) -> Outcome<Self> {
        let mut processes = Vec::new();
        let mut urls = [const { [String::new(), String::new()] }; 2];
        for (era, urls) in ["legacy", "modern"].into_iter().zip(&mut urls) {
            let mut server = Command::new(binary("mcpool-fixture"))
                .args(["--listen", "--conforming", "true", "--era", era])
                .args(["--max-lifetime-ms", "86400000"])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .map_err(|error| format!("the server: {error}"))?;
            let url = first_line(server.stdout.take(), "the server")?;
            processes.push(Running(server));
            let config = home.join(format!("gateway-{era}.json"));
            let servers = serde_json::json!({"mcpServers": {SERVER: {"url": url}}});
            fs::write(&config, servers.to_string())
                .map_err(|error| format!("{}: {error}", config.display()))?;
            let relay = ["--relay", "elicitation,sampling,roots"];
            let (gateway, pool) = gateway(&config, &relay)?;
            processes.push(gateway);
            *urls = [url, format!("{pool}/servers/{SERVER}/mcp")];
        }
        Ok(Self {
            urls,
            _processes: processes,
        })
    }

    fn url(&self, column: usize, version: &str) -> &str {
        let era = usize::from(version >= MODERN);
        match column {
            0 => &self.urls[era][0],
            1 => &self.urls[era][1],
            _ => &self.urls[1 - era][1],
        }
    }
}

fn run_all(home: &Path, servers: &Servers, pairs: &[Pair]) -> Vec<Verdict> {
    let results = home.join("server-results");
    let _ = fs::remove_dir_all(&results);
    let jobs: Vec<(usize, usize)> = (0..COLUMNS.len())
        .flat_map(|column| (0..pairs.len()).map(move |at| (at, column)))
        .collect();
    let next = AtomicUsize::new(0);
    let verdicts = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..MAX_PARALLEL {
            scope.spawn(|| {
                while let Some((at, column)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let verdict = run_one(home, servers, &results, pairs, *at, *column);
                    let Pair { scenario, version } = &pairs[*at];
                    eprintln!(
                        "  {:<5} {scenario:<48} {version:<10} {}",
                        verdict.cell, COLUMNS[*column]
                    );
                    verdicts
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(verdict);
                }
            });
        }
    });
    verdicts
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner)
}

fn run_one(
    home: &Path,
    servers: &Servers,
    results: &Path,
    pairs: &[Pair],
    at: usize,
    column: usize,
) -> Verdict {
    let Pair { scenario, version } = &pairs[at];
    let directory = results.join(format!("{column}-{scenario}@{version}"));
    let outcome = suite(home).and_then(|mut command| {
        fs::create_dir_all(&directory).map_err(|error| error.to_string())?;
        command
            .args(["server", "--url", servers.url(column, version)])
            .args([
                "--scenario",
                scenario,
                "--spec-version",
                version,
                "--timeout",
            ])
            .arg(SCENARIO_TIMEOUT.as_millis().to_string())
            .arg("-o")
            .arg(&directory);
        command.output().map_err(|error| error.to_string())
    });
    let mut problems = Vec::new();
    let mut succeeded = 0;
    match outcome {
        Err(error) => problems.push(error),
        Ok(output) => {
            (succeeded, problems) = judged(&directory);
            if !output.status.success() && problems.is_empty() {
                problems.push(format!("the suite ended with {}", output.status));
            }
        }
    }
    let cell = match (problems.is_empty(), succeeded) {
        (false, _) => "fail",
        // Nothing in it was applicable.
        (true, 0) => "–",
        (true, _) => "pass",
    };
    Verdict {
        at,
        column,
        cell,
        problems,
    }
}

fn cell(verdicts: &[Verdict], at: usize, column: usize) -> &'static str {
    let found = verdicts
        .iter()
        .find(|verdict| verdict.at == at && verdict.column == column);
    found.map_or("", |verdict| verdict.cell)
}

/// What passes directly and not through the gateway, with the server in the client's era.
fn lost(pairs: &[Pair], verdicts: &[Verdict]) -> Vec<String> {
    let lost = |at: &usize| cell(verdicts, *at, 0) == "pass" && cell(verdicts, *at, 1) != "pass";
    (0..pairs.len())
        .filter(lost)
        .map(|at| format!("{} at {}", pairs[at].scenario, pairs[at].version))
        .collect()
}

fn table(pairs: &[Pair], verdicts: &[Verdict]) -> String {
    let mut text = format!("| scenario | version | {} |\n", COLUMNS.join(" | "));
    let _ = writeln!(text, "|---|---|{}", "---|".repeat(COLUMNS.len()));
    for (at, Pair { scenario, version }) in pairs.iter().enumerate() {
        let cells: Vec<&str> = (0..COLUMNS.len())
            .map(|column| cell(verdicts, at, column))
            .collect();
        let _ = writeln!(text, "| {scenario} | {version} | {} |", cells.join(" | "));
    }
    let count = |column: usize, wanted: &str| {
        let cells = (0..pairs.len()).map(|at| cell(verdicts, at, column));
        cells.filter(|cell| *cell == wanted).count()
    };
    for (column, name) in COLUMNS.iter().enumerate() {
        let (good, none) = (count(column, "pass"), count(column, "–"));
        let _ = write!(text, "\n{name}: **{good} of {}**.", pairs.len() - none);
    }
    text.push('\n');
    text
}

fn document(table: &str) -> String {
    format!(
        "# Conformance of the gateway\n\n\
         The official server suite, npm `{SUITE}` {SUITE_VERSION}, against a server of \
         `mcpool-testkit` that has what the suite asks for: once directly, once through \
         `mcpool serve` (`/servers/NAME/mcp`) with the server in the client's era behind it, and \
         once with the server in the other era. Counted strictly: each scenario at each version \
         that it applies to, no failed check, no warning, at least one successful check. `–`: \
         nothing in it was applicable.\n\n\
         What fails directly is what the test server does not check over HTTP (`Host`, headers, \
         `_meta`); the gateway checks it. What fails with an older server behind a newer client \
         is what such a server cannot say: which capability it misses, several questions at once \
         under names of its own.\n\n\
         `cargo xtask conformance server` runs it, and fails when something passes directly and \
         not through the gateway; `--update` writes this table.\n\n{table}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_gateway_loses_is_named() {
        let pair = |scenario: &str| Pair {
            scenario: scenario.to_owned(),
            version: "1".to_owned(),
        };
        let verdict = |at, column, cell| Verdict {
            at,
            column,
            cell,
            problems: Vec::new(),
        };
        let pairs = [pair("a"), pair("b"), pair("c")];
        let verdicts = [
            verdict(0, 0, "pass"),
            verdict(0, 1, "pass"),
            verdict(1, 0, "pass"),
            verdict(1, 1, "fail"),
            verdict(2, 0, "fail"),
            verdict(2, 1, "fail"),
        ];
        assert_eq!(lost(&pairs, &verdicts), ["b at 1"]);
        let table = table(&pairs, &verdicts);
        assert!(table.contains("| b | 1 | pass | fail |  |"), "{table}");
        assert!(table.contains("directly: **2 of 3**"), "{table}");
    }
}
