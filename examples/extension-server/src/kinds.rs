//! The two kinds: names, columns, schemas and rules.

use crate::{GROUP, GROUP_VERSION, VERSION};
use serde_json::{Value, json};

/// What the server knows about a kind; everything else (verbs, discovery, OpenAPI, tables) follows from it.
#[derive(Debug)]
pub struct Kind {
    pub kind: &'static str,
    pub plural: &'static str,
    pub singular: &'static str,
    pub short_names: &'static [&'static str],
    pub namespaced: bool,
    pub columns: &'static [Column],
    /// Fields of `spec` and `status`.
    pub spec: &'static [Field],
    pub status: &'static [Field],
    pub description: &'static str,
}

/// A printer column; `path` leads to its cell.
#[derive(Debug)]
pub struct Column {
    pub name: &'static str,
    pub column_type: &'static str,
    pub path: &'static [&'static str],
    pub description: &'static str,
}

#[derive(Debug)]
pub struct Field {
    pub name: &'static str,
    pub field_type: &'static str,
    pub required: bool,
    pub description: &'static str,
}

pub static PARCEL: Kind = Kind {
    kind: "Parcel",
    plural: "parcels",
    singular: "parcel",
    short_names: &["pcl"],
    namespaced: true,
    columns: &[
        column("Carrier", "string", &["spec", "carrier"], "Who carries the parcel."),
        column("Destination", "string", &["spec", "destination"], "Where it goes."),
        column("Weight", "integer", &["spec", "weightGrams"], "Its weight in grams."),
        column("Phase", "string", &["status", "phase"], "How far it has come."),
    ],
    spec: &[
        field(
            "carrier",
            "string",
            true,
            "Name of the Carrier that carries the parcel.",
        ),
        field("destination", "string", true, "Postal address."),
        field("weightGrams", "integer", false, "Weight in grams."),
        field("express", "boolean", false, "Whether it goes by express."),
    ],
    status: &[
        field("phase", "string", false, "Waiting, Underway or Delivered."),
        field("trackingNumber", "string", false, "Given by the carrier."),
    ],
    description: "Parcel is something that is sent to somebody.",
};

pub static CARRIER: Kind = Kind {
    kind: "Carrier",
    plural: "carriers",
    singular: "carrier",
    short_names: &["carr"],
    namespaced: false,
    columns: &[
        column(
            "Display Name",
            "string",
            &["spec", "displayName"],
            "Its name for people.",
        ),
        column("Country", "string", &["spec", "country"], "Where it is at home."),
    ],
    spec: &[
        field("displayName", "string", true, "Name for people."),
        field("country", "string", false, "Country code."),
        field("maxWeightGrams", "integer", false, "Heaviest parcel it takes."),
    ],
    status: &[field("parcels", "integer", false, "How many parcels it carries now.")],
    description: "Carrier is a company that carries parcels.",
};

pub static KINDS: [&Kind; 2] = [&PARCEL, &CARRIER];

/// Verbs of every kind, and of every kind's `status`.
pub const VERBS: [&str; 8] = [
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];
pub const STATUS_VERBS: [&str; 3] = ["get", "patch", "update"];

const fn column(
    name: &'static str,
    column_type: &'static str,
    path: &'static [&'static str],
    description: &'static str,
) -> Column {
    Column {
        name,
        column_type,
        path,
        description,
    }
}

const fn field(name: &'static str, field_type: &'static str, required: bool, description: &'static str) -> Field {
    Field {
        name,
        field_type,
        required,
        description,
    }
}

impl Kind {
    pub fn by_plural(plural: &str) -> Option<&'static Kind> {
        KINDS.into_iter().find(|k| k.plural == plural)
    }

    /// `com.example.shipping.v1alpha1.Parcel`, its name in OpenAPI.
    pub fn schema_name(&self) -> String {
        let reversed: Vec<&str> = GROUP.split('.').rev().collect();
        format!("{}.{VERSION}.{}", reversed.join("."), self.kind)
    }

    /// Mistakes in an object as `(field, reason, message)`.
    pub fn mistakes(&self, object: &Value) -> Vec<(String, &'static str, String)> {
        let mut mistakes = Vec::new();
        for (part, fields) in [("spec", self.spec), ("status", self.status)] {
            for field in fields {
                let path = format!("{part}.{}", field.name);
                let value = &object[part][field.name];
                let right = match field.field_type {
                    "string" => value.is_string(),
                    "integer" => value.is_i64(),
                    _ => value.is_boolean(),
                };
                if value.is_null() || value == "" {
                    if field.required {
                        mistakes.push((path, "FieldValueRequired", "Required value".to_owned()));
                    }
                } else if !right {
                    mistakes.push((
                        path,
                        "FieldValueTypeInvalid",
                        format!("Invalid value: {value}: must be of type {}", field.field_type),
                    ));
                } else if value.as_i64().is_some_and(|n| n < 0) {
                    mistakes.push((
                        path,
                        "FieldValueInvalid",
                        format!("Invalid value: {value}: must not be negative"),
                    ));
                }
            }
        }
        mistakes
    }

    /// Keeps only what the schema knows, as every API server does.
    pub fn prune(&self, object: &mut Value) {
        if let Some(members) = object.as_object_mut() {
            members.retain(|key, _| matches!(key.as_str(), "apiVersion" | "kind" | "metadata" | "spec" | "status"));
        }
        for (part, fields) in [("spec", self.spec), ("status", self.status)] {
            if let Some(members) = object.get_mut(part).and_then(Value::as_object_mut) {
                members.retain(|key, _| fields.iter().any(|f| f.name == key));
            }
        }
    }

    /// `metav1.Table` of some objects. A watch sends one row at a time.
    pub fn table(&self, objects: &[Value], resource_version: &str) -> Value {
        let name = json!({"name": "Name", "type": "string", "format": "name", "description": "Name of the object.", "priority": 0});
        let age =
            json!({"name": "Age", "type": "date", "format": "", "description": "When it was created.", "priority": 0});
        let own = self.columns.iter().map(|c| {
            json!({"name": c.name, "type": c.column_type, "format": "", "description": c.description, "priority": 0})
        });
        let rows: Vec<Value> = objects.iter().map(|object| self.row(object)).collect();
        json!({
            "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {"resourceVersion": resource_version},
            "columnDefinitions": std::iter::once(name).chain(own).chain([age]).collect::<Vec<_>>(), "rows": rows,
        })
    }

    fn row(&self, object: &Value) -> Value {
        let own = self
            .columns
            .iter()
            .map(|c| match c.path.iter().fold(object, |node, key| &node[key]) {
                Value::Null => json!(""),
                cell => cell.clone(),
            });
        let cells = std::iter::once(object["metadata"]["name"].clone()).chain(own);
        let cells: Vec<Value> = cells.chain([object["metadata"]["creationTimestamp"].clone()]).collect();
        let partial =
            json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]});
        json!({"cells": cells, "object": partial})
    }

    pub fn list(&self, items: Vec<Value>, resource_version: &str) -> Value {
        json!({
            "kind": format!("{}List", self.kind), "apiVersion": GROUP_VERSION,
            "metadata": {"resourceVersion": resource_version}, "items": items,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_found_and_unknown_fields_dropped() {
        let mut parcel =
            json!({"metadata": {}, "spec": {"carrier": 5, "weightGrams": -1, "colour": "red"}, "extra": 1});
        let paths: Vec<String> = PARCEL.mistakes(&parcel).into_iter().map(|m| m.0).collect();
        assert_eq!(paths, ["spec.carrier", "spec.destination", "spec.weightGrams"]);
        PARCEL.prune(&mut parcel);
        assert_eq!(
            parcel,
            json!({"metadata": {}, "spec": {"carrier": 5, "weightGrams": -1}})
        );
    }

    #[test]
    fn a_row_has_a_cell_for_each_column() {
        let table = CARRIER.table(&[json!({"metadata": {"name": "x"}, "spec": {"displayName": "X"}})], "7");
        assert_eq!(
            table["columnDefinitions"].as_array().unwrap().len(),
            table["rows"][0]["cells"].as_array().unwrap().len()
        );
        assert_eq!(table["rows"][0]["cells"][1], "X");
    }
}
