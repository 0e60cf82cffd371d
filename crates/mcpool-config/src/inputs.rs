//! What `${input:id}` asks for, as VS Code declares it.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value as Json, json};

use crate::{
    document::{Node, Value},
    secrets,
    settings::ServerSettings,
    template::{Syntax, Template},
};

/// How an input is asked for: VS Code's `inputs`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct InputDeclaration {
    /// What the person is asked.
    pub description: Option<String>,
    /// What stands there when nothing is typed.
    pub default: Option<String>,
    /// Whether what is typed must not be shown.
    pub password: bool,
    /// What there is to choose from; empty when any text will do.
    pub options: Vec<String>,
    /// Whether a command of the editor gives the value, which nothing else can run. In a file of
    /// ours it is a text that is asked for.
    pub of_editor: bool,
}

impl InputDeclaration {
    /// Those of a list, by their identifiers.
    pub(crate) fn read_all(list: &Node) -> HashMap<String, Self> {
        let items = list.items().iter();
        items.filter_map(Self::read).collect()
    }

    fn read(item: &Node) -> Option<(String, Self)> {
        let text = |key| item.get(key).and_then(Node::as_str).map(str::to_owned);
        let options = item.get("options").map(Node::items).unwrap_or_default();
        // A choice is a text, or has a label and a value.
        let option = |node: &Node| {
            let value = node.as_str().or_else(|| node.get("value")?.as_str());
            value.map(str::to_owned)
        };
        let declaration = Self {
            description: text("description"),
            default: text("default"),
            password: matches!(
                item.get("password").map(|node| &node.value),
                Some(Value::Bool(true))
            ),
            options: options.iter().filter_map(option).collect(),
            of_editor: item.get("type").and_then(Node::as_str) == Some("command"),
        };
        Some((text("id")?, declaration))
    }

    /// As it stands in a file.
    pub(crate) fn to_json(&self, id: &str) -> Json {
        let kind = match self.options.is_empty() {
            true => "promptString",
            false => "pickString",
        };
        let mut json = json!({ "type": kind, "id": id });
        if let Some(description) = &self.description {
            json["description"] = description.as_str().into();
        }
        if !self.options.is_empty() {
            json["options"] = self.options.clone().into();
        }
        if let Some(default) = &self.default {
            json["default"] = default.as_str().into();
        }
        if self.password {
            json["password"] = true.into();
        }
        json
    }

    /// The same for a file that others may read: without a default that is, or may be, a secret.
    #[must_use]
    pub fn without_secrets(mut self) -> Self {
        let is_secret = |text: &String| self.password || secrets::is_secret_value(text);
        if self.default.as_ref().is_some_and(is_secret) {
            self.default = None;
        }
        self
    }
}

/// The inputs that the settings ask for, of those that their file declares.
pub(crate) fn asked_for(
    settings: &ServerSettings,
    declared: &HashMap<String, InputDeclaration>,
) -> BTreeMap<String, InputDeclaration> {
    let mut asked = BTreeMap::new();
    if !declared.is_empty()
        && let Ok(json) = serde_json::to_value(settings)
    {
        collect(&json, declared, &mut asked);
    }
    asked
}

fn collect(
    json: &Json,
    declared: &HashMap<String, InputDeclaration>,
    asked: &mut BTreeMap<String, InputDeclaration>,
) {
    match json {
        Json::String(text) => {
            let template = Template::parse(text, Syntax::native());
            let references = template.map(|template| template.references());
            for reference in references.unwrap_or_default() {
                if reference.scheme.as_deref() == Some("input")
                    && let Some(declaration) = declared.get(&reference.name)
                {
                    asked.insert(reference.name, declaration.clone());
                }
            }
        }
        Json::Array(items) => {
            for item in items {
                collect(item, declared, asked);
            }
        }
        Json::Object(map) => {
            for value in map.values() {
                collect(value, declared, asked);
            }
        }
        _ => {}
    }
}
