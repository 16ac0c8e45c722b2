//! What custom resources must be: their schema, their scale, their rules.
//!
//! Source: apiextensions-apiserver pkg/registry/customresource/{strategy,status_strategy,validator}.go.
// PERFORMANCE: per-request path

use fairlead_api::field::go_float;
use fairlead_api::name::is_qualified_name;
use fairlead_api::{FieldError, FieldErrors, FieldPath, Node};
use fairlead_resource::definition::{ResourceDefinition, SubresourceBehavior};
use fairlead_schema::{RuleEvaluator, validate_embedded, validate_keywords, validate_lists, validate_rules};

/// Which part of an object is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Whole,
    Status,
}

/// Appends what is wrong with an object, beside its metadata, whose errors are there already.
pub fn check(
    object: &Node,
    old: Option<&Node>,
    part: Part,
    definition: &ResourceDefinition,
    rules: Option<&mut dyn RuleEvaluator>,
    errors: &mut FieldErrors,
) {
    if let Some(found) = type_errors(object, definition) {
        *errors = found;
        return;
    }
    let (schema, root) = (definition.schema.root(), FieldPath::root());
    match part {
        Part::Whole => errors.extend(validate_keywords(object, old, schema, &root)),
        Part::Status => {
            if let (Some(status), Some(member)) = (object.get("status"), schema.member("status")) {
                let old = old.and_then(|o| o.get("status"));
                errors.extend(validate_keywords(status, old, member, &FieldPath::new("status")));
            }
        }
    }
    scale(object, part, definition, errors);
    if part == Part::Whole {
        validate_embedded(object, schema, &root, errors);
    }
    validate_lists(object, old, schema, &root, errors);
    if let Some(rules) = rules {
        validate_rules(object, old, schema, &root, rules, errors);
    }
}

fn type_errors(object: &Node, definition: &ResourceDefinition) -> Option<FieldErrors> {
    let mut errors = FieldErrors::new();
    let mut must_be = |field: &str, wanted: &str| {
        let found = object.str(field);
        if found != wanted {
            errors.push(FieldError::invalid(
                &FieldPath::new(field),
                found,
                format!("must be {wanted}"),
            ));
        }
    };
    must_be("kind", &definition.kind);
    must_be("apiVersion", &definition.group_version().to_string());
    (!errors.is_empty()).then_some(errors)
}

/// What the scale subresource reads must be readable.
fn scale(object: &Node, part: Part, definition: &ResourceDefinition, errors: &mut FieldErrors) {
    for subresource in &definition.subresources {
        let SubresourceBehavior::Scale {
            spec_replicas,
            status_replicas,
            label_selector,
        } = &subresource.behavior
        else {
            continue;
        };
        if part == Part::Whole {
            replicas(object, spec_replicas, errors);
        }
        replicas(object, status_replicas, errors);
        if !label_selector.is_empty()
            && let Err(why) = nested(object, label_selector, "string", |n| n.as_str().is_some())
        {
            errors.push(FieldError::invalid(&FieldPath::new(label_selector.as_str()), "", why));
        }
    }
}

fn replicas(object: &Node, json_path: &str, errors: &mut FieldErrors) {
    // COMPAT: the path is shown with its leading dot.
    let path = FieldPath::new(json_path);
    let is_int = |n: &Node| matches!(n, Node::Int(_));
    match nested(object, json_path, "int64", is_int) {
        Err(why) => errors.push(FieldError::invalid(&path, 0i64, why)),
        Ok(found) => match found.and_then(Node::as_i64).unwrap_or(0) {
            count if count < 0 => {
                errors.push(FieldError::invalid(&path, count, "should be a non-negative integer"));
            }
            count if count > i64::from(i32::MAX) => {
                let detail = format!("should be less than or equal to {}", i32::MAX);
                errors.push(FieldError::invalid(&path, count, detail));
            }
            _ => {}
        },
    }
}

/// Follows a dotted path as `unstructured.NestedInt64` does, and complains in its words.
fn nested<'a>(
    object: &'a Node,
    json_path: &str,
    wanted: &str,
    fits: impl Fn(&Node) -> bool,
) -> Result<Option<&'a Node>, String> {
    let steps = json_path.strip_prefix('.').unwrap_or(json_path);
    let mut node = object;
    let mut at = String::new();
    for step in steps.split('.') {
        at.push('.');
        at.push_str(step);
        let map = match node {
            Node::Map(map) => map,
            Node::Null => return Ok(None),
            // COMPAT: the path is that of the step that cannot be taken.
            _ => return Err(accessor_error(&at, node, "map[string]interface{}")),
        };
        match map.get(step) {
            None => return Ok(None),
            Some(next) => node = next,
        }
    }
    if fits(node) {
        Ok(Some(node))
    } else {
        Err(accessor_error(&format!(".{steps}"), node, wanted))
    }
}

fn accessor_error(path: &str, node: &Node, wanted: &str) -> String {
    let ty = match node {
        Node::Null => "<nil>",
        Node::Bool(_) => "bool",
        Node::Int(_) => "int64",
        Node::Float(_) => "float64",
        Node::String(_) => "string",
        Node::List(_) => "[]interface {}",
        Node::Map(_) => "map[string]interface {}",
    };
    format!(
        "{path} accessor error: {} is of the type {ty}, expected {wanted}",
        go_value(node)
    )
}

/// A value as Go's `%v` prints it.
fn go_value(node: &Node) -> String {
    match node {
        Node::Null => "<nil>".into(),
        Node::Bool(b) => b.to_string(),
        Node::Int(i) => i.to_string(),
        Node::Float(f) => go_float(*f),
        Node::String(s) => s.to_string(),
        Node::List(items) => format!("[{}]", items.iter().map(go_value).collect::<Vec<_>>().join(" ")),
        Node::Map(map) => {
            let entries: Vec<String> = map.iter().map(|(k, v)| format!("{k}:{}", go_value(v))).collect();
            format!("map[{}]", entries.join(" "))
        }
    }
}

/// Warnings about finalizers that may collide; on update only about those that are new.
pub fn finalizer_warnings(object: &Node, old: Option<&Node>) -> Vec<String> {
    let before: Vec<&str> = old.map(|o| o.finalizers().collect()).unwrap_or_default();
    let mut added: Vec<&str> = object.finalizers().filter(|f| !before.contains(f)).collect();
    added.sort_unstable();
    added.dedup();
    let mut warnings = Vec::new();
    for name in added {
        let mut warn = |text: &str| {
            warnings.push(format!(
                "metadata.finalizers: {}: {text}",
                fairlead_api::field::go_quote(name)
            ));
        };
        for complaint in is_qualified_name(name) {
            warn(&complaint);
        }
        if !name.contains('/') && !matches!(name, "orphan" | "foregroundDeletion" | "kubernetes") {
            warn(if name.contains('.') {
                "prefer a domain-qualified finalizer name including a path (/) to avoid accidental conflicts with other finalizer writers"
            } else {
                "prefer a domain-qualified finalizer name to avoid accidental conflicts with other finalizer writers"
            });
        }
    }
    warnings
}
