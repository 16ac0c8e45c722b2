//! Conversions between the served versions of one stored resource.

use fairlead_resource::definition::Conversion;

/// The conversion of a resource, by group and plural name.
pub fn of(group: &str, plural: &str) -> Conversion {
    match (group, plural) {
        ("autoscaling", "horizontalpodautoscalers") => Conversion::Builtin(crate::autoscaling::conversion::convert),
        ("" | "events.k8s.io", "events") => Conversion::Builtin(crate::events::conversion::convert),
        _ => Conversion::None,
    }
}
