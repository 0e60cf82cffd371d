//! Logins at the test authorization server, by hand and on the command line.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use mcpool_testkit::eventually_blocking;

use crate::{Cli, Running};

const PATIENCE: Duration = Duration::from_secs(30);

/// What a GET is answered with, head and all.
///
/// # Panics
/// When nobody answers.
#[must_use]
pub fn get(url: &str) -> String {
    let target = url
        .strip_prefix("http://")
        .and_then(|rest| rest.split_once('/'));
    let Some((host, path)) = target else {
        panic!("{url} is no URL of this machine");
    };
    let asked = TcpStream::connect(host).and_then(|mut stream| {
        write!(
            stream,
            "GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    });
    match asked {
        Ok(answer) => answer,
        Err(error) => panic!("{url}: {error}"),
    }
}

/// Where a GET is redirected to.
///
/// # Panics
/// When it is not.
#[must_use]
pub fn redirect_of(url: &str) -> String {
    let answer = get(url);
    let redirect = answer
        .lines()
        .find_map(|line| line.strip_prefix("location: "));
    match redirect {
        Some(redirect) => redirect.to_owned(),
        None => panic!("no redirect: {answer}"),
    }
}

/// The URL that a login shows.
///
/// # Panics
/// When it shows none.
#[must_use]
pub fn shown_url(login: &Running) -> String {
    let mut url = None;
    eventually_blocking(PATIENCE, || {
        let stderr = login.stderr();
        let line = stderr
            .lines()
            .map(str::trim)
            .find(|line| line.contains("/authorize?"));
        url = line.map(str::to_owned);
        // The whole line, and all that follows.
        url.is_some() && stderr.contains("paste it here")
    });
    match url {
        Some(url) => url,
        None => panic!("no URL: {}", login.stderr()),
    }
}

/// Logs in by pasting, as a person does whose browser is on another machine: `login` are the words
/// after `mcpool login`. Gives the exit code and all that was printed.
#[must_use]
pub fn paste(cli: &Cli, login: &[&str]) -> (Option<i32>, String) {
    let words = [&["login", "--no-browser"], login].concat();
    let mut login = cli.start_typing(&words);
    let url = shown_url(&login);
    login.type_line(&redirect_of(&url));
    let code = login.finish().status.code();
    (code, login.stdout() + &login.stderr())
}
