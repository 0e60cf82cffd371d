//! The files that people deploy with, against the validators that the world has for them.

use std::{fs, process::Command};

use crate::{
    Outcome,
    programs::{self, binary},
    servers,
    tools::{self, find, root, target},
};

const DIR: &str = "crates/mcpool-cli/deploy";
/// The published schemas of Kubernetes, and what compares with them.
const VALIDATOR: &[&str] = &["kubernetes-validate==1.37.0"];
/// The program's place in the unit.
const INSTALLED: &str = "/usr/local/bin/mcpool";

pub(crate) fn run() -> Outcome {
    let dir = root().join(DIR);
    let validator = target().join("tools/kubernetes-validate");
    servers::install_python(&validator, VALIDATOR)?;
    tools::run(
        Command::new(validator.join("bin/kubernetes-validate"))
            .arg("--strict")
            .arg(dir.join("kubernetes/gateway.yaml"))
            .arg(dir.join("kubernetes/worker.yaml")),
    )?;
    let Some(systemd) = find("systemd-analyze") else {
        println!("skipped: systemd-analyze is not in PATH");
        return Ok(());
    };
    // It looks whether the program is there, so the unit names the one that was built.
    programs::build()?;
    let unit = fs::read_to_string(dir.join("mcpool.service")).map_err(|e| e.to_string())?;
    let built = binary("mcpool").display().to_string();
    let copy = target().join("mcpool.service");
    fs::write(&copy, unit.replace(INSTALLED, &built)).map_err(|error| error.to_string())?;
    tools::run(Command::new(systemd).arg("verify").arg(&copy))
}
