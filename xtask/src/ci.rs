//! `cargo xtask ci`: the one list of checks.
//!
//! Every check runs, also after one has failed, so that one run reports everything. With names as
//! arguments only those run.

use std::time::Instant;

use crate::{
    Outcome, api, book, circles, clients, conformance, deploy, documented, examples,
    external_types, layers, limits, msrv, package, test,
    tools::{self, cargo, find_or_install, is_ci},
    weight, words,
};

/// One check.
struct Step {
    name: &'static str,
    what: &'static str,
    run: fn() -> Outcome,
}

const STEPS: &[Step] = &[
    Step {
        name: "fmt",
        what: "the sources are as rustfmt writes them",
        run: || tools::run(&mut cargo(["fmt", "--all", "--check"])),
    },
    Step {
        name: "layers",
        what: "dependencies point one way",
        run: layers::run,
    },
    Step {
        name: "circles",
        what: "no file of a crate joins a circle of files",
        run: circles::run,
    },
    Step {
        name: "external",
        what: "no type of another crate in a public signature that is not listed",
        run: external_types::run,
    },
    Step {
        name: "clippy",
        what: "no warning, in any target, with all features",
        run: || {
            tools::run(
                cargo(["clippy", "--locked", "--workspace", "--all-targets"]).args([
                    "--all-features",
                    "--",
                    "-D",
                    "warnings",
                ]),
            )
        },
    },
    Step {
        name: "test",
        what: "the README's test command: unit, integration, end-to-end and doc tests",
        run: test::run,
    },
    Step {
        name: "examples",
        what: "every example of the library runs to a good end",
        run: examples::run,
    },
    Step {
        name: "fuzz",
        what: "a minute each of mutated config files (parse, expand, edit), and JSON-RPC messages",
        run: || {
            // The whole workspace, so that what was built for the tests serves here too.
            let test = |target| {
                let mut test = cargo(["test", "--locked", "--workspace", "--all-features"]);
                test.args(["--test", target]);
                test
            };
            tools::run(
                test("config")
                    .args(["fuzz::", "--", "--nocapture"])
                    .env("MCPOOL_FUZZ_SECONDS", "60"),
            )?;
            tools::run(test("envelope").env("PROPTEST_CASES", "20000"))
        },
    },
    Step {
        name: "loom",
        what: "the hand-made atomics, in every order of events",
        run: || {
            tools::run(
                cargo(["test", "--locked", "--all-features", "--test", "loom"]).args([
                    "--package",
                    "mcpool-duplex",
                    "--package",
                    "mcpool-manager",
                ]),
            )
        },
    },
    Step {
        name: "conformance",
        what: "the official suite brings no less than docs/conformance.md says",
        run: || conformance::run(&[]),
    },
    Step {
        name: "clients",
        what: "SDKs of other makers at the gateway: a sample of docs/clients.md",
        run: clients::sample,
    },
    Step {
        name: "doc",
        what: "the documentation builds without a warning",
        run: || {
            tools::run(
                cargo([
                    "doc",
                    "--locked",
                    "--workspace",
                    "--no-deps",
                    "--all-features",
                ])
                .env("RUSTDOCFLAGS", "-D warnings"),
            )
        },
    },
    Step {
        name: "book",
        what: "every link and include of the documents leads somewhere",
        run: book::run,
    },
    Step {
        name: "words",
        what: "words that the project no longer uses stay out",
        run: words::run,
    },
    Step {
        name: "api",
        what: "docs/api lists the public items as they are",
        run: || api::run(&[]),
    },
    Step {
        name: "package",
        what: "the published crates are complete, and what is packaged of them compiles",
        run: || package::pack(false),
    },
    Step {
        name: "features",
        what: "each crate builds with few features as well as with all, and says what it lacks",
        run: features,
    },
    Step {
        name: "unused",
        what: "no dependency is declared and not used (cargo-machete)",
        run: unused,
    },
    Step {
        name: "documented",
        what: "docs/dependencies.md says why each dependency is there",
        run: documented::run,
    },
    Step {
        name: "weight",
        what: "no crate brings more packages than docs/weight.md says",
        run: || weight::run(&[]),
    },
    Step {
        name: "msrv",
        what: "no dependency wants a newer Rust than Cargo.toml promises",
        run: msrv::run,
    },
    Step {
        name: "limits",
        what: "docs/limits.md lists every bound, with the numbers of the code",
        run: limits::run,
    },
    Step {
        name: "deny",
        what: "licences, sources and bans of the dependencies (cargo-deny)",
        run: deny,
    },
];

/// What `--long` adds: minutes that nobody waits for before each commit.
const LONG: &[Step] = &[
    Step {
        name: "endurance",
        what: "faults under load, as long as the figures of docs/measurements.md were taken",
        run: || {
            tools::run(
                cargo(["test", "--locked", "--workspace", "--all-features"])
                    .args([
                        "--test",
                        "endurance",
                        "--test",
                        "faults",
                        "--",
                        "--nocapture",
                    ])
                    .env("MCPOOL_ENDURANCE", "1"),
            )
        },
    },
    Step {
        name: "fleet",
        what: "faults of workers, gateways and NATS, in the numbers of docs/fleet.md",
        run: || {
            tools::run(
                cargo(["test", "--locked", "--workspace", "--all-features"])
                    .args([
                        "--test",
                        "fleet_faults",
                        "--",
                        "--nocapture",
                        "--test-threads=1",
                    ])
                    .env("MCPOOL_ENDURANCE", "1"),
            )
        },
    },
    Step {
        name: "all-clients",
        what: "every client of docs/clients.md, over each carrier, with servers of both eras",
        run: || clients::run(&[]),
    },
    Step {
        name: "browser",
        what: "what Chromium makes of the gateway's page",
        run: || {
            tools::run(
                cargo(["test", "--locked", "--workspace", "--all-features"]).args([
                    "--test",
                    "served",
                    "--",
                    "--ignored",
                    "page::a_browser",
                ]),
            )
        },
    },
    Step {
        name: "packages",
        what: "each published crate builds from its package alone, as cargo publishes it",
        run: || package::pack(true),
    },
    Step {
        name: "deploy",
        what: "the systemd unit and the Kubernetes manifests are valid",
        run: deploy::run,
    },
];

/// The feature sets that are checked beside "all": (crate, features).
const FEATURE_SETS: &[(&str, &str)] = &[
    ("mcpool-config", ""),
    ("mcpool-config", "edit"),
    ("mcpool-config", "toml,yaml"),
    ("mcpool-auth", ""),
    ("mcpool-auth", "dpop"),
    ("mcpool-auth", "private-key-jwt"),
    ("mcpool-auth", "enterprise"),
    ("mcpool-client", ""),
    ("mcpool-client", "stdio"),
    ("mcpool-client", "sse"),
    ("mcpool-client", "http"),
    ("mcpool-client", "http,gzip,sse"),
    ("mcpool", ""),
    ("mcpool", "manager,stdio"),
    ("mcpool", "auth"),
    // As `cargo run` and `cargo install` build it.
    ("mcpool-cli", ""),
];

/// Runs the steps that are named, or all.
pub(crate) fn run(args: &[String]) -> Outcome {
    let (long, args): (Vec<_>, Vec<_>) = args.iter().cloned().partition(|arg| arg == "--long");
    let long = if long.is_empty() { &[] } else { LONG };
    let args = args.as_slice();
    if args.iter().any(|arg| arg == "--list") {
        for step in STEPS {
            println!("{:<11} {}", step.name, step.what);
        }
        return Ok(());
    }
    if let Some(unknown) = args
        .iter()
        .find(|arg| !STEPS.iter().any(|step| step.name == *arg))
    {
        return Err(format!(
            "no such step: {unknown}; see `cargo xtask ci --list`"
        ));
    }
    let wanted = |step: &&Step| match args {
        [] => true,
        names => names.iter().any(|name| name == step.name),
    };

    let mut lines = Vec::new();
    let mut failed = 0;
    for step in STEPS.iter().filter(wanted).chain(long) {
        eprintln!("\n=== {}: {}", step.name, step.what);
        let start = Instant::now();
        let outcome = (step.run)();
        let seconds = start.elapsed().as_secs();
        lines.push(match outcome {
            Ok(()) => format!("  good    {:<11} {seconds:>4} s", step.name),
            Err(problem) => {
                failed += 1;
                let first = problem.lines().next().unwrap_or_default();
                format!("  FAILED  {:<11} {seconds:>4} s  {first}", step.name)
            }
        });
    }
    println!("\nchecks{}:", if is_ci() { " (CI)" } else { "" });
    for line in &lines {
        println!("{line}");
    }
    match failed {
        0 => Ok(()),
        n => Err(format!("{n} of {} checks", lines.len())),
    }
}

fn features() -> Outcome {
    for (package, features) in FEATURE_SETS {
        tools::run(
            cargo(["check", "--locked", "--quiet", "--no-default-features"]).args([
                "--package",
                package,
                "--features",
                features,
            ]),
        )?;
    }
    // What a build says of a body that it cannot unpack.
    tools::run(
        cargo(["test", "--locked", "--quiet", "--no-default-features"]).args([
            "--package",
            "mcpool-http-pool",
            "--lib",
            "without_the_feature",
        ]),
    )
}

fn unused() -> Outcome {
    let machete = find_or_install("cargo-machete@0.9.2", &[])?;
    tools::run(
        std::process::Command::new(machete)
            .current_dir(tools::root())
            .args(["--with-metadata", "crates", "tests", "xtask"]),
    )
}

fn deny() -> Outcome {
    let deny = find_or_install("cargo-deny@0.20.2", &[])?;
    // Advisories need a download that is no registry's; licences, sources and bans need none.
    tools::run(
        std::process::Command::new(deny)
            .current_dir(tools::root())
            .args([
                "--offline",
                "--all-features",
                "check",
                "licenses",
                "bans",
                "sources",
            ]),
    )
}
