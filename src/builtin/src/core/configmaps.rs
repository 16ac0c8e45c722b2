//! ConfigMaps.

use crate::cells::Row;
use crate::validation::configuration;
use crate::value::map;
use fairlead_api::{FieldErrors, Map, Node};
use fairlead_resource::{HookContext, Hooks};

pub struct ConfigMaps;

impl Hooks for ConfigMaps {
    fn validate_create(&self, object: &Node, _: &HookContext, errors: &mut FieldErrors) {
        configuration::config_map(object, None, errors);
    }

    fn validate_update(&self, object: &Node, old: &Node, _: &HookContext, errors: &mut FieldErrors) {
        configuration::config_map(object, Some(old), errors);
    }

    fn row(&self, object: &Node, now_seconds: i64) -> Option<Vec<Node>> {
        let count = |key| map(object, &[key]).map_or(0, Map::len);
        let entries = count("data") + count("binaryData");
        Row::named(object, now_seconds).cell(entries as i64).age().done()
    }
}
