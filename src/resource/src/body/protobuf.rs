//! Protobuf bodies of built-in kinds. They have no unknown fields or duplicates to complain of.
// PERFORMANCE: per-request path

use super::{not_registered, summary, unknown_conversion};
use crate::call::Call;
use fairlead_api::field::go_quote;
use fairlead_api::{GroupVersion, GroupVersionKind, Node, Status, StatusResult};
use fairlead_codec::protobuf::envelope;
use fairlead_schema::{self as schema, Schema};

/// The media type of such bodies.
pub const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";

/// What custom resources answer: their objects have no protobuf form.
const NO_MESSAGE: &str = "object *unstructured.Unstructured does not implement the protobuf marshalling interface and \
                          cannot be encoded to a protobuf message";

/// Reads the body of a create or an update, as [`super::decode`] does.
pub fn decode(call: &Call, expected: &GroupVersionKind, schema: &Schema) -> StatusResult<Node> {
    let bytes = &call.request.body.bytes;
    let document = envelope::open(bytes).map_err(|why| {
        let (kind, summary) = (&expected.kind, summary(bytes));
        Status::bad_request(format!(
            "the object provided is unrecognized (must be of type {kind}): {why} ({summary})"
        ))
    })?;
    let actual = named_kind(&document, expected);
    let cannot = |why: String| {
        let version = go_quote(&actual.version);
        Status::bad_request(format!(
            "{} in version {version} cannot be handled as a {}: {why}",
            actual.kind, expected.kind
        ))
    };
    let scheme = &call.engine.config.scheme;
    let protobuf = scheme.protobuf().filter(|_| !call.definition.is_custom());
    let protobuf = protobuf.ok_or_else(|| cannot(NO_MESSAGE.into()))?;
    let read = |root| {
        protobuf
            .decode(document.message, root)
            .map_err(|error| cannot(error.to_string()))
    };
    if actual != *expected {
        let other = protobuf
            .message(&actual.group, &actual.version, &actual.kind)
            .ok_or_else(|| cannot(not_registered(call, &actual, expected)))?;
        read(other)?;
        if !scheme.same(&actual, expected) {
            return Err(cannot(unknown_conversion(call.definition, &actual, expected)));
        }
        return Err(Status::bad_request(format!(
            "the API version in the data ({}) does not match the expected API version ({})",
            actual.group_version(),
            expected.group_version()
        )));
    }
    let mut node = read(schema.root)?;
    schema::complete(&mut node, schema.root());
    node.set("apiVersion", actual.group_version().to_string());
    node.set("kind", actual.kind.as_str());
    Ok(node)
}

/// The kind an envelope names; what it leaves open is as expected. COMPAT: so is a version that cannot be read.
fn named_kind(document: &envelope::Document, expected: &GroupVersionKind) -> GroupVersionKind {
    let kind = match document.kind.as_str() {
        "" => &expected.kind,
        kind => kind,
    };
    GroupVersion::parse(&document.api_version)
        .filter(|gv| !gv.version.is_empty())
        .unwrap_or_else(|| expected.group_version())
        .kind(kind)
}
