//! Teaches the masker which values were filled in, and which of them are secrets.

use mcpool_core::{EnvInheritance, Masker, Secret, Sensitivity, ServerSpec, TransportSpec};

use super::{Gathered, PlaceSource, fields::Work};
use crate::{secrets, template::Reference};

/// Every value that some placeholder stands for.
pub(super) fn note_values(masker: &Masker, work: &Work, known: &Gathered) {
    for (reference, value) in &known.values {
        let Some(value) = value.as_ref().map(Secret::expose) else {
            continue;
        };
        if is_of_system(reference, value) {
            continue;
        }
        let field = work.first_field_with(reference).unwrap_or_default();
        let sensitivity = match reference.scheme.as_deref() {
            None | Some("env") => {
                let into = field.rsplit('.').next().unwrap_or_default();
                graded(&reference.name, value).max(graded(into, value))
            }
            // A file, an answer, a vault: nobody keeps a region or a port there.
            Some(_) => Sensitivity::Secret,
        };
        masker.add(value, sensitivity);
    }
}

/// What a spec holds as text, the file of variables and the helper's headers included.
pub(super) fn note_spec(masker: &Masker, spec: &ServerSpec) {
    match &spec.transport {
        TransportSpec::Stdio(stdio) => {
            for (name, value) in &stdio.env {
                masker.add_variable(name, value.expose(), graded(name, value.expose()));
            }
            for secret in secrets::in_arguments(&stdio.args) {
                masker.add(secret, Sensitivity::Secret);
            }
        }
        TransportSpec::Http(http) | TransportSpec::Sse(http) | TransportSpec::Auto(http) => {
            for (name, value) in &http.headers {
                let value = value.expose();
                let sensitivity = graded(name, value);
                masker.add(value, sensitivity);
                // `Bearer …`: the server repeats the second part alone.
                if let Some((_scheme, credentials)) = value.split_once(' ') {
                    masker.add(credentials, sensitivity);
                }
            }
        }
        _ => {}
    }
}

fn graded(name: &str, value: &str) -> Sensitivity {
    if secrets::is_secret_name(name) || secrets::is_secret_value(value) {
        Sensitivity::Secret
    } else {
        Sensitivity::Value
    }
}

/// Whether a reference names a place of an editor's, or a variable that says how the system is set
/// up (`HOME`, `PATH`, `LANG`).
fn is_of_system(reference: &Reference, value: &str) -> bool {
    let name = &reference.name;
    let is_place = reference.scheme.is_none() && PlaceSource::NAMES.contains(&name.as_str());
    let is_variable = matches!(reference.scheme.as_deref(), None | Some("env"))
        && EnvInheritance::SafeList.allows(name, value);
    is_place || is_variable
}
