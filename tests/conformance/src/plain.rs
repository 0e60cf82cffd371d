//! Plain HTTP, for what is no part of the client under test.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use url::Url;

/// The answer to a GET: its head, an empty line, and its body.
pub(crate) async fn get(url: &str) -> Result<String, String> {
    let url = Url::parse(url).map_err(|error| error.to_string())?;
    let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
        return Err("the URL has no host".to_owned());
    };
    let target = &url[url::Position::BeforePath..url::Position::AfterQuery];
    // HTTP/1.0 has no chunks.
    let request = format!("GET {target} HTTP/1.0\r\nHost: {host}:{port}\r\n\r\n");
    let mut answer = Vec::new();
    let exchange = async {
        let mut stream = TcpStream::connect((host, port)).await?;
        stream.write_all(request.as_bytes()).await?;
        stream.read_to_end(&mut answer).await
    };
    exchange
        .await
        .map_err(|error: std::io::Error| error.to_string())?;
    Ok(String::from_utf8_lossy(&answer).replace("\r\n", "\n"))
}
