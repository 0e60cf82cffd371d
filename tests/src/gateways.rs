//! `mcpool serve` as replicas, and HAProxy before them.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use mcpool_testkit::{
    eventually,
    machine::{free_port, skip},
};

use crate::{Cli, Running};

const PATIENCE: Duration = Duration::from_secs(60);

/// HAProxy between clients and gateways: round robin, without affinity. Dropping it kills it.
#[derive(Debug)]
pub struct Balancer {
    process: Child,
    port: u16,
}

impl Balancer {
    /// The program, or `None` after saying that the test is skipped.
    #[must_use]
    pub fn program() -> Option<PathBuf> {
        let found = ["/usr/sbin/haproxy", "/usr/bin/haproxy"]
            .map(PathBuf::from)
            .into_iter()
            .find(|program| program.exists());
        // Said by `.ci/run` where it cannot be installed.
        let is_said = std::env::var_os("MCPOOL_HAPROXY").is_some_and(|said| said == "absent");
        if found.is_none() && !is_said {
            skip("gateways behind HAProxy", "haproxy is not installed");
        }
        found
    }

    /// Starts it before gateways on these ports, and waits until it listens.
    ///
    /// # Panics
    /// When it does not.
    pub async fn start(program: &Path, directory: &Path, gateways: &[u16]) -> Self {
        let port = free_port();
        let servers: String = gateways
            .iter()
            .map(|at| format!("  server s{at} 127.0.0.1:{at} check inter 100ms fall 1 rise 1\n"))
            .collect();
        let config = format!(
            "defaults\n  mode http\n  timeout connect 2s\n  timeout client 60s\n  \
             timeout server 60s\n  option redispatch\n\
             frontend clients\n  bind 127.0.0.1:{port}\n  default_backend gateways\n\
             backend gateways\n  balance roundrobin\n  option httpchk GET /healthz\n{servers}"
        );
        let file = directory.join("haproxy.cfg");
        if let Err(error) = std::fs::write(&file, config) {
            panic!("{}: {error}", file.display());
        }
        let process = Command::new(program)
            .arg("-db")
            .arg("-f")
            .arg(file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let process = match process {
            Ok(process) => process,
            Err(error) => panic!("cannot start {}: {error}", program.display()),
        };
        let balancer = Self { process, port };
        let listens = || TcpStream::connect(("127.0.0.1", port)).is_ok();
        assert!(eventually(PATIENCE, listens).await, "it does not listen");
        balancer
    }

    /// Where clients connect.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// One gateway over HTTP, which can be killed and started again. Dropping it kills it.
#[derive(Debug)]
pub struct Gateway {
    port: u16,
    args: Vec<String>,
    process: Running,
}

impl Gateway {
    /// Starts it with this key and these arguments as well. It may not be ready yet.
    #[must_use]
    pub fn start(cli: &Cli, key_file: &Path, more: &[&str]) -> Self {
        let port = free_port();
        let address = format!("127.0.0.1:{port}");
        let own = format!("http://{address}");
        let key_file = key_file.to_string_lossy();
        let args = [
            "serve",
            "--listen",
            &address,
            "--advertise",
            &own,
            "--key-file",
            &key_file,
        ];
        let args: Vec<String> = args.iter().chain(more).map(ToString::to_string).collect();
        Self {
            process: start(cli, &args),
            port,
            args,
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Kills it (SIGKILL) and starts it again.
    ///
    /// # Panics
    /// When it cannot be killed.
    pub fn again(&mut self, cli: &Cli) {
        self.process.kill();
        self.process = start(cli, &self.args);
    }

    /// Waits until it says that it is ready.
    ///
    /// # Panics
    /// When it is not within a minute.
    pub async fn ready(&self) {
        let is_ready = || {
            let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) else {
                return false;
            };
            let mut answer = String::new();
            let asked = stream.write_all(b"GET /readyz HTTP/1.0\r\n\r\n");
            asked.is_ok() && stream.read_to_string(&mut answer).is_ok() && answer.contains(" 200 ")
        };
        let ready = eventually(PATIENCE, is_ready).await;
        assert!(ready, "not ready: {}", self.process.stderr());
    }
}

fn start(cli: &Cli, args: &[String]) -> Running {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    cli.start(&args)
}
