//! What strict decoding complains about: fields given twice and fields that are not known.
// PERFORMANCE: per-request path

use fairlead_api::field::go_quote;

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

    /// Of a YAML document, whose duplicates are told by line.
    pub fn yaml(document: &[u8], duplicates: &[String], unknown: &[String]) -> Complaints {
        let mut complaints = Complaints::default();
        if !duplicates.is_empty() {
            complaints.warnings = lines(document, duplicates);
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

/// `line 7: key "v" already set in map`, for each duplicate: the first line that repeats the key in its block.
fn lines(document: &[u8], duplicates: &[String]) -> Vec<String> {
    let text = String::from_utf8_lossy(document);
    let mut used = Vec::new();
    let told = duplicates.iter().map(|path| {
        let key = path.rsplit(['.', ']']).next().unwrap_or(path);
        let line = repeated(&text, key, &used).unwrap_or(1);
        used.push(line);
        format!("line {line}: key {} already set in map", go_quote(key))
    });
    told.collect()
}

fn repeated(text: &str, key: &str, used: &[usize]) -> Option<usize> {
    // Indentations at which the key stands already, outermost first.
    let mut seen: Vec<usize> = Vec::new();
    for (i, line) in text.lines().enumerate() {
        let content = line.trim_start_matches([' ', '-']);
        if content.is_empty() || content.starts_with('#') {
            continue;
        }
        let indent = line.len() - content.len();
        let new_item = line.trim_start().starts_with("- ");
        seen.retain(|at| *at < indent || (*at == indent && !new_item));
        let name = content.split(':').next().unwrap_or("").trim_matches(['"', '\'', ' ']);
        if name == key && content.contains(':') {
            if seen.contains(&indent) && !used.contains(&(i + 1)) {
                return Some(i + 1);
            }
            seen.push(indent);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yaml_duplicates_are_told_by_line() {
        let document = b"kind: A\nspec:\n  v: 1\n  list:\n  - v: 1\n    w: 1\n  - v: 2\n  v: 2\n";
        let complaints = Complaints::yaml(document, &["spec.v".into()], &["spec.un".into()]);
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
    fn json_duplicates_are_told_by_path() {
        let complaints = Complaints::json(&["a.b".into()], &["c".into()], "json patch ");
        assert_eq!(
            complaints.error(),
            "json patch duplicate field \"a.b\", unknown field \"c\""
        );
    }
}
