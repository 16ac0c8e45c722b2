//! Black-box suite: starts the built `fairlead`, drives it with real clients.
//!
//! - [`backend`]: an extension API server that misbehaves. - [`browser`]: a headless one.
//! - [`server`]: a server of one's own in a temporary directory. - [`tools`]: kubectl and other programs.

pub mod backend;
pub mod browser;
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
