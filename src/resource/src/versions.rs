//! Objects between the versions of a resource, for those who look at them on the way to the store (admission).
// PERFORMANCE: per-request path

use crate::definition::{Conversion, ResourceDefinition};
use crate::{body, convert, typed};
use fairlead_api::field::go_quote;
use fairlead_api::{GroupVersionKind, Node, Status, StatusResult, json};
use fairlead_patch::configuration;
use fairlead_schema as schema;

/// An object of `from`'s version in `to`'s.
///
/// # Errors
/// What a conversion webhook answers.
pub async fn between(from: &ResourceDefinition, object: Node, to: &ResourceDefinition) -> StatusResult<Node> {
    if let Conversion::Webhook(converter) = &from.conversion {
        let mut converted = converter.convert(vec![object], &to.group_version().to_string()).await?;
        return converted
            .pop()
            .ok_or_else(|| Status::internal("the conversion lost the object"));
    }
    let stored = convert::to_stored(from, object).await?;
    if convert::is_stored_version(to) {
        return Ok(stored);
    }
    let mut objects = convert::nodes_to_request(to, vec![stored]).await?;
    objects
        .pop()
        .ok_or_else(|| Status::internal("the conversion lost the object"))
}

/// Reads an object that somebody changed as if it came from a client: types are checked, defaults filled in.
/// `kind` is the resource's, or the one of a subresource. Answers the paths of fields that are not known, and are gone.
/// An object of another kind is left as it is: see [`settle`]. `registered` knows the other kinds there are.
///
/// # Errors
/// Go's words for what cannot be read.
pub fn reread(
    object: &mut Node,
    definition: &ResourceDefinition,
    kind: &GroupVersionKind,
    registered: &dyn Fn(&GroupVersionKind) -> Option<schema::Schema>,
) -> Result<Vec<String>, String> {
    interpret(object)?;
    if definition.is_custom() && *kind == definition.gvk() {
        if object.str("kind").is_empty() {
            return Err(format!("Object 'Kind' is missing in '{}'", json::to_string(object)));
        }
        // Read without a type; what is wrong with it is found by validation.
        typed::prune(object, definition);
        typed::default(object, definition);
        return Ok(Vec::new());
    }
    for (field, value) in [
        ("kind", kind.kind.to_string()),
        ("apiVersion", kind.group_version().to_string()),
    ] {
        if object.str(field).is_empty() {
            object.set(field, value);
        }
    }
    let given = object.type_meta();
    if given != *kind {
        let Some(other) = registered(&given) else {
            let (given, version) = (go_quote(object.str("kind")), go_quote(object.str("apiVersion")));
            return Err(format!(
                "no kind {given} is registered for version {version} in scheme \"pkg/api/legacyscheme/scheme.go:30\""
            ));
        };
        return typed::decode(object, &other, false, None);
    }
    if *kind == definition.gvk() {
        let unknown = typed::decode(object, &definition.schema, false, None)?;
        if matches!(object.at(&["metadata", "managedFields"]), Some(Node::List(owners)) if owners.is_empty()) {
            object.remove_at(&["metadata", "managedFields"]);
        }
        typed::default(object, definition);
        return Ok(unknown);
    }
    let Some(schema) = subresource_schema(definition, kind) else {
        return Ok(Vec::new());
    };
    let unknown = typed::decode(object, schema, false, None)?;
    schema::set_defaults(object, schema.root());
    Ok(unknown)
}

/// Go finds out first what a document says it is.
fn interpret(object: &Node) -> Result<(), String> {
    const UNREADABLE: &str = "couldn't get version/kind; json parse error:";
    if !matches!(object, Node::Map(_) | Node::Null) {
        return Err(format!("{UNREADABLE} {}", body::not_an_object(object)));
    }
    for field in ["apiVersion", "kind"] {
        if let Some(odd) = object.get(field).filter(|v| !v.is_null() && v.as_str().is_none()) {
            let given = body::go_kind(odd);
            return Err(format!(
                "{UNREADABLE} json: cannot unmarshal {given} into Go struct field .{field} of type string"
            ));
        }
    }
    Ok(())
}

/// An object that somebody changed, in the version and of the kind it is to have.
///
/// # Errors
/// Where it is something else. COMPAT: without a reason, as upstream's converter fails.
pub async fn settle(mut object: Node, definition: &ResourceDefinition, kind: &GroupVersionKind) -> StatusResult<Node> {
    let given = object.type_meta();
    let (from, to) = (given.group_version(), kind.group_version());
    let is_own = *kind == definition.gvk();
    if given == *kind || (definition.is_custom() && is_own && from == to) {
        return Ok(object);
    }
    let failed = |why: String| Status::new(500, "", why);
    let version = to.to_string();
    if !definition.is_custom() || !is_own {
        let converts = match &definition.conversion {
            Conversion::Builtin(_) => true,
            _ => from.group == to.group,
        };
        if !is_own || !converts || given.kind != kind.kind {
            return Err(failed(body::unknown_conversion(definition, &given, kind)));
        }
        if let Conversion::Builtin(convert) = &definition.conversion {
            convert(&mut object, &version);
        }
        object.set("apiVersion", version);
        typed::complete(&mut object, definition);
        return Ok(object);
    }
    if from.group != to.group {
        return Err(failed(format!(
            "{given} is unstructured and is not suitable for converting to {}",
            go_quote(&version)
        )));
    }
    if definition.schema_of(&from.version).is_none() {
        return Err(failed(format!(
            "request to convert CR from an invalid group/version: {from}"
        )));
    }
    if let Conversion::Webhook(converter) = &definition.conversion {
        let mut converted = converter.convert(vec![object], &version).await?;
        return converted
            .pop()
            .ok_or_else(|| Status::internal("the conversion lost the object"));
    }
    object.set("apiVersion", version);
    Ok(object)
}

/// `object` with an apply configuration merged into it. `kind` is the resource's, or the one of a subresource.
///
/// # Errors
/// What structured-merge-diff says.
pub fn configure(
    object: &Node,
    config: &Node,
    definition: &ResourceDefinition,
    kind: &GroupVersionKind,
) -> Result<Node, String> {
    let schema = match *kind == definition.gvk() {
        true => Some(&definition.schema),
        false => subresource_schema(definition, kind),
    };
    match schema {
        Some(schema) => configuration::apply(object, config, schema.root()),
        None => Err(format!("no schema is known of {}", kind.kind)),
    }
}

fn subresource_schema<'d>(definition: &'d ResourceDefinition, kind: &GroupVersionKind) -> Option<&'d schema::Schema> {
    let mut subresources = definition.subresources.iter();
    subresources
        .find(|subresource| subresource.kind == *kind)?
        .schema
        .as_ref()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::Origin;
    use fairlead_api::node;
    use futures_util::FutureExt;

    fn definition(custom: bool) -> ResourceDefinition {
        let mut definition = crate::tests::definition();
        if custom {
            definition.origin = Origin::Custom("gadgets.example.test".into());
            definition.schemas = ["v1", "v2"].map(|v| (v.into(), definition.schema.clone())).into();
        }
        definition
    }

    fn gadget(version: &str, kind: &str) -> Node {
        let mut object = node!({"metadata": {"name": "a"}});
        object.set("apiVersion", version);
        object.set("kind", kind);
        object
    }

    fn read(mut object: Node, custom: bool) -> Result<(Vec<String>, Node), String> {
        let definition = definition(custom);
        let registered = |kind: &GroupVersionKind| (kind.kind == "Known").then(|| definition.schema.clone());
        let unknown = reread(&mut object, &definition, &definition.gvk(), &registered)?;
        Ok((unknown, object))
    }

    #[test]
    fn what_somebody_made_of_an_object_is_read_as_go_reads_it() {
        let mut object = gadget("example.test/v1", "Gadget");
        object.set_at(&["spec", "nope"], 1);
        let (unknown, object) = read(object, false).unwrap();
        assert_eq!(
            (unknown, object.at(&["spec", "nope"])),
            (vec!["spec.nope".to_owned()], None)
        );
        let why = |object: Node, custom| read(object, custom).unwrap_err();
        for custom in [false, true] {
            assert!(why(node!([1]), custom).starts_with(
                "couldn't get version/kind; json parse error: json: cannot unmarshal array into Go value of type struct {"
            ));
            assert_eq!(
                why(node!({"kind": 5}), custom),
                "couldn't get version/kind; json parse error: json: cannot unmarshal number into Go struct field .kind of \
                 type string"
            );
        }
        assert_eq!(why(node!({"a": 1}), true), "Object 'Kind' is missing in '{\"a\":1}'");
        assert!(why(gadget("v1", "Nope"), false).starts_with("no kind \"Nope\" is registered for version \"v1\""));
        let mut known = gadget("v1", "Known");
        known.set("metadata", "x");
        assert!(why(known, false).starts_with("json: cannot unmarshal string into Go struct field"));
        assert!(read(gadget("v1", "Known"), false).is_ok());
    }

    #[test]
    fn labels_of_a_custom_object_that_are_no_texts_are_lost() {
        let mut object = gadget("example.test/v1", "Gadget");
        object.set_at(&["metadata", "labels"], node!({"n": 5}));
        let (_, object) = read(object, true).unwrap();
        assert_eq!((object.labels(), object.name()), (None, "a"));
    }

    #[test]
    fn an_object_becomes_what_the_request_is_about_or_says_why_not() {
        let told = |object: Node, custom: bool| {
            let definition = definition(custom);
            let settled = settle(object, &definition, &definition.gvk())
                .now_or_never()
                .expect("nothing waits");
            settled
                .map(|object| object.str("apiVersion").to_owned())
                .map_err(|status| (status.code(), status.message().to_owned()))
        };
        assert_eq!(
            told(gadget("example.test/v2", "Gadget"), true),
            Ok("example.test/v1".into())
        );
        for (object, custom, why) in [
            (
                gadget("other/v1", "Gadget"),
                true,
                "other/v1, Kind=Gadget is unstructured and is not suitable for converting to \"example.test/v1\"",
            ),
            (
                gadget("example.test/v9", "Gadget"),
                true,
                "request to convert CR from an invalid group/version: example.test/v9",
            ),
            (
                gadget("v1", "Known"),
                false,
                "converting (v1.Known) to (example.Gadget): unknown conversion",
            ),
        ] {
            assert_eq!(told(object, custom), Err((500, why.to_owned())));
        }
    }
}
