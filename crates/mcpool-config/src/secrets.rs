//! Which texts are secrets: for warnings, and for what is overwritten before a line is shown.

use std::{borrow::Cow, ops::Range};

/// Whether a name promises a secret: of a variable, a header, an option or a field.
pub(crate) fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace(['-', '.'], "_");
    let name = name.trim_matches('_');
    if [
        "authorization",
        "cookie",
        "passwd",
        "password",
        "passphrase",
        "secret",
        "credential",
        "apikey",
        "api_key",
        "access_key",
        "private_key",
        "bearer",
        "token",
        "connection_string",
    ]
    .iter()
    .any(|word| name.contains(word))
    {
        // Names of files, URLs and numbers about secrets are not secrets.
        return ![
            "_file",
            "_path",
            "_url",
            "_uri",
            "_dir",
            "_name",
            "_type",
            "_mode",
            "_header",
            "_limit",
            "_count",
            "max_tokens",
            "_env_var",
            "_env",
        ]
        .iter()
        .any(|end| name.ends_with(end));
    }
    name.split('_')
        .any(|word| matches!(word, "pat" | "pwd" | "auth" | "key" | "pass" | "dsn"))
        && !["_file", "_path", "_url", "_id"]
            .iter()
            .any(|end| name.ends_with(end))
}

/// Beginnings by which well-known kinds of tokens are recognised.
const TOKEN_PREFIXES: &[&str] = &[
    "sk-",
    "sk_",
    "pk_live_",
    "rk_live_",
    "ghp_",
    "gho_",
    "ghu_",
    "ghs_",
    "ghr_",
    "github_pat_",
    "glpat-",
    "xoxb-",
    "xoxp-",
    "xoxa-",
    "xapp-",
    "AKIA",
    "ASIA",
    "AIza",
    "ya29.",
    "eyJ",
    "npm_",
    "pypi-",
    "hf_",
    "dop_v1_",
    "SG.",
    "lin_api_",
    "ntn_",
    "secret_",
    "figd_",
    "ATATT",
    "sbp_",
    "tvly-",
    "fc-",
    "-----BEGIN",
];

/// Whether a text looks like a token, whatever its name.
pub(crate) fn is_secret_value(value: &str) -> bool {
    let value = value.trim();
    let bare = ["Bearer ", "bearer ", "Basic ", "token "]
        .iter()
        .find_map(|scheme| value.strip_prefix(scheme))
        .unwrap_or(value);
    bare.len() >= 12
        && TOKEN_PREFIXES.iter().any(|prefix| bare.starts_with(prefix))
        && !is_dummy(bare)
}

/// Whether a text merely stands where a secret should be put.
pub(crate) fn is_dummy(value: &str) -> bool {
    let value = value.trim().trim_matches(['<', '>', '[', ']', '{', '}']);
    let lower = value.to_ascii_lowercase();
    lower.is_empty()
        || [
            "your",
            "xxx",
            "changeme",
            "change-me",
            "change_me",
            "placeholder",
            "example",
            "...",
            "***",
            "todo",
            "replace",
            "insert",
            "<token",
            "你的",
            "您的",
        ]
        .iter()
        .any(|word| lower.contains(word))
}

/// Whether a text under the name of a secret is none after all: it stands where one should be
/// put, or is a number, a word for a setting, or a path.
pub(crate) fn is_harmless(value: &str) -> bool {
    let value = value.trim();
    let is_number = !value.is_empty() && value.bytes().all(|byte| b"0123456789.+-".contains(&byte));
    let is_word = matches!(
        value.to_ascii_lowercase().as_str(),
        "true"
            | "false"
            | "yes"
            | "no"
            | "on"
            | "off"
            | "none"
            | "null"
            | "auto"
            | "default"
            | "enabled"
            | "disabled"
            | "basic"
            | "bearer"
            | "oauth"
            | "oauth2"
    );
    let is_path = ["/", "./", "../", "~/", "file:", "op://"]
        .iter()
        .any(|start| value.starts_with(start))
        || matches!(value.as_bytes(), [drive, b':', b'\\' | b'/', ..] if drive.is_ascii_alphabetic());
    is_dummy(value) || is_number || is_word || is_path
}

/// Whether an argument such as `--api-key` says that the next one is a secret.
pub(crate) fn is_secret_flag(argument: &str) -> bool {
    argument.starts_with('-')
        && !argument.contains('=')
        && is_secret_name(argument.trim_start_matches('-'))
}

/// The secret part of an argument that names it: `--token=…`, or `Authorization: Bearer …` as
/// launchers of remote servers take headers.
pub(crate) fn named_part(argument: &str) -> Option<Range<usize>> {
    let (name, start) = match argument.find(['=', ':']) {
        // What stands in a placeholder names nothing.
        Some(at) if !argument[..at].contains("${") => (&argument[..at], at + 1),
        _ => return None,
    };
    let is_flag = argument.as_bytes()[start - 1] == b'=';
    let fits = if is_flag {
        is_secret_name(name.trim_start_matches('-'))
    } else {
        !argument[start..].starts_with("//") && is_secret_name(name.trim())
    };
    if !fits {
        // `--header=Authorization: …`
        let inner = if is_flag {
            named_part(&argument[start..])?
        } else {
            return None;
        };
        return Some(start + inner.start..start + inner.end);
    }
    let spaces = argument[start..].len() - argument[start..].trim_start().len();
    (start + spaces < argument.len()).then_some(start + spaces..argument.len())
}

/// The secrets among arguments: what follows `--api-key`, what stands in `--token=…`, and what
/// looks like a token.
pub(crate) fn in_arguments(args: &[String]) -> impl Iterator<Item = &str> {
    args.iter().enumerate().filter_map(|(index, arg)| {
        let before = index.checked_sub(1).and_then(|before| args.get(before));
        if before.is_some_and(|before| is_secret_flag(before)) || is_secret_value(arg) {
            return Some(arg.as_str());
        }
        named_part(arg).map(|part| &arg[part])
    })
}

/// The URL without user, password, query and fragment.
pub(crate) fn redacted_url(url: &str) -> String {
    mcpool_core::HttpSpec::new(url).redacted_url()
}

/// The parts of a URL that are not for showing: user and password, query, fragment.
pub(crate) fn url_secret_ranges(url: &str) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let tail = url.find(['?', '#']).unwrap_or(url.len());
    if let Some(scheme) = url[..tail].find("://") {
        let authority = scheme + 3;
        let end = url[authority..tail]
            .find('/')
            .map_or(tail, |at| authority + at);
        if let Some(at) = url[authority..end].rfind('@') {
            ranges.push(authority..authority + at);
        }
    }
    if tail < url.len() {
        ranges.push(tail + 1..url.len());
    }
    ranges
}

/// The URL with other texts in the place of [those parts](url_secret_ranges). `replacement` gets
/// what stands before a part, and the part.
pub(crate) fn replace_url_secrets<'t>(
    url: &'t str,
    mut replacement: impl FnMut(&'t str, &'t str) -> Cow<'t, str>,
) -> String {
    let mut out = String::new();
    let mut at = 0;
    for range in url_secret_ranges(url) {
        out.push_str(&url[at..range.start]);
        out.push_str(&replacement(&url[..range.start], &url[range.clone()]));
        at = range.end;
    }
    out.push_str(&url[at..]);
    out
}

/// Fields whose texts are shown even when the structure of the file is not known.
const HARMLESS_KEYS: &[&str] = &[
    "$schema",
    "args",
    "command",
    "cmd",
    "cwd",
    "description",
    "disabled",
    "enabled",
    "jitter",
    "lazy",
    "name",
    "preset",
    "protocol",
    "start",
    "startup_timeout",
    "timeout",
    "transport",
    "type",
    "url",
    "version",
    "serverurl",
    "httpurl",
    "base",
    "cap",
    "interval",
    "mcpservers",
    "servers",
];

/// A guess at the secrets of a text that could not be parsed: every value that does not stand
/// directly behind a harmless key.
///
/// It works on all three syntaxes because it only looks for keys (a word before `:` or `=`),
/// for quotes and for line ends. When in doubt it hides.
pub(crate) fn guess_ranges(text: &str) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let mut hidden_block: Option<usize> = None;
    let mut offset = 0;
    // The key that the values of a list over several lines belong to.
    let mut list_key_harmless = false;
    let mut in_list = false;
    for line in text.split_inclusive('\n') {
        let indent = line.len() - line.trim_start().len();
        let trimmed = line.trim();
        if hidden_block.is_some_and(|column| indent <= column && !trimmed.is_empty()) {
            hidden_block = None;
        }
        let mut at = 0;
        let mut key: Option<String> = None;
        let bytes = line.as_bytes();
        let mut word_start: Option<usize> = None;
        let mut flag_before = false;
        if trimmed.starts_with('[') {
            // A TOML table: its name says what its lines are.
            let name = trimmed
                .trim_matches(['[', ']'])
                .rsplit('.')
                .next()
                .unwrap_or("");
            in_list = false;
            list_key_harmless = !HARMLESS_KEYS.contains(&name);
        }
        while at < bytes.len() {
            match bytes[at] {
                quote @ (b'"' | b'\'') => {
                    let mut end = at + 1;
                    while end < bytes.len() && bytes[end] != quote {
                        if bytes[end] == b'\\' && quote == b'"' {
                            end += 1;
                        }
                        end += 1;
                    }
                    let end = end.min(line.trim_end_matches(['\n', '\r']).len());
                    let content = line.get(at + 1..end.max(at + 1)).unwrap_or("");
                    let after = line
                        .get((end + 1).min(line.len())..)
                        .unwrap_or("")
                        .trim_start();
                    let is_key = after.starts_with([':', '=']);
                    if is_key {
                        key = Some(content.to_ascii_lowercase());
                        in_list = after[1..].trim_start().starts_with('[') && !after.contains(']');
                        list_key_harmless =
                            HARMLESS_KEYS.contains(&content.to_ascii_lowercase().as_str());
                    } else {
                        let harmless = match &key {
                            Some(key) => HARMLESS_KEYS.contains(&key.as_str()),
                            None => in_list && list_key_harmless,
                        };
                        if !harmless || flag_before || is_secret_value(content) {
                            ranges.push(offset + at + 1..offset + end.max(at + 1));
                        } else {
                            for range in url_secret_ranges(content) {
                                ranges.push(
                                    offset + at + 1 + range.start..offset + at + 1 + range.end,
                                );
                            }
                            if let Some(part) = named_part(content) {
                                let start = offset + at + 1;
                                ranges.push(start + part.start..start + part.end);
                            }
                        }
                        flag_before = is_secret_flag(content);
                    }
                    at = end + 1;
                    word_start = None;
                    continue;
                }
                b'{' | b'}' if key.is_some() => key = None,
                b':' | b'=' if key.is_none() => {
                    if let Some(start) = word_start {
                        key = line
                            .get(start..at)
                            .map(|word| word.trim().trim_start_matches("- ").to_ascii_lowercase());
                    }
                }
                // Between a key and its value.
                b':' | b'=' | b'/' => {}
                b' ' | b'\t' | b',' | b'\r' | b'\n' | b'[' | b']' => {}
                _ => {
                    if word_start.is_none() {
                        word_start = Some(at);
                    }
                    // An unquoted value, as YAML has them: hide it up to the end of the line.
                    if let Some(name) = &key {
                        let mut end = line.trim_end_matches(['\n', '\r']).len();
                        let harmless = HARMLESS_KEYS.contains(&name.as_str());
                        // Behind a harmless key only up to a quote: what follows is looked at
                        // by itself.
                        if harmless
                            && let Some(quote) = line.get(at..end).unwrap_or("").find(['"', '\''])
                        {
                            end = at + quote;
                        }
                        let value = line.get(at..end).unwrap_or("");
                        let plain = matches!(
                            value.trim_end_matches([',', '}', ' ']),
                            "true" | "false" | "null"
                        );
                        if !harmless && !plain && !value.starts_with(['|', '>', '#', '/']) {
                            ranges.push(offset + at..offset + end);
                        } else {
                            for range in url_secret_ranges(value) {
                                ranges.push(offset + at + range.start..offset + at + range.end);
                            }
                        }
                        if value.starts_with(['|', '>']) {
                            hidden_block = Some(indent);
                        }
                        at = end.max(at + 1);
                        continue;
                    }
                }
            }
            at += 1;
        }
        if hidden_block.is_some_and(|column| indent > column) {
            ranges.push(offset..offset + line.trim_end_matches(['\n', '\r']).len());
        }
        if trimmed.contains(']') {
            in_list = false;
        }
        offset += line.len();
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for name in [
            "API_TOKEN",
            "Authorization",
            "X-Api-Key",
            "db_password",
            "GITHUB_PAT",
            "key",
            "AUTH",
        ] {
            assert!(is_secret_name(name), "{name}");
        }
        for name in [
            "PATH",
            "KEYBOARD",
            "TOKEN_FILE",
            "AUTHOR",
            "MONKEY",
            "MAX_TOKENS",
            "COMPASS",
            "AUTH_URL",
        ] {
            assert!(!is_secret_name(name), "{name}");
        }
    }

    #[test]
    fn what_is_no_secret_under_a_secret_name() {
        for value in [
            "6000",
            "-1.5",
            "false",
            "none",
            "/home/me/x",
            "~/key.pem",
            "C:\\keys\\x",
            "<your token>",
            "YOUR_API_KEY",
            "",
        ] {
            assert!(is_harmless(value), "{value}");
        }
        for value in ["hunter2", "s3cr3t/with+slash", "12ab", "Bearer abc"] {
            assert!(!is_harmless(value), "{value}");
        }
    }

    #[test]
    fn values() {
        assert!(is_secret_value("ghp_0123456789abcdef"));
        assert!(is_secret_value("Bearer sk-0123456789abcdef"));
        assert!(!is_secret_value("sk-your-key-here"));
        assert!(!is_secret_value("hello world, this is long"));
    }

    #[test]
    fn a_broken_file_hides_what_may_be_secret() {
        let text = r#"{
  "mcpServers": {
    "a": { "command": "npx", "args": ["-y", "--api-key", "canary1", "--token=canary2"],
      "env": { "TOKEN": "canary3", "OTHER": "canary4 },
      "url": "https://u:canary5@host/x?k=canary6",
      "headers": {"Authorization": "Bearer canary7"}
"#;
        let source = crate::source::Source::new("x", None, text);
        let shown = source.shown_text();
        assert!(!shown.contains("canary"), "{shown}");
        assert!(
            shown.contains("\"npx\"") && shown.contains("https://"),
            "{shown}"
        );
        let yaml = "mcpServers:\n  a:\n    command: npx\n    env:\n      TOKEN: canary1\n      B: 'canary2'\n      C: |\n        canary3\n        canary4\n  - : x\n";
        let source = crate::source::Source::new("x", None, yaml);
        assert!(
            !source.shown_text().contains("canary"),
            "{}",
            source.shown_text()
        );
        let toml = "[mcp_servers.a]\ncommand = \"npx\"\nenv = { TOKEN = \"canary1\", B = 'canary2' }\n[mcp_servers.a.env]\nX = \"canary3\"\nname = \n";
        let source = crate::source::Source::new("x", None, toml);
        assert!(
            !source.shown_text().contains("canary"),
            "{}",
            source.shown_text()
        );
    }
}
