//! Takes the renderer's two files out of the archive its crate ships, as gzip: a zip member is the same deflate stream.

use std::path::Path;
use utoipa_swagger_ui_vendored::SWAGGER_UI_VENDORED as ARCHIVE;

const FILES: [&str; 2] = ["dist/swagger-ui-bundle.js", "dist/swagger-ui.css"];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let out = std::env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    for wanted in FILES {
        let gzip = member(wanted).unwrap_or_else(|| panic!("the archive holds no deflated {wanted}"));
        let name = Path::new(wanted).file_name().expect("a file has a name");
        let path = Path::new(&out).join(name).with_extension("gz");
        std::fs::write(path, gzip).expect("OUT_DIR can be written");
    }
}

/// A deflated member of the archive, found by its entry in the central directory (PKWARE APPNOTE 4.3.12).
fn member(wanted: &str) -> Option<Vec<u8>> {
    let end = ARCHIVE.windows(4).rposition(|w| w == b"PK\x05\x06")?;
    let mut at = number(end + 16, 4)?;
    while ARCHIVE.get(at..at + 4)? == b"PK\x01\x02" {
        let [method, name, extra, comment] = [(10, 2), (28, 2), (30, 2), (32, 2)].map(|(o, n)| number(at + o, n));
        let (name, extra, comment) = (name?, extra?, comment?);
        let found = ARCHIVE.get(at + 46..at + 46 + name)?;
        if found.ends_with(wanted.as_bytes()) && method? == 8 {
            let (size, local) = (number(at + 20, 4)?, number(at + 42, 4)?);
            let data = local + 30 + number(local + 26, 2)? + number(local + 28, 2)?;
            let mut gzip = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
            gzip.extend_from_slice(ARCHIVE.get(data..data + size)?);
            // CRC and length, as both formats have them.
            gzip.extend_from_slice(ARCHIVE.get(at + 16..at + 20)?);
            gzip.extend_from_slice(ARCHIVE.get(at + 24..at + 28)?);
            return Some(gzip);
        }
        at += 46 + name + extra + comment;
    }
    None
}

/// A little-endian number.
fn number(at: usize, bytes: usize) -> Option<usize> {
    let slice = ARCHIVE.get(at..at + bytes)?;
    Some(slice.iter().rev().fold(0, |all, b| (all << 8) | usize::from(*b)))
}
