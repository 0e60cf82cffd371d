//! What clients must not be able to do.

use mcpool_gateway::{Gateway, HttpOptions, Limits, SealingKeys};
use mcpool_testkit::Era;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::{Served, by_hand, initialize, ping, status};

#[tokio::test]
async fn foreign_names_are_refused() {
    let served = Served::one(Era::Legacy).await;
    for (header, value) in [("host", "evil.example"), ("origin", "http://evil.example")] {
        let request = served.post("/mcp", "", &initialize()).header(header, value);
        assert_eq!(status(request).await, StatusCode::FORBIDDEN, "{header}");
    }
    let request = served
        .post("/mcp", "", &initialize())
        .header("origin", "http://localhost:1");
    assert_eq!(status(request).await, StatusCode::OK);
}

#[tokio::test]
async fn a_session_is_good_where_it_was_made_and_until_it_is_ended() {
    let served = Served::one(Era::Legacy).await;
    let token = served.token("/mcp", "").await;
    let with = |token: &str, path: &str| {
        served
            .post(path, "", &ping())
            .header("mcp-session-id", token)
    };
    assert_eq!(status(with(&token, "/mcp")).await, StatusCode::OK);
    // Another part of the pool, a changed token, none.
    assert_eq!(
        status(with(&token, "/servers/files/mcp")).await,
        StatusCode::NOT_FOUND
    );
    let changed = format!("A{}", &token[1..]);
    let changed = if changed == token {
        format!("B{}", &token[1..])
    } else {
        changed
    };
    assert_eq!(status(with(&changed, "/mcp")).await, StatusCode::NOT_FOUND);
    assert_eq!(
        status(served.post("/mcp", "", &ping())).await,
        StatusCode::BAD_REQUEST
    );
    // Another gateway with the same key goes on with it; one with another key does not.
    for (key, wanted) in [("07", StatusCode::OK), ("08", StatusCode::NOT_FOUND)] {
        let keys = SealingKeys::from_text(&key.repeat(32)).unwrap();
        let gateway = Gateway::builder(served.manager.clone())
            .with_keys(keys)
            .build();
        let other = Served::on_socket(
            gateway,
            served.manager.clone(),
            Vec::new(),
            HttpOptions::new(),
        )
        .await;
        let request = other
            .post("/mcp", "", &ping())
            .header("mcp-session-id", &token);
        assert_eq!(status(request).await, wanted, "{key}");
    }
    let delete = by_hand()
        .delete(served.url("/mcp"))
        .header("mcp-session-id", &token);
    assert_eq!(status(delete).await, StatusCode::NO_CONTENT);
    assert_eq!(status(with(&token, "/mcp")).await, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn bodies_are_bounded_and_of_one_type() {
    let served = Served::one(Era::Legacy).await;
    let gateway = served.gateway.clone();
    let options = HttpOptions::new().with_limits(Limits::new().with_max_body_bytes(1_000));
    let small = Served::on_socket(gateway, served.manager.clone(), Vec::new(), options).await;
    let mut long = initialize();
    long["params"]["clientInfo"]["name"] = json!("x".repeat(2_000));
    let request = small.post("/mcp", "", &long);
    assert_eq!(status(request).await, StatusCode::PAYLOAD_TOO_LARGE);
    let plain = by_hand().post(small.url("/mcp"));
    let request = plain
        .header("content-type", "text/plain")
        .body(initialize().to_string());
    assert_eq!(status(request).await, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let plain = by_hand().post(small.url("/mcp"));
    let request = plain
        .header("content-type", "application/json; charset=utf-8")
        .header("accept", "text/html")
        .body("{}");
    assert_eq!(status(request).await, StatusCode::NOT_ACCEPTABLE);
    for (body, wanted) in [
        ("{", -32700),
        ("[]", -32600),
        ("5", -32600),
        ("[[]]", -32600),
    ] {
        let request = by_hand()
            .post(small.url("/mcp"))
            .header("content-type", "application/json")
            .body(body);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{body}");
        let answer: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
        assert_eq!(answer["error"]["code"], wanted, "{body}");
    }
}

#[tokio::test]
async fn paths_lead_to_what_is_there() {
    let served = Served::one(Era::Legacy).await;
    for path in [
        "/servers/other/mcp",
        "/mcp/profile",
        "/",
        "/servers/%2e%2e%2fmcp/mcp",
    ] {
        let request = served.post(path, "", &initialize());
        assert_eq!(status(request).await, StatusCode::NOT_FOUND, "{path}");
    }
    let put = by_hand().put(served.url("/mcp"));
    assert_eq!(status(put).await, StatusCode::METHOD_NOT_ALLOWED);
}
