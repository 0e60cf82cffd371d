//! Which tools are shown and may be called.

/// Which tools of a server are shown and may be called. Denied wins over allowed.
///
/// A pattern is a tool's name, in which `*` stands for any text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ToolFilter {
    /// Only these; `None` is all.
    pub allow: Option<Vec<String>>,
    /// Not these.
    pub deny: Vec<String>,
}

impl ToolFilter {
    /// Allows only these.
    #[must_use]
    pub fn allow<S: Into<String>>(patterns: impl IntoIterator<Item = S>) -> Self {
        Self {
            allow: Some(patterns.into_iter().map(Into::into).collect()),
            deny: Vec::new(),
        }
    }

    /// Denies these as well.
    #[must_use]
    pub fn with_deny<S: Into<String>>(mut self, patterns: impl IntoIterator<Item = S>) -> Self {
        self.deny.extend(patterns.into_iter().map(Into::into));
        self
    }

    /// Whether every tool passes.
    #[must_use]
    pub fn permits_all(&self) -> bool {
        self.allow.is_none() && self.deny.is_empty()
    }

    /// Whether a tool of this name passes.
    ///
    /// ```
    /// use mcpool_core::ToolFilter;
    /// let filter = ToolFilter::allow(["read_*"]).with_deny(["read_secret"]);
    /// assert!(filter.permits("read_file"));
    /// assert!(!filter.permits("read_secret"));
    /// assert!(!filter.permits("write_file"));
    /// ```
    #[must_use]
    pub fn permits(&self, tool: &str) -> bool {
        let any = |patterns: &[String]| patterns.iter().any(|p| glob(p, tool));
        !any(&self.deny) && self.allow.as_deref().is_none_or(any)
    }
}

/// Matches `*` against any text, in linear time.
fn glob(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    // `split` always gives at least one part.
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else {
        return rest.is_empty();
    };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        for (pattern, text, want) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("*", "", true),
            ("a*", "abc", true),
            ("*c", "abc", true),
            ("a*c", "ac", true),
            ("ab*bc", "abc", false),
            ("a*b*c", "axxbyyc", true),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(glob(pattern, text), want, "{pattern} on {text}");
        }
    }
}
