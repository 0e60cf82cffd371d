//! The values of the fields that stand beside the servers of a file: budget and credentials.

use super::Header;
use crate::{
    document::Value,
    settings::{BudgetSettings, CredentialStore, Field, ReadValue},
};

impl ReadValue<BudgetSettings> for Header<'_> {
    fn value(&mut self, field: Field<'_, BudgetSettings>) -> Option<BudgetSettings> {
        if !field.node.is_object() {
            self.wrong(
                field.node,
                "`budget` is an object such as `{ \"stdio\": 8, \"http\": 32 }`",
            );
            return None;
        }
        let mut budget = BudgetSettings::default();
        for member in field.node.members() {
            let count = match member.value.value {
                Value::Integer(count) => u32::try_from(count).ok().filter(|count| *count > 0),
                _ => None,
            };
            match (member.key.as_str(), count) {
                ("stdio", Some(count)) => budget.stdio = Some(count),
                ("http", Some(count)) => budget.http = Some(count),
                ("stdio" | "http", None) => self.wrong(
                    &member.value,
                    "a budget is a whole number of connects, at least 1",
                ),
                (key, _) => {
                    let message = format!("`budget` has no `{key}`: it has `stdio` and `http`");
                    self.wrong(&member.value, &message);
                }
            }
        }
        Some(budget)
    }
}

impl ReadValue<CredentialStore> for Header<'_> {
    fn value(&mut self, field: Field<'_, CredentialStore>) -> Option<CredentialStore> {
        match field.node.as_str() {
            Some("file") => Some(CredentialStore::File),
            Some("keyring") => Some(CredentialStore::Keyring),
            _ => {
                self.wrong(field.node, "`credentials` is `file` or `keyring`");
                None
            }
        }
    }
}
