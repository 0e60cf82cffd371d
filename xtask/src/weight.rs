//! `cargo xtask weight`: how many packages each crate brings with it, and how large the program is.
//!
//! The table in `docs/weight.md` is a ratchet: nothing may weigh more than it says, and
//! `--update` writes what is true now. Counting asks `cargo tree` alone and takes seconds;
//! `--binary` builds the program as it is given away, which takes minutes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    time::Instant,
};

use crate::{
    Outcome,
    tools::{self, cargo, output, root, target},
};

/// Size of the program in the profile `dist`, in bytes.
const BINARY_BUDGET: u64 = 16_000_000;

/// Where the figures hold: the graph differs from system to system.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// What is weighed: a crate and its features.
struct Scale {
    package: &'static str,
    features: Features,
}

#[derive(Clone, Copy)]
enum Features {
    Default,
    None,
    Only(&'static str),
}

const fn scale(package: &'static str, features: Features) -> Scale {
    Scale { package, features }
}

/// The program first; then each library crate as somebody takes it who wants it alone.
const SCALES: &[Scale] = &[
    scale(PROGRAM, Features::Default),
    scale(PROGRAM, Features::None),
    scale("mcpool", Features::Default),
    scale("mcpool", Features::Only("manager,stdio")),
    scale("mcpool", Features::Only("gateway")),
    scale("mcpool", Features::Only("otel")),
    scale("mcpool", Features::Only("nats")),
    scale("mcpool-core", Features::None),
    scale("mcpool-core", Features::Default),
    scale("mcpool-duplex", Features::Default),
    scale("mcpool-stdio", Features::Default),
    scale("mcpool-files", Features::Default),
    scale("mcpool-http-pool", Features::Default),
    scale("mcpool-http", Features::Default),
    scale("mcpool-sse", Features::Default),
    scale("mcpool-config", Features::None),
    scale("mcpool-config", Features::Default),
    scale("mcpool-auth", Features::Default),
    scale("mcpool-client", Features::None),
    scale("mcpool-manager", Features::Default),
];

const PROGRAM: &str = "mcpool-cli";
const FILE: &str = "docs/weight.md";
/// The table stands between these.
const BEGIN: &str = "<!-- weight: begin -->\n";
const END: &str = "<!-- weight: end -->";

/// Compares, or with `--update` writes the table; `--binary` builds and weighs the program.
pub(crate) fn run(args: &[String]) -> Outcome {
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => compare(),
        ["--update"] => update(),
        ["--binary"] => binary(),
        _ => Err("the options are --update and --binary".to_owned()),
    }
}

fn compare() -> Outcome {
    let now = weigh()?;
    let text = read()?;
    let table = parse(&text);
    println!("{}", draw(&now));
    let heavier = heavier(&now, &table);
    if heavier.is_empty() {
        return Ok(());
    }
    Err(format!(
        "{}; cut it, or say why in {FILE} and run `cargo xtask weight --update`",
        heavier.join("; ")
    ))
}

fn update() -> Outcome {
    let now = weigh()?;
    let text = read()?;
    let (Some((head, _)), Some((_, tail))) = (text.split_once(BEGIN), text.split_once(END)) else {
        return Err(format!("{FILE} has no place for the table"));
    };
    let path = root().join(FILE);
    fs::write(&path, format!("{head}{BEGIN}{}{END}{tail}", draw(&now)))
        .map_err(|error| format!("{}: {error}", path.display()))
}

fn binary() -> Outcome {
    let start = Instant::now();
    let args = ["build", "--locked", "--profile", "dist", "--package"];
    tools::run(cargo(args).arg(PROGRAM))?;
    let seconds = start.elapsed().as_secs();
    let path = target()
        .join("dist")
        .join(format!("mcpool{}", std::env::consts::EXE_SUFFIX));
    let size = fs::metadata(&path)
        .map_err(|error| format!("{}: {error}", path.display()))?
        .len();
    println!("built in {seconds} s; {size} bytes");
    if size > BINARY_BUDGET {
        return Err(format!(
            "the program has {size} bytes, over {BINARY_BUDGET}"
        ));
    }
    Ok(())
}

/// What one crate weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Weight {
    packages: usize,
    /// Packages that are there in more than one version, each counted once.
    twice: usize,
}

type Weights = Vec<(String, Weight)>;

fn weigh() -> Outcome<Weights> {
    SCALES
        .iter()
        .map(|scale| {
            let mut command = cargo(["tree", "--locked", "--edges", "normal", "--prefix", "none"]);
            command.args(["--target", TARGET, "--package", scale.package]);
            let label = match scale.features {
                Features::Default => scale.package.to_owned(),
                Features::None => {
                    command.arg("--no-default-features");
                    format!("{}, no features", scale.package)
                }
                Features::Only(features) => {
                    command.args(["--no-default-features", "--features", features]);
                    format!("{}, `{features}`", scale.package)
                }
            };
            let weight = count(&output(&mut command)?);
            Ok((label, weight))
        })
        .collect()
}

/// Counts what `cargo tree --prefix none` lists.
fn count(tree: &str) -> Weight {
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for line in tree.lines() {
        let mut words = line.split_whitespace();
        if let (Some(name), Some(version)) = (words.next(), words.next()) {
            versions.entry(name).or_default().insert(version);
        }
    }
    Weight {
        packages: versions.values().map(BTreeSet::len).sum(),
        twice: versions.values().filter(|all| all.len() > 1).count(),
    }
}

fn read() -> Outcome<String> {
    let path: PathBuf = root().join(FILE);
    fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))
}

fn draw(weights: &Weights) -> String {
    let mut table =
        "| crate | packages | of them in several versions |\n|---|---|---|\n".to_owned();
    for (label, weight) in weights {
        table.push_str(&format!(
            "| {label} | {} | {} |\n",
            weight.packages, weight.twice
        ));
    }
    table
}

fn parse(text: &str) -> BTreeMap<String, Weight> {
    let table = text.split_once(BEGIN).map_or("", |(_, rest)| rest);
    let table = table.split_once(END).map_or("", |(table, _)| table);
    let rows = table.lines().filter_map(|line| {
        let mut cells = line.trim_matches('|').split('|').map(str::trim);
        let label = cells.next()?.to_owned();
        let packages = cells.next()?.parse().ok()?;
        let twice = cells.next()?.parse().ok()?;
        Some((label, Weight { packages, twice }))
    });
    rows.collect()
}

/// What weighs more than the table says, or is not in it.
fn heavier(now: &Weights, table: &BTreeMap<String, Weight>) -> Vec<String> {
    now.iter()
        .filter_map(|(label, now)| match table.get(label) {
            None => Some(format!("{label} is not in the table")),
            Some(then) if now.packages > then.packages => Some(format!(
                "{label} brings {} packages instead of {}",
                now.packages, then.packages
            )),
            Some(then) if now.twice > then.twice => Some(format!(
                "{label} brings {} crates in several versions instead of {}",
                now.twice, then.twice
            )),
            Some(_) => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_counts_once_for_each_version() {
        let tree = "a v1.0.0 (/w/a)\nb v1.0.0\nb v2.0.0 (*)\nc v1.0.0 (proc-macro)\nb v1.0.0 (*)\n";
        let weight = Weight {
            packages: 4,
            twice: 1,
        };
        assert_eq!(count(tree), weight);
    }

    #[test]
    fn the_table_is_a_ratchet() {
        let weight = |packages, twice| Weight { packages, twice };
        let table = format!(
            "x\n{BEGIN}{}{END}\n",
            draw(&vec![("a".to_owned(), weight(3, 1))])
        );
        let table = parse(&table);
        let heavier =
            |packages, twice| heavier(&vec![("a".to_owned(), weight(packages, twice))], &table);
        assert!(heavier(3, 1).is_empty());
        assert!(heavier(2, 0).is_empty());
        assert_eq!(heavier(4, 1).len(), 1);
        assert_eq!(heavier(3, 2).len(), 1);
        assert_eq!(
            super::heavier(&vec![("b".to_owned(), weight(1, 0))], &table).len(),
            1
        );
    }
}
