//! `fairlead-bench`: measures an API server from outside.
//!
//! Each scenario prepares its objects, runs a bounded closed loop (or an open one, or a paced writer with watchers) and reports
//! throughput, latency percentiles, and CPU time and memory of the processes it was told to observe.

use anyhow::{Context, Result};
use clap::{Arg, ArgAction, Command};
use fairlead_bench::{Settings, client, process, report, scenario};
use std::time::Duration;

fn main() -> Result<()> {
    let matches = command().get_matches();
    let text = |name: &str| matches.get_one::<String>(name).cloned();
    let processes = matches
        .get_many::<String>("pid")
        .unwrap_or_default()
        .map(|p| process::Process::parse(p))
        .collect::<Result<Vec<_>>>()?;
    let seconds: f64 = text("seconds")
        .unwrap_or_default()
        .parse()
        .context("--seconds is not a number")?;
    let settings = Settings {
        target: client::Target::new(
            &text("server").unwrap_or_default(),
            text("token"),
            text("ca").as_deref(),
            matches.get_flag("http1"),
        )?,
        duration: Duration::from_secs_f64(seconds),
        processes,
        namespace: text("namespace").unwrap_or_default(),
        proxied_path: text("proxied-path"),
        rate: text("rate")
            .unwrap_or_default()
            .parse()
            .context("--rate is not a whole number")?,
    };
    let names: Vec<String> = matches
        .get_many::<String>("scenario")
        .unwrap_or_default()
        .cloned()
        .collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let rows = runtime.block_on(scenario::run_all(&settings, &names))?;
    if let Some(path) = text("json") {
        std::fs::write(&path, report::json(&rows)).with_context(|| format!("cannot write {path}"))?;
    }
    Ok(())
}

fn command() -> Command {
    let option = |name: &'static str, help: &'static str| Arg::new(name).long(name).help(help);
    Command::new("fairlead-bench")
        .about("Measures a Kubernetes API server: throughput, latency, CPU and memory")
        .arg(option("server", "URL of the server").default_value("https://127.0.0.1:6443"))
        .arg(option("token", "bearer token"))
        .arg(option(
            "ca",
            "CA certificate file; without it the server's certificate is not verified",
        ))
        .arg(option("seconds", "how long each scenario runs").default_value("5"))
        .arg(option("namespace", "namespace to work in, made where it does not exist").default_value("bench"))
        .arg(option("pid", "process to observe, as NAME=PID; repeatable").action(ArgAction::Append))
        .arg(option(
            "proxied-path",
            "path of an object behind the aggregation layer, for the proxied scenarios",
        ))
        .arg(option("rate", "requests a second of the scenario proxied-paced").default_value("1000"))
        .arg(option("json", "write the results to this file"))
        .arg(option("http1", "speak HTTP/1.1").action(ArgAction::SetTrue))
        .arg(
            Arg::new("scenario")
                .num_args(0..)
                .value_parser(clap::builder::PossibleValuesParser::new(scenario::NAMES))
                .help("scenarios to run, in this order; all but the proxied ones and those of definitions by default"),
        )
}
