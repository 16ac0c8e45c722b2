//! The other definitions, for hooks that read or write more than their own resource.

use fairlead_api::{Status, StatusResult};
use fairlead_resource::ResourceDefinition;
use std::sync::{Arc, OnceLock, Weak};

/// Filled when all definitions are made. Weak, since definitions hold the hooks that hold this.
#[derive(Clone, Default)]
pub struct Peers(Arc<OnceLock<Vec<Weak<ResourceDefinition>>>>);

impl Peers {
    pub fn fill(&self, definitions: &[Arc<ResourceDefinition>]) {
        self.0.get_or_init(|| definitions.iter().map(Arc::downgrade).collect());
    }

    /// The first definition of a resource.
    ///
    /// # Errors
    /// An internal error where it is not served.
    pub fn get(&self, group: &str, plural: &str) -> StatusResult<Arc<ResourceDefinition>> {
        let all = self.0.get().into_iter().flatten();
        all.filter_map(Weak::upgrade)
            .find(|d| d.group == group && d.plural == plural)
            .ok_or_else(|| Status::internal(format!("the resource {plural} is not served")))
    }
}
