//! The gateway that `mcpool up` left running: where it listens, and how other commands use the
//! connections that it has.
//!
//! Each set of config files has a socket of its own in a directory of the user's alone. Over it
//! go MCP, for calls, and the gateway's JSON API. Anybody who answers there must run as this user.

use std::{
    collections::HashMap,
    fs::DirBuilder,
    io,
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use etcetera::BaseStrategy as _;
use mcpool::{
    HttpSpec, ProtocolChoice, ProtocolVersion, ServerSpec, StateKind, TransportKind, gateway::Fleet,
};
use nix::unistd::geteuid;
use serde::Deserialize;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
};

use crate::{config_files, global::Global, render::out, text};

/// How long the gateway may take to say how its servers are.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Bytes of that answer.
const MAX_ANSWER: u64 = 16 * 1024 * 1024;

/// Files of the directory of the sockets that are looked at.
const MAX_SOCKETS: usize = 4096;

/// The version of the API that is understood here.
const API: u32 = 1;

/// A gateway that runs.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) socket: PathBuf,
    pub(crate) pid: u32,
    /// Where it serves HTTP.
    pub(crate) listens: Vec<SocketAddr>,
    /// The workers of its pool, where it has a fleet.
    pub(crate) fleet: Option<Fleet>,
    servers: HashMap<String, Seen>,
}

/// What the gateway says of a server.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Seen {
    name: String,
    state: StateKind,
    pub(crate) transport: Option<TransportKind>,
    pub(crate) protocol: Option<ProtocolVersion>,
    pub(crate) connect_ms: Option<u64>,
}

#[derive(Deserialize)]
struct Status {
    api: u32,
    version: String,
    pid: u32,
    #[serde(default)]
    listens: Vec<SocketAddr>,
    servers: Vec<Seen>,
    fleet: Option<Fleet>,
}

/// Where the gateway of these config files listens. The directory is made when it is not there.
///
/// # Errors
/// When there is no place for it that is the user's alone.
pub(crate) fn socket_of(files: &config_files::Files) -> io::Result<PathBuf> {
    let digest = files.digest()?;
    Ok(directory()?.join(format!("{digest}.sock")))
}

/// Where gateways of this user listen, or have listened.
///
/// # Errors
/// When there is no place for it that is the user's alone, or it cannot be read.
pub(crate) fn sockets() -> io::Result<Vec<PathBuf>> {
    let mut sockets = Vec::new();
    for entry in std::fs::read_dir(directory()?)?.take(MAX_SOCKETS) {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "sock")
        {
            sockets.push(path);
        }
    }
    sockets.sort();
    Ok(sockets)
}

/// The directory of the sockets: in the runtime directory of the user, or with its state.
fn directory() -> io::Result<PathBuf> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").filter(|path| Path::new(path).is_absolute());
    let directory = match runtime {
        Some(runtime) => PathBuf::from(runtime).join("mcpool"),
        None => state()?.join("run"),
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&directory)?;
    let found = std::fs::symlink_metadata(&directory)?;
    if found.is_dir() && found.uid() == geteuid().as_raw() && found.mode() & 0o077 == 0 {
        return Ok(directory);
    }
    Err(io::Error::new(
        io::ErrorKind::PermissionDenied,
        format!(
            "{} must be a directory of this user's alone",
            directory.display()
        ),
    ))
}

/// Where the program keeps what it writes for itself.
pub(crate) fn state() -> io::Result<PathBuf> {
    let base = etcetera::choose_base_strategy().map_err(io::Error::other)?;
    let state = base.state_dir().unwrap_or_else(|| base.data_dir());
    Ok(state.join("mcpool"))
}

/// Whether the other end runs as this user.
pub(crate) fn is_ours(stream: &UnixStream) -> bool {
    stream
        .peer_cred()
        .is_ok_and(|peer| peer.uid() == geteuid().as_raw())
}

/// The gateway that runs for these flags, if one does and understands this program.
pub(crate) async fn find(global: &Global) -> Option<Pool> {
    let socket = socket_of(&config_files::find(global).ok()?).ok()?;
    match tokio::time::timeout(ANSWER_TIMEOUT, status(&socket)).await {
        Ok(Ok(status)) if status.api == API && status.version == env!("CARGO_PKG_VERSION") => {
            let servers = status.servers.into_iter();
            Some(Pool {
                socket,
                pid: status.pid,
                listens: status.listens,
                fleet: status.fleet,
                servers: servers.map(|seen| (seen.name.clone(), seen)).collect(),
            })
        }
        Ok(Ok(other)) => {
            out::tell(&text!(
                "note: the gateway that runs is of mcpool {}, and is not used: `mcpool down`, then \
                 `mcpool up`\n",
                other.version
            ));
            None
        }
        // Nobody listens.
        Ok(Err(error))
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ) =>
        {
            None
        }
        Ok(Err(error)) => {
            tracing::warn!(%error, "the gateway that runs is not used");
            None
        }
        Err(_) => {
            out::tell(&text!(
                "note: the gateway that runs does not answer, and is not used\n"
            ));
            None
        }
    }
}

async fn status(socket: &Path) -> io::Result<Status> {
    let body = get(connected(socket).await?, "/api/v1/status").await?;
    serde_json::from_slice(&body).map_err(io::Error::from)
}

/// The names of a server's tools, as the gateway that runs for these flags has them.
///
/// # Errors
/// When none runs, or it does not know the server.
pub(crate) async fn tools(global: &Global, server: &str) -> io::Result<Vec<String>> {
    #[derive(Deserialize)]
    struct Tools {
        tools: Vec<Tool>,
    }
    #[derive(Deserialize)]
    struct Tool {
        name: String,
    }
    let files = config_files::find(global).map_err(|failure| {
        let why = failure.message().as_str().to_owned();
        io::Error::new(io::ErrorKind::NotFound, why)
    })?;
    // It becomes part of a request line.
    if !server.bytes().all(|byte| byte.is_ascii_graphic()) || server.contains(['/', '?', '#', '%'])
    {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let stream = connected(&socket_of(&files)?).await?;
    let body = get(stream, &format!("/api/v1/servers/{server}/tools")).await?;
    let listed: Tools = serde_json::from_slice(&body)?;
    Ok(listed.tools.into_iter().map(|tool| tool.name).collect())
}

async fn connected(socket: &Path) -> io::Result<UnixStream> {
    let stream = UnixStream::connect(socket).await?;
    if is_ours(&stream) {
        return Ok(stream);
    }
    Err(io::Error::new(
        io::ErrorKind::PermissionDenied,
        "another user listens there",
    ))
}

/// The body of a document. HTTP/1.0 ends with its connection, and so needs no library to be read.
async fn get(mut stream: UnixStream, path: &str) -> io::Result<Vec<u8>> {
    let request = format!("GET {path} HTTP/1.0\r\nhost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer).await?;
    let no_answer = || {
        io::Error::new(
            io::ErrorKind::InvalidData,
            "what came is not an answer from a gateway",
        )
    };
    let end = answer
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .ok_or_else(no_answer)?;
    let head = answer.get(..end).unwrap_or_default();
    if !(head.starts_with(b"HTTP/1.0 200") || head.starts_with(b"HTTP/1.1 200")) {
        return Err(no_answer());
    }
    Ok(answer.split_off(end + 4))
}

impl Pool {
    /// Where its API would be asked for a server that it has connected.
    fn has(&self, name: &str) -> Option<&Seen> {
        // Of one that is in trouble the command finds out more by itself.
        self.servers
            .get(name)
            .filter(|seen| seen.state == StateKind::Ready)
    }

    /// Puts the gateway's connection in the place of each server that it has connected.
    pub(crate) fn lend(&self, specs: &mut [ServerSpec]) -> HashMap<String, Seen> {
        let mut lent = HashMap::new();
        for spec in specs.iter_mut().filter(|spec| spec.enabled) {
            let name = spec.name.as_str();
            let Some(seen) = self.has(name) else { continue };
            let url = format!("http://localhost/servers/{name}/mcp");
            let http = HttpSpec::new(url).with_unix_socket(&self.socket);
            let Ok(mut through) = ServerSpec::http(name, http) else {
                continue;
            };
            lent.insert(name.to_owned(), seen.clone());
            through = through.with_protocol(ProtocolChoice::Pinned(ProtocolVersion::LATEST));
            through.policy = spec.policy.clone();
            through.masker = spec.masker.clone();
            *spec = through;
        }
        lent
    }
}
