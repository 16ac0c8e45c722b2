//! [`At`]: a value in an object and where it stands, which is spelled out only when there is an error to tell.
// PERFORMANCE: per-request path

use fairlead_api::metadata::complain;
use fairlead_api::{FieldError, FieldErrors, FieldPath, Map, Node};

/// A value and its place. Copies are free; nothing is allocated until [`path`](At::path) is asked for.
#[derive(Clone, Copy)]
pub struct At<'a> {
    pub node: &'a Node,
    up: Option<&'a At<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Root(&'a str),
    Field(&'a str),
    /// An item of a list that is a field.
    Item(&'a str, usize),
    /// A value of a map that is a field.
    Entry(&'a str, &'a str),
}

static NOTHING: Node = Node::Null;

// === places ===

impl<'a> At<'a> {
    /// A whole object.
    pub fn root(node: &'a Node) -> At<'a> {
        At::named(node, "")
    }

    /// A value that errors call `path`.
    pub fn named(node: &'a Node, path: &'a str) -> At<'a> {
        At {
            node,
            up: None,
            step: Step::Root(path),
        }
    }

    /// The member `key`; `None` where it is absent or null.
    pub fn get(&'a self, key: &'a str) -> Option<At<'a>> {
        self.get_as(key, key)
    }

    /// The member `key`, called otherwise in errors.
    pub fn get_as(&'a self, key: &str, shown: &'a str) -> Option<At<'a>> {
        let node = self.node.get(key).filter(|node| !node.is_null())?;
        Some(self.with(node, Step::Field(shown)))
    }

    /// The member `key`, or an empty one: for what Go has as a struct and not as a pointer.
    pub fn part(&'a self, key: &'a str) -> At<'a> {
        self.with(self.node.get(key).unwrap_or(&NOTHING), Step::Field(key))
    }

    /// The items of the list `key`.
    pub fn each(&'a self, key: &'a str) -> impl Iterator<Item = At<'a>> + use<'a> {
        let items = self.node.list(key).iter().enumerate();
        items.map(move |(i, node)| self.with(node, Step::Item(key, i)))
    }

    /// The members of the object `key`, by name.
    pub fn entries(&'a self, key: &'a str) -> impl Iterator<Item = (&'a str, At<'a>)> + use<'a> {
        let entries = self
            .node
            .get(key)
            .and_then(Node::as_map)
            .into_iter()
            .flat_map(Map::iter);
        entries.map(move |(name, node)| (name.as_str(), self.with(node, Step::Entry(key, name))))
    }

    /// Where this value stands.
    pub fn path(&self) -> FieldPath {
        let up = self.up.map(At::path).unwrap_or_default();
        match self.step {
            Step::Root("") => FieldPath::root(),
            Step::Root(path) => FieldPath::new(path),
            Step::Field(name) => up.child(name),
            Step::Item(name, index) => up.child(name).index(index),
            Step::Entry(name, key) => up.child(name).key(key),
        }
    }

    /// The place of the member `field`, there or not; this place where `field` is empty.
    pub fn path_of(&self, field: &str) -> FieldPath {
        match field {
            "" => self.path(),
            _ => self.path().child(field),
        }
    }

    fn with(&'a self, node: &'a Node, step: Step<'a>) -> At<'a> {
        At {
            node,
            up: Some(self),
            step,
        }
    }
}

// === values ===

impl<'a> At<'a> {
    /// The string member `key`; empty where there is none.
    pub fn str(&self, key: &str) -> &'a str {
        self.node.str(key)
    }

    /// The string member `key`, where there is one.
    pub fn text(&self, key: &str) -> Option<&'a str> {
        self.node.get(key).and_then(Node::as_str)
    }

    /// The integer member `key`; 0 where there is none.
    pub fn int(&self, key: &str) -> i64 {
        self.number(key).unwrap_or(0)
    }

    pub fn number(&self, key: &str) -> Option<i64> {
        self.node.get(key).and_then(Node::as_i64)
    }

    pub fn flag(&self, key: &str) -> bool {
        self.node.get(key).and_then(Node::as_bool).unwrap_or(false)
    }

    /// Whether there is a member `key` that is not null.
    pub fn has(&self, key: &str) -> bool {
        self.node.get(key).is_some_and(|node| !node.is_null())
    }

    pub fn list(&self, key: &str) -> &'a [Node] {
        self.node.list(key)
    }

    /// How many entries the map or list `key` has.
    pub fn len(&self, key: &str) -> usize {
        match self.node.get(key) {
            Some(Node::List(items)) => items.len(),
            Some(Node::Map(entries)) => entries.len(),
            _ => 0,
        }
    }

    /// The strings of the list `key`, with their places in it.
    pub fn strings(&self, key: &str) -> impl Iterator<Item = (usize, &'a str)> + use<'a> {
        let items = self.node.list(key).iter().enumerate();
        items.map(|(i, node)| (i, node.as_str().unwrap_or_default()))
    }
}

// === errors, at a member or (where `field` is empty) here ===

impl At<'_> {
    pub fn required(&self, field: &str, detail: &str, errors: &mut FieldErrors) {
        errors.push(FieldError::required(&self.path_of(field), detail));
    }

    pub fn invalid(&self, field: &str, value: impl Into<Node>, detail: impl Into<String>, errors: &mut FieldErrors) {
        errors.push(FieldError::invalid(&self.path_of(field), value, detail));
    }

    /// An invalid value that is shown as `text`.
    pub fn invalid_shown(&self, field: &str, text: String, detail: &str, errors: &mut FieldErrors) {
        errors.push(FieldError::invalid(&self.path_of(field), Node::Null, detail).showing(text));
    }

    pub fn forbidden(&self, field: &str, detail: impl Into<String>, errors: &mut FieldErrors) {
        errors.push(FieldError::forbidden(&self.path_of(field), detail));
    }

    pub fn duplicate(&self, field: &str, value: impl Into<Node>, errors: &mut FieldErrors) {
        errors.push(FieldError::duplicate(&self.path_of(field), value));
    }

    pub fn not_found(&self, field: &str, value: impl Into<Node>, errors: &mut FieldErrors) {
        errors.push(FieldError::not_found(&self.path_of(field), value));
    }

    pub fn too_long(&self, field: &str, max: i64, errors: &mut FieldErrors) {
        errors.push(FieldError::too_long(&self.path_of(field), max));
    }

    pub fn too_many(&self, field: &str, actual: usize, max: usize, errors: &mut FieldErrors) {
        errors.push(FieldError::too_many(&self.path_of(field), actual, max));
    }

    pub fn not_supported(&self, field: &str, value: impl Into<Node>, supported: &[&str], errors: &mut FieldErrors) {
        errors.push(FieldError::not_supported(&self.path_of(field), value, supported));
    }

    /// One error for each complaint about the string `value`.
    pub fn complain(&self, field: &str, value: &str, complaints: Vec<String>, errors: &mut FieldErrors) {
        if !complaints.is_empty() {
            complain(errors, &self.path_of(field), value, complaints);
        }
    }

    // --- checks of one member ---

    /// The string member must not be empty. Answers whether it is not.
    pub fn require(&self, field: &str, errors: &mut FieldErrors) -> bool {
        let given = !self.str(field).is_empty();
        if !given {
            self.required(field, "", errors);
        }
        given
    }

    /// The string member must be one of `supported`, listed in the order upstream lists them.
    pub fn one_of(&self, field: &str, supported: &[&str], errors: &mut FieldErrors) {
        let value = self.str(field);
        if !supported.contains(&value) {
            self.not_supported(field, value, supported, errors);
        }
    }

    /// Like [`one_of`](At::one_of), where it is given at all.
    pub fn one_of_if_set(&self, field: &str, supported: &[&str], errors: &mut FieldErrors) {
        if self.has(field) {
            self.one_of(field, supported, errors);
        }
    }

    /// Like [`one_of`](At::one_of); an empty value is told to be required.
    pub fn required_one_of(&self, field: &str, supported: &[&str], errors: &mut FieldErrors) {
        if self.require(field, errors) {
            self.one_of(field, supported, errors);
        }
    }

    /// The integer member must not be negative; absent is 0.
    pub fn non_negative(&self, field: &str, errors: &mut FieldErrors) {
        let value = self.int(field);
        if value < 0 {
            self.invalid(field, value, super::common::NEGATIVE, errors);
        }
    }

    /// The integer member must be greater than 0; absent is 0.
    pub fn positive(&self, field: &str, errors: &mut FieldErrors) {
        let value = self.int(field);
        if value <= 0 {
            self.invalid(field, value, super::common::NOT_POSITIVE, errors);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::node;

    #[test]
    fn places_are_spelled_when_needed() {
        let object = node!({"spec": {"ports": [{"name": "x"}], "limits": {"cpu": "1"}}});
        let root = At::root(&object);
        let spec = root.get("spec").expect("there is a spec");
        let port = spec.each("ports").next().expect("there is a port");
        assert_eq!(port.path_of("name").as_str(), "spec.ports[0].name");
        let (name, limit) = spec.entries("limits").next().expect("there is a limit");
        assert_eq!((name, limit.path().as_str()), ("cpu", "spec.limits[cpu]"));
        assert_eq!(At::root(&object).path_of("").to_string(), "<nil>");
    }

    #[test]
    fn members_are_checked() {
        let object = node!({"type": "B", "count": -1});
        let mut errors = Vec::new();
        let at = At::named(&object, "spec");
        at.one_of("type", &["A"], &mut errors);
        at.non_negative("count", &mut errors);
        at.require("name", &mut errors);
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                r#"spec.type: Unsupported value: "B": supported values: "A""#,
                "spec.count: Invalid value: -1: must be greater than or equal to 0",
                "spec.name: Required value",
            ]
        );
    }
}
