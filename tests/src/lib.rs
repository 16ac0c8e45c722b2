//! Black-box suite: starts the built `fairlead`, drives it with real clients.
//!
//! - [`backend`]: an extension API server that misbehaves. - [`browser`]: a headless one. - [`crowd`]: many backends;
//!   `extension`: the process behind these. - [`kubelet`]: a node's agent without a node. - [`network`]: another machine.
//! - [`server`]: a server of one's own in a temporary directory. - [`tools`]: kubectl and other programs.

use anyhow::{Context, Result, ensure};

pub mod backend;
pub mod browser;
pub mod crowd;
mod extension;
pub mod kubelet;
pub mod network;
pub mod server;
pub mod tools;

/// Whether slower suites run, too.
pub fn slow() -> bool {
    std::env::var_os("SLOW_TESTS").is_some()
}

/// Prints why a test does not run here; in CI that is a failure.
pub fn skip(why: &str) {
    assert!(std::env::var_os("CI").is_none(), "CI must not skip: {why}");
    eprintln!("skipped: {why}");
}

/// A number in the environment, if any.
pub fn number(variable: &str) -> Result<Option<u64>> {
    let text = std::env::var(variable).ok();
    text.map(|text| text.parse().with_context(|| format!("{variable}={text} is no number")))
        .transpose()
}

/// An error that shows the text where a word is missing in it.
pub fn has(text: &str, word: &str) -> Result<()> {
    ensure!(text.contains(word), "{word:?} is missing in:\n{text}");
    Ok(())
}

/// A runtime for one test.
pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Runtime::new().expect("a runtime can be made")
}
