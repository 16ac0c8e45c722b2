//! `cargo xtask <command>`: the project's automation.

mod derive;

use anyhow::{Result, bail};

const USAGE: &str = "usage: cargo xtask <command>

  derive [SHARED]   rewrite the `types:` and `enums:` of openapi/**/*.yaml from the recorded facts
                    (SHARED holds facts/ and conformance/; ../shared by default)";

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some("derive") => derive::run(arguments.next().as_deref().unwrap_or("../shared").as_ref()),
        Some(other) => bail!("unknown command {other:?}\n{USAGE}"),
        None => bail!("{USAGE}"),
    }
}
