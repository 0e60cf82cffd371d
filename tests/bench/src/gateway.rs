//! Calls through the gateway, over Streamable HTTP to a server over stdio: beside the limit (bare
//! HTTP and bare stdio, one after the other), the least relay on tokio, and proxies of other makers.

use std::{
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::json;

use crate::{
    Outcome,
    contender::{Contender as _, calls},
    http::{Bare, HttpServer, pooled},
    posting::Posting,
    process::Running,
    programs::{Program, this_as_server},
    rounds::{Options, median, row, time},
    stdio::Limit,
};

/// How many clients the gateway has at once.
const CLIENTS: usize = 1_000;
/// Connects at a time.
const AT_ONCE: usize = 50;
/// How long a proxy may take to listen.
const START: Duration = Duration::from_secs(30);

/// FastMCP's proxy in front of a command.
const FASTMCP: &str = r#"
import sys
from fastmcp.server import create_proxy
server = {"command": sys.argv[2], "args": sys.argv[3:]}
proxy = create_proxy({"mcpServers": {"bench": server}})
options = {"host": "127.0.0.1", "port": int(sys.argv[1])}
proxy.run(transport="http", show_banner=False, log_level="error", **options)
"#;

pub(crate) async fn run(options: &Options) -> Outcome {
    let gateway = Gateway::start()?;
    let pooled = pooled()?;
    let ours = Posting::connect(&pooled, &gateway.url).await?;
    let server = HttpServer::start("serve-http")?;
    let bare = Arc::new(Bare::new(pooled.clone(), format!("{}/mcp", server.origin)));
    let relay = HttpServer::start("serve-relay")?;
    let least = Arc::new(Bare::new(pooled.clone(), format!("{}/mcp", relay.origin)));
    let mut stdio = Limit::start()?;
    let mut proxies = Vec::new();
    if let Some(peers) = &options.peers {
        for (name, process, url) in [fastmcp(peers)?, mcp_proxy(peers)?] {
            let client = connected(&pooled, &url).await?;
            proxies.push((name, client, process));
        }
    }
    let mut head = vec![
        "work",
        "gateway",
        "limit",
        "× limit",
        "least relay",
        "× least",
    ];
    for (name, ..) in &proxies {
        head.extend([*name, "× calls/s"]);
    }
    row(&head);
    row(&vec!["---"; head.len()]);
    let text: Arc<str> = "0123456789abcdef".into();
    for (work, count, in_flight) in [("one at a time", 1_000, 1), ("32 in flight", 6_400, 32)] {
        let mut rounds: Vec<Vec<f64>> = Vec::new();
        // The first round warms up and does not count.
        for round in 0..=options.rounds {
            let each = |took: Duration, count: u32| took.as_secs_f64() * 1e6 / f64::from(count);
            let through = calls(&ours, &text, count, in_flight).await?;
            let over_http = calls(&bare, &text, count, in_flight).await?;
            let over_stdio = tokio::task::block_in_place(|| stdio.run(&text, count, in_flight))?;
            let limit = over_http.time + over_stdio.time;
            let relayed = calls(&least, &text, count, in_flight).await?;
            let mut took = vec![
                each(through.time, count),
                each(limit, count),
                each(relayed.time, count),
            ];
            for (_, client, _) in &proxies {
                // They take a hundred times as long.
                let few = count / 10;
                took.push(each(calls(client, &text, few, in_flight).await?.time, few));
            }
            if round > 0 {
                rounds.push(took);
            }
        }
        let figure = |of: &dyn Fn(&[f64]) -> f64| median(rounds.iter().map(|r| of(r)).collect());
        let mut cells = vec![
            format!("16 B, {work}"),
            time(figure(&|round| round[0])),
            time(figure(&|round| round[1])),
            format!("{:.2}", figure(&|round| round[0] / round[1])),
            time(figure(&|round| round[2])),
            format!("{:.2}", figure(&|round| round[0] / round[2])),
        ];
        for at in 3..3 + proxies.len() {
            cells.push(time(figure(&|round| round[at])));
            cells.push(format!("{:.0}", figure(&|round| round[at] / round[0])));
        }
        row(&cells.iter().map(String::as_str).collect::<Vec<_>>());
    }
    drop(proxies);
    println!();
    // One gateway each, whose memory nobody has used yet.
    drop(gateway);
    for listening in [true, false] {
        many_clients(&Gateway::start()?, listening).await?;
    }
    Ok(())
}

/// A thousand clients, each with a session, a standing stream if it listens, and one call.
async fn many_clients(gateway: &Gateway, listening: bool) -> Outcome {
    let (_, hard) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)?;
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, hard, hard)?;
    // Connections of its own, as a process of its own has them.
    let connect = async || -> Outcome<_> {
        let client = Posting::connect(&pooled()?, &gateway.url).await?;
        let standing = match listening {
            true => Some(client.listen().await?),
            false => None,
        };
        client.call("hello").await?;
        Ok((client, standing))
    };
    let clients = async |count| -> Outcome<Vec<_>> {
        let connects = stream::iter(0..count).map(|_| connect());
        connects.buffer_unordered(AT_ONCE).try_collect().await
    };
    // What is there only once, such as the pages of the program, is there after the first ones.
    let first = clients(AT_ONCE).await?;
    let before = gateway.resident()?;
    let began = Instant::now();
    let clients = clients(CLIENTS).await?;
    let took = began.elapsed();
    let after = gateway.resident()?;
    println!(
        "{} clients, each with a session, {}, and one call: \
         {:.1} s, {:.1} KB of the gateway each, {} server process(es)",
        clients.len(),
        match listening {
            true => "a standing stream on a connection of its own",
            false => "one connection",
        },
        took.as_secs_f64(),
        (after - before) / 1_000.0,
        gateway.servers()?,
    );
    drop(first);
    Ok(())
}

struct Gateway {
    program: Program,
    url: String,
}

impl Gateway {
    fn start() -> Outcome<Self> {
        let (program, origin) = Program::gateway(&json!({"bench": this_as_server()?}), &[])?;
        Ok(Self {
            program,
            url: format!("{origin}/servers/bench/mcp"),
        })
    }

    /// Resident memory in kilobytes, from the kernel.
    fn resident(&self) -> Outcome<f64> {
        mcpool_memory::resident(&self.program.id().to_string())
    }

    /// How many servers run behind it: processes of this program that serve stdio, and whose
    /// forebear is the gateway.
    fn servers(&self) -> Outcome<usize> {
        let mut parents = std::collections::HashMap::new();
        let mut serving = Vec::new();
        for entry in std::fs::read_dir("/proc")? {
            let dir = entry?.path();
            let Some(pid) = dir
                .file_name()
                .and_then(|name| name.to_str()?.parse::<u32>().ok())
            else {
                continue;
            };
            // A process may end while we look.
            let Ok(stat) = std::fs::read_to_string(dir.join("stat")) else {
                continue;
            };
            let after_name = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
            let parent = after_name
                .split(' ')
                .nth(1)
                .and_then(|ppid| ppid.parse().ok());
            parents.insert(pid, parent.unwrap_or(0));
            let command = std::fs::read(dir.join("cmdline")).unwrap_or_default();
            if command
                .split(|byte| *byte == 0)
                .any(|word| word == b"serve-stdio")
            {
                serving.push(pid);
            }
        }
        let gateway = self.program.id();
        let descends = |mut pid: u32| {
            while let Some(parent) = parents.get(&pid) {
                if *parent == gateway {
                    return true;
                }
                pid = *parent;
            }
            false
        };
        Ok(serving.into_iter().filter(|pid| descends(*pid)).count())
    }
}

type Proxy = (&'static str, Running, String);

fn fastmcp(peers: &Path) -> Outcome<Proxy> {
    let port = free_port()?;
    let program = peers.join("fastmcp/bin/python");
    proxy("FastMCP's proxy", &program, &["-c", FASTMCP, &port], &port)
}

fn mcp_proxy(peers: &Path) -> Outcome<Proxy> {
    let port = free_port()?;
    let program = peers.join("mcp-proxy/bin/mcp-proxy");
    let args = ["--port", &port, "--log-level", "ERROR", "--"];
    proxy("mcp-proxy", &program, &args, &port)
}

/// A proxy at this port, before the server of this program.
fn proxy(name: &'static str, program: &Path, args: &[&str], port: &str) -> Outcome<Proxy> {
    let child = Command::new(program)
        .args(args)
        .arg(std::env::current_exe()?)
        .arg("serve-stdio")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    Ok((name, Running(child), format!("http://127.0.0.1:{port}/mcp")))
}

/// They want to be given a port.
fn free_port() -> Outcome<String> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    Ok(listener.local_addr()?.port().to_string())
}

/// A session with a proxy that is still starting.
async fn connected(client: &reqwest::Client, url: &str) -> Outcome<Posting> {
    let began = Instant::now();
    loop {
        match Posting::connect(client, url).await {
            Ok(session) => return Ok(session),
            Err(error) if began.elapsed() > START => return Err(error),
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}
