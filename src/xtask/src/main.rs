//! `cargo xtask <command>`: the project's automation.

mod check;
mod derive;

use anyhow::{Result, bail};

const USAGE: &str = "usage: cargo xtask <command>

  derive [SHARED]   rewrite the `types:` and `enums:` of openapi/**/*.yaml from the recorded facts
                    (SHARED holds facts/ and conformance/; ../shared by default)
  check             the invariants of the architecture that a compiler does not know";

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some("derive") => derive::run(arguments.next().as_deref().unwrap_or("../shared").as_ref()),
        Some("check") => check::run(".".as_ref()),
        Some(other) => bail!("unknown command {other:?}\n{USAGE}"),
        None => bail!("{USAGE}"),
    }
}
