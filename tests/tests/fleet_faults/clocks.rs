//! Machines whose wall clocks are minutes apart: with libfaketime workers and gateways see another
//! time of day, and the clocks that only run are left alone.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use mcpool_e2e::{Cli, Gateway as Served, GatewayClient, logins::paste, rounds, skip};
use mcpool_testkit::{
    fixtures::authz::{AuthzFixture, AuthzOptions},
    nats::NatsServer,
};
use serde_json::json;

use crate::{
    leases::{Lives, lengths},
    load::{COUNT, Load},
    rig::{Fleet, Gateway, POOL, handles, leaves_signs, over_http, served},
};

const SERVERS: [&str; 2] = ["work", "l0"];
const TERMS: [&str; 4] = ["--one", "l0", "--lease", "5s"];

/// Debian's `libfaketime`, or `None` after saying that the test is skipped.
fn libfaketime() -> Option<PathBuf> {
    let found = std::fs::read_dir("/usr/lib")
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("faketime/libfaketimeMT.so.1")))
        .find(|library| library.exists());
    // Said by `.ci/run` where it cannot be installed.
    let is_said = std::env::var_os("MCPOOL_FAKETIME").is_some_and(|said| said == "absent");
    if found.is_none() && !is_said {
        skip("clocks apart by minutes", "libfaketime is not installed");
    }
    found
}

/// The same program at another time of day: `+7m`.
fn at(library: &Path, offset: &str) -> impl FnOnce(Cli) -> Cli {
    let (library, offset) = (library.to_string_lossy().into_owned(), offset.to_owned());
    move |cli| {
        cli.with_env("LD_PRELOAD", library)
            .with_env("FAKETIME", offset)
            .with_env("DONT_FAKE_MONOTONIC", "1")
    }
}

/// How far a gateway's clock is ahead, as its answers say.
fn ahead(gateway: &Served) -> Duration {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", gateway.port())).unwrap();
    stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let date = answer
        .lines()
        .find_map(|line| line.strip_prefix("date: "))
        .unwrap_or_else(|| panic!("{answer}"));
    let date = SystemTime::from(chrono::DateTime::parse_from_rfc2822(date).unwrap());
    date.duration_since(SystemTime::now()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn clocks_are_minutes_apart() {
    let (Some(library), Some(nats)) = (libfaketime(), NatsServer::start().await) else {
        return;
    };
    let signs = tempfile::tempdir().unwrap();
    let alive = signs.path().join("alive");
    let fleet = Fleet::of(&SERVERS, leaves_signs("l0", &alive));
    let (before, after) = (
        fleet.like(at(&library, "-7m")),
        fleet.like(at(&library, "+7m")),
    );
    let url = nats.url();
    let run = |number: usize| {
        let fleet = [&before, &after][number % 2];
        fleet.worker_with(&url, &format!("w{number}"), &TERMS)
    };
    let mut workers = vec![run(0), run(1)];
    // One gateway of today, one of later.
    let gateway = Gateway::start_for(&url, "g0", &SERVERS).await;
    let empty = at(&library, "+7m")(Cli::new(json!({"mcpServers": {}})));
    let later = served(&empty, &url, &[]).await;
    assert!(ahead(&later) > Duration::from_secs(6 * 60));
    let (clients, over_http) = over_http(later.port(), &SERVERS).await;
    let mut servers = handles(std::slice::from_ref(&gateway));
    servers.extend(over_http);
    let load = Load::start(&servers, rounds(4, 16), COUNT);
    load.goes_on().await;
    let mut times = Vec::new();
    for kill in 0..rounds(2, 20) {
        gateway.sees(2).await;
        load.goes_on().await;
        let (victim, at) = (kill % 2, Instant::now());
        workers[victim].kill();
        times.push(load.recovered(at).await);
        workers[victim] = run(victim);
    }
    // The lease went from one time of day to the other.
    let gaps = lengths(&Lives::read(&alive).gaps());
    assert!(!gaps.is_empty(), "nobody took over");
    println!("between two owners: {gaps:.3?}");
    let what = "clocks are minutes apart";
    fleet.judge(what, load, vec![gateway], workers, times).await;
    clients.shutdown(Duration::from_secs(10)).await;
    drop(later);
    before.nothing_left().await;
    after.nothing_left().await;
}

/// A login of the pool whose access tokens live so long, at three gateways: one of 7 minutes ago, one
/// of now, one of in 7 minutes. At whichever gateway it is due, there are at most so many refreshes at the first
/// look at a token, and then none.
async fn a_login_at_three_times_of_day(lifetime: Duration, most: u64) {
    let (Some(library), Some(nats)) = (libfaketime(), NatsServer::start().await) else {
        return;
    };
    let mut options = AuthzOptions::default();
    options.token_lifetime = Some(lifetime);
    let authz = AuthzFixture::start(options).unwrap();
    let config = json!({"mcpServers": {"guarded": {"type": "http", "url": authz.mcp_url()}}});
    let files = tempfile::tempdir().unwrap();
    let file = |name: &str, text: String| {
        let path = files.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let sealing = file("sealing", "07".repeat(32));
    let key = file("pool", format!("{}=\n", "A".repeat(43)));
    let (key, url) = (key.to_string_lossy(), nats.url());
    let flags = ["--nats", &url, "--pool", POOL, "--pool-key", &key];
    let now = Cli::new(config.clone());
    let (code, said) = paste(&now, &[&["guarded"], flags.as_slice()].concat());
    assert_eq!(code, Some(0), "{said}");

    let places = [
        at(&library, "-7m")(Cli::new(config.clone())),
        now,
        at(&library, "+7m")(Cli::new(config)),
    ];
    let mut gateways = Vec::new();
    for place in &places {
        let gateway = Served::start(place, &sealing, &flags);
        gateway.ready().await;
        gateways.push(gateway);
    }
    assert!(ahead(&gateways[2]) > Duration::from_secs(6 * 60));
    let mut clients = Vec::new();
    for gateway in &gateways {
        let client = GatewayClient::connect(gateway.port(), "ada", json!({})).await;
        client.has("guarded__echo").await;
        clients.push(client);
    }
    let echo = async |client: &GatewayClient| {
        let result = client
            .call("guarded__echo", json!({"message": "here"}))
            .await;
        assert!(result.to_string().contains("here"), "{result}");
    };
    for what in [
        "a new login",
        "a token that has ended at its server, whatever the clocks say",
    ] {
        let before = authz.count("refresh_token");
        for client in &clients {
            echo(client).await;
        }
        let first = authz.count("refresh_token") - before;
        assert!(first <= most, "{first} refreshes: {what}");
        println!("{what}, good for {lifetime:?}: {first} refreshes");
        // All hold the same token now, and nobody is at odds about it.
        for _ in 0..20 {
            at_once(&clients, &echo).await;
        }
        let all = authz.count("refresh_token") - before;
        assert_eq!(all, first, "a storm: {what}");
        authz.expire_tokens();
    }
    for client in clients {
        client.close().await;
    }
}

/// Runs it with every client at once.
async fn at_once(clients: &[GatewayClient], run: &impl AsyncFn(&GatewayClient)) {
    let [one, two, three] = clients else {
        panic!("three gateways");
    };
    tokio::join!(run(one), run(two), run(three));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_is_refreshed_once_though_clocks_are_apart() {
    a_login_at_three_times_of_day(Duration::from_secs(60 * 60), 1).await;
}

/// Whose clock is ahead believes that the others' tokens have ended: each of them refreshes once more.
#[tokio::test(flavor = "multi_thread")]
async fn a_short_login_is_refreshed_once_for_each_clock_that_is_ahead() {
    a_login_at_three_times_of_day(Duration::from_secs(5 * 60), 3).await;
}
