//! Descriptions of the built-in types and fields, by OpenAPI name. Unpacked on first use.

use std::collections::HashMap;
use std::io::Read;
use std::sync::OnceLock;

static PACKED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/words"));

/// What is known about `field` of the type `name` (`io.k8s.api.core.v1.PodSpec`); about the type itself when `field` is empty.
///
/// The first call unpacks about a megabyte.
pub fn word(name: &str, field: &str) -> Option<&'static str> {
    static WORDS: OnceLock<HashMap<(&'static str, &'static str), &'static str>> = OnceLock::new();
    let words = WORDS.get_or_init(|| {
        let mut text = String::new();
        flate2::read::DeflateDecoder::new(PACKED)
            .read_to_string(&mut text)
            .expect("the build packed UTF-8");
        let mut parts = Box::leak(text.into_boxed_str()).split_terminator('\0');
        let mut words = HashMap::new();
        while let (Some(name), Some(field), Some(text)) = (parts.next(), parts.next(), parts.next()) {
            words.insert((name, field), text);
        }
        words
    });
    let known = |name: &str| words.get(&(name, field)).copied();
    // Lists lack words of their own; these two read the same everywhere.
    known(name).or_else(|| {
        if matches!(field, "apiVersion" | "kind") {
            known("io.k8s.api.core.v1.Pod")
        } else {
            None
        }
    })
}

#[cfg(test)]
mod tests {
    use super::word;

    #[test]
    fn types_and_fields_have_words() {
        assert!(
            word("io.k8s.api.coordination.v1.LeaseSpec", "holderIdentity")
                .unwrap()
                .starts_with("holderIdentity ")
        );
        assert!(word("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta", "name").is_some());
        assert!(word("io.k8s.api.core.v1.Pod", "").is_some());
        assert_eq!(word("io.k8s.api.core.v1.Pod", "nothing"), None);
    }
}
