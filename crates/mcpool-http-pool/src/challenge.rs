//! What a `WWW-Authenticate` header offers (RFC 9110, section 11.6.1).

/// A server that says more than this in its challenges says nothing by the rest.
const MAX_LENGTH: usize = 16 * 1024;
const MAX_CHALLENGES: usize = 16;
const MAX_PARAMETERS: usize = 32;

/// One way to authenticate that a server offers.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Challenge {
    /// The scheme, as the server wrote it: ASCII letters, digits and a few signs.
    pub scheme: String,
    /// The parameters, in order, at most 32. Names are in lower case, values are unquoted.
    pub parameters: Vec<(String, String)>,
}

impl Challenge {
    /// Reads the values of one or several headers, joined with commas. What is not one of
    /// challenges is passed over. At most the first 16 KiB and 16 challenges count.
    #[must_use]
    pub fn parse(header: &str) -> Vec<Self> {
        let mut challenges: Vec<Self> = Vec::new();
        let mut rest = clip(header);
        loop {
            rest = rest.trim_start_matches([' ', '\t', ',']);
            if rest.is_empty() {
                return challenges;
            }
            let (word, after) = token(rest);
            if word.is_empty() {
                // Not ours to understand: on to the next item.
                rest = rest.split_once(',').map_or("", |(_, after)| after);
                continue;
            }
            let Some(assigned) = after.trim_start_matches([' ', '\t']).strip_prefix('=') else {
                if challenges.len() == MAX_CHALLENGES {
                    return challenges;
                }
                challenges.push(Self {
                    scheme: word.to_owned(),
                    parameters: Vec::new(),
                });
                rest = after;
                // What follows the scheme in place of parameters (token68) is not kept.
                let (_, end) = after
                    .trim_start_matches([' ', '\t'])
                    .split_at(token68(after.trim_start_matches([' ', '\t'])));
                if end.is_empty() || end.trim_start_matches([' ', '\t']).starts_with(',') {
                    rest = end;
                }
                continue;
            };
            let (value, after) = value(assigned.trim_start_matches([' ', '\t']));
            rest = after;
            if let Some(challenge) = challenges.last_mut()
                && challenge.parameters.len() < MAX_PARAMETERS
            {
                challenge
                    .parameters
                    .push((word.to_ascii_lowercase(), value));
            }
        }
    }

    /// Whether it is this scheme; case does not matter.
    #[must_use]
    pub fn is(&self, scheme: &str) -> bool {
        self.scheme.eq_ignore_ascii_case(scheme)
    }

    /// Whether a token of OAuth answers it: `Bearer` (RFC 6750) or `DPoP` (RFC 9449).
    #[must_use]
    pub fn takes_tokens(&self) -> bool {
        self.is("Bearer") || self.is("DPoP")
    }

    /// The value of a parameter, by its name in lower case.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }
}

fn clip(header: &str) -> &str {
    let mut end = header.len().min(MAX_LENGTH);
    while !header.is_char_boundary(end) {
        end -= 1;
    }
    &header[..end]
}

/// The token that a text begins with, and the rest.
fn token(text: &str) -> (&str, &str) {
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    let end = text.find(|c| !is_token(c)).unwrap_or(text.len());
    text.split_at(end)
}

/// How long the token68 is that a text begins with.
fn token68(text: &str) -> usize {
    let is_token68 = |c: char| c.is_ascii_alphanumeric() || "-._~+/".contains(c);
    let end = text.find(|c| !is_token68(c)).unwrap_or(text.len());
    let padding = text[end..].len() - text[end..].trim_start_matches('=').len();
    match end {
        0 => 0,
        _ => end + padding,
    }
}

/// The value that a text begins with, unquoted, and the rest. Some servers write a URL without
/// quotes: such a value goes to the next comma or space.
fn value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ';', ' ', '\t']).unwrap_or(text.len());
        return (text[..end].to_owned(), text[end..].trim_start_matches(';'));
    };
    let mut value = String::new();
    let mut escaped = false;
    for (at, c) in quoted.char_indices() {
        match c {
            _ if escaped => {
                value.push(c);
                escaped = false;
            }
            '\\' => escaped = true,
            '"' => return (value, &quoted[at + 1..]),
            _ => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(header: &str) -> Vec<(String, Vec<String>)> {
        Challenge::parse(header)
            .into_iter()
            .map(|challenge| {
                let parameters = challenge
                    .parameters
                    .iter()
                    .map(|(name, value)| format!("{name}={value}"))
                    .collect();
                (challenge.scheme, parameters)
            })
            .collect()
    }

    fn one(scheme: &str, parameters: &[&str]) -> (String, Vec<String>) {
        let parameters = parameters.iter().map(|&text| text.to_owned()).collect();
        (scheme.to_owned(), parameters)
    }

    #[test]
    fn headers_of_real_servers() {
        assert_eq!(seen(""), []);
        assert_eq!(seen("Bearer"), [one("Bearer", &[])]);
        assert_eq!(
            seen(r#"Basic realm="a, \"b\"", Bearer scope="x y",error=invalid_token"#),
            [
                one("Basic", &["realm=a, \"b\""]),
                one("Bearer", &["scope=x y", "error=invalid_token"]),
            ]
        );
        assert_eq!(
            seen("Negotiate YII=, NTLM, Basic Realm = \"x\""),
            [
                one("Negotiate", &[]),
                one("NTLM", &[]),
                one("Basic", &["realm=x"]),
            ]
        );
        assert_eq!(
            seen("Bearer resource_metadata=https://a.example/x?y=z, scope=a"),
            [one(
                "Bearer",
                &["resource_metadata=https://a.example/x?y=z", "scope=a"]
            )]
        );
        // A word inside a value is no scheme, and a parameter without a scheme is nobody's.
        assert_eq!(
            seen("realm=\"x\", Bearer scope=\"dpop\""),
            [one("Bearer", &["scope=dpop"])]
        );
        assert_eq!(seen("DPoP algs=\"ES256\""), [one("DPoP", &["algs=ES256"])]);
    }

    #[test]
    fn odd_ones_end_and_take_no_more_than_their_bounds() {
        assert_eq!(seen("\"\"\", Bearer"), [one("Bearer", &[])]);
        assert_eq!(
            seen("Bearer realm=\"open"),
            [one("Bearer", &["realm=open"])]
        );
        assert_eq!(seen("ä, Bearer"), [one("Bearer", &[])]);
        assert_eq!(seen(&"Basic, ".repeat(100_000)).len(), MAX_CHALLENGES);
        let many = format!("Bearer {}", "a=b, ".repeat(1_000));
        assert_eq!(seen(&many)[0].1.len(), MAX_PARAMETERS);
        assert_eq!(seen(&"ä".repeat(MAX_LENGTH)), []);
    }
}
