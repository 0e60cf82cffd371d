//! What a file says of the pool as a whole, beside its servers.
//!
//! Each field is declared once, in [`pool_settings!`]. Its type for the writer and the JSON Schema,
//! how a file is read, hints at a mistyped name, how layers are laid over each other, and whether a
//! project's file may say it come from the declaration.

use std::collections::BTreeMap;

use mcpool_core::ConnectBudget;
#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::Serialize;

use super::{Field, ReadValue};
use crate::document::Node;

/// What two layers say of one field.
trait Layered {
    /// This over what a weaker layer says.
    fn over(self, weak: Self) -> Self;
}

/// Declares the fields. `#[of_the_user(reason)]` is one that a project's file may not say, and why.
/// Without it a project's file may, and nobody is asked: the question of trust is about servers.
macro_rules! pool_settings {
    ($(
        $(#[doc = $doc:literal])*
        $(#[of_the_user($reason:literal)])?
        pub $field:ident: Option<$type:ty>,
    )*) => {
        /// What a file says of the pool as a whole.
        #[derive(Clone, Debug, Default, PartialEq, Serialize)]
        #[cfg_attr(feature = "schema", derive(JsonSchema))]
        #[serde(deny_unknown_fields)]
        #[non_exhaustive]
        pub struct PoolSettings {
            $(
                $(#[doc = $doc])*
                #[serde(skip_serializing_if = "Option::is_none")]
                pub $field: Option<$type>,
            )*
        }

        impl PoolSettings {
            /// The fields by name.
            pub(crate) const FIELDS: &[&str] = &[$(stringify!($field)),*];

            /// Reads the value of a field; `false` when there is no such field.
            pub(crate) fn read_field<R>(
                &mut self,
                reader: &mut R,
                field: &str,
                node: &Node,
            ) -> bool
            where
                $(R: ReadValue<$type>,)*
            {
                match field {
                    $(
                        stringify!($field) => {
                            let field = Field::<$type> { path: field, node, range: None };
                            self.$field = reader.value(field);
                        }
                    )*
                    _ => return false,
                }
                true
            }

            /// These laid over those of a weaker layer.
            pub(crate) fn over(self, weak: Self) -> Self {
                Self { $($field: self.$field.over(weak.$field),)* }
            }

            /// Takes out what is for the user to say and not for a project: the fields that were
            /// set, each with the reason.
            pub(crate) fn take_what_is_the_users(&mut self) -> Vec<(&'static str, &'static str)> {
                let mut taken = Vec::new();
                $($(
                    if self.$field.take().is_some() {
                        taken.push((stringify!($field), $reason));
                    }
                )?)*
                taken
            }
        }
    };
}

pool_settings! {
    /// How many connects may run at once.
    pub budget: Option<BudgetSettings>,
    /// Where the program keeps the tokens of logins. Default `file`. Not in a file of the project.
    #[of_the_user("where tokens are kept is for the user to say")]
    pub credentials: Option<CredentialStore>,
    /// Parts of the pool that `mcpool serve` serves, by name. Not in a file of the project: a
    /// profile says what a key allows.
    #[of_the_user("what the key of a client allows is for the user to say")]
    pub profiles: Option<BTreeMap<String, ProfileSettings>>,
}

impl<T: Layered> Layered for Option<T> {
    fn over(self, weak: Self) -> Self {
        match (self, weak) {
            (Some(strong), Some(weak)) => Some(strong.over(weak)),
            (strong, weak) => strong.or(weak),
        }
    }
}

/// How many connects may run at once in the whole process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct BudgetSettings {
    /// For stdio servers. Default 8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stdio: Option<u32>,
    /// For HTTP servers. Default 32.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<u32>,
}

impl BudgetSettings {
    /// The budget, with the defaults for what is not said.
    pub(crate) fn to_budget(self) -> ConnectBudget {
        let default = ConnectBudget::default();
        let whole = |number: Option<u32>, default: usize| {
            number.map_or(default, |number| {
                usize::try_from(number).unwrap_or(usize::MAX)
            })
        };
        ConnectBudget::new(
            whole(self.stdio, default.stdio),
            whole(self.http, default.http),
        )
    }
}

impl Layered for BudgetSettings {
    fn over(self, weak: Self) -> Self {
        Self {
            stdio: self.stdio.or(weak.stdio),
            http: self.http.or(weak.http),
        }
    }
}

/// Where tokens are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CredentialStore {
    /// Private files in the user's data directory.
    #[default]
    File,
    /// The keyring of the operating system.
    Keyring,
}

impl Layered for CredentialStore {
    fn over(self, _weak: Self) -> Self {
        self
    }
}

/// A part of the pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ProfileSettings {
    /// Only these servers. Default: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub servers: Option<Vec<String>>,
    /// Only these tools, by their names in the pool (`files__read_*`). Default: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow: Option<Vec<String>>,
    /// Not these tools.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<String>,
    /// Other names for tools, by their names in the pool.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rename: BTreeMap<String, String>,
    /// Whether its clients are shown `find_tools` and `call_tool` in place of all tools. Default: as
    /// `mcpool serve --tool-search` says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_search: Option<bool>,
}

/// A whole profile of the stronger layer wins, by its name.
impl Layered for BTreeMap<String, ProfileSettings> {
    fn over(self, mut weak: Self) -> Self {
        weak.extend(self);
        weak
    }
}
