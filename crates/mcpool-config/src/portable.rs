//! An entry as it can stand in any file: what only its own file can mean is written out.

use std::{collections::BTreeMap, path::Path};

use crate::{
    home::Home,
    inputs::{self, InputDeclaration},
    merge::Entry,
    settings::{OAuthSettings, ServerSettings},
    template::{Reference, Syntax, Template, WhenUnset},
};

/// The settings of an entry for another file.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Portable {
    /// The settings, with relative paths made absolute and the folders filled in that only the
    /// entry's own file can name: its project, where its process starts too, or its plugin.
    pub settings: ServerSettings,
    /// The fields that were changed for it: `cwd`, `env_file`, `args[0]` …
    pub changed: Vec<String>,
    /// The inputs that the settings ask for, as the entry's own file declares them.
    pub inputs: BTreeMap<String, InputDeclaration>,
}

impl Entry {
    /// What to write to give the entry the same meaning in another file.
    #[must_use]
    pub fn portable(&self) -> Portable {
        let mut portable = Portable {
            settings: self.settings.clone(),
            changed: Vec::new(),
            inputs: BTreeMap::new(),
        };
        if let Some(resolver) = self.resolver() {
            let home = resolver.home_of_file();
            let Portable {
                settings,
                changed,
                inputs,
            } = &mut portable;
            *inputs = inputs::asked_for(settings, &home.inputs);
            places(settings, &mut |field, text| {
                fill_in(field, text, home, changed)
            });
            paths(settings, &mut |field, text| {
                make_absolute(field, text, home, changed)
            });
            if home.is_of_project && settings.command.is_some() && settings.cwd.is_none() {
                settings.cwd = Some(crate::template::escape(&home.base.to_string_lossy()));
                changed.push("cwd".to_owned());
            }
            if self.keeps_unset_placeholders() {
                let is_shell = settings.command.as_deref().is_some_and(is_shell);
                let own: Vec<String> = settings.env.keys().cloned().collect();
                places(settings, &mut |field, text| {
                    // What a shell is given may be a variable of its own, and what the entry sets
                    // is for the program to fill in.
                    let is_arg = field.starts_with("args[");
                    let is_ours = |name: &String| !(is_arg && (is_shell || own.contains(name)));
                    let_it_fail(text, &|reference| is_ours(&reference.name));
                });
            }
        }
        portable
    }

    /// Whether the host passes on the placeholder of an unset variable as it stands, which no
    /// server understands. In a file of ours that is an error that names the variable.
    fn keeps_unset_placeholders(&self) -> bool {
        let dialect = self.origin.dialect;
        dialect.is_some_and(|dialect| dialect.rules().syntax.when_unset == WhenUnset::KeepLiteral)
    }
}

fn is_shell(command: &str) -> bool {
    let name = Path::new(command).file_stem();
    name.is_some_and(|name| {
        ["sh", "bash", "dash", "ksh", "zsh"]
            .iter()
            .any(|shell| name == *shell)
    })
}

/// Takes the defaults out that stand for what the host makes of an unset variable.
fn let_it_fail(text: &mut String, is_ours: &dyn Fn(&Reference) -> bool) {
    if let Ok(mut template) = Template::parse(text, Syntax::native())
        && template.drop_defaults_of_themselves(is_ours)
    {
        *text = template.to_native(WhenUnset::Fail);
    }
}

/// Writes the places out that a text names.
fn fill_in(field: &str, text: &mut String, home: &Home, changed: &mut Vec<String>) {
    let value = |reference: &Reference| {
        let place = home
            .places
            .iter()
            .find(|(name, _)| reference.scheme.is_none() && *name == reference.name);
        place.map(|(_, value)| value.clone())
    };
    let filled = Template::parse(text, Syntax::native())
        .ok()
        .and_then(|template| template.filled_in(&value));
    if let Some(filled) = filled {
        *text = filled;
        changed.push(field.to_owned());
    }
}

fn make_absolute(field: &str, text: &mut String, home: &Home, changed: &mut Vec<String>) {
    let template = Template::parse(text, Syntax::native());
    let path = Path::new(text.as_str());
    // What begins with a placeholder is a path of the placeholder's.
    let is_relative = template.is_ok_and(|template| !template.begins_with_placeholder())
        && path.is_relative()
        && !path.starts_with("~");
    if is_relative {
        let base = crate::template::escape(&home.base.to_string_lossy());
        *text = Path::new(&base).join(path).to_string_lossy().into_owned();
        changed.push(field.to_owned());
    }
}

/// Every text that may hold a placeholder.
fn places(settings: &mut ServerSettings, each: &mut dyn FnMut(&str, &mut String)) {
    for (index, arg) in settings.args.iter_mut().enumerate() {
        each(&format!("args[{index}]"), arg);
    }
    for (name, value) in &mut settings.env {
        each(&format!("env.{name}"), value);
    }
    for (name, value) in &mut settings.headers.0 {
        each(&format!("headers.{name}"), value);
    }
    for (field, text) in [
        ("command", &mut settings.command),
        ("url", &mut settings.url),
        ("bearer_token", &mut settings.bearer_token),
        ("proxy", &mut settings.proxy),
    ] {
        if let Some(text) = text {
            each(field, text);
        }
    }
    paths(settings, each);
}

/// Every path that begins at the file.
fn paths(settings: &mut ServerSettings, each: &mut dyn FnMut(&str, &mut String)) {
    let mut files = vec![
        ("cwd", &mut settings.cwd),
        ("env_file", &mut settings.env_file),
        ("ca_file", &mut settings.ca_file),
    ];
    if let Some(OAuthSettings {
        private_key_file,
        id_token_file,
        assertion_file,
        ..
    }) = &mut settings.oauth
    {
        files.extend([
            ("oauth.private_key_file", private_key_file),
            ("oauth.id_token_file", id_token_file),
            ("oauth.assertion_file", assertion_file),
        ]);
    }
    for (field, text) in files {
        if let Some(text) = text {
            each(field, text);
        }
    }
}
