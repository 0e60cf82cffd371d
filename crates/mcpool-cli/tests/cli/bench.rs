//! What `mcpool bench` counts and says.

use serde_json::{Value, json};

use crate::support::{Place, good, keys, scripted};

#[test]
fn bench_counts_every_call() {
    let place = Place::with(json!({"good": good()}));
    let args = [
        "bench",
        "good",
        "echo",
        "--args",
        r#"{"message":"x"}"#,
        "-n",
        "200",
        "-c",
        "8",
    ];
    let figures = place.run(&[&args[..], &["--json"]].concat()).json(0);
    assert_eq!(
        keys(&figures),
        [
            "server",
            "calls",
            "duration_ms",
            "calls_per_s",
            "p50_us",
            "p90_us",
            "p99_us",
            "max_us",
            "errors",
            "first_error",
            "histogram",
            "concurrency",
            "connect_ms",
            "rss_bytes",
            "interrupted",
            "against"
        ]
    );
    assert_eq!(figures["calls"], 200);
    assert_eq!(figures["concurrency"], 8);
    assert_eq!(figures["errors"], 0);
    let of = |key: &str| figures[key].as_u64().unwrap();
    assert!(of("p50_us") <= of("p90_us") && of("p90_us") <= of("p99_us"));
    assert!(of("rss_bytes") > 1 << 20);
}

#[test]
fn bench_runs_for_a_time_beside_another_and_says_what_failed() {
    let failing = scripted(
        r#"printf '{"jsonrpc":"2.0","id":%s,"result":{"isError":true,"content":[{"type":"text","text":"disk full"}]}}\n' "$id""#,
    );
    let place = Place::with(json!({"one": failing, "two": failing}));
    let args = [
        "bench",
        "one",
        "t",
        "--args",
        "{}",
        "-d",
        "300ms",
        "--against",
        "two",
        "--json",
    ];
    let figures = place.run(&args).json(5);
    let of = |figures: &Value, key: &str| figures[key].as_u64().unwrap();
    for (figures, name) in [(&figures, "one"), (&figures["against"], "two")] {
        assert_eq!(figures["server"], name);
        assert!(of(figures, "duration_ms") >= 300, "{figures}");
        assert_eq!(of(figures, "errors"), of(figures, "calls"));
        assert_eq!(
            figures["first_error"],
            "the tool reported an error: disk full"
        );
        let histogram = figures["histogram"].as_array().unwrap();
        let sum: u64 = histogram.iter().map(|bucket| of(bucket, "calls")).sum();
        assert_eq!(sum, of(figures, "calls"));
    }
    assert_eq!(place.run(&["bench", "one", "t", "-n", "0"]).code(), 2);
}

#[test]
fn a_bench_that_would_measure_nothing_is_an_error_of_usage() {
    let place = Place::with(json!({"good": good()}));
    for nothing in [["-n", "0"], ["-d", "0s"], ["-c", "0"]] {
        let run = place.run(&[&["bench", "good", "echo", "message=x"][..], &nothing].concat());
        assert_eq!(run.code(), 2, "{nothing:?}: {}", run.stderr());
        assert!(run.stderr().contains(nothing[0]), "{}", run.stderr());
    }
}
