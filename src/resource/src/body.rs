//! Bodies: from bytes to a [`Node`], and from a node to an object of the request's kind.
// PERFORMANCE: per-request path

pub mod protobuf;

use crate::call::Call;
use crate::definition::ResourceDefinition;
use crate::options::FieldValidation;
use crate::request::Body;
use crate::strict::Complaints;
use fairlead_api::field::go_quote;
use fairlead_api::json::{self, Parsed};
use fairlead_api::{GroupVersion, GroupVersionKind, Node, Status, StatusResult};
use fairlead_codec::protobuf::Protobuf;
use fairlead_codec::yaml;
use fairlead_schema::Schema;

/// What is known about kinds besides the request's own: decides the words for a body of another kind.
pub trait Scheme: Send + Sync {
    /// The schema of a registered built-in kind; `None` for unknown ones.
    fn schema(&self, kind: &GroupVersionKind) -> Option<Schema>;

    /// The protobuf form of built-in kinds; `None` where bodies are never protobuf.
    fn protobuf(&self) -> Option<&Protobuf> {
        None
    }

    /// The name of the registry that `definition_kind` belongs to, as errors show it.
    fn name(&self, definition_kind: &GroupVersionKind) -> &str;

    /// Whether both are versions of one kind (`extensions/v1beta1` and `apps/v1` Deployments).
    fn same(&self, one: &GroupVersionKind, other: &GroupVersionKind) -> bool {
        one.group == other.group && one.kind == other.kind
    }
}

/// Knows no kinds.
pub struct NoScheme;

impl Scheme for NoScheme {
    fn schema(&self, _: &GroupVersionKind) -> Option<Schema> {
        None
    }

    fn name(&self, _: &GroupVersionKind) -> &str {
        "pkg/api/legacyscheme/scheme.go:30"
    }
}

/// Reads a body of JSON or YAML, whatever stands in it.
///
/// # Errors
/// Go's words.
pub fn parse(body: &Body) -> Result<Parsed, String> {
    if is_yaml(&body.media_type) {
        yaml::parse_strict(&body.bytes).map_err(|error| yaml_message(&error))
    } else {
        json::parse_strict(&body.bytes).map_err(|error| error.to_string())
    }
}

fn unknown_members(node: &Node) -> Vec<String> {
    let members = node.as_map().into_iter().flat_map(|members| members.keys());
    members
        .filter(|key| !matches!(key.as_str(), "apiVersion" | "kind" | "metadata"))
        .map(ToString::to_string)
        .collect()
}

fn yaml_message(error: &yaml::Error) -> String {
    let text = error.to_string();
    text.strip_prefix("error converting YAML to JSON: ")
        .map(String::from)
        .unwrap_or(text)
}

/// Reads the body of a create or an update: parses it, checks its version and kind against `expected`, coerces it to
/// `schema` and reports unknown and duplicate fields as `validation` says. Defaults are not applied yet.
pub fn decode(
    call: &mut Call,
    expected: &GroupVersionKind,
    schema: &Schema,
    validation: FieldValidation,
) -> StatusResult<Node> {
    let body = &call.request.body;
    let unrecognized = |why: &str| {
        let summary = summary(&body.bytes);
        Status::bad_request(format!(
            "the object provided is unrecognized (must be of type {}): {why} ({summary})",
            expected.kind
        ))
    };
    if body.media_type == protobuf::MEDIA_TYPE {
        return protobuf::decode(call, expected, schema);
    }
    check_media_type(&body.media_type)?;
    let yaml = is_yaml(&body.media_type);
    let parsed = parse(body).map_err(|why| {
        unrecognized(&if yaml {
            why
        } else {
            format!("couldn't get version/kind; json parse error: {why}")
        })
    })?;
    let mut node = parsed.node;
    if node.is_null() {
        node = Node::map();
    }
    if !matches!(node, Node::Map(_)) {
        return Err(unrecognized(&format!(
            "couldn't get version/kind; json parse error: {}",
            not_an_object(&node)
        )));
    }
    let actual = actual_kind(call, &node, expected).map_err(|why| unrecognized(&why))?;
    let cannot = |why: &str| {
        Status::bad_request(format!(
            "{} in version {} cannot be handled as a {}: {why}",
            actual.kind,
            go_quote(&actual.version),
            expected.kind
        ))
    };
    if actual != *expected {
        check_other_kind(call, &mut node, &actual, expected).map_err(|why| cannot(&why))?;
        if !call.definition.is_custom() || actual.group_version() != expected.group_version() {
            let known = actual.group == expected.group && actual.kind == expected.kind;
            if call.definition.is_custom() && known && validation != FieldValidation::Ignore {
                // COMPAT: of a version that the resource does not have only the metadata is known.
                let unknown = match call.engine.config.scheme.schema(&actual) {
                    None => unknown_members(&node),
                    Some(schema) => crate::typed::decode(&mut node, &schema, true, None).map_err(|why| cannot(&why))?,
                };
                let strict = match yaml {
                    true => Complaints::yaml(&parsed.duplicates, &unknown),
                    false => Complaints::json(&parsed.duplicates, &unknown, ""),
                };
                if !strict.is_empty() && validation == FieldValidation::Strict {
                    return Err(cannot(&format!("strict decoding error: {}", strict.error())));
                }
                call.warnings.extend(strict.warnings);
            }
            return Err(Status::bad_request(format!(
                "the API version in the data ({}) does not match the expected API version ({})",
                actual.group_version(),
                expected.group_version()
            )));
        }
    }
    let decoded = {
        let document = (!yaml).then_some(&body.bytes[..]);
        crate::typed::decode(&mut node, schema, call.definition.is_custom(), document).map_err(|why| cannot(&why))?
    };
    if validation != FieldValidation::Ignore {
        let duplicates = known_duplicates(parsed.duplicates, schema, call.definition.is_custom() || yaml);
        let strict = match (yaml, call.definition.is_custom()) {
            (true, _) => Complaints::yaml(&duplicates, &decoded),
            (false, true) => Complaints::json(&duplicates, &decoded, ""),
            (false, false) => Complaints::ordered_json(&body.bytes, &duplicates, &decoded),
        };
        if !strict.is_empty() && validation == FieldValidation::Strict {
            return Err(cannot(&format!("strict decoding error: {}", strict.error())));
        }
        call.warn_all(strict.warnings);
    }
    node.set("apiVersion", actual.group_version().to_string());
    node.set("kind", actual.kind.as_str());
    Ok(node)
}

/// The duplicates that a strict decoder notices: for built-in kinds those within declared fields.
fn known_duplicates(duplicates: Vec<String>, schema: &Schema, all: bool) -> Vec<String> {
    if all || duplicates.is_empty() {
        duplicates
    } else {
        fairlead_schema::known_duplicates(duplicates, schema.root())
    }
}

/// Whether bodies of this media type are YAML.
pub fn is_yaml(media_type: &str) -> bool {
    media_type == "application/yaml" || media_type == "application/apply-patch+yaml"
}

fn check_media_type(media_type: &str) -> StatusResult<()> {
    match media_type {
        "" | "application/json" | "application/yaml" => Ok(()),
        _ => Err(Status::unsupported_media_type(
            "the body of the request was in an unknown format - accepted media types include: application/json, \
             application/yaml, application/vnd.kubernetes.protobuf",
        )),
    }
}

/// The body's version and kind, completed by what is expected.
fn actual_kind(call: &Call, node: &Node, expected: &GroupVersionKind) -> Result<GroupVersionKind, String> {
    let text = |key: &str| match node.get(key) {
        None | Some(Node::Null) => Ok(""),
        Some(Node::String(s)) => Ok(s.as_str()),
        Some(other) => Err(format!(
            "couldn't get version/kind; json parse error: json: cannot unmarshal {} into Go struct field .{key} of type string",
            go_kind(other)
        )),
    };
    let (version, kind) = (text("apiVersion")?, text("kind")?);
    if call.definition.is_custom() && kind.is_empty() {
        let text = String::from_utf8_lossy(&call.request.body.bytes);
        return Err(format!("Object 'Kind' is missing in '{text}'"));
    }
    let gv = GroupVersion::parse(version).ok_or_else(|| format!("unexpected GroupVersion string: {version}"))?;
    let mut actual = gv.kind(kind);
    if actual.kind.is_empty() {
        actual.kind = expected.kind.clone();
    }
    if !call.definition.is_custom()
        && actual.version.is_empty()
        && (actual.group.is_empty() || actual.group == expected.group)
    {
        actual.group = expected.group.clone();
        actual.version = expected.version.clone();
    }
    Ok(actual)
}

/// Why a document of another kind or version than `expected` cannot be one; `None` where its version cannot be read.
pub fn other_kind(call: &Call, node: &mut Node, expected: &GroupVersionKind) -> Option<Result<(), String>> {
    let gv = GroupVersion::parse(node.str("apiVersion"))?;
    let kind = node.str("kind");
    let actual = gv.kind(if kind.is_empty() { &expected.kind } else { kind });
    Some(check_other_kind(call, node, &actual, expected))
}

/// A body of another kind or version: why it cannot be one of the expected kind, if it cannot.
fn check_other_kind(
    call: &Call,
    node: &mut Node,
    actual: &GroupVersionKind,
    expected: &GroupVersionKind,
) -> Result<(), String> {
    if call.definition.is_custom() {
        return Ok(());
    }
    let scheme = &call.engine.config.scheme;
    let Some(schema) = scheme.schema(actual) else {
        return Err(not_registered(call, actual, expected));
    };
    crate::typed::decode(node, &schema, false, None)?;
    if scheme.same(actual, expected) {
        return Ok(());
    }
    Err(unknown_conversion(call.definition, actual, expected))
}

fn not_registered(call: &Call, actual: &GroupVersionKind, expected: &GroupVersionKind) -> String {
    format!(
        "no kind {} is registered for version {} in scheme {}",
        go_quote(&actual.kind),
        go_quote(&actual.group_version().to_string()),
        go_quote(call.engine.config.scheme.name(expected))
    )
}

/// What upstream's converter says of an object of one kind that should be one of another.
pub fn unknown_conversion(
    definition: &ResourceDefinition,
    actual: &GroupVersionKind,
    expected: &GroupVersionKind,
) -> String {
    let group = definition.hooks.group_in_errors().unwrap_or(&expected.group);
    let package = if group.is_empty() {
        "core"
    } else {
        group.split('.').next().unwrap_or("")
    };
    format!(
        "converting ({}.{}) to ({package}.{}): unknown conversion",
        actual.version, actual.kind, expected.kind
    )
}

/// What Go says of a document that is no object when it asks it for its kind.
pub fn not_an_object(node: &Node) -> String {
    format!(
        "json: cannot unmarshal {} into Go value of type struct {{ APIVersion string \
         \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }}",
        go_kind(node)
    )
}

/// The start of a body as errors show it: text where it looks like JSON, hexadecimal otherwise.
fn summary(bytes: &[u8]) -> String {
    const MAX: usize = 30;
    let shown = &bytes[..bytes.len().min(MAX)];
    let more = if bytes.len() > MAX { " ..." } else { "" };
    match bytes.first() {
        None => "<empty>".into(),
        Some(b'{') => format!("{}{more}", String::from_utf8_lossy(shown)),
        Some(_) => format!("{}{more}", shown.iter().map(|b| format!("{b:02x}")).collect::<String>()),
    }
}

/// What Go's decoder calls a value's type.
pub fn go_kind(node: &Node) -> &'static str {
    match node {
        Node::Bool(_) => "bool",
        Node::Int(_) | Node::Float(_) => "number",
        other => other.type_name(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_shown_by_their_start() {
        assert_eq!(summary(b""), "<empty>");
        assert_eq!(summary(b"{\"a\":1}"), "{\"a\":1}");
        assert_eq!(summary(b"[]"), "5b5d");
        assert_eq!(summary(&[b'{'; 31]), format!("{} ...", "{".repeat(30)));
    }
}
