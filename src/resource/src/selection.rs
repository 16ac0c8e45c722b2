//! Which objects a list, a watch or a collection delete is about: namespace, name, label and field selectors.
// PERFORMANCE: per-request path

use crate::definition::ResourceDefinition;
use crate::request::Request;
use compact_str::CompactString;
use fairlead_api::field::go_quote;
use fairlead_api::selector::{FieldSelector, LabelSelector};
use fairlead_api::{Status, StatusResult, name};
use fairlead_storage::{Cached, Term, WatchScope};

/// A parsed and checked selection.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Empty: all namespaces, or a cluster-scoped resource.
    pub namespace: CompactString,
    /// Where exactly one name can match.
    pub name: Option<CompactString>,
    pub labels: LabelSelector,
    pub fields: FieldSelector,
}

impl Selection {
    /// # Errors
    /// BadRequest for selectors that cannot be parsed or name fields that cannot be selected by.
    pub fn parse(request: &Request) -> StatusResult<Selection> {
        let definition = &*request.definition;
        let bad = |why: fairlead_api::selector::SelectorError| Status::bad_request(why.to_string());
        let labels = LabelSelector::parse(request.query("labelSelector").unwrap_or("")).map_err(bad)?;
        let mut fields = FieldSelector::parse(request.query("fieldSelector").unwrap_or("")).map_err(bad)?;
        for requirement in &fields.requirements {
            check_field(definition, &requirement.field)?;
        }
        for requirement in &mut fields.requirements {
            if let Some(stored) = definition.hooks.stored_field(&requirement.field) {
                requirement.field = stored;
            }
        }
        if !request.name.is_empty() {
            if fields.is_empty() {
                fields = FieldSelector::equal("metadata.name", &request.name);
            } else if fields.exact("metadata.name") != Some(request.name.as_str()) {
                return Err(Status::bad_request(
                    "fieldSelector metadata.name doesn't match requested name",
                ));
            }
        }
        let mut namespace = request.namespace.clone();
        if namespace.is_empty()
            && definition.namespaced()
            && let Some(selected) = fields.exact("metadata.namespace")
            && name::name_is_dns_label(selected, false).is_empty()
        {
            namespace = selected.into();
        }
        // Without a namespace a name is not a key, unless there are no namespaces.
        let keyed = !definition.namespaced() || !namespace.is_empty();
        let name = fields
            .exact("metadata.name")
            .filter(|name| keyed && !name.is_empty())
            .map(CompactString::from);
        Ok(Selection {
            namespace,
            name,
            labels,
            fields,
        })
    }

    /// The prefix of the keys that can match: `namespace/`, or empty.
    pub fn prefix(&self) -> String {
        if self.namespace.is_empty() {
            String::new()
        } else {
            format!("{}/", self.namespace)
        }
    }

    /// The one key that can match.
    pub fn key(&self) -> Option<String> {
        self.name.as_ref().map(|name| format!("{}{name}", self.prefix()))
    }

    /// What a watcher has to look at: as little as can be told without looking at objects.
    pub fn scope(&self, definition: &ResourceDefinition) -> WatchScope {
        if let Some(key) = self.key() {
            return WatchScope::Key(key.into());
        }
        let names = std::iter::once("metadata.name");
        let own = definition.selectable_fields.iter().map(|field| field.name.as_str());
        if let Some((field, value)) = names
            .chain(own)
            .find_map(|field| Some((field, self.fields.exact(field)?)))
        {
            return WatchScope::Field {
                namespace: self.namespace.clone(),
                field: field.into(),
                value: value.into(),
            };
        }
        match self.namespace.is_empty() {
            true => WatchScope::All,
            false => WatchScope::Namespace(self.namespace.clone()),
        }
    }

    /// A label or field that must have one value, to find objects by.
    pub fn term(&self) -> Option<(Term, &str)> {
        let fields = self.fields.requirements.iter().map(|requirement| &requirement.field);
        let field = fields
            .filter(|field| *field != "metadata.namespace")
            .find_map(|field| Some((Term::Field(field.as_str().into()), self.fields.exact(field)?)));
        let mut labels = self.labels.requirements().iter().map(|requirement| &requirement.key);
        field.or_else(|| labels.find_map(|key| Some((Term::Label(key.as_str().into()), self.labels.exact(key)?))))
    }

    /// Whether everything matches.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    pub fn matches(&self, object: &Cached) -> bool {
        (self.labels.is_empty() || self.labels.matches_with(|key| object.header.labels.get(key)))
            && (self.fields.is_empty() || self.fields.matches_with(|field| Some(object.field(field))))
    }
}

fn check_field(definition: &ResourceDefinition, field: &str) -> StatusResult<()> {
    let own = definition
        .selectable_fields
        .iter()
        .any(|selectable| selectable.name == field);
    let metadata = match field {
        "metadata.name" => true,
        "metadata.namespace" => definition.namespaced() || !definition.is_custom(),
        _ => false,
    };
    if own || metadata {
        return Ok(());
    }
    // COMPAT: kinds with conversions of their own say it in their own words.
    Err(Status::bad_request(match definition.hooks.unsupported_field(field) {
        Some(words) => words,
        None if definition.is_custom() || !definition.selectable_fields.is_empty() => {
            format!("field label not supported: {field}")
        }
        None => format!(
            "{} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"",
            go_quote(field)
        ),
    }))
}
