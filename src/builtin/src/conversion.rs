//! Conversions between the served versions of one stored resource.

use fairlead_resource::definition::Conversion;

/// The conversion of a resource, by group and plural name.
pub fn of(group: &str, plural: &str) -> Conversion {
    match (group, plural) {
        _ => Conversion::None,
    }
}
