//! Ports of a pod's containers that get into each other's way.

use crate::validation::at::At;
use crate::value::int;
use fairlead_api::{FieldPath, Node};
use std::collections::HashMap;

/// A port and where it stands, which is spelled out only in a warning.
#[derive(Clone, Copy)]
struct Port<'a> {
    spec: &'a At<'a>,
    containers: &'a str,
    container: usize,
    index: usize,
    node: &'a Node,
}

impl Port<'_> {
    fn path(&self) -> FieldPath {
        let containers = self.spec.path_of(self.containers);
        containers.index(self.container).child("ports").index(self.index)
    }
}

/// Warns about addresses without ports, ports given twice, then about names given twice.
pub fn all(spec: &At, lists: &[&str], warnings: &mut Vec<String>) {
    let mut ports = Vec::new();
    for containers in lists {
        for (container, node) in spec.list(containers).iter().enumerate() {
            ports.extend(node.list("ports").iter().enumerate().map(|(index, node)| Port {
                spec,
                containers,
                container,
                index,
                node,
            }));
        }
    }
    clashes(&ports, warnings);
    repeated_names(&ports, warnings);
}

fn clashes(ports: &[Port], warnings: &mut Vec<String>) {
    let mut known: HashMap<(i64, &str), Vec<Port>> = HashMap::new();
    for port in ports {
        let (host_ip, host_port) = (port.node.str("hostIP"), int(port.node, &["hostPort"]));
        let key = (int(port.node, &["containerPort"]), port.node.str("protocol"));
        if !host_ip.is_empty() && host_port == 0 {
            warnings.push(format!(
                "{}: hostIP set without hostPort: {{Name:{} HostPort:0 ContainerPort:{} Protocol:{} HostIP:{host_ip}}}",
                port.path(),
                port.node.str("name"),
                key.0,
                key.1,
            ));
        }
        let others = known.entry(key).or_default();
        for other in others.iter() {
            let (other_ip, other_port) = (other.node.str("hostIP"), int(other.node, &["hostPort"]));
            let clash = if host_port == other_port && host_ip == other_ip {
                "duplicate"
            } else if host_port == 0 || other_port == 0 {
                "overlapping"
            } else if host_port == other_port && host_ip.is_empty() != other_ip.is_empty() {
                "dangerously ambiguous"
            } else {
                continue;
            };
            let (path, other) = (port.path(), other.path());
            warnings.push(format!("{path}: {clash} port definition with {other}"));
        }
        others.push(*port);
    }
}

fn repeated_names(ports: &[Port], warnings: &mut Vec<String>) {
    let mut known: HashMap<&str, Port> = HashMap::new();
    for port in ports {
        let name = port.node.str("name");
        if name.is_empty() {
            continue;
        }
        let first = *known.entry(name).or_insert(*port);
        if !std::ptr::eq(first.node, port.node) {
            let (path, other) = (port.path(), first.path());
            warnings.push(format!(
                "{path}: duplicate port name {name:?} with {other}, services and probes that select ports by name will \
                 use {other}"
            ));
        }
    }
}
