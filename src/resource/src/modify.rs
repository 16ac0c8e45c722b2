//! A read-modify-write of a stored object, past preparation, validation and admission: what `binding` and the like do.

use crate::definition::ResourceDefinition;
use crate::engine::Engine;
use crate::{at_rest, convert, store_error};
use fairlead_api::{Node, Status, StatusResult};
use fairlead_storage::Error;
use std::time::Duration;

impl Engine {
    /// Stores what `change` makes of an object, trying again while others write to it. `change` may run several times,
    /// each time on a fresh copy; what it refuses with is the answer. A dry run stores nothing.
    ///
    /// # Errors
    /// NotFound, what `change` and what the store says.
    pub async fn modify(
        &self,
        definition: &ResourceDefinition,
        namespace: &str,
        name: &str,
        dry_run: bool,
        change: &(dyn Fn(&mut Node) -> StatusResult<()> + Sync),
    ) -> StatusResult<Node> {
        let cache = self.config().caches.cache(&definition.storage)?;
        let key = if definition.namespaced() {
            format!("{namespace}/{name}")
        } else {
            name.to_owned()
        };
        let resource = definition.group_resource();
        let lifetime = match definition.storage.lifetime_seconds {
            0 => None,
            seconds => Some(Duration::from_secs(seconds)),
        };
        let mut turn = cache.turn(&key).await;
        loop {
            let snapshot = cache
                .fresh()
                .await
                .map_err(|error| store_error::status(error, &resource, "update"))?;
            let existing = snapshot
                .get(&key)
                .cloned()
                .ok_or_else(|| Status::not_found(&resource, name))?;
            let mut object = convert::node(definition, &existing).await?;
            change(&mut object)?;
            if dry_run {
                return Ok(object);
            }
            let stored = convert::to_stored(definition, object).await?;
            match cache
                .update(
                    &key,
                    at_rest::write(definition, stored).into(),
                    existing.revision,
                    lifetime,
                )
                .await
            {
                Ok(cached) => {
                    drop(turn);
                    return convert::node(definition, &cached).await;
                }
                Err(Error::Conflict { .. }) if turn.is_none() => turn = Some(cache.queue_up(&key).await),
                Err(Error::Conflict { .. }) => {}
                Err(error) => return Err(store_error::status(error, &resource, "update")),
            }
        }
    }
}
