//! What is wrong with the command line or the config is said before NATS is dialled: there is none
//! here.

use serde_json::json;

use crate::support::{Place, good};

/// Nobody listens there.
const NOWHERE: [&str; 4] = ["--nats", "nats://127.0.0.1:1", "--pool", "test"];

fn refused(place: &Place, args: &[&str], why: &str) {
    let run = place.run(&[args, &NOWHERE].concat());
    assert_eq!(run.code(), 2, "{args:?}: {}", run.stderr());
    assert!(run.stderr().contains(why), "{args:?}: {}", run.stderr());
}

#[test]
fn what_is_wrong_is_said_before_nats_is_dialled() {
    let place = Place::with(json!({ "calc": good(), "other": good() }));
    for flag in ["--one", "--each"] {
        let why = format!("there is no server calk for {flag}");
        refused(&place, &["worker", flag, "calk"], &why);
        refused(
            &place,
            &["worker", flag, "calk"],
            "the config has calc, other",
        );
    }
    let both = ["worker", "--one", "calc", "--each", "calc"];
    refused(&place, &both, "for each session and run once");
    let twice = ["worker", "--one", "calc", "--one", "calc"];
    refused(&place, &twice, "names a server twice");
    let short = ["worker", "--one", "calc", "--lease", "2s"];
    refused(&place, &short, "--lease");
    for command in ["worker", "serve", "watch"] {
        let key = [command, "--pool-key", "absent.key"];
        refused(&place, &key, "absent.key");
    }
    std::fs::write(place.path().join("key"), "07".repeat(32)).unwrap();
    let serve = ["serve", "--listen", "127.0.0.1:0", "--key-file", "key"];
    for (url, why) in [
        (
            "10.0.0.7:7332",
            "must be a URL such as http://10.0.0.7:7332",
        ),
        ("ftp://10.0.0.7", "must begin with http:// or https://"),
        ("http://10.0.0.7/?q", "may have no query"),
    ] {
        let why = format!("--advertise: the address of a replica {why}");
        refused(&place, &[&serve[..], &["--advertise", url]].concat(), &why);
    }
    std::fs::write(
        place.path().join("pool.key"),
        format!("{}=", "A".repeat(43)),
    )
    .unwrap();
    let watch = ["watch", "calk", "--pool-key", "pool.key"];
    refused(&place, &watch, "did you mean `calc`?");
    let profile = ["serve", "--profile", "absent", "--listen", "127.0.0.1:0"];
    refused(&place, &profile, "there is no profile absent");

    // A config that is not there is none for a gateway, whose servers may all be at workers.
    let bare = Place::empty();
    refused(&bare, &["worker"], "config");
    std::fs::write(bare.path().join("broken.json"), "{").unwrap();
    for command in ["worker", "serve", "watch"] {
        for file in ["absent.json", "broken.json"] {
            refused(&bare, &["--config", file, command], file);
        }
    }
    // With all of it right NATS is what is missing.
    let run = place.run(&[&["worker", "--one", "calc"], &NOWHERE[..]].concat());
    assert_eq!(run.code(), 4, "{}", run.stderr());
}
