//! What token and registration endpoints answer, read as they really do: RFC 6749, section 5, and
//! RFC 7591, section 3.2, with the liberties that servers take. A person has logged in by then and
//! the code is used up, so only what is needed is required.
//!
//! No error quotes an answer: it may hold a token.

use std::fmt;

use mcpool_core::{Error, ErrorKind, Result, Secret};
use reqwest::StatusCode;
use serde_json::{Map, Value};
use url::form_urlencoded;

use crate::{
    error::refused,
    grant::{ClientAuth, TokenKind},
    shown::shorten,
};

/// No token is anywhere near this, and no server takes a header that is.
const MAX_TOKEN: usize = 64 * 1024;
/// More scopes than this are no permission that somebody gave.
const MAX_SCOPES: usize = 1000;
/// Ten years, in seconds. Who says more means that it does not end.
const MAX_LIFETIME: u64 = 10 * 365 * 24 * 3600;

/// What a token endpoint gave.
#[derive(Debug)]
pub(crate) struct Tokens {
    pub(crate) access: Secret,
    pub(crate) kind: TokenKind,
    pub(crate) refresh: Option<Secret>,
    /// In seconds.
    pub(crate) lifetime: Option<u64>,
    pub(crate) scopes: Option<Vec<String>>,
}

/// What a registration endpoint gave.
#[derive(Debug)]
pub(crate) struct Registered {
    pub(crate) client_id: String,
    pub(crate) secret: Option<Secret>,
    /// How the client is to prove itself, if the server says.
    pub(crate) auth: Option<ClientAuth>,
}

/// The error of a token or registration endpoint (RFC 6749, section 5.2).
#[derive(Debug, Clone)]
pub(crate) struct OAuthErrorAnswer {
    pub(crate) status: u16,
    pub(crate) error: String,
    pub(crate) description: Option<String>,
    /// Whether it is of OAuth's form: something on the way may have answered in its own.
    pub(crate) is_oauth: bool,
}

impl OAuthErrorAnswer {
    /// Reads the error in an answer; some servers send it with status 200.
    pub(crate) fn read(status: StatusCode, body: &[u8]) -> Option<Self> {
        let fields = fields(body)?;
        if fields.contains_key("access_token") || fields.contains_key("client_id") {
            return None;
        }
        // Some servers have their own error object there.
        let own = fields.get("error")?.as_object();
        let (error, own_text) = match own {
            Some(own) => (
                text(own, "code").or_else(|| text(own, "type")),
                text(own, "message"),
            ),
            None => (text(&fields, "error"), None),
        };
        Some(Self {
            is_oauth: own.is_none(),
            status: status.as_u16(),
            error: shorten(error.as_deref().unwrap_or("error")),
            description: text(&fields, "error_description")
                .or(own_text)
                .map(|text| shorten(&text)),
        })
    }

    /// Whether it says that the client is not known, or not any more.
    pub(crate) fn is_about_the_client(&self) -> bool {
        self.error == "invalid_client"
    }
}

impl fmt::Display for OAuthErrorAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.description {
            Some(text) => write!(f, "{} ({text})", self.error),
            None => f.write_str(&self.error),
        }
    }
}

impl Tokens {
    /// Reads the answer of a token endpoint: JSON, or a form. Only the token itself is needed; no
    /// type means bearer.
    pub(crate) fn read(body: &[u8]) -> Result<Self> {
        let not_a_token = || {
            Error::new(
                ErrorKind::Protocol,
                "the answer of the token endpoint is not a token (RFC 6749, section 5.1)",
            )
        };
        let fields = fields(body).ok_or_else(not_a_token)?;
        let access = text(&fields, "access_token").ok_or_else(not_a_token)?;
        let refresh = text(&fields, "refresh_token");
        let longest = access.len().max(refresh.as_ref().map_or(0, String::len));
        if longest > MAX_TOKEN {
            return Err(Error::new(
                ErrorKind::TooLarge,
                format!("the authorization server gave a token of more than {MAX_TOKEN} bytes"),
            ));
        }
        Ok(Self {
            access: access.into(),
            kind: text(&fields, "token_type").map_or(Ok(TokenKind::Bearer), |name| kind(&name))?,
            refresh: refresh.map(Secret::new),
            lifetime: fields.get("expires_in").and_then(seconds),
            scopes: fields.get("scope").and_then(scopes),
        })
    }
}

impl Registered {
    /// Reads the answer of a registration endpoint. Only the client id is needed.
    pub(crate) fn read(body: &[u8]) -> Result<Self> {
        let not_a_client = || {
            Error::new(
                ErrorKind::Protocol,
                "the answer of the registration endpoint names no client (RFC 7591, section 3.2.1)",
            )
        };
        let fields = fields(body).ok_or_else(not_a_client)?;
        let client_id = text(&fields, "client_id").ok_or_else(not_a_client)?;
        let auth = match text(&fields, "token_endpoint_auth_method").as_deref() {
            Some("none") => Some(ClientAuth::None),
            Some("client_secret_basic") => Some(ClientAuth::Basic),
            Some("client_secret_post") => Some(ClientAuth::Post),
            _ => None,
        };
        Ok(Self {
            client_id,
            // One that the server says it does not want is not sent.
            secret: text(&fields, "client_secret")
                .filter(|_| auth != Some(ClientAuth::None))
                .map(Secret::new),
            auth,
        })
    }
}

/// The members of an answer: of a JSON object, or of a form, which some token endpoints send
/// whatever they are asked for.
fn fields(body: &[u8]) -> Option<Map<String, Value>> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    if let Ok(fields) = serde_json::from_slice(body) {
        return Some(fields);
    }
    let body = std::str::from_utf8(body).ok()?.trim();
    let is_form = body.starts_with(|c: char| c.is_ascii_alphabetic()) && body.contains('=');
    is_form.then(|| {
        form_urlencoded::parse(body.as_bytes())
            .map(|(name, value)| (name.into_owned(), Value::String(value.into_owned())))
            .collect()
    })
}

/// A member as text. Numbers are taken for it; an empty one is as none.
fn text(fields: &Map<String, Value>, name: &str) -> Option<String> {
    match fields.get(name)? {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn kind(name: &str) -> Result<TokenKind> {
    if name.trim().eq_ignore_ascii_case("bearer") {
        Ok(TokenKind::Bearer)
    } else if name.trim().eq_ignore_ascii_case("dpop") {
        Ok(TokenKind::Dpop)
    } else {
        Err(refused(format!(
            "the authorization server gave a token of the kind {:?}, which is not supported",
            shorten(name)
        )))
    }
}

/// A number of seconds: whole, with a fraction, or as a text. 0 and what is no number mean that
/// it is unknown; the server's 401 shows it then.
fn seconds(value: &Value) -> Option<u64> {
    let seconds = match value {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    if !(seconds.is_finite() && seconds >= 1.0) {
        return None;
    }
    // Rounded down, and within the range: no bits are lost.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "positive, and a cast saturates"
    )]
    let whole = seconds as u64;
    Some(whole.min(MAX_LIFETIME))
}

/// Scopes: separated by spaces (RFC 6749, section 3.3); some servers write a list, or commas.
fn scopes(value: &Value) -> Option<Vec<String>> {
    let list: Vec<String> = match value {
        Value::String(text) if text.contains(',') && !text.contains(' ') => {
            text.split(',').map(str::to_owned).collect()
        }
        Value::String(text) => text.split_whitespace().map(str::to_owned).collect(),
        Value::Array(list) => list
            .iter()
            .filter_map(|scope| scope.as_str().map(str::to_owned))
            .collect(),
        _ => return None,
    };
    let is_scope = |scope: &String| !scope.is_empty();
    Some(list.into_iter().filter(is_scope).take(MAX_SCOPES).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(body: &str) -> Tokens {
        Tokens::read(body.as_bytes()).unwrap_or_else(|error| panic!("{body}: {error}"))
    }

    #[test]
    fn what_token_endpoints_really_answer() {
        // The body, and what it means: type, seconds, refresh token, scopes.
        let bearer = TokenKind::Bearer;
        for (body, kind, lifetime, refresh, scopes) in [
            (
                r#"{"access_token":"a","token_type":"bEARER","expires_in":60,"refresh_token":"r","scope":"x y"}"#,
                bearer,
                Some(60),
                Some("r"),
                Some("x y"),
            ),
            // NetSuite, Entra: a number as a text.
            (
                r#"{"access_token":"a","token_type":"Bearer","expires_in":"3600"}"#,
                bearer,
                Some(3600),
                None,
                None,
            ),
            (
                r#"{"access_token":"a","token_type":"Bearer","expires_in":3599.7}"#,
                bearer,
                Some(3599),
                None,
                None,
            ),
            (
                r#"{"access_token":"a","expires_in":" 3599.7 "}"#,
                bearer,
                Some(3599),
                None,
                None,
            ),
            (r#"{"access_token":"a"}"#, bearer, None, None, None),
            (
                "\u{feff}{\"access_token\":\"a\",\"token_type\":\"\",\"refresh_token\":null,\"scope\":null}",
                bearer,
                None,
                None,
                None,
            ),
            (
                r#"{"access_token":"a","token_type":"DPoP","refresh_token":"","scope":["x","y"]}"#,
                TokenKind::Dpop,
                None,
                None,
                Some("x y"),
            ),
            // GitHub's older endpoint: a form.
            (
                "access_token=a&scope=x%2Cy&token_type=bearer&expires_in=28800",
                bearer,
                Some(28800),
                None,
                Some("x y"),
            ),
            // Nobody said when it ends.
            (
                r#"{"access_token":"a","expires_in":0}"#,
                bearer,
                None,
                None,
                None,
            ),
            (
                r#"{"access_token":"a","expires_in":-1}"#,
                bearer,
                None,
                None,
                None,
            ),
            (
                r#"{"access_token":"a","expires_in":"never"}"#,
                bearer,
                None,
                None,
                None,
            ),
            (
                r#"{"access_token":"a","expires_in":18446744073709551615}"#,
                bearer,
                Some(MAX_LIFETIME),
                None,
                None,
            ),
            (
                r#"{"access_token":"a","expires_in":1e308}"#,
                bearer,
                Some(MAX_LIFETIME),
                None,
                None,
            ),
        ] {
            let read = tokens(body);
            assert_eq!(read.access.expose(), "a", "{body}");
            assert_eq!(read.kind, kind, "{body}");
            assert_eq!(read.lifetime, lifetime, "{body}");
            assert_eq!(read.refresh.as_ref().map(Secret::expose), refresh, "{body}");
            assert_eq!(
                read.scopes.map(|scopes| scopes.join(" ")).as_deref(),
                scopes,
                "{body}"
            );
        }
    }

    #[test]
    fn what_is_no_token_is_refused_and_not_quoted() {
        let long = format!(r#"{{"access_token":"{}"}}"#, "canary".repeat(20_000));
        for body in [
            r#"{"access_token":null,"x":"canary"}"#,
            r#"{"access_token":["canary"]}"#,
            r#"{"token":"canary"}"#,
            r#"["canary"]"#,
            "canary",
            "<html>canary=1</html>",
            "access_token=&x=canary",
            r#"{"access_token":"canary","token_type":"mac"}"#,
            long.as_str(),
        ] {
            let error = Tokens::read(body.as_bytes()).unwrap_err();
            assert!(!format!("{error:?}").contains("canary"), "{error:?}");
        }
        let many = format!(r#"{{"access_token":"a","scope":"{}"}}"#, "x ".repeat(5_000));
        assert_eq!(tokens(&many).scopes.unwrap().len(), MAX_SCOPES);
    }

    #[test]
    fn what_registration_endpoints_really_answer() {
        let read = |body: &str| {
            let registered = Registered::read(body.as_bytes()).unwrap();
            let secret = registered.secret.map(|secret| secret.expose().to_owned());
            (registered.client_id, secret, registered.auth)
        };
        let id = || "7".to_owned();
        assert_eq!(read(r#"{"client_id":"7"}"#), (id(), None, None));
        assert_eq!(
            read(r#"{"client_id":7,"client_secret":"","redirect_uris":null}"#),
            (id(), None, None)
        );
        assert_eq!(
            read(
                r#"{"client_id":"7","client_secret":"s","token_endpoint_auth_method":"client_secret_post"}"#
            ),
            (id(), Some("s".to_owned()), Some(ClientAuth::Post))
        );
        assert_eq!(
            read(r#"{"client_id":"7","client_secret":"s","token_endpoint_auth_method":"none"}"#),
            (id(), None, Some(ClientAuth::None))
        );
        let error = Registered::read(br#"{"client_secret":"canary"}"#).unwrap_err();
        assert!(!format!("{error:?}").contains("canary"));
    }

    #[test]
    fn errors_are_found_whatever_their_status_and_form() {
        let read = |status: u16, body: &str| {
            OAuthErrorAnswer::read(StatusCode::from_u16(status).unwrap(), body.as_bytes())
                .map(|answer| answer.to_string())
        };
        for (status, body, says) in [
            (
                400,
                r#"{"error":"invalid_grant","error_description":"gone"}"#,
                Some("invalid_grant (gone)"),
            ),
            (200, r#"{"ok":false,"error":"bad_code"}"#, Some("bad_code")),
            (
                200,
                "error=bad_verification_code&error_description=It+is+wrong",
                Some("bad_verification_code (It is wrong)"),
            ),
            (
                403,
                r#"{"error":{"code":403,"message":"no"}}"#,
                Some("403 (no)"),
            ),
            (400, "{\"error\":\"a\\u001b[2J\"}", Some(r"a\u{1b}[2J")),
            (400, r#"{"message":"no"}"#, None),
            (200, r#"{"access_token":"a","error":""}"#, None),
            (502, "<html>", None),
        ] {
            assert_eq!(read(status, body).as_deref(), says, "{body}");
        }
    }
}
