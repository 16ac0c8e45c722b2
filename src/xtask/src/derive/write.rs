//! Prints one declaration file.

use super::facts::{Expression, FactField, Facts};
use super::golden::Golden;
use super::{PACKAGES, Package};
use anyhow::{Result, bail};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

pub fn package(
    package: &Package,
    names: &BTreeSet<&str>,
    facts: &Facts,
    golden: &Golden,
    kept: &str,
) -> Result<String> {
    let mut enums: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let mut strings = Vec::new();
    let mut wrapped = BTreeMap::new();
    let mut types = String::new();
    for name in names.iter().filter(|name| !facts.special(package.api, name)) {
        let ty = facts.get(package.api, name).expect("the closure holds known types");
        if let Some(alias) = &ty.alias {
            if !alias.wraps.is_empty() {
                let named = facts.named(package.api, &alias.base);
                wrapped.insert(*name, expression_text(package.api, alias, &named, facts)?);
            } else if let Some(values) = enumeration(package.api, name, facts, golden) {
                enums.insert(name, values);
            } else if alias.base == "string" {
                strings.push(*name);
            }
            continue;
        }
        if [
            "JSON",
            "JSONSchemaPropsOrArray",
            "JSONSchemaPropsOrBool",
            "JSONSchemaPropsOrStringArray",
        ]
        .contains(name)
        {
            writeln!(types, "  {name}: any")?;
            continue;
        }
        writeln!(
            types,
            "  {name}:{}",
            if ty.fields.is_empty() && ty.inline.is_empty() {
                " {}"
            } else {
                ""
            }
        )?;
        let schema = format!("{}.{name}", package.prefix);
        let mut about: Vec<String> = Vec::new();
        about.extend(ty.object.then(|| "object".to_owned()));
        about.extend(ty.atomic.then(|| "atomic".to_owned()));
        about.extend(
            golden
                .schemas
                .get(&schema)
                .and_then(|s| s.get("x-kubernetes-unions"))
                .map(union),
        );
        if !about.is_empty() {
            writeln!(types, "    _: {}", about.join(" "))?;
        }
        for (expression, number) in ty.inline.iter().zip(&ty.inline_numbers) {
            writeln!(
                types,
                "    _inline: {} @{number}",
                base(package.api, &expression.base, facts)?
            )?;
        }
        for field in &ty.fields {
            writeln!(
                types,
                "    {}: {}",
                key(&field.name),
                line(package, &schema, field, facts, golden)?
            )?;
        }
    }
    let mut text = String::new();
    writeln!(text, "package: {}\n", package.prefix)?;
    text.push_str(kept);
    if !enums.is_empty() {
        text.push_str("enums:\n");
        for (name, values) in enums {
            writeln!(text, "  {name}: [{}]", values.join(", "))?;
        }
        text.push('\n');
    }
    if !strings.is_empty() {
        writeln!(text, "strings: [{}]\n", strings.join(", "))?;
    }
    if !wrapped.is_empty() {
        text.push_str("named:\n");
        for (name, expression) in wrapped {
            writeln!(text, "  {name}: {expression}")?;
        }
        text.push('\n');
    }
    text.push_str("types:\n");
    text.push_str(&types);
    Ok(text)
}

/// `type: PriorityLevelConfigurationSpec` fields by discriminator value, e.g. `union(type;queuing=Queuing)`.
fn union(unions: &Value) -> String {
    let union = &unions[0];
    let mut parts = vec![union["discriminator"].as_str().unwrap_or("").to_owned()];
    if let Some(fields) = union["fields-to-discriminateBy"].as_object() {
        parts.extend(fields.iter().map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or(""))));
    }
    format!("union({})", parts.join(","))
}

/// The values of a named string type, from any recorded field of that type.
fn enumeration(api: &str, name: &str, facts: &Facts, golden: &Golden) -> Option<Vec<String>> {
    for package in PACKAGES {
        for (schema, _) in golden.schemas.range(format!("{}.", package.prefix)..) {
            let Some(("", short)) = schema.strip_prefix(package.prefix).and_then(|n| n.split_once('.')) else {
                break;
            };
            let Some(ty) = facts.get(package.api, short) else {
                continue;
            };
            let inner = |expression: &Expression| {
                let (api, name) = facts.named(package.api, &expression.base)?;
                facts.get(api, &name)
            };
            let mut own = vec![ty];
            while let Some(inlined) = own.last().and_then(|ty| ty.inline.first()).and_then(inner) {
                own.push(inlined);
            }
            for field in own.into_iter().flat_map(|ty| &ty.fields) {
                let named = facts.named(package.api, &field.expression.base);
                if named.is_none_or(|n| n.0 != api || n.1 != name) {
                    continue;
                }
                let Some(property) = golden.property(schema, &field.name) else {
                    continue;
                };
                let values = ["/enum", "/items/enum", "/additionalProperties/enum"]
                    .iter()
                    .find_map(|p| property.pointer(p));
                if let Some(Value::Array(values)) = values {
                    return Some(values.iter().filter_map(Value::as_str).map(key).collect());
                }
            }
        }
    }
    None
}

/// Fields whose empty list is told apart from an absent one by upstream's defaults and messages; no fact says so.
const TOLD_APART: [(&str, &str); 3] = [
    (".ServiceCIDRSpec", "cidrs"),
    (".PersistentVolumeClaimSpec", "accessModes"),
    (".autoscaling.v2.HPAScalingRules", "policies"),
];

fn line(package: &Package, schema: &str, field: &FactField, facts: &Facts, golden: &Golden) -> Result<String> {
    let mut expression = field.expression.clone();
    let mut named = facts.named(package.api, &expression.base);
    // Another name for a named type.
    while let Some((api, name)) = &named {
        let Some(alias) = facts.get(api, name).and_then(|t| t.alias.as_ref()) else {
            break;
        };
        if !alias.wraps.is_empty() || alias.base == "string" {
            break;
        }
        expression.base = if alias.base.contains('.') {
            alias.base.clone()
        } else {
            format!("{api}.{}", alias.base)
        };
        named = facts.named(api, &alias.base);
    }
    let mut text = expression_text(package.api, &expression, &named, facts)?;
    if field.number != 0 {
        write!(text, " @{}", field.number)?;
    }
    if !field.omit_empty {
        text.push_str(" always");
    }
    if TOLD_APART
        .iter()
        .any(|(of, name)| schema.ends_with(of) && *name == field.name)
    {
        text.push_str(" empties");
    }
    if field.omit_zero {
        text.push_str(" omitzero");
    }
    if !expression.key.is_empty() && expression.key != "string" {
        let key = facts.named(package.api, &expression.key);
        write!(
            text,
            " key({})",
            key.map_or(expression.key.clone(), |(found, name)| reference(
                package.api,
                found,
                &name
            ))
        )?;
    }
    if let Some(required) = golden.required(schema, &field.name)
        && required == field.omit_empty
    {
        text.push_str(if required { " required" } else { " optional" });
    }
    if let Some(default) = default(package, schema, field, golden) {
        write!(text, " default({default})")?;
    }
    match field.marker("+listType") {
        Some("map") => write!(text, " keys({})", field.marker_values("+listMapKey").join(","))?,
        Some("set") => text.push_str(" set"),
        Some("atomic") if expression.base == "[]byte" => text.push_str(" listed"),
        _ if expression.wraps.first() != Some(&'[') => {}
        Some(_) => {}
        None => text.push_str(" unmarked"),
    }
    if field.marker("+mapType") == Some("atomic") || field.marker("+structType") == Some("atomic") {
        text.push_str(" atomic");
    }
    if field.marker("+mapType") == Some("granular") || field.marker("+structType") == Some("granular") {
        text.push_str(" granular");
    }
    if !field.patch.is_empty() {
        write!(text, " patch({})", field.patch)?;
    }
    if !field.merge_key.is_empty() {
        write!(text, " by({})", field.merge_key)?;
    }
    Ok(text)
}

/// The default the recorded OpenAPI shows, where it is no zero value and so follows from nothing else.
fn default(package: &Package, schema: &str, field: &FactField, golden: &Golden) -> Option<String> {
    let marker = field.marker("+default")?;
    let recorded = golden.property(schema, &field.name).and_then(|p| p.get("default"));
    match (recorded, marker) {
        (Some(value), _) => Some(value.to_string()),
        (None, marker) if !marker.starts_with("ref(") => Some(marker.to_owned()),
        (None, _) => {
            eprintln!("{}: no value for the default of {schema}.{}", package.path, field.name);
            None
        }
    }
}

fn expression_text(
    api: &str,
    expression: &Expression,
    named: &Option<(&'static str, String)>,
    facts: &Facts,
) -> Result<String> {
    let mut text = match named {
        Some((found, name)) => reference(api, found, name),
        None => base(api, &expression.base, facts)?,
    };
    for wrap in expression.wraps.iter().rev() {
        text.push_str(if *wrap == '[' { "[]" } else { "{}" });
    }
    if expression.pointer {
        text.push('?');
    }
    Ok(text)
}

fn base(api: &str, base: &str, facts: &Facts) -> Result<String> {
    if let Some((found, name)) = facts.named(api, base) {
        return Ok(reference(api, found, &name));
    }
    Ok(match base {
        "string" | "bool" | "int32" | "int64" => base.to_owned(),
        "float64" => "float".into(),
        "[]byte" => "bytes".into(),
        "types.UID" => "UID".into(),
        "metav1.Time" | "Time" | "v1.Time" => "Time".into(),
        "metav1.MicroTime" => "MicroTime".into(),
        "metav1.Duration" => "Duration".into(),
        "FieldsV1" => "FieldsV1".into(),
        "resource.Quantity" => "Quantity".into(),
        "intstr.IntOrString" => "IntOrString".into(),
        "runtime.RawExtension" => "RawExtension".into(),
        "interface{}" => "any".into(),
        other => bail!("{api}: nothing known about the type {other}"),
    })
}

fn reference(api: &str, found: &str, name: &str) -> String {
    let package = PACKAGES
        .iter()
        .find(|p| p.api == found)
        .expect("named() finds declared packages");
    if api == found {
        name.to_owned()
    } else {
        format!("{}.{name}", package.path)
    }
}

/// A YAML scalar, quoted where YAML would read something else.
fn key(text: &str) -> String {
    let plain = !text.is_empty()
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_/.".contains(c))
        && !["true", "false", "null", "yes", "no", "on", "off", "y", "n"].contains(&text.to_lowercase().as_str())
        && text.parse::<f64>().is_err();
    if plain {
        text.to_owned()
    } else {
        Value::from(text).to_string()
    }
}
