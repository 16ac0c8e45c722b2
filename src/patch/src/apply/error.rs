//! [`ApplyError`]: why an apply was refused.

use super::Operation;
use super::owners::Id;
use crate::fields::Path;
use fairlead_api::Status;
use fairlead_api::field::go_quote;
use fairlead_api::status::{Cause, Details};
use std::fmt;

/// A refused apply.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ApplyError {
    /// The configuration would change what others own.
    #[error("{}", message(.0))]
    Conflicts(Vec<Conflict>),
    /// The configuration is of another kind or version, or has managedFields.
    #[error("{0}")]
    BadRequest(String),
    /// The configuration does not fit the schema, or an object could not be converted: upstream's own failure.
    #[error("{0}")]
    Unclassified(String),
}

/// One field that another manager owns and the configuration would change.
#[derive(Clone, Debug, PartialEq)]
pub struct Conflict {
    pub(super) id: Id,
    pub path: Path,
}

impl ApplyError {
    /// The answer to the request.
    pub fn to_status(&self) -> Status {
        match self {
            ApplyError::Conflicts(conflicts) => {
                let cause = |conflict: &Conflict| Cause {
                    reason: "FieldManagerConflict".into(),
                    message: format!("conflict with {}", conflict.manager()),
                    field: conflict.path.to_string(),
                };
                let causes = conflicts.iter().map(cause).collect();
                Status::new(409, "Conflict", self.to_string()).with_details(Details {
                    causes,
                    ..Details::default()
                })
            }
            ApplyError::BadRequest(text) => Status::bad_request(text.clone()),
            ApplyError::Unclassified(text) => Status::new(500, "", text.clone()),
        }
    }
}

impl Conflict {
    /// The other manager as messages show it: `"kubectl" with subresource "status" using apps/v1`.
    pub fn manager(&self) -> impl fmt::Display + '_ {
        ManagerText(&self.id)
    }
}

struct ManagerText<'a>(&'a Id);

impl fmt::Display for ManagerText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Id {
            manager,
            operation,
            api_version,
            subresource,
        } = self.0;
        f.write_str(&go_quote(manager))?;
        if !subresource.is_empty() {
            write!(f, " with subresource {}", go_quote(subresource))?;
        }
        match operation {
            Operation::Apply => Ok(()),
            Operation::Update => write!(f, " using {api_version}"),
        }
    }
}

/// Conflicts come grouped by manager.
fn message(conflicts: &[Conflict]) -> String {
    if let [one] = conflicts {
        return format!(
            "Apply failed with 1 conflict: conflict with {}: {}",
            one.manager(),
            one.path
        );
    }
    let mut lines = Vec::new();
    for group in conflicts.chunk_by(|a, b| a.id == b.id) {
        lines.push(format!("conflicts with {}:", group[0].manager()));
        lines.extend(group.iter().map(|conflict| format!("- {}", conflict.path)));
    }
    format!("Apply failed with {} conflicts: {}", conflicts.len(), lines.join("\n"))
}
