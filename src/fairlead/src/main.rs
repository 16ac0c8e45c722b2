//! `fairlead`: reads the command line, starts the server, stops it on a signal; or runs one of the commands beside it.

use anyhow::{Context, Result};
use fairlead::backup::Command;
use fairlead::config::Config;
use fairlead::flags::{self, Flags};
use fairlead::{compose, identity, version};
use fairlead_telemetry::log;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

// Without huge pages (feature `no_thp`): they keep 13 MiB more at rest, and half as much again of what is cached.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(command) = Command::parse(&arguments)? {
        print!("{}", runtime()?.block_on(command.run())?);
        return Ok(());
    }
    let flags = Flags::parse(arguments)?;
    if flags.bool("help") {
        print!("{}", flags::help());
        return Ok(());
    }
    if flags.given("version") && flags.text("version") != "false" {
        println!("{}", version::line(flags.text("version") == "raw"));
        return Ok(());
    }
    let config = Config::new(&flags)?;
    let directives = std::env::var("FAIRLEAD_LOG").ok();
    log::start(&log::Config {
        verbosity: config.verbosity,
        directives,
    })
    .map_err(anyhow::Error::msg)
    .context("FAIRLEAD_LOG")?;
    for name in flags.ignored() {
        tracing::warn!("--{name} is accepted but has no effect");
    }
    runtime()?.block_on(serve(config))
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start threads")
}

async fn serve(config: Config) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let running = compose::start(config).await?;
    eprintln!("fairlead is ready: {}", identity::url(running.address));
    eprintln!("  kubectl --kubeconfig {} get namespaces", running.kubeconfig.display());
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping");
    tokio::select! {
        () = running.stop() => {}
        // A second signal is an order.
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
