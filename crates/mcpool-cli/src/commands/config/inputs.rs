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

    /// Those of them that the file does not declare; or the identifier of one that it declares in
    /// another way.
    pub(crate) fn missing(
        &self,
        wanted: &BTreeMap<String, InputDeclaration>,
    ) -> Result<Vec<String>, String> {
        let mut missing = Vec::new();
        for (id, declaration) in wanted {
            match self.0.get(id) {
                Some(known) if known == declaration => {}
                Some(_) => return Err(id.clone()),
                None => missing.push(id.clone()),
            }
        }
        Ok(missing)
    }

    /// The edits that bring these along, which have to be made; otherwise as
    /// [`missing`](Self::missing).
    pub(crate) fn bring(
        &mut self,
        mut wanted: BTreeMap<String, InputDeclaration>,
    ) -> Result<Vec<Edit>, String> {
        let mut edits = Vec::new();
        for id in self.missing(&wanted)? {
            if let Some(declaration) = wanted.remove(&id) {
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
