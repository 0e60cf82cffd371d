//! The processes of the demo: what would be on machines of their own.

use std::{
    collections::BTreeMap,
    fs::DirBuilder,
    io,
    net::{Ipv4Addr, TcpListener},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use mcpool::nats::{Carrier, NatsOptions, PoolName};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStderr, ChildStdin, Command},
};
use tokio_util::task::AbortOnDropHandle;

use super::{LOOK, PATIENCE, own};
use crate::{exit::Failure, text};

/// The pool of the demo.
pub(super) const POOL: &str = "demo";

/// How long a lease of the demo is valid: shorter than one that is meant to last.
const LEASE: &str = "6s";

/// How long a process may take to end before it is killed.
const END_TIMEOUT: Duration = Duration::from_secs(15);

/// Kills what it was given the numbers of when its input ends, as it does when the demo is killed.
const GUARD: &str = r#"while read -r pid; do pids="$pids $pid"; done; kill -9 $pids"#;

/// Three nodes of NATS, two workers, two gateways. Dropping it kills them.
pub(super) struct Machines {
    running: BTreeMap<&'static str, Child>,
    gateways: Vec<(&'static str, String)>,
    urls: String,
    guard: Child,
    to_guard: Option<ChildStdin>,
    /// Those who read what the gateways say, which would stop otherwise.
    readers: Vec<AbortOnDropHandle<()>>,
    /// Last: those who write into it are killed before.
    folder: Folder,
}

/// A directory of the demo's own, removed when it is dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("mcpool-demo-{}", std::process::id()));
        // One that is there already is not ours.
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left of it holds nothing that matters.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Machines {
    /// Starts all of them, and waits until the gateways listen.
    pub(super) async fn start(nats_server: PathBuf) -> Result<Self, Failure> {
        let mut guard = Command::new("sh")
            .args(["-c", GUARD])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(own)?;
        let ports = free_ports::<6>().map_err(own)?;
        let [clients @ .., _, _, _] = ports;
        let urls = clients.map(|port| format!("nats://127.0.0.1:{port}"));
        let mut machines = Self {
            folder: Folder::new().map_err(own)?,
            running: BTreeMap::new(),
            gateways: Vec::new(),
            urls: urls.join(","),
            to_guard: guard.stdin.take(),
            guard,
            readers: Vec::new(),
        };
        for (number, name) in ["n1", "n2", "n3"].into_iter().enumerate() {
            let file = machines.folder.0.join(format!("{name}.conf"));
            let text = node(&machines.folder.0, name, number, &ports);
            std::fs::write(&file, text).map_err(own)?;
            let mut command = Command::new(&nats_server);
            command.arg("-c").arg(&file).stderr(Stdio::null());
            machines.run(name, command).await?;
        }
        // Gateways and workers end when they find no NATS.
        machines.carrier().await?;
        let this = std::env::current_exe().map_err(own)?;
        let config = machines.folder.0.join("servers.json");
        let server = json!({"command": this, "args": ["demo-server"]});
        let servers = json!({"mcpServers": {"calculator": server, "ledger": server}});
        std::fs::write(&config, servers.to_string()).map_err(own)?;
        for name in ["w1", "w2"] {
            let mut command = machines.program(&this, name);
            command.arg("--config").arg(&config).arg("worker");
            command.args(["--place", "this machine", "--nats-name", name]);
            command.args(["--one", "ledger", "--lease", LEASE, "--nats-replicas", "3"]);
            command.stderr(Stdio::null());
            machines.run(name, command).await?;
        }
        for name in ["g1", "g2"] {
            let mut command = machines.program(&this, name);
            command.args(["serve", "--listen", "127.0.0.1:0", "--nats-name", name]);
            command.stderr(Stdio::piped());
            machines.run(name, command).await?;
            let stderr = machines
                .running
                .get_mut(name)
                .and_then(|child| child.stderr.take());
            let mut lines = BufReader::new(stderr.ok_or_else(|| {
                Failure::internal(text!("the demo could not start: {} says nothing", name))
            })?)
            .lines();
            let url = tokio::time::timeout(PATIENCE, address(&mut lines)).await;
            let url = url.ok().flatten().ok_or_else(|| {
                Failure::internal(text!("the demo could not start: {} does not listen", name))
            })?;
            machines.gateways.push((name, url));
            let reader = async move { while let Ok(Some(_)) = lines.next_line().await {} };
            machines
                .readers
                .push(AbortOnDropHandle::new(tokio::spawn(reader)));
        }
        Ok(machines)
    }

    /// This program as one of them: no config of the user's is read.
    fn program(&self, this: &Path, name: &'static str) -> Command {
        let home = self.folder.0.join(name);
        let mut command = Command::new(this);
        command
            .current_dir(&self.folder.0)
            .env("MCPOOL_NATS", &self.urls)
            .env("MCPOOL_POOL", POOL)
            .env_remove("MCPOOL_CONFIG")
            .env_remove("MCPOOL_LOG")
            .env("XDG_CONFIG_HOME", &home)
            .env("XDG_STATE_HOME", &home);
        command
    }

    async fn run(&mut self, name: &'static str, mut command: Command) -> Result<(), Failure> {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            // A Ctrl-C is the demo's, which ends them.
            .process_group(0)
            .spawn()
            .map_err(own)?;
        if let (Some(guard), Some(id)) = (&mut self.to_guard, child.id()) {
            guard
                .write_all(format!("{id}\n").as_bytes())
                .await
                .map_err(own)?;
        }
        self.running.insert(name, child);
        Ok(())
    }

    /// Where the gateways serve.
    pub(super) fn gateways(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.gateways
            .iter()
            .map(|(name, url)| (*name, url.as_str()))
    }

    /// A connection with NATS, once a node answers.
    pub(super) async fn carrier(&self) -> Result<Carrier, Failure> {
        let start = Instant::now();
        let options = NatsOptions::new(self.urls.split(','), PoolName::new(POOL)?);
        loop {
            match Carrier::connect(&options).await {
                Ok(carrier) => return Ok(carrier),
                Err(error) if start.elapsed() > PATIENCE => return Err(error.into()),
                Err(_) => tokio::time::sleep(LOOK).await,
            }
        }
    }

    /// Kills one of them.
    pub(super) fn kill(&mut self, name: &str) -> Result<(), Failure> {
        match self.running.get_mut(name) {
            Some(child) => child.start_kill().map_err(own),
            None => Err(Failure::internal(text!("there is no {}", name))),
        }
    }

    /// Ends them in good order: those that use NATS first.
    pub(super) async fn end(mut self) -> Result<(), Failure> {
        for names in [["g1", "g2"].as_slice(), &["w1", "w2"], &["n1", "n2", "n3"]] {
            let mut ending: Vec<Child> = Vec::new();
            for name in names {
                if let Some(child) = self.running.remove(name) {
                    terminate(&child);
                    ending.push(child);
                }
            }
            for mut child in ending {
                if tokio::time::timeout(END_TIMEOUT, child.wait())
                    .await
                    .is_err()
                {
                    child.kill().await.map_err(own)?;
                }
            }
        }
        // The guard must not kill whatever has these numbers next.
        self.guard.kill().await.map_err(own)
    }
}

fn terminate(child: &Child) {
    if let Some(id) = child.id().and_then(|id| i32::try_from(id).ok()) {
        // One that has ended already is waited for all the same.
        let _ = kill(Pid::from_raw(id), Signal::SIGTERM);
    }
}

/// The configuration of a node of NATS.
fn node(folder: &Path, name: &str, number: usize, ports: &[u16; 6]) -> String {
    let [clients @ .., a, b, c] = ports;
    let routes = [a, b, c].map(|port| format!("\"nats://127.0.0.1:{port}\""));
    let (port, cluster) = (clients.get(number), [a, b, c].get(number).copied());
    let number = |port: Option<&u16>| port.copied().unwrap_or_default();
    format!(
        "server_name: {name}\nlisten: \"127.0.0.1:{}\"\njetstream {{ store_dir: {:?} }}\n\
         cluster {{ name: demo\nlisten: \"127.0.0.1:{}\"\nroutes: [{}] }}\n",
        number(port),
        folder.join(name),
        number(cluster),
        routes.join(", ")
    )
}

/// The URL at which a gateway says that it serves.
async fn address(lines: &mut Lines<BufReader<ChildStderr>>) -> Option<String> {
    while let Some(line) = lines.next_line().await.ok()? {
        if let Some(url) = line.strip_prefix("serving at ") {
            return Some(url.to_owned());
        }
    }
    None
}

/// Ports of loopback that were free a moment ago.
fn free_ports<const N: usize>() -> io::Result<[u16; N]> {
    // All are held until all are known.
    let mut held = Vec::new();
    for _ in 0..N {
        held.push(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?);
    }
    let mut ports = [0; N];
    for (port, listener) in ports.iter_mut().zip(&held) {
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}
