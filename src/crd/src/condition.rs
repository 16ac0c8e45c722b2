//! Conditions in `status.conditions`.

use fairlead_api::Node;

/// What a condition says.
pub struct Condition<'a> {
    pub kind: &'a str,
    pub status: bool,
    pub reason: &'a str,
    pub message: &'a str,
}

impl<'a> Condition<'a> {
    pub fn new(kind: &'a str, status: bool, reason: &'a str, message: &'a str) -> Condition<'a> {
        Condition {
            kind,
            status,
            reason,
            message,
        }
    }
}

/// The condition of type `kind`.
pub fn get<'a>(object: &'a Node, kind: &str) -> Option<&'a Node> {
    object
        .get("status")?
        .list("conditions")
        .iter()
        .find(|c| c.str("type") == kind)
}

pub fn is_true(object: &Node, kind: &str) -> bool {
    get(object, kind).is_some_and(|c| c.str("status") == "True")
}

/// Writes a condition; its transition time moves only when its status does.
pub fn set(object: &mut Node, condition: &Condition, now: &str) {
    let status = if condition.status { "True" } else { "False" };
    let slot = object.make_at(&["status", "conditions"]);
    if !matches!(slot, Node::List(_)) {
        *slot = Node::List(Vec::new());
    }
    let list = slot.as_list_mut().expect("it was just made a list");
    let index = list
        .iter()
        .position(|c| c.str("type") == condition.kind)
        .unwrap_or_else(|| {
            list.push(Node::map());
            list.len() - 1
        });
    let entry = &mut list[index];
    if entry.str("status") != status {
        entry.set("lastTransitionTime", now);
    }
    for (key, value) in [
        ("type", condition.kind),
        ("status", status),
        ("reason", condition.reason),
        ("message", condition.message),
    ] {
        entry.set(key, value);
    }
}
