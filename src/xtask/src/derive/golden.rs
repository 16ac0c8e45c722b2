//! The recorded OpenAPI v3 documents: enumerations, required fields, unions.

use anyhow::{Context, Result};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

pub struct Golden {
    /// Component schemas by full name.
    pub schemas: BTreeMap<String, Value>,
}

impl Golden {
    pub fn read(directory: &Path) -> Result<Golden> {
        let mut schemas = BTreeMap::new();
        for entry in std::fs::read_dir(directory.join("openapi")).context("open the recorded OpenAPI")? {
            let path = entry?.path();
            if !path
                .file_name()
                .is_some_and(|n| n.to_string_lossy().starts_with("v3__api"))
            {
                continue;
            }
            let mut text = String::new();
            flate2::read::GzDecoder::new(std::fs::File::open(&path)?).read_to_string(&mut text)?;
            let mut document: Value = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
            if let Some(Value::Object(found)) = document.pointer_mut("/components/schemas").map(Value::take) {
                schemas.extend(found);
            }
        }
        Ok(Golden { schemas })
    }

    pub fn property(&self, schema: &str, name: &str) -> Option<&Value> {
        self.schemas.get(schema)?.get("properties")?.get(name)
    }

    /// Whether a recorded schema requires the field; `None` where the schema is not recorded.
    pub fn required(&self, schema: &str, name: &str) -> Option<bool> {
        let schema = self.schemas.get(schema)?;
        schema.get("properties")?.get(name)?;
        Some(
            schema["required"]
                .as_array()
                .is_some_and(|names| names.iter().any(|n| n == name)),
        )
    }
}
