//! IngressClasses.

use crate::cells::{NONE, Row};
use crate::value::{or, with};
use fairlead_api::Node;
use fairlead_resource::Hooks;

pub struct IngressClasses;

impl Hooks for IngressClasses {
    fn default(&self, object: &mut Node) {
        with(object, &["spec", "parameters"], |parameters| {
            or(parameters, "scope", "Cluster")
        });
    }

    fn row(&self, object: &Node, now_seconds: i64) -> Option<Vec<Node>> {
        let parameters = match object.at(&["spec", "parameters"]) {
            None => NONE.to_owned(),
            Some(reference) => {
                let group = reference
                    .get("apiGroup")
                    .and_then(Node::as_str)
                    .map(|g| format!(".{g}"));
                format!(
                    "{}{}/{}",
                    reference.str("kind"),
                    group.unwrap_or_default(),
                    reference.str("name")
                )
            }
        };
        Row::new(object, now_seconds)
            .cell(default_name(object, &["ingressclass.kubernetes.io/is-default-class"]))
            .text(&["spec", "controller"])
            .cell(parameters)
            .age()
            .done()
    }
}

/// The name, marked where one of these annotations makes the object the default one.
pub fn default_name(object: &Node, annotations: &[&str]) -> String {
    let is_set = |key: &&str| object.annotations().and_then(|a| a.get(key)).and_then(Node::as_str) == Some("true");
    match annotations.iter().any(is_set) {
        true => format!("{} (default)", object.name()),
        false => object.name().to_owned(),
    }
}
