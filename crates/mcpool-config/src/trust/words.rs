//! A request in words, fit for a terminal.
//!
//! Every text of the project's passes the cleaner, whole and never cut, so that it stays on its
//! line. A program that shows the lines puts something in front of each, and of each part of one that is
//! too long for the screen, so that no text can pass for a line of the program's own.

use std::collections::BTreeSet;

use mcpool_core::Untrusted;

use super::{FactKind, Standing, Taken, TrustAction, TrustFact, TrustRequest};

/// What marks a line that decides what code runs.
const MARK: &str = "! decides what code runs:";

impl TrustRequest {
    /// What the file is, in lines: where it lies, and where its relative paths begin.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!("file    {}", path(&self.file))];
        if let Some(target) = &self.target {
            lines.push(format!("link    to {}", path(target)));
        }
        lines.push(format!("paths   begin at {}", path(&self.base)));
        lines
    }

    /// What an approval is bound to, in lines, and what it is not.
    #[must_use]
    pub fn coverage(&self) -> Vec<String> {
        let mut lines = vec![
            "An approval covers this file, at this path and with this content. Any change undoes it."
                .to_owned(),
        ];
        for covered in &self.covered {
            let file = path(&covered.path);
            if let Some(target) = &covered.target {
                lines.push(format!("{MARK} {file} leads to {}", path(target)));
            }
            if !covered.is_content {
                continue;
            }
            lines.push(match &covered.short_hash {
                Some(hash) => format!("It holds for the content of {file} as well: {hash}"),
                None => format!("It holds while there is no {file}."),
            });
        }
        lines.push(
            "It does not cover what the programs load and run by themselves, such as scripts and \
             packages."
                .to_owned(),
        );
        lines.push(format!("hash    {}", self.short_hash()));
        lines
    }
}

impl TrustAction {
    /// What it would do, in lines.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let mut head = format!("server  {}", word(&self.server));
        head.push_str(match self.standing {
            Standing::New => "",
            Standing::Changed => " (changed)",
            Standing::Approved => " (as you approved it)",
            Standing::Refused => " (you said no to it)",
        });
        if !self.enabled {
            head.push_str(" (disabled)");
        }
        let mut lines = vec![head];
        if let Some(file) = &self.imported_from {
            lines.push(format!("  is yours, imported from {}", path(file)));
        }
        if !self.command.is_empty() {
            let words: Vec<String> = self.command.iter().map(|text| word(text)).collect();
            lines.push(format!("  runs    {}", words.join(" ")));
            for text in &self.command {
                lines.extend(look_alike(text));
            }
        }
        if let Some(directory) = &self.directory {
            lines.push(format!("  in      {}", path(directory)));
        }
        if let Some(url) = &self.url {
            lines.push(format!("  sends   to {}", word(url)));
            lines.extend(look_alike(url));
        }
        lines.extend(self.takes.iter().map(takes));
        for fact in &self.facts {
            lines.extend(fact.lines());
        }
        lines
    }
}

impl TrustFact {
    fn lines(&self) -> Vec<String> {
        let name = self.name.as_deref().map(word).unwrap_or_default();
        let value = self.value.as_deref().map(word).unwrap_or_default();
        let pair = match (&self.name, &self.value) {
            (Some(_), Some(_)) => format!("{name}={value}"),
            (None, _) => value.clone(),
            (_, None) => name.clone(),
        };
        let text = match self.kind {
            FactKind::Sets => format!("sets    {pair}"),
            FactKind::Inherits if self.name.is_none() => {
                "gets    all variables of yours".to_owned()
            }
            FactKind::Inherits => format!("gets    your variable {name}"),
            FactKind::EnvFile => format!("reads   variables from the file {value}"),
            FactKind::FromEnvFile => format!("        which sets {pair}"),
            FactKind::Header => format!("header  {pair}"),
            FactKind::BearerToken => format!("token   {value}"),
            FactKind::HeadersHelper => {
                format!("runs    {value} in a shell, with all variables of yours, for headers")
            }
            FactKind::Proxy => format!("goes    through the proxy {value}, which can read along"),
            FactKind::CaFile => format!("trusts  the certificates in the file {value}"),
            FactKind::Login => "uses    your login at this address, if there is one".to_owned(),
            FactKind::OAuth => format!("login   {pair}"),
            FactKind::Setting => format!("setting {pair}"),
        };
        let mut lines = vec![if self.decides_code {
            format!("  {MARK} {text}")
        } else {
            format!("  {text}")
        }];
        for text in [&self.name, &self.value].into_iter().flatten() {
            lines.extend(look_alike(text));
        }
        if self.kind != FactKind::Inherits {
            lines.extend(self.takes.iter().map(takes));
        }
        lines
    }
}

fn takes(taken: &Taken) -> String {
    match taken {
        Taken::Variable(name) => format!("          with your variable {}", word(name)),
        Taken::File(path) => format!("          with the text of the file {}", word(path)),
        Taken::Input { id, default } => match default {
            Some(default) => format!(
                "          with your answer to {}, or else {}",
                word(id),
                word(default)
            ),
            None => format!("          with your answer to {}", word(id)),
        },
        Taken::Other(reference) => format!("          with {}", word(reference)),
    }
}

/// The codes of letters that are not ASCII, which may look like others.
fn look_alike(text: &str) -> Option<String> {
    let is_odd = |c: char| !c.is_ascii() && !mcpool_core::is_unshowable(c);
    if !text.contains(is_odd) {
        return None;
    }
    let odd: BTreeSet<char> = text.chars().filter(|c| is_odd(*c)).collect();
    let codes: Vec<String> = odd
        .into_iter()
        .map(|c| format!("{c} is {}", c.escape_unicode()))
        .collect();
    Some(format!("          not ASCII: {}", codes.join(", ")))
}

fn path(path: &std::path::Path) -> String {
    word(&path.to_string_lossy())
}

/// A text as one word: as it stands when nothing in it can be misread, else in quotes with
/// everything escaped that could be taken for something else.
pub(super) fn word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@,+%${}~".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        Untrusted::line(text).whole().quoted().to_string()
    }
}
