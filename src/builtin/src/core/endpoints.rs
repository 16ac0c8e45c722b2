//! Endpoints.

use crate::cells::{NONE, Row, three};
use crate::validation::endpoints;
use crate::validation::warnings;
use crate::value::{each, int, or};
use fairlead_api::{FieldErrors, Node};
use fairlead_resource::{HookContext, Hooks};

pub struct Endpoints;

impl Hooks for Endpoints {
    fn default(&self, object: &mut Node) {
        each(object, "subsets", |subset| {
            each(subset, "ports", |port| or(port, "protocol", "TCP"))
        });
    }

    fn warnings(&self, object: &Node, _: Option<&Node>, _: &HookContext) -> Vec<String> {
        warnings::endpoints(object)
    }

    fn validate_create(&self, object: &Node, _: &HookContext, errors: &mut FieldErrors) {
        endpoints::validate(object, None, errors);
    }

    fn validate_update(&self, object: &Node, old: &Node, _: &HookContext, errors: &mut FieldErrors) {
        endpoints::validate(object, Some(old), errors);
    }

    fn row(&self, object: &Node, now_seconds: i64) -> Option<Vec<Node>> {
        let mut addresses = Vec::new();
        for subset in object.list("subsets") {
            let ips = || subset.list("addresses").iter().map(|a| a.str("ip"));
            match subset.list("ports") {
                // Services without ports have addresses alone.
                [] => addresses.extend(ips().map(str::to_owned)),
                ports => {
                    for port in ports {
                        let port = int(port, &["port"]);
                        addresses.extend(ips().map(|ip| {
                            if ip.contains(':') {
                                format!("[{ip}]:{port}")
                            } else {
                                format!("{ip}:{port}")
                            }
                        }));
                    }
                }
            }
        }
        // Subsets without addresses leave the cell empty.
        let absent = if object.list("subsets").is_empty() { NONE } else { "" };
        Row::named(object, now_seconds)
            .cell(three(addresses, absent))
            .age()
            .done()
    }
}
