//! Which servers of a host go into mcpool's own file, and which stay.

use std::{collections::BTreeMap, path::Path};

use mcpool::config::{
    Dialect, Edit, Entry, Format, Loaded, Loader, Portable, edit_text, settings::ServerSettings,
};

use crate::{
    commands::config::inputs::Inputs,
    exit::Failure,
    off_thread::off_thread,
    render::{out, text::Text},
    text,
};

/// What is moved, and what is not.
#[derive(Default)]
pub(super) struct Adopted {
    /// Into mcpool's own file.
    pub(super) moved: Vec<String>,
    /// Those of them that take the place of another of that name.
    pub(super) replaced: Vec<String>,
    /// Out of the host's file: mcpool's own has the same.
    pub(super) present: Vec<String>,
    /// They stay in the host's file.
    pub(super) left: Vec<(String, Stays)>,
    /// What changes in mcpool's own file.
    pub(super) edits: Vec<Edit>,
}

/// Why a server stays in the host's file.
pub(super) enum Stays {
    /// mcpool's own file has another of that name.
    Differs,
    /// mcpool cannot use it, and why.
    NotRead(String),
    /// It asks for this input, and a gateway can ask nobody.
    Asks(String),
    /// A command of the editor gives the value of this input.
    AsksEditor(String),
    /// mcpool's own file declares this input in another way.
    InputDiffers(String),
}

/// The servers to look at, and the two files.
pub(super) struct Adoption<'a> {
    pub(super) host: Dialect,
    pub(super) file: &'a Path,
    pub(super) names: Vec<String>,
    pub(super) own: &'a Path,
    pub(super) own_text: &'a str,
    /// Whether what the host has wins over what mcpool's own file has.
    pub(super) replace: bool,
}

impl Adoption<'_> {
    pub(super) async fn plan(self) -> Result<Adopted, Failure> {
        if self.names.is_empty() {
            return Ok(Adopted::default());
        }
        let loader = Loader::new()
            .with_masker(out::masker().clone())
            .with_file(self.file)
            .with_dialect(self.host);
        let own = Loader::new().with_user_file(self.own);
        let (loaded, own) = off_thread(move || (loader.load(), own.load().ok())).await?;
        let loaded = loaded?;
        let mut inputs = Inputs::of(own.as_ref());
        let mut adopted = Adopted::default();
        for name in &self.names {
            let stays = match loaded.entry(name) {
                None => Some(Stays::NotRead(why_not_read(&loaded, name))),
                Some(entry) => {
                    // What is relative to the host's file would mean another place in ours.
                    let portable = entry.portable();
                    match asks(entry, &portable).await {
                        Some(reason) => Some(reason),
                        None => {
                            let name = entry.name.as_str();
                            self.place(name, portable, own.as_ref(), &mut inputs, &mut adopted)
                        }
                    }
                }
            };
            if let Some(stays) = stays {
                adopted.left.push((name.clone(), stays));
            }
        }
        Ok(adopted)
    }

    /// Moves a server, unless there is a reason for it to stay.
    fn place(
        &self,
        name: &str,
        portable: Portable,
        own: Option<&Loaded>,
        inputs: &mut Inputs,
        adopted: &mut Adopted,
    ) -> Option<Stays> {
        let is_there = own.is_some_and(|own| own.entry(name).is_some());
        if is_there {
            let has_inputs = inputs.missing(&portable.inputs);
            let is_same = has_inputs.is_ok_and(|missing| missing.is_empty())
                && self.is_in_own(name, &portable.settings);
            if is_same {
                adopted.present.push(name.to_owned());
                return None;
            }
            if !self.replace {
                return Some(Stays::Differs);
            }
        }
        match inputs.bring(portable.inputs) {
            Ok(edits) => adopted.edits.extend(edits),
            Err(id) => return Some(Stays::InputDiffers(id)),
        }
        adopted.edits.push(Edit::Add {
            name: name.to_owned(),
            settings: Box::new(portable.settings),
            replace: self.replace,
        });
        adopted.moved.push(name.to_owned());
        if is_there {
            adopted.replaced.push(name.to_owned());
        }
        None
    }

    /// Whether mcpool's own file would say the same with these settings in it.
    fn is_in_own(&self, name: &str, settings: &ServerSettings) -> bool {
        let format = Format::of_path(self.own).unwrap_or(Format::Json);
        let edit = Edit::Add {
            name: name.to_owned(),
            settings: Box::new(settings.clone()),
            replace: true,
        };
        let read = |text: &str| {
            let loader = Loader::new().with_text(self.own.to_string_lossy(), text);
            let loaded = loader.load().ok()?;
            Some(loaded.entry(name)?.settings.clone())
        };
        let now = read(self.own_text);
        let then = edit_text(self.own_text, format, &[edit]);
        now.is_some() && now == then.ok().and_then(|text| read(&text))
    }
}

/// What an entry asks for that nobody can answer; a gateway has nobody to ask.
async fn asks(entry: &Entry, portable: &Portable) -> Option<Stays> {
    let mut declared = portable.inputs.iter();
    if let Some((id, _)) = declared.find(|(_, declaration)| declaration.of_editor) {
        return Some(Stays::AsksEditor(id.clone()));
    }
    let problems = entry.missing_variables().await.into_iter();
    let mut inputs = problems.filter(|problem| problem.code == "unanswered-input");
    inputs.next().map(|problem| Stays::Asks(problem.message))
}

fn why_not_read(loaded: &Loaded, name: &str) -> String {
    let mut of_server: Vec<_> = loaded
        .problems
        .iter()
        .filter(|problem| problem.server.as_deref() == Some(name))
        .collect();
    of_server.sort_by_key(|problem| std::cmp::Reverse(problem.severity));
    match of_server.first() {
        Some(problem) => problem.message.clone(),
        None => "it is not one of the servers that mcpool reads there".to_owned(),
    }
}

impl Stays {
    /// The reason, after the name of the server.
    pub(super) fn reason(&self, own: &Path) -> Text {
        match self {
            Self::Differs => text!(
                "{} has another server of that name; with both, a model sees the tools twice: \
                 --replace puts the host's definition into mcpool's file, or rename one of the two",
                own
            ),
            Self::NotRead(why) => text!("mcpool cannot use it: {}", why),
            Self::Asks(what) => text!("a gateway has nobody to ask: {}", what),
            Self::AsksEditor(id) => text!(
                "the value of its input {} comes from a command that only the host can run",
                id
            ),
            Self::InputDiffers(id) => {
                text!("{} declares the input {} in another way", own, id)
            }
        }
    }
}

impl Adopted {
    /// The names that go out of the host's file.
    pub(super) fn gone(&self) -> Vec<String> {
        self.moved.iter().chain(&self.present).cloned().collect()
    }

    /// The reasons for what stays, by name.
    pub(super) fn reasons(&self, own: &Path) -> BTreeMap<String, String> {
        let left = self.left.iter();
        left.map(|(name, stays)| (name.clone(), stays.reason(own).as_str().to_owned()))
            .collect()
    }

    /// What is said of it.
    pub(super) fn to_text(&self, own: &Path, written: bool) -> Text {
        let would_be = if written { "" } else { "would be " };
        let mut text = Text::default();
        if self.moved.is_empty() && self.present.is_empty() && self.left.is_empty() {
            return text!("the host's file has no servers to move\n");
        }
        if !self.moved.is_empty() {
            text.push(&text!(
                "{}moved into {}: {}\n",
                would_be,
                own,
                Text::list(&self.moved)
            ));
        }
        if !self.replaced.is_empty() {
            let verb = match written {
                true => "replaced",
                false => "would replace",
            };
            text.push(&text!(
                "{} in {}: {}\n",
                verb,
                own,
                Text::list(&self.replaced)
            ));
        }
        if !self.present.is_empty() {
            text.push(&text!(
                "{}removed from the host's file, because {} has the same: {}\n",
                would_be,
                own,
                Text::list(&self.present)
            ));
        }
        for (name, stays) in &self.left {
            text.push(&text!(
                "left in the host's file: {}: {}\n",
                name,
                stays.reason(own)
            ));
        }
        text
    }
}
