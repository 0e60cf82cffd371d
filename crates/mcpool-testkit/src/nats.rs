//! NATS for tests: the real `nats-server` with JetStream, one node or a cluster of three, on
//! loopback, with its files in a directory of its own.
//!
//! ```no_run
//! # async fn test() {
//! use mcpool_testkit::nats::NatsServer;
//!
//! let Some(mut nats) = NatsServer::start().await else {
//!     return; // Not installed: the test has said that it is skipped.
//! };
//! // … connect to `nats.url()`, then see what a crash of the server does:
//! nats.kill();
//! nats.restart().await;
//! # }
//! ```

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::{
    leaks::{Marker, eventually},
    machine::{free_ports, servers, skip},
};

/// How long a node may take to be ready, on a busy machine.
const READY: Duration = Duration::from_secs(60);

/// One `nats-server` with JetStream. Dropping it kills it and removes its files; it dies with the
/// process of the test as well.
#[derive(Debug)]
pub struct NatsServer {
    program: PathBuf,
    port: u16,
    monitor: u16,
    marker: Marker,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    server: Child,
    /// A `sh` that kills the server when its standard input ends, as it does when the test dies.
    guard: Option<Child>,
}

impl NatsServer {
    /// Starts one node and waits until it and its JetStream are ready. `None`, after saying that
    /// the test is skipped, where there is no `nats-server`.
    ///
    /// # Panics
    /// When it is not ready within a minute.
    pub async fn start() -> Option<Self> {
        Self::start_with("").await
    }

    /// As [`start`](Self::start), with these lines in its configuration as well: accounts, users,
    /// `max_payload`, limits. Port, monitoring and JetStream are set; a further `jetstream {…}`
    /// is not possible.
    ///
    /// # Panics
    /// When it is not ready within a minute.
    pub async fn start_with(config: &str) -> Option<Self> {
        let mut node = Self::configured(config, Some(""))?;
        node.restart().await;
        Some(node)
    }

    /// As [`start`](Self::start), without JetStream.
    ///
    /// # Panics
    /// When it is not ready within a minute.
    pub async fn start_without_jetstream() -> Option<Self> {
        let mut node = Self::configured("", None)?;
        node.restart().await;
        Some(node)
    }

    /// As [`start_with`](Self::start_with), with so many bytes of JetStream's disk at most.
    ///
    /// # Panics
    /// When it is not ready within a minute.
    pub async fn start_with_disk(config: &str, bytes: u64) -> Option<Self> {
        let mut node = Self::configured(config, Some(&format!("max_file_store: {bytes}")))?;
        node.restart().await;
        Some(node)
    }

    fn configured(config: &str, jetstream: Option<&str>) -> Option<Self> {
        let program = servers().join("nats/bin/nats-server");
        if !program.exists() {
            skip("nats-server", "not installed; run `cargo xtask servers`");
            return None;
        }
        let ([port, monitor], marker) = (free_ports(), Marker::new());
        let store = marker.dir().join("jetstream");
        let jetstream = jetstream.map_or_else(String::new, |more| {
            format!("jetstream {{ store_dir: {store:?}\n{more} }}\n")
        });
        let written = std::fs::write(
            marker.dir().join("server.conf"),
            format!(
                "listen: \"127.0.0.1:{port}\"\nhttp: \"127.0.0.1:{monitor}\"\n\
                 {jetstream}{config}\n"
            ),
        );
        if let Err(error) = written {
            panic!("cannot write {}: {error}", marker.dir().display());
        }
        Some(Self {
            program,
            port,
            monitor,
            marker,
            running: None,
        })
    }

    /// Its address, as a client takes it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://{}", self.address())
    }

    /// Its address, for a [`TcpProxy`](crate::faults::TcpProxy) before it.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// The number of its process, while it runs.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.running.as_ref().map(|running| running.server.id())
    }

    /// What it wrote to its log, over all its starts.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.marker.dir().join("server.log")).unwrap_or_default()
    }

    /// Kills it (SIGKILL). Its files stay.
    pub fn kill(&mut self) {
        let Some(mut running) = self.running.take() else {
            return;
        };
        // The guard first: the number of the process may be another's soon.
        if let Some(mut guard) = running.guard.take() {
            let _ = guard.kill();
            let _ = guard.wait();
        }
        let _ = running.server.kill();
        let _ = running.server.wait();
    }

    /// Starts it if it does not run, with the port and the files that it had, and waits until it
    /// and its JetStream are ready.
    ///
    /// # Panics
    /// When it is not ready within a minute.
    pub async fn restart(&mut self) {
        self.spawn();
        self.ready().await;
    }

    /// Starts it if it does not run, and does not wait.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn spawn(&mut self) {
        if self.running.is_some() {
            return;
        }
        let (name, value) = self.marker.env();
        let server = Command::new(&self.program)
            .arg("-c")
            .arg(self.marker.dir().join("server.conf"))
            .arg("-l")
            .arg(self.marker.dir().join("server.log"))
            .env(name, value)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let server = match server {
            Ok(server) => server,
            Err(error) => panic!("cannot start {}: {error}", self.program.display()),
        };
        let guard = Command::new("sh")
            .args(["-c", "cat; kill -9 \"$1\"", "sh", &server.id().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok();
        self.running = Some(Running { server, guard });
    }

    async fn ready(&self) {
        let ready = eventually(READY, || self.ask("/healthz").is_some()).await;
        assert!(ready, "nats-server is not ready:\n{}", self.log());
    }

    /// Stops it for a time (SIGSTOP): its connections stay open and nothing moves.
    #[cfg(unix)]
    pub fn freeze(&self) {
        self.signal(nix::sys::signal::Signal::SIGSTOP);
    }

    /// Lets it go on after [`freeze`](Self::freeze).
    #[cfg(unix)]
    pub fn thaw(&self) {
        self.signal(nix::sys::signal::Signal::SIGCONT);
    }

    #[cfg(unix)]
    fn signal(&self, signal: nix::sys::signal::Signal) {
        if let Some(id) = self.id().and_then(|id| i32::try_from(id).ok()) {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(id), signal);
        }
    }

    /// The body of a page of its monitoring, or `None` when it does not answer, or not with 200.
    #[must_use]
    pub fn ask(&self, page: &str) -> Option<String> {
        let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, self.monitor)).ok()?;
        let patience = Some(Duration::from_secs(5));
        connection.set_read_timeout(patience).ok()?;
        write!(connection, "GET {page} HTTP/1.0\r\n\r\n").ok()?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let ok = head.split(' ').nth(1) == Some("200");
        ok.then(|| body.to_owned())
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Three nodes with JetStream that are one cluster. Clients connect to the addresses that they are
/// given, and learn of no others: a proxy before a node is not gone around. Dropping it kills them.
#[derive(Debug)]
pub struct NatsCluster {
    nodes: [NatsServer; 3],
}

impl NatsCluster {
    /// Starts three nodes and waits until they are one cluster that has a leader. `None`, after
    /// saying that the test is skipped, where there is no `nats-server`.
    ///
    /// # Panics
    /// When they are not ready within a minute.
    pub async fn start() -> Option<Self> {
        Self::start_with("").await
    }

    /// As [`start`](Self::start), with these lines in the configuration of each node.
    ///
    /// # Panics
    /// When they are not ready within a minute.
    pub async fn start_with(config: &str) -> Option<Self> {
        let ports = free_ports::<3>();
        let routes: Vec<String> = ports
            .iter()
            .map(|port| format!("\"nats://127.0.0.1:{port}\""))
            .collect();
        let node = |number: usize| {
            let lines = format!(
                "server_name: node{number}\ncluster {{ name: tests\nno_advertise: true\n\
                 listen: \"127.0.0.1:{}\"\nroutes: [{}] }}\n{config}",
                ports[number],
                routes.join(", ")
            );
            NatsServer::configured(&lines, Some(""))
        };
        let mut nodes = [node(0)?, node(1)?, node(2)?];
        nodes.iter_mut().for_each(NatsServer::spawn);
        let cluster = Self { nodes };
        for node in &cluster.nodes {
            node.ready().await;
        }
        let led = eventually(READY, || cluster.leader().is_some()).await;
        assert!(led, "no leader:\n{}", cluster.nodes[0].log());
        Some(cluster)
    }

    /// The addresses of all nodes, as a client takes them: with commas between.
    #[must_use]
    pub fn urls(&self) -> String {
        let urls: Vec<String> = self.nodes.iter().map(NatsServer::url).collect();
        urls.join(",")
    }

    /// The nodes. Their names in NATS are `node0`, `node1`, `node2`.
    #[must_use]
    pub fn nodes(&self) -> &[NatsServer; 3] {
        &self.nodes
    }

    /// The nodes, to be killed and started again.
    pub fn nodes_mut(&mut self) -> &mut [NatsServer; 3] {
        &mut self.nodes
    }

    /// The node that leads JetStream now, as the nodes that answer say. A stream has a leader of
    /// its own: the client's library gives it.
    #[must_use]
    pub fn leader(&self) -> Option<usize> {
        self.nodes.iter().find_map(|node| {
            let page: serde_json::Value = serde_json::from_str(&node.ask("/jsz")?).ok()?;
            let name = page["meta_cluster"]["leader"].as_str()?;
            name.strip_prefix("node")?.parse().ok()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn greets(node: &NatsServer) -> bool {
        let mut greeting = [0; 5];
        TcpStream::connect(node.address())
            .and_then(|mut connection| connection.read_exact(&mut greeting))
            .is_ok_and(|()| &greeting == b"INFO ")
    }

    #[tokio::test]
    async fn a_node_is_killed_and_started_again_and_leaves_nothing() {
        let Some(mut node) = NatsServer::start_with("max_payload: 4096").await else {
            return;
        };
        assert!(greets(&node));
        node.kill();
        assert!(!greets(&node));
        node.restart().await;
        assert!(greets(&node));
        let (dir, processes) = (node.marker.dir().to_owned(), node.marker.processes());
        assert!(dir.join("jetstream").is_dir());
        drop(node);
        assert!(!dir.exists());
        assert!(!processes.into_iter().any(crate::leaks::is_alive));
    }

    #[tokio::test]
    async fn a_cluster_finds_another_leader() {
        let Some(mut cluster) = NatsCluster::start().await else {
            return;
        };
        let first = cluster.leader().unwrap();
        cluster.nodes_mut()[first].kill();
        let other = eventually(READY, || {
            cluster.leader().is_some_and(|leader| leader != first)
        });
        assert!(other.await);
        cluster.nodes_mut()[first].restart().await;
    }
}
