//! Many APIServices: how soon they are served, what they cost at rest, and how soon a change of one shows.
//!
//! `SCALE=500 SCALE_REST=60` makes it the benchmark of docs/benchmarks.md, which also judges.

use anyhow::{Context, Result, ensure};
use fairlead_bench::client::{Call, Connection};
use fairlead_bench::process::Process;
use fairlead_tests::backend::{own_address, target};
use fairlead_tests::crowd::Crowd;
use fairlead_tests::server::Server;
use fairlead_tests::{number, runtime};
use serde_json::Value;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
/// For whatever should be soon, on a machine that has other things to do.
const PATIENCE: Duration = Duration::from_secs(60);
const REGISTERING: usize = 8;

#[test]
fn many_backends_are_served_at_once_and_cost_little() -> Result<()> {
    if own_address().is_none() {
        fairlead_tests::skip("this needs an address besides loopback");
        return Ok(());
    }
    let size = number("SCALE")?;
    let rest = number("SCALE_REST")?.unwrap_or(0);
    runtime().block_on(scale(
        size.unwrap_or(40) as usize,
        Duration::from_secs(rest),
        size.is_some(),
    ))
}

async fn scale(size: usize, rest: Duration, judged: bool) -> Result<()> {
    let server = Server::start(&["--enable-aggregator-routing=true"])?;
    let crowd = Crowd::start(&server, size)?;
    let process = |name: &str, pid: u32| Process::parse(&format!("{name}={pid}"));
    let (fairlead, backends) = (process("fairlead", server.pid())?, process("backends", crowd.pid())?);
    let mut admin = target(&server)?.connect().await?;

    let (begun, before) = (Instant::now(), fairlead.sample()?);
    let mut writers: JoinSet<Result<()>> = JoinSet::new();
    let crowd = std::sync::Arc::new(crowd);
    for writer in 0..REGISTERING {
        let (crowd, mut admin) = (crowd.clone(), admin.clone());
        writers.spawn(async move {
            for n in (writer..size).step_by(REGISTERING) {
                crowd.register(n, &mut admin).await?;
            }
            Ok(())
        });
    }
    while let Some(done) = writers.join_next().await {
        done??;
    }
    let registered = begun.elapsed();
    let groups = size;
    until(&mut admin, "/apis/apiregistration.k8s.io/v1/apiservices", |list| {
        let available = |o: &&Value| {
            let conditions = o["status"]["conditions"].as_array();
            conditions.is_some_and(|all| all.iter().any(|c| c["type"] == "Available" && c["status"] == "True"))
        };
        let remote = list["items"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|o| o["spec"]["service"].is_object());
        remote.filter(available).count() == groups
    })
    .await
    .context("not all are available")?;
    let available = begun.elapsed();
    until_discovery(&mut admin, |document| document.matches("\"parcels\"").count() >= groups)
        .await
        .context("not all are in discovery")?;
    let discovered = begun.elapsed();
    until(&mut admin, "/openapi/v3", |index| {
        let paths = index["paths"].as_object();
        let ours = |path: &&String| path.ends_with(".example.com/v1alpha1");
        paths.is_some_and(|paths| paths.keys().filter(ours).count() == groups)
    })
    .await
    .context("not all are in OpenAPI")?;
    let (known, after) = (begun.elapsed(), fairlead.sample()?);
    println!(
        "{size} APIServices: registered in {registered:.2?}, available in {available:.2?}, in discovery in {discovered:.2?}, \
         in OpenAPI in {known:.2?}; {:.2} s of CPU, {} MiB (before: {} MiB)",
        after.cpu_seconds - before.cpu_seconds,
        after.resident_bytes >> 20,
        before.resident_bytes >> 20,
    );
    for path in ["/openapi/v2", "/openapi/v2", "/apis"] {
        let begun = Instant::now();
        let (code, bytes) = admin.call(&Call::get(path)).await?;
        println!("{path}: {code}, {bytes} bytes in {:.2?}", begun.elapsed());
    }

    let mut at_rest = 0.0;
    if !rest.is_zero() {
        sleep(Duration::from_secs(5)).await;
        let (before, ours) = (backends.sample()?, fairlead.sample()?);
        sleep(rest).await;
        let (after, now) = (backends.sample()?, fairlead.sample()?);
        let share = |from: f64, to: f64| (to - from) / rest.as_secs_f64() * 100.0;
        at_rest = share(ours.cpu_seconds, now.cpu_seconds);
        println!(
            "at rest: {at_rest:.2} % of a core, {} MiB; all {size} backends together {:.2} %",
            now.resident_bytes >> 20,
            share(before.cpu_seconds, after.cpu_seconds),
        );
    }

    // A change at one backend, there and back.
    let changed = size / 2;
    let (mut slowest, mut v2) = (Duration::ZERO, Duration::ZERO);
    for (order, word) in [("new-kind", true), ("none", false), ("new-kind", true), ("none", false)] {
        let path = format!("/openapi/v3/apis/{}/v1alpha1", Crowd::group(changed));
        crowd.order(changed, order)?;
        let begun = Instant::now();
        until_discovery(&mut admin, |document| document.contains("\"packets\"") == word)
            .await
            .with_context(|| format!("{order} is not seen in discovery"))?;
        let discovered = begun.elapsed();
        until(&mut admin, &path, |document| {
            document.to_string().contains("/packets") == word
        })
        .await
        .with_context(|| format!("{order} is not seen in OpenAPI"))?;
        let documented = begun.elapsed();
        let begun = Instant::now();
        admin.call(&Call::get("/openapi/v2")).await?;
        v2 = v2.max(begun.elapsed());
        slowest = slowest.max(documented);
        println!("{order} at one of {size}: in discovery after {discovered:.2?}, in OpenAPI after {documented:.2?}");
        // Not in step with the server's rounds.
        sleep(Duration::from_millis(730)).await;
    }
    println!("slowest: {slowest:.2?}; first /openapi/v2 after a change: at most {v2:.2?}");
    ensure!(
        !judged || slowest < Duration::from_secs(2),
        "a change shows after {slowest:.2?}"
    );
    ensure!(!judged || at_rest < 5.0, "{at_rest:.2} % of a core at rest");
    ensure!(!server.log().contains("panicked"), "{}", server.log());
    Ok(())
}

async fn until(connection: &mut Connection, path: &str, wanted: impl Fn(&Value) -> bool) -> Result<()> {
    let begun = Instant::now();
    while !wanted(&connection.json(&Call::get(path)).await?) {
        ensure!(begun.elapsed() < PATIENCE, "{path} stays as it is");
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

async fn until_discovery(connection: &mut Connection, wanted: impl Fn(&str) -> bool) -> Result<()> {
    let call = Call {
        accept: AGGREGATED,
        ..Call::get("/apis")
    };
    let begun = Instant::now();
    while !wanted(&connection.json(&call).await?.to_string()) {
        ensure!(begun.elapsed() < PATIENCE, "discovery stays as it is");
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
