//! [`Library`]: what many parts of documents share, made once: definitions of built-in types, parameters, words.

use super::custom::Words;
use super::merge::{Entry, Section};
use super::parameters::Parameter;
use super::{Components, Version};
use compact_str::CompactString;
use fairlead_api::Node;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Kept from one snapshot to the next: built-in types do not change while a server runs.
#[derive(Default)]
pub struct Library {
    definitions: Mutex<HashMap<CompactString, Option<Arc<Entry>>>>,
    parameters: Mutex<HashMap<CompactString, Arc<Entry>>>,
    words: OnceLock<Words>,
}

impl Library {
    /// A built-in type's OpenAPI v2 definition.
    pub(super) fn definition(&self, name: &str, components: &dyn Components) -> Option<Arc<Entry>> {
        if let Some(known) = self
            .definitions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(name)
        {
            return known.clone();
        }
        let made = components
            .schema(name, Version::V2)
            .map(|node| Arc::new(Entry::new(node)));
        let mut definitions = self.definitions.lock().unwrap_or_else(PoisonError::into_inner);
        definitions.entry(name.into()).or_insert(made).clone()
    }

    /// A shared parameter of OpenAPI v2: its name and what it is.
    pub(super) fn parameter(
        &self,
        parameter: &Parameter,
        write: fn(&Parameter) -> Node,
    ) -> (CompactString, Arc<Entry>) {
        let name: CompactString = format!("{}-{}", parameter.name, parameter.shared).into();
        let mut parameters = self.parameters.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = parameters
            .entry(name.clone())
            .or_insert_with(|| Arc::new(Entry::new(write(parameter))));
        (name, entry.clone())
    }

    pub(super) fn words(&self, components: &dyn Components) -> &Words {
        self.words.get_or_init(|| Words::of(components))
    }

    /// Adds all definitions that `names` lead to and that are not there yet.
    pub(super) fn add_reachable(&self, names: Vec<CompactString>, section: &mut Section, components: &dyn Components) {
        let mut waiting = names;
        while let Some(name) = waiting.pop() {
            if section.contains_key(&name) {
                continue;
            }
            if let Some(entry) = self.definition(&name, components) {
                waiting.extend(entry.references.iter().cloned());
                section.insert(name, entry);
            }
        }
    }
}
