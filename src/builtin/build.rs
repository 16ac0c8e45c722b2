//! Turns `openapi/**/*.yaml` into one JSON document the library includes.

#[path = "src/declaration.rs"]
mod declaration;

use declaration::Declaration;
use std::path::{Path, PathBuf};

fn main() {
    let root = Path::new("../../openapi");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/declaration.rs");
    println!("cargo::rerun-if-changed={}", root.display());
    let mut files = Vec::new();
    find(root, &mut files);
    files.sort();
    let declarations: Vec<Declaration> = files.iter().map(|path| read(root, path)).collect();
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("declarations.json");
    std::fs::write(
        out,
        serde_json::to_vec(&declarations).expect("declarations are plain data"),
    )
    .expect("OUT_DIR is writable");
}

fn find(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display())) {
        let path = entry.expect("directories can be listed").path();
        if path.is_dir() {
            find(&path, files);
        } else if path.extension().is_some_and(|e| e == "yaml") {
            files.push(path);
        }
    }
}

fn read(root: &Path, path: &Path) -> Declaration {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut declaration: Declaration =
        serde_saphyr::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let name = path
        .strip_prefix(root)
        .expect("files are under the root")
        .with_extension("");
    declaration.path = name.to_str().expect("file names are ASCII").replace('\\', "/");
    declaration
}
