//! Workers and gateways of one pool.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    process::Child,
};

use mcpool_testkit::nats::NatsServer;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::support::{Place, until};

/// The pool of the tests.
pub(crate) const POOL: &str = "test";

/// A process of the fleet, whose standard error is a file. Killed when dropped.
pub(crate) struct Machine {
    child: Child,
    log: std::path::PathBuf,
}

impl Machine {
    /// Starts the program with these arguments, and those that lead to NATS.
    pub(crate) fn start(place: &Place, nats: &NatsServer, name: &str, args: &[&str]) -> Self {
        Self::start_at(place, &nats.url(), name, args)
    }

    pub(crate) fn start_at(place: &Place, url: &str, name: &str, args: &[&str]) -> Self {
        let log = place.path().join(format!("{name}.log"));
        let file = std::fs::File::create(&log).unwrap();
        let child = place
            .command(args)
            .args(["--nats", url, "--pool", POOL, "--nats-name", name])
            .stdout(std::process::Stdio::null())
            .stderr(file)
            .spawn()
            .unwrap();
        Self { child, log }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    /// What it wrote to standard error.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Where a gateway serves, once it says so.
    pub(crate) fn address(&self) -> String {
        until("the gateway listens", || {
            let log = self.log();
            let line = log
                .lines()
                .find_map(|line| line.strip_prefix("serving at http://"))?;
            Some(line.strip_suffix("/mcp")?.to_owned())
        })
    }

    /// Waits for its end and gives the exit code; `None` when a signal killed it.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        until("the process ends", || self.child.try_wait().unwrap()).code()
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{}:\n{}", self.log.display(), self.log());
        }
    }
}

/// A worker with the servers of the place's config.
pub(crate) fn worker(place: &Place, nats: &NatsServer, name: &str, more: &[&str]) -> Machine {
    let mut args = vec!["worker", "--place", "rack 7"];
    args.extend_from_slice(more);
    Machine::start(place, nats, name, &args)
}

/// A gateway with no config.
pub(crate) fn gateway(nats: &NatsServer, name: &str) -> (Place, Machine, String) {
    let place = Place::empty();
    let args = ["serve", "--listen", "127.0.0.1:0"];
    let machine = Machine::start(&place, nats, name, &args);
    let address = machine.address();
    (place, machine, address)
}

/// What a gateway's API says at a path, or nothing when it does not answer.
pub(crate) fn api(address: &str, path: &str) -> Option<Value> {
    let mut stream = TcpStream::connect(address).ok()?;
    write!(
        stream,
        "GET /api/v1/{path} HTTP/1.0\r\nhost: localhost\r\n\r\n"
    )
    .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.contains(" 200 ")
        .then(|| serde_json::from_str(body).unwrap())
}

/// Calls a tool through a gateway with the program.
pub(crate) fn call(place: &Place, address: &str, tool: &str) -> crate::support::Run {
    let url = format!("http://{address}/mcp");
    place.run(&["call", &url, tool, "a=19", "b=23"])
}

/// Waits until a gateway's view of the fleet is as wanted, and gives it.
pub(crate) fn fleet(address: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    until(what, || {
        let fleet = api(address, "status")?["fleet"].take();
        wanted(&fleet).then_some(fleet)
    })
}

/// Where a server is in a state, by the fleet of the API.
pub(crate) fn workers_of<'a>(fleet: &'a Value, server: &str, state: &str) -> Vec<&'a str> {
    let workers = fleet["workers"].as_array().unwrap().iter();
    workers
        .filter(|worker| worker["here"] == true)
        .filter(|worker| {
            let mut servers = worker["servers"].as_array().unwrap().iter();
            servers.any(|one| one["server"] == server && one["state"] == state)
        })
        .map(|worker| worker["worker"].as_str().unwrap())
        .collect()
}
