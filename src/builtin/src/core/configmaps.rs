//! ConfigMaps.

use crate::cells::Row;
use crate::value::map;
use fairlead_api::{Map, Node};
use fairlead_resource::Hooks;

pub struct ConfigMaps;

impl Hooks for ConfigMaps {
    fn row(&self, object: &Node, now_seconds: i64) -> Option<Vec<Node>> {
        let count = |key| map(object, &[key]).map_or(0, Map::len);
        let entries = count("data") + count("binaryData");
        Row::named(object, now_seconds).cell(entries as i64).age().done()
    }
}
