//! Checks of names, keys and values: each function returns what is wrong, in kube-apiserver's words; empty means valid.
//!
//! Source of the rules and wording: kubernetes/apimachinery pkg/util/validation and pkg/api/validate/content.
// PERFORMANCE: per-request path

pub mod ip;

/// What is wrong with a value; empty when nothing is.
pub type Complaints = Vec<String>;

/// Checks an object's name; `prefix` is true for `generateName`, which may end in a dash.
pub type NameFn = fn(name: &str, prefix: bool) -> Complaints;

const LABEL: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const SUBDOMAIN: &str = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const KEY: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const KEY_WORDS: &str =
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";
const KEY_EXAMPLES: [&str; 3] = ["MyName", "my.name", "123-abc"];
const SUBDOMAIN_WORDS: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character";

// === whole names of objects ===

pub fn name_is_dns_subdomain(name: &str, prefix: bool) -> Complaints {
    masked(name, prefix, is_dns1123_subdomain)
}

pub fn name_is_dns_label(name: &str, prefix: bool) -> Complaints {
    masked(name, prefix, is_dns1123_label)
}

pub fn name_is_dns1035_label(name: &str, prefix: bool) -> Complaints {
    masked(name, prefix, is_dns1035_label)
}

/// Anything that can stand in a URL path (RBAC roles, for example).
pub fn name_is_path_segment(name: &str, prefix: bool) -> Complaints {
    if !prefix && (name == "." || name == "..") {
        return vec![format!("may not be '{name}'")];
    }
    ["/", "%"]
        .iter()
        .filter(|c| name.contains(**c))
        .map(|c| format!("may not contain '{c}'"))
        .collect()
}

/// A generated name gets a suffix, so a dash at the end of its prefix is as good as a letter.
fn masked(name: &str, prefix: bool, check: fn(&str) -> Complaints) -> Complaints {
    match name.strip_suffix('-') {
        Some(head) if prefix && !head.is_empty() => {
            let mut end = head.len() - 1;
            while !head.is_char_boundary(end) {
                end -= 1;
            }
            check(&format!("{}a", &head[..end]))
        }
        _ => check(name),
    }
}

// === DNS ===

pub fn is_dns1123_label(value: &str) -> Complaints {
    let mut complaints = too_long(value, 63, "characters");
    if !dns_label(value, false) {
        complaints.push(if subdomain(value) {
            "must not contain dots".to_owned()
        } else {
            regex_error(
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character",
                LABEL,
                &["my-name", "123-abc"],
            )
        });
    }
    complaints
}

pub fn is_dns1123_subdomain(value: &str) -> Complaints {
    subdomain_in(value, "characters")
}

fn subdomain_in(value: &str, unit: &str) -> Complaints {
    let mut complaints = too_long(value, 253, unit);
    if !subdomain(value) {
        complaints.push(regex_error(SUBDOMAIN_WORDS, SUBDOMAIN, &["example.com"]));
    }
    complaints
}

/// A subdomain whose labels may start with and contain underscores (pods' DNS search paths).
pub fn is_dns1123_subdomain_with_underscore(value: &str) -> Complaints {
    let label = |label: &str| {
        let rest = label.strip_prefix('_').unwrap_or(label);
        ends_are(rest, lower_alphanumeric) && rest.bytes().all(|b| lower_alphanumeric(b) || b == b'-' || b == b'_')
    };
    let mut complaints = too_long(value, 253, "characters");
    if !value.split('.').all(label) {
        complaints.push(regex_error(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must start and end with an alphanumeric character",
            r"_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*",
            &["example.com"],
        ));
    }
    complaints
}

/// A subdomain in either case.
pub fn is_dns1123_subdomain_caseless(value: &str) -> Complaints {
    let mut complaints = too_long(value, 253, "bytes");
    if !subdomain(&value.to_ascii_lowercase()) {
        complaints.push(regex_error(
            "an RFC 1123 subdomain must consist of alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character",
            SUBDOMAIN,
            &["Example.com"],
        ));
    }
    complaints
}

pub fn is_dns1035_label(value: &str) -> Complaints {
    let mut complaints = too_long(value, 63, "characters");
    if !dns_label(value, true) {
        complaints.push(regex_error(
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character",
            "[a-z]([-a-z0-9]*[a-z0-9])?",
            &["my-name", "abc-123"],
        ));
    }
    complaints
}

pub fn is_wildcard_dns1123_subdomain(value: &str) -> Complaints {
    let mut complaints = too_long(value, 253, "characters");
    if !value.strip_prefix("*.").is_some_and(subdomain) {
        complaints.push(regex_error(
            "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character",
            &format!(r"\*\.{SUBDOMAIN}"),
            &["*.example.com"],
        ));
    }
    complaints
}

/// A domain of at least three labels (finalizers of old, condition types).
pub fn is_fully_qualified_name(value: &str) -> Complaints {
    let complaints = is_dns1123_subdomain(value);
    if !complaints.is_empty() {
        return vec![complaints.join(",")];
    }
    if value.split('.').count() < 3 {
        return vec!["should be a domain with at least three segments separated by dots".into()];
    }
    Vec::new()
}

// === keys and values ===

/// A label key, or any other `prefix/name`.
pub fn is_qualified_name(value: &str) -> Complaints {
    let mut complaints = Vec::new();
    let name = match value.split_once('/') {
        None => value,
        Some((_, name)) if name.contains('/') => {
            return vec![format!(
                "a valid label key {} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')",
                regex_error(KEY_WORDS, KEY, &KEY_EXAMPLES)
            )];
        }
        Some(("", name)) => {
            complaints.push("prefix part must be non-empty".into());
            name
        }
        Some((prefix, name)) => {
            complaints.extend(
                subdomain_in(prefix, "bytes")
                    .into_iter()
                    .map(|c| format!("prefix part {c}")),
            );
            name
        }
    };
    if name.is_empty() {
        complaints.push("name part must be non-empty".into());
    }
    complaints.extend(
        too_long(name, 63, "bytes")
            .into_iter()
            .map(|c| format!("name part {c}")),
    );
    if !key(name) {
        complaints.push(format!("name part {}", regex_error(KEY_WORDS, KEY, &KEY_EXAMPLES)));
    }
    complaints
}

pub fn is_valid_label_value(value: &str) -> Complaints {
    let mut complaints = too_long(value, 63, "bytes");
    if !value.is_empty() && !key(value) {
        complaints.push(regex_error(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character",
            &format!("({KEY})?"),
            &["MyValue", "my_value", "12345"],
        ));
    }
    complaints
}

/// A key of a ConfigMap or Secret.
pub fn is_config_map_key(value: &str) -> Complaints {
    let mut complaints = too_long(value, 253, "characters");
    if !non_empty_of(value, |b| b.is_ascii_alphanumeric() || b"-._".contains(&b)) {
        complaints.push(regex_error(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
            "[-._a-zA-Z0-9]+",
            &["key.name", "KEY_NAME", "key-name"],
        ));
    }
    complaints.extend(leaves_directory(value));
    complaints
}

pub fn is_env_var_name(value: &str) -> Complaints {
    let mut complaints = Vec::new();
    let head = |b: u8| b.is_ascii_alphabetic() || b"-._".contains(&b);
    if !value.bytes().next().is_some_and(head) || !value.bytes().all(|b| head(b) || b.is_ascii_digit()) {
        complaints.push(regex_error(
            "a valid environment variable name must consist of alphabetic characters, digits, '_', '-', or '.', and must not start with a digit",
            "[-._a-zA-Z][-._a-zA-Z0-9]*",
            &["my.env-name", "MY_ENV.NAME", "MyEnvName1"],
        ));
    }
    complaints.extend(leaves_directory(value));
    complaints
}

/// What pods accept as names of environment variables.
pub fn is_relaxed_env_var_name(value: &str) -> Complaints {
    let mut complaints = Vec::new();
    if value.is_empty() {
        complaints.push("environment variable name must be non-empty".into());
    }
    if !value.bytes().all(|b| (0x20..0x7f).contains(&b) && b != b'=') {
        complaints.push(
            "a valid environment variable name must consist only of printable ASCII characters other than '='".into(),
        );
    }
    complaints
}

pub fn is_http_header_name(value: &str) -> Complaints {
    match non_empty_of(value, |b| b.is_ascii_alphanumeric() || b == b'-') {
        true => Vec::new(),
        false => vec![regex_error(
            "a valid HTTP header must consist of alphanumeric characters or '-'",
            "[-A-Za-z0-9]+",
            &["X-Header-Name"],
        )],
    }
}

pub fn is_c_identifier(value: &str) -> Complaints {
    let head = |b: u8| b.is_ascii_alphabetic() || b == b'_';
    match value.bytes().next().is_some_and(head) && value.bytes().all(|b| head(b) || b.is_ascii_digit()) {
        true => Vec::new(),
        false => vec![regex_error(
            "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_'",
            "[A-Za-z_][A-Za-z0-9_]*",
            &["my_name", "MY_NAME", "MyName"],
        )],
    }
}

/// `reason` of a condition.
pub fn is_condition_reason(value: &str) -> Complaints {
    let bytes = value.as_bytes();
    let inner = |b: u8| b.is_ascii_alphanumeric() || b"_,:".contains(&b);
    let valid = bytes.first().is_some_and(u8::is_ascii_alphabetic)
        && bytes.last().is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_')
        && bytes.iter().all(|b| inner(*b));
    match valid {
        true => Vec::new(),
        false => vec![regex_error(
            "a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric characters or '_,:', and must end with an alphanumeric character or '_'",
            "[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?",
            &["my_name", "MY_NAME", "MyName", "ReasonA,ReasonB", "ReasonA:ReasonB"],
        )],
    }
}

// === numbers ===

pub fn is_in_range(value: i64, low: i64, high: i64) -> Complaints {
    match (low..=high).contains(&value) {
        true => Vec::new(),
        false => vec![format!("must be between {low} and {high}, inclusive")],
    }
}

pub fn is_valid_port_num(port: i64) -> Complaints {
    is_in_range(port, 1, 65535)
}

pub fn is_valid_user_id(id: i64) -> Complaints {
    is_in_range(id, 0, i32::MAX.into())
}

pub fn is_valid_group_id(id: i64) -> Complaints {
    is_in_range(id, 0, i32::MAX.into())
}

pub fn is_valid_port_name(port: &str) -> Complaints {
    let mut complaints = too_long(port, 15, "characters");
    if !non_empty_of(port, |b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        complaints.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".into());
    }
    if !port.bytes().any(|b| b.is_ascii_lowercase()) {
        complaints.push("must contain at least one letter (a-z)".into());
    }
    if port.contains("--") {
        complaints.push("must not contain consecutive hyphens".into());
    }
    if port.starts_with('-') || port.ends_with('-') {
        complaints.push("must not begin or end with a hyphen".into());
    }
    complaints
}

pub fn is_percent(value: &str) -> Complaints {
    match value
        .strip_suffix('%')
        .is_some_and(|n| non_empty_of(n, |b| b.is_ascii_digit()))
    {
        true => Vec::new(),
        false => vec![regex_error(
            "a valid percent string must be a numeric string followed by an ending '%'",
            "[0-9]+%",
            &["1%", "93%"],
        )],
    }
}

/// A field manager's name: its length is checked elsewhere, here that one can print it.
pub fn unprintable(value: &str) -> Complaints {
    value
        .char_indices()
        .filter(|(_, c)| c.is_control() || (c.is_whitespace() && *c != ' '))
        .map(|(at, c)| format!("invalid character U+{:04X} (at position {at})", c as u32))
        .collect()
}

// === words ===

/// The message of a value that does not match `pattern`.
pub fn regex_error(words: &str, pattern: &str, examples: &[&str]) -> String {
    if examples.is_empty() {
        return format!("{words} (regex used for validation is '{pattern}')");
    }
    let examples: Vec<String> = examples.iter().map(|e| format!("'{e}', ")).collect();
    format!(
        "{words} (e.g. {}regex used for validation is '{pattern}')",
        examples.join(" or ")
    )
}

fn too_long(value: &str, limit: usize, unit: &str) -> Complaints {
    match value.len() > limit {
        true => vec![format!("must be no more than {limit} {unit}")],
        false => Vec::new(),
    }
}

fn leaves_directory(value: &str) -> Option<String> {
    match value {
        "." | ".." => Some(format!("must not be '{value}'")),
        _ if value.starts_with("..") => Some("must not start with '..'".into()),
        _ => None,
    }
}

// === grammar ===

fn lower_alphanumeric(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

fn ends_are(value: &str, good: fn(u8) -> bool) -> bool {
    let bytes = value.as_bytes();
    bytes.first().is_some_and(|b| good(*b)) && bytes.last().is_some_and(|b| good(*b))
}

fn dns_label(value: &str, alphabetic_start: bool) -> bool {
    ends_are(value, lower_alphanumeric)
        && value.bytes().all(|b| lower_alphanumeric(b) || b == b'-')
        && !(alphabetic_start && value.as_bytes()[0].is_ascii_digit())
}

fn subdomain(value: &str) -> bool {
    value.split('.').all(|label| dns_label(label, false))
}

fn key(value: &str) -> bool {
    ends_are(value, |b| b.is_ascii_alphanumeric())
        && value.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

fn non_empty_of(value: &str, good: impl Fn(u8) -> bool) -> bool {
    !value.is_empty() && value.bytes().all(good)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_read_as_upstream() {
        let cases: &[(Complaints, &[&str])] = &[
            (is_dns1123_label("a-b"), &[]),
            (is_dns1123_label("a.b"), &["must not contain dots"]),
            (
                is_dns1123_label("A"),
                &[
                    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
                ],
            ),
            (
                is_dns1123_subdomain(""),
                &[
                    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
                ],
            ),
            (
                is_qualified_name("A/B/C"),
                &[
                    "a valid label key must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')",
                ],
            ),
            (is_qualified_name("/x"), &["prefix part must be non-empty"]),
            (
                is_valid_label_value(&"x".repeat(64)),
                &["must be no more than 63 bytes"],
            ),
            (is_valid_label_value(""), &[]),
            (
                is_valid_port_name("-"),
                &[
                    "must contain at least one letter (a-z)",
                    "must not begin or end with a hyphen",
                ],
            ),
            (is_config_map_key(".."), &["must not be '..'"]),
            (
                name_is_path_segment("a/b%", false),
                &["may not contain '/'", "may not contain '%'"],
            ),
            (name_is_path_segment("..", false), &["may not be '..'"]),
            (is_percent("5%"), &[]),
            (is_valid_port_num(0), &["must be between 1 and 65535, inclusive"]),
        ];
        for (got, expected) in cases {
            assert_eq!(got, expected);
        }
    }

    #[test]
    fn a_prefix_may_end_in_a_dash() {
        assert!(name_is_dns_label("gen-", true).is_empty());
        assert!(!name_is_dns_label("gen-", false).is_empty());
        assert!(!name_is_dns_label("-", true).is_empty());
        assert!(
            name_is_dns_label("é-", true).is_empty(),
            "upstream masks the letter before the dash too"
        );
    }
}
