//! IPAddresses.

use crate::cells::{NONE, Row};
use fairlead_api::Node;
use fairlead_resource::Hooks;

pub struct IPAddresses;

impl Hooks for IPAddresses {
    fn row(&self, object: &Node, now_seconds: i64) -> Option<Vec<Node>> {
        let parent = match object.at(&["spec", "parentRef"]) {
            None => NONE.to_owned(),
            Some(parent) => {
                let mut text = parent.str("resource").to_lowercase();
                for (separator, key) in [(".", "group"), ("/", "namespace")] {
                    if !parent.str(key).is_empty() {
                        text = format!("{text}{separator}{}", parent.str(key));
                    }
                }
                format!("{text}/{}", parent.str("name"))
            }
        };
        Row::named(object, now_seconds).cell(parent).age().done()
    }
}
