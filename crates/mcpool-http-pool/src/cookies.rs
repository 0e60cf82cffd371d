//! Cookies of one server: load balancers pin a session to a node with them (RFC 6265).
//!
//! A jar belongs to one connection, so to one server and one principal, and its requests go to
//! one origin only. So whose cookie it is needs no domain matching, and a store for many domains,
//! such as `cookie_store` with the ten packages below it, would be more than is needed.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use http::header::{COOKIE, HeaderMap, HeaderValue, SET_COOKIE};
use url::{Host, Url};

use crate::date::http_date;

/// The least that a client should keep (RFC 6265, section 6.1), and the most that this one does.
const MAX_COOKIES: usize = 50;
/// Name and value together, in bytes.
const MAX_COOKIE_BYTES: usize = 4096;

/// The cookies of one connection: at most 50, of 4 KiB each.
#[derive(Default)]
pub(crate) struct CookieJar {
    any: AtomicBool,
    cookies: Mutex<Vec<Cookie>>,
}

struct Cookie {
    name: String,
    value: String,
    path: String,
    secure: bool,
    expires: Option<SystemTime>,
}

impl CookieJar {
    /// Keeps what an answer from this URL sets.
    pub(crate) fn keep(&self, url: &Url, answer: &HeaderMap) {
        if answer.contains_key(SET_COOKIE) {
            self.keep_at(url, answer, SystemTime::now());
        }
    }

    /// Adds the cookies that a request to this URL carries, after those that it has.
    pub(crate) fn add(&self, url: &Url, request: &mut HeaderMap) {
        if self.any.load(Ordering::Relaxed) {
            self.add_at(url, request, SystemTime::now());
        }
    }

    fn keep_at(&self, url: &Url, answer: &HeaderMap, now: SystemTime) {
        let mut cookies = self.cookies.lock().unwrap_or_else(PoisonError::into_inner);
        for text in answer.get_all(SET_COOKIE) {
            let Some(new) = text.to_str().ok().and_then(|text| parse(text, url, now)) else {
                continue;
            };
            let old = cookies
                .iter()
                .position(|old| old.name == new.name && old.path == new.path);
            match old {
                Some(at) => cookies[at] = new,
                None => cookies.push(new),
            }
            cookies.retain(|cookie| cookie.lives_at(now));
            if cookies.len() > MAX_COOKIES {
                cookies.remove(0);
            }
        }
        self.any.store(!cookies.is_empty(), Ordering::Relaxed);
    }

    fn add_at(&self, url: &Url, request: &mut HeaderMap, now: SystemTime) {
        let mut texts: Vec<String> = Vec::new();
        if let Some(own) = request.get(COOKIE).and_then(|own| own.to_str().ok()) {
            texts.push(own.to_owned());
        }
        let cookies = self.cookies.lock().unwrap_or_else(PoisonError::into_inner);
        let mut matching: Vec<&Cookie> = cookies
            .iter()
            .filter(|cookie| {
                cookie.lives_at(now)
                    && is_below(url.path(), &cookie.path)
                    && (!cookie.secure || is_secure(url))
            })
            .collect();
        if matching.is_empty() {
            return;
        }
        // Longer paths first (RFC 6265, section 5.4).
        matching.sort_by_key(|cookie| std::cmp::Reverse(cookie.path.len()));
        texts.extend(
            matching
                .iter()
                .map(|cookie| format!("{}={}", cookie.name, cookie.value)),
        );
        if let Ok(mut value) = HeaderValue::try_from(texts.join("; ")) {
            value.set_sensitive(true);
            request.insert(COOKIE, value);
        }
    }
}

impl Cookie {
    fn lives_at(&self, now: SystemTime) -> bool {
        self.expires.is_none_or(|expires| expires > now)
    }
}

/// Reads a `Set-Cookie` header (RFC 6265, section 5.2); `None` for a cookie that is not taken.
fn parse(text: &str, url: &Url, now: SystemTime) -> Option<Cookie> {
    let mut parts = text.split(';');
    let (name, value) = parts.next()?.split_once('=')?;
    let (name, value) = (name.trim(), value.trim());
    if name.is_empty() || name.len() + value.len() > MAX_COOKIE_BYTES {
        return None;
    }
    let mut cookie = Cookie {
        name: name.to_owned(),
        value: value.to_owned(),
        path: default_path(url.path()).to_owned(),
        secure: false,
        expires: None,
    };
    let mut max_age = None;
    for attribute in parts {
        let (name, value) = attribute.split_once('=').unwrap_or((attribute, ""));
        let value = value.trim();
        match name.trim().to_ascii_lowercase().as_str() {
            "path" if value.starts_with('/') => cookie.path = value.to_owned(),
            "domain" if !value.is_empty() && !covers(value, url) => return None,
            "secure" => cookie.secure = true,
            "max-age" => max_age = age(value, now).or(max_age),
            "expires" => cookie.expires = http_date(value),
            _ => {}
        }
    }
    cookie.expires = max_age.or(cookie.expires);
    (!cookie.secure || is_secure(url)).then_some(cookie)
}

/// When a cookie of this age ends; one in the past is deleted by that.
fn age(value: &str, now: SystemTime) -> Option<SystemTime> {
    let digits = value.strip_prefix('-').unwrap_or(value);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    if digits.len() < value.len() {
        return Some(SystemTime::UNIX_EPOCH);
    }
    // Browsers keep a cookie for 400 days at most.
    let longest = 400 * 24 * 60 * 60;
    let seconds = digits.parse().unwrap_or(longest).min(longest);
    now.checked_add(Duration::from_secs(seconds))
}

/// Whether a cookie for this domain may be set by this host.
fn covers(domain: &str, url: &Url) -> bool {
    let domain = domain.trim_start_matches('.').to_ascii_lowercase();
    match url.host() {
        Some(Host::Domain(host)) => {
            host == domain
                || host
                    .strip_suffix(&*domain)
                    .is_some_and(|rest| rest.ends_with('.'))
        }
        _ => url.host_str() == Some(&*domain),
    }
}

/// The directory of a path (RFC 6265, section 5.1.4).
fn default_path(path: &str) -> &str {
    match path.rfind('/') {
        None | Some(0) => "/",
        Some(at) => &path[..at],
    }
}

fn is_below(path: &str, of: &str) -> bool {
    path.strip_prefix(of)
        .is_some_and(|rest| rest.is_empty() || of.ends_with('/') || rest.starts_with('/'))
}

/// Whether nobody else can read what is sent there: TLS, or this machine.
fn is_secure(url: &Url) -> bool {
    url.scheme() == "https"
        || match url.host() {
            Some(Host::Ipv4(ip)) => ip.is_loopback(),
            Some(Host::Ipv6(ip)) => ip.is_loopback(),
            Some(Host::Domain(name)) => name == "localhost",
            None => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_700_000_000;

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(NOW)
    }

    fn sent(set: &[&str], from: &str, to: &str) -> String {
        let jar = CookieJar::default();
        let mut answer = HeaderMap::new();
        for text in set {
            answer.append(SET_COOKIE, text.parse().unwrap());
        }
        jar.keep_at(&from.parse().unwrap(), &answer, now());
        let mut request = HeaderMap::new();
        jar.add_at(&to.parse().unwrap(), &mut request, now());
        let cookie = request.get(COOKIE);
        cookie.map_or(String::new(), |value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn a_cookie_comes_back_where_it_belongs() {
        let url = "https://mcp.example/a/mcp";
        for (set, to, want) in [
            ("node=1; Path=/", url, "node=1"),
            ("node=1", url, "node=1"),
            ("node=1", "https://mcp.example/a", "node=1"),
            ("node=1", "https://mcp.example/ab", ""),
            ("node=1", "https://mcp.example/", ""),
            (
                "node=\"x y\"; httponly; SameSite=None; Secure",
                url,
                "node=\"x y\"",
            ),
            ("node=1; Domain=.example; Path=/a/", url, "node=1"),
            ("node=1; domain=MCP.example", url, "node=1"),
            ("node=1; Domain=cp.example", url, ""),
            ("node=1; Domain=other.example", url, ""),
            ("node=1; Path=/b", url, ""),
            ("node=1; Max-Age=60", url, "node=1"),
            ("node=1; Max-Age=0", url, ""),
            ("node=1; Max-Age=-1", url, ""),
            ("node=1; Max-Age=99999999999999999999", url, "node=1"),
            ("node=1; Expires=Wed, 21 Oct 2015 07:28:00 GMT", url, ""),
            ("node=1; Expires=Wed, 21-Oct-2015 07:28:00 GMT", url, ""),
            (
                "node=1; Expires=Wed, 21-Oct-2015 07:28:00 GMT; Max-Age=5",
                url,
                "node=1",
            ),
            (
                "node=1; Expires=Fri, 21 Oct 2050 07:28:00 GMT",
                url,
                "node=1",
            ),
            ("=1", url, ""),
            ("node", url, ""),
        ] {
            assert_eq!(sent(&[set], url, to), want, "{set}");
        }
        assert_eq!(
            sent(&["a=1", "b=2; Path=/a/mcp", "a=3"], url, url),
            "b=2; a=3"
        );
        assert_eq!(sent(&["a=1", "a=; Max-Age=0"], url, url), "");
    }

    #[test]
    fn a_secure_cookie_does_not_travel_in_the_open() {
        let secure = &["node=1; Secure"][..];
        let plain = "http://mcp.example/mcp";
        assert_eq!(sent(secure, plain, plain), "");
        let local = "http://127.0.0.1:8080/mcp";
        assert_eq!(sent(secure, local, local), "node=1");
        assert_eq!(sent(secure, "https://mcp.example/mcp", plain), "");
    }

    #[test]
    fn the_jar_is_bounded_and_keeps_what_the_user_set() {
        let jar = CookieJar::default();
        let url: Url = "https://mcp.example/".parse().unwrap();
        let mut answer = HeaderMap::new();
        for n in 0..200 {
            answer.append(SET_COOKIE, format!("c{n}={n}").parse().unwrap());
        }
        let long = format!("long={}", "x".repeat(MAX_COOKIE_BYTES));
        answer.append(SET_COOKIE, long.parse().unwrap());
        jar.keep(&url, &answer);
        let mut request = HeaderMap::new();
        request.insert(COOKIE, HeaderValue::from_static("mine=1"));
        jar.add(&url, &mut request);
        let text = request[COOKIE].to_str().unwrap().to_owned();
        assert!(text.starts_with("mine=1; c150=150; "), "{text}");
        assert_eq!(text.matches('=').count(), 1 + MAX_COOKIES);
    }
}
