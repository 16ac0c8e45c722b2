//! Events of the core group ⇄ those of `events.k8s.io`: one object under two sets of field names.

use fairlead_api::Node;

/// Names in the core group, names in `events.k8s.io`.
const NAMES: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("source", "deprecatedSource"),
    ("message", "note"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

/// Converts in place; `to` is an apiVersion.
pub fn convert(object: &mut Node, to: &str) {
    let to_core = !to.contains('/');
    if to_core != (object.str("apiVersion") == "v1") {
        for (core, other) in NAMES {
            let (from, to) = if to_core { (other, core) } else { (core, other) };
            if let Some(value) = object.remove(from) {
                object.set(to, value);
            }
        }
        // One group writes these even when they are empty, the other does not.
        for field in ["reportingComponent", "reportingInstance"] {
            if to_core && object.get(field).is_none() {
                object.set(field, "");
            } else if !to_core && field == "reportingInstance" && object.str(field).is_empty() {
                object.remove(field);
            }
        }
        if !to_core && object.str("reportingController").is_empty() {
            object.remove("reportingController");
        }
    }
    object.set("apiVersion", to);
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::node;

    #[test]
    fn names_change_there_and_back() {
        let core = node!({"apiVersion": "v1", "involvedObject": {"name": "p"}, "message": "m", "reportingComponent": "",
            "reportingInstance": "", "source": {}, "firstTimestamp": null, "lastTimestamp": null, "eventTime": null});
        let mut event = core.clone();
        convert(&mut event, "events.k8s.io/v1");
        assert_eq!(event.str("note"), "m");
        assert_eq!(event.get("reportingController"), None);
        convert(&mut event, "v1");
        assert_eq!(event, core);
    }
}
