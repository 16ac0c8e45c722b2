//! The store that the flags ask for.

use crate::config::{Config, DataDir};
use crate::files;
use crate::observer::StoreMetrics;
use anyhow::{Context, Result};
use fairlead_storage::{Embedded, EmbeddedConfig, Memory, Store, StoreObserver};
use fairlead_telemetry::{Families, SystemClock};
use std::sync::Arc;

/// Opens the store. The second value is to be closed in the end.
///
/// # Errors
/// One sentence that says what an operator has to change.
pub async fn open(
    config: &Config,
    clock: Arc<SystemClock>,
    families: &Families,
) -> Result<(Arc<dyn Store>, Option<Embedded>)> {
    let observer: Arc<dyn StoreObserver> = Arc::new(StoreMetrics::register(families));
    match &config.data {
        DataDir::Memory(_) => Ok((Arc::new(Memory::observed(clock, Some(observer))), None)),
        DataDir::Directory(path) => {
            let directory = path.join("store");
            files::make_directory(&directory)?;
            let opened = {
                let directory = directory.clone();
                let settings = EmbeddedConfig {
                    observer: Some(observer),
                    ..EmbeddedConfig::new(clock)
                };
                tokio::task::spawn_blocking(move || Embedded::open(&directory, settings)).await?
            };
            let store = opened.with_context(|| format!("cannot open the data in {}", directory.display()))?;
            Ok((Arc::new(store.clone()), Some(store)))
        }
    }
}
