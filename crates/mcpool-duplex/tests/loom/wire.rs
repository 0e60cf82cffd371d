//! A wire that nobody looks at.

pub(crate) struct Wire;

impl Wire {
    pub(crate) fn sent(&self, _text: &str) {}
}

pub(crate) fn guarded(_wire: &Wire, run: impl FnOnce()) {
    run();
}
