//! What `mcpool serve` is reached by: standard input and output, an address, a unix socket.

use std::net::SocketAddr;
#[cfg(unix)]
use std::{
    io,
    path::{Path, PathBuf},
};

use mcpool::gateway::{Gateway, HttpOptions, HttpServer, Scope};
use tokio::net::TcpListener;

use crate::{exit::Failure, render::out, text};

pub(super) async fn serve_stdio(gateway: &Gateway, scope: Scope) -> Result<(), Failure> {
    // Anybody who serves lines writes nothing else there.
    let (read, write) = (tokio::io::stdin(), tokio::io::stdout());
    let served = gateway.serve_lines(scope, read, write).await;
    served.map_err(|error| Failure::internal(text!("standard output: {}", error.to_string())))
}

pub(super) async fn serve_http(
    gateway: &Gateway,
    address: SocketAddr,
    options: HttpOptions,
    server: HttpServer,
    speaks_tls: bool,
) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        Failure::usage(text!("{}: {}", address.to_string(), error.to_string()))
    };
    let listener = TcpListener::bind(address).await.map_err(|error| {
        let is_taken = error.kind() == std::io::ErrorKind::AddrInUse;
        let hint = is_taken.then(|| {
            text!(
                "another program listens there, perhaps a gateway that is running already; --listen takes \
                 another port"
            )
        });
        failed(error).with_hints(hint)
    })?;
    let address = listener.local_addr().map_err(failed)?;
    let scheme = if speaks_tls { "https" } else { "http" };
    let address = address.to_string();
    out::tell(&text!(
        "serving at {}://{}/mcp\nthe page is at {}://{}/\n",
        scheme,
        address,
        scheme,
        address
    ));
    let router = gateway.router(options);
    server
        .serve(gateway, listener, router)
        .await
        .map_err(failed)
}

#[cfg(unix)]
pub(super) async fn serve_socket(
    gateway: &Gateway,
    path: &Path,
    scope: Scope,
) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        Failure::usage(text!(
            "{}: {}",
            path.display().to_string(),
            error.to_string()
        ))
    };
    let listener = listen(path).map_err(failed)?;
    let _removed = Removed(path.to_owned());
    out::tell(&text!("serving at {}\n", path.display().to_string()));
    let mut clients = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (client, _) = accepted.map_err(failed)?;
                let (gateway, scope) = (gateway.clone(), scope.clone());
                clients.spawn(async move {
                    let (read, write) = client.into_split();
                    // A client that breaks off ends its own connection only.
                    let _ = gateway.serve_lines(scope, read, write).await;
                });
            }
            Some(_) = clients.join_next() => {}
            () = gateway.drained() => break,
        }
    }
    while clients.join_next().await.is_some() {}
    Ok(())
}

/// Listens at a path for the user alone, from the first moment on: anybody who connects has the rights
/// of all servers. What a program left there that was killed is replaced.
#[cfg(unix)]
fn listen(path: &Path) -> io::Result<tokio::net::UnixListener> {
    use std::os::unix::{
        fs::{FileTypeExt as _, PermissionsExt as _},
        net::UnixStream,
    };
    if let Ok(found) = std::fs::symlink_metadata(path) {
        let is_left = found.file_type().is_socket()
            && UnixStream::connect(path)
                .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
        if !is_left {
            return Err(io::ErrorKind::AddrInUse.into());
        }
    }
    let mut aside = path.as_os_str().to_owned();
    aside.push(".new");
    // Of a program that was killed at just this place.
    let _ = std::fs::remove_file(&aside);
    let listener = tokio::net::UnixListener::bind(&aside)?;
    let made = std::fs::set_permissions(&aside, std::fs::Permissions::from_mode(0o600))
        .and_then(|()| std::fs::rename(&aside, path));
    if let Err(error) = made {
        let _ = std::fs::remove_file(&aside);
        return Err(error);
    }
    Ok(listener)
}

/// Takes a socket away when it is served no more.
#[cfg(unix)]
pub(crate) struct Removed(pub(crate) PathBuf);

#[cfg(unix)]
impl Drop for Removed {
    fn drop(&mut self) {
        // Taken away already, perhaps, by anybody who made the directory.
        let _ = std::fs::remove_file(&self.0);
    }
}
