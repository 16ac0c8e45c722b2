//! Where log lines go: standard error, in kube-apiserver's verbosity or by `RUST_LOG`-style directives.

use tracing_subscriber::EnvFilter;

/// How much is logged, and in what form.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// kube-apiserver's `--v`: 0 to 1 is info, 2 to 4 debug, above that trace.
    pub verbosity: u8,
    /// Directives that override `verbosity`: `fairlead_gateway=trace,info`.
    pub directives: Option<String>,
}

/// Starts logging. A second call changes nothing, so that tests may call it as well.
///
/// # Errors
/// The directives do not parse.
pub fn start(config: &Config) -> Result<(), String> {
    let level = match config.verbosity {
        0..=1 => "info",
        2..=4 => "debug",
        _ => "trace",
    };
    let filter = match &config.directives {
        Some(directives) => EnvFilter::try_new(directives).map_err(|e| e.to_string())?,
        // Libraries below us speak only when something is wrong.
        None => EnvFilter::new(format!("warn,{}", ours(level))),
    };
    let _already_started = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .try_init();
    Ok(())
}

fn ours(level: &str) -> String {
    const CRATES: [&str; 12] = [
        "fairlead",
        "fairlead_admission",
        "fairlead_audit",
        "fairlead_auth",
        "fairlead_builtin",
        "fairlead_controllers",
        "fairlead_crd",
        "fairlead_discovery",
        "fairlead_flowcontrol",
        "fairlead_gateway",
        "fairlead_server",
        "fairlead_storage",
    ];
    CRATES.map(|name| format!("{name}={level}")).join(",")
}
