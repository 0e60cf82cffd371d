//! `mcpool serve` as replicas, and HAProxy before them.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use mcpool_testkit::{
    eventually,
    machine::{free_port, skip},
};

use serde_json::Value;

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

/// The answer to a POST, read as it comes.
#[derive(Debug)]
pub struct Answer {
    status: u16,
    session: Option<String>,
    body: BufReader<TcpStream>,
}

impl Answer {
    /// Its status.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The session that begins with it.
    #[must_use]
    pub fn session(&self) -> Option<&str> {
        self.session.as_deref()
    }

    /// The next message: the body, or what stands in the next event of a stream. `None` at the end.
    #[must_use]
    pub fn message(&mut self) -> Option<Value> {
        let mut line = String::new();
        loop {
            line.clear();
            if self.body.read_line(&mut line).ok()? == 0 {
                return None;
            }
            let text = line.strip_prefix("data:").unwrap_or(&line);
            if let Ok(message) = serde_json::from_str(text.trim()) {
                return Some(message);
            }
        }
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

    /// Sends a message with these headers, as a client of either era, with HTTP/1.0.
    ///
    /// # Errors
    /// Of the connection. Nothing is waited for longer than a minute.
    pub fn post(&self, headers: &[(&str, &str)], message: &Value) -> std::io::Result<Answer> {
        self.send("POST", headers, &message.to_string())
    }

    /// Ends a session, and gives the status.
    ///
    /// # Errors
    /// Of the connection.
    pub fn end_session(&self, session: &str) -> std::io::Result<u16> {
        let headers = [("mcp-session-id", session)];
        Ok(self.send("DELETE", &headers, "")?.status())
    }

    fn send(&self, verb: &str, headers: &[(&str, &str)], body: &str) -> std::io::Result<Answer> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let headers: String = headers
            .iter()
            .map(|(name, value)| format!("{name}: {value}\r\n"))
            .collect();
        write!(
            stream,
            "{verb} /mcp HTTP/1.0\r\nhost: localhost\r\ncontent-type: application/json\r\n\
             accept: application/json, text/event-stream\r\ncontent-length: {}\r\n{headers}\r\n{body}",
            body.len()
        )?;
        let mut answer = Answer {
            status: 0,
            session: None,
            body: BufReader::new(stream),
        };
        let mut line = String::new();
        while answer.body.read_line(&mut line)? > 0 && !line.trim().is_empty() {
            match line.trim().split_once(": ") {
                Some((name, value)) if name.eq_ignore_ascii_case("mcp-session-id") => {
                    answer.session = Some(value.to_owned());
                }
                Some(_) => {}
                None => {
                    let status = line.split(' ').nth(1);
                    answer.status = status.and_then(|code| code.parse().ok()).unwrap_or(0);
                }
            }
            line.clear();
        }
        Ok(answer)
    }

    /// What it has written to standard error.
    #[must_use]
    pub fn stderr(&self) -> String {
        self.process.stderr()
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
