//! The inputs that servers ask for, on their way into a file of ours.

use std::collections::BTreeMap;

use mcpool::config::{Edit, InputDeclaration, Loaded};

/// The inputs that a file declares, and those that are brought into it.
pub(crate) struct Inputs(BTreeMap<String, InputDeclaration>);

impl Inputs {
    /// Those of a file of ours; `None` when it is not there yet.
    pub(crate) fn of(own: Option<&Loaded>) -> Self {
        let known = own.map(Loaded::inputs).unwrap_or_default().into_iter();
        Self(
            known
                .map(|(id, declaration)| (id.to_owned(), declaration.clone()))
                .collect(),
        )
    }

    /// The edits that bring these along; or the identifier of one that the file declares in
    /// another way.
    pub(crate) fn bring(
        &mut self,
        wanted: BTreeMap<String, InputDeclaration>,
    ) -> Result<Vec<Edit>, String> {
        let differs = |(id, declaration): &(&String, &InputDeclaration)| {
            self.0.get(*id).is_some_and(|known| known != *declaration)
        };
        if let Some((id, _)) = wanted.iter().find(differs) {
            return Err(id.clone());
        }
        let mut edits = Vec::new();
        for (id, declaration) in wanted {
            if !self.0.contains_key(&id) {
                self.0.insert(id.clone(), declaration.clone());
                edits.push(Edit::AddInput {
                    id,
                    declaration: Box::new(declaration),
                });
            }
        }
        Ok(edits)
    }
}
