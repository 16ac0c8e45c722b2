//! What strict decoding complains about: fields given twice and fields that are not known.
// PERFORMANCE: per-request path

use fairlead_api::field::go_quote;
use fairlead_api::json;

/// Complaints, in both forms upstream has for them.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Complaints {
    /// As parts of one error.
    errors: Vec<String>,
    /// As warnings of their own.
    pub warnings: Vec<String>,
}

impl Complaints {
    /// Of a JSON document; `prefix` stands before its duplicates.
    pub fn json(duplicates: &[String], unknown: &[String], prefix: &str) -> Complaints {
        let mut errors: Vec<String> = duplicates
            .iter()
            .map(|path| format!("{prefix}duplicate field {}", go_quote(path)))
            .collect();
        errors.extend(unknown_fields(unknown));
        Complaints {
            warnings: errors.clone(),
            errors,
        }
    }

    /// Of a JSON document that was read into a built-in kind: all in the order in which Go meets them.
    pub fn ordered_json(document: &[u8], duplicates: &[String], unknown: &[String]) -> Complaints {
        if duplicates.is_empty() || unknown.is_empty() {
            return Complaints::json(duplicates, unknown, "");
        }
        let mut all: Vec<(&str, usize)> = duplicates.iter().map(|path| (path.as_str(), 1)).collect();
        all.extend(unknown.iter().map(|path| (path.as_str(), 0)));
        json::in_document_order_of(document, &mut all, |place| *place);
        let words = ["unknown", "duplicate"];
        let errors: Vec<String> = all
            .iter()
            .map(|(path, time)| format!("{} field {}", words[*time], go_quote(path)))
            .collect();
        Complaints {
            warnings: errors.clone(),
            errors,
        }
    }

    /// Of a YAML document, whose reader says by itself what was given twice, and where.
    pub fn yaml(duplicates: &[String], unknown: &[String]) -> Complaints {
        let mut complaints = Complaints::default();
        if !duplicates.is_empty() {
            complaints.warnings = duplicates.to_vec();
            complaints.errors.push(format!(
                "yaml: unmarshal errors:\n  {}",
                complaints.warnings.join("\n  ")
            ));
        }
        for field in unknown_fields(unknown) {
            complaints.errors.push(field.clone());
            complaints.warnings.push(field);
        }
        complaints
    }

    pub fn is_empty(&self) -> bool {
        self.errors.is_empty()
    }

    /// All of them as one error: `strict decoding error: …`, or with what a YAML reader says instead.
    pub fn error(&self) -> String {
        self.errors.join(", ")
    }
}

fn unknown_fields(unknown: &[String]) -> impl Iterator<Item = String> {
    unknown.iter().map(|path| format!("unknown field {}", go_quote(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yaml_duplicates_are_one_error() {
        let duplicates = ["line 8: key \"v\" already set in map".to_owned()];
        let complaints = Complaints::yaml(&duplicates, &["spec.un".into()]);
        assert_eq!(
            complaints.warnings,
            ["line 8: key \"v\" already set in map", "unknown field \"spec.un\""]
        );
        assert_eq!(
            complaints.error(),
            "yaml: unmarshal errors:\n  line 8: key \"v\" already set in map, unknown field \"spec.un\""
        );
    }

    #[test]
    fn all_follows_the_document() {
        let document = br#"{"x":1,"m":1,"m":2,"y":1}"#;
        let complaints = Complaints::ordered_json(document, &["m".into()], &["x".into(), "y".into()]);
        assert_eq!(
            complaints.error(),
            r#"unknown field "x", duplicate field "m", unknown field "y""#
        );
    }

    #[test]
    fn json_duplicates_are_told_by_path() {
        let complaints = Complaints::json(&["a.b".into()], &["c".into()], "json patch ");
        assert_eq!(
            complaints.error(),
            "json patch duplicate field \"a.b\", unknown field \"c\""
        );
    }
}
