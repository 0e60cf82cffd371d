//! A field of a file, as it is given to what reads values of its type.

use std::ops::RangeInclusive;

use crate::document::Node;

/// A field in a file.
pub(crate) struct Field<'a, T> {
    /// What messages call it: `limits.max_pages`.
    pub(crate) path: &'a str,
    /// Its value in the file.
    pub(crate) node: &'a Node,
    /// The values that are allowed, where not all are.
    pub(crate) range: Option<RangeInclusive<T>>,
}

/// Reads values of a type.
pub(crate) trait ReadValue<T> {
    /// The value; `None` when it is wrong, which is reported then.
    fn value(&mut self, field: Field<'_, T>) -> Option<T>;
}
