//! What is said of secrets and placeholders, so that it can be followed in the host's own file.

use super::entry::EntryReader;
use crate::{
    dialects::{Dialect, Variable},
    document::Node,
    problem::Problem,
    template::{Syntax, foreign},
};

impl EntryReader<'_> {
    /// How a value at a path is kept out of the file, in this host. `name` is the variable, where
    /// one was meant.
    pub(super) fn advice(&self, path: &str, name: Option<&str>) -> String {
        let variable = name.unwrap_or("NAME");
        let host = self.rules.dialect;
        let named = |field: &str| {
            let header = path.strip_prefix("headers.").unwrap_or("Authorization");
            let field = field.replace("NAME", variable).replace("HEADER", header);
            format!("put it in a variable and name it: `{field}`")
        };
        match self.rules.variable {
            Variable::Written(written) if host == Dialect::Native => {
                let written = written.replace("NAME", variable);
                format!(
                    "put it in a variable and write `{written}`, or in a file and write `${{file:path}}`"
                )
            }
            Variable::Written(written) => {
                format!(
                    "put it in a variable and write `{}`",
                    written.replace("NAME", variable)
                )
            }
            Variable::Named {
                env: Some(field), ..
            } if path.starts_with("env.") => named(field),
            Variable::Named {
                header: Some(field),
                ..
            } if path.starts_with("headers.") || path == "bearer_token" => named(field),
            Variable::Named { .. } => format!(
                "{} has no placeholders here: `mcpool config import {host}` copies the servers into mcpool's own file, where `${{{variable}}}` works",
                self.rules.title,
            ),
        }
    }

    /// Warns of a placeholder that the host does not know; whether there is one.
    pub(super) fn foreign_placeholder(&mut self, path: &str, text: &str, node: &Node) -> bool {
        let title = self.rules.title;
        let is_per_user = self.rules.double_braces
            && text
                .split_once("{{")
                .is_some_and(|(_, rest)| rest.contains("}}"));
        if is_per_user {
            self.problem(
                Problem::warning(
                    "foreign-placeholder",
                    format!("`{path}`: {title} fills in `{{{{…}}}}` for each of its users; here it is passed on as it stands"),
                )
                .help("put the value in a variable and write `${NAME}`"),
                &node.range,
            );
            return true;
        }
        let found = if self.rules.only_places {
            // What the plugin's host does fill in is out of the way.
            let mut rest = text.to_owned();
            for (place, _) in self.rules.places {
                rest = rest.replace(&format!("${{{place}}}"), "");
            }
            foreign(&rest, Syntax::none())
        } else {
            foreign(text, self.rules.syntax)
        };
        if let Some(found) = found {
            // In our own syntax that is an error of its own, and what the entry itself sets is the
            // program's to fill in.
            let is_error = self.rules.syntax.dollar_dollar && found.written.starts_with("${{");
            let is_own = path.starts_with("args[") && self.own_env.contains(&found.name);
            if !is_error && !is_own {
                let help = self.advice(path, Some(&found.name));
                self.problem(
                    Problem::warning(
                        "foreign-placeholder",
                        format!(
                            "`{path}`: `{}` is not a placeholder in {title}, and is passed on as it stands",
                            found.written
                        ),
                    )
                    .help(help),
                    &node.range,
                );
            }
            return true;
        }
        false
    }
}
