//! A machine that vanishes from the network: packets are dropped, and nobody is told.

use anyhow::{Context, Result, ensure};
use fairlead_bench::client::{Call, Connection};
use fairlead_tests::backend::{Backend, own_address, target};
use fairlead_tests::network::Elsewhere;
use fairlead_tests::runtime;
use fairlead_tests::server::Server;
use http_body_util::BodyExt;
use std::time::{Duration, Instant};

/// Within this time a machine that does not answer is left out.
const NOTICED: Duration = Duration::from_secs(3);
/// What a busy machine may add to that.
const GRACE: Duration = Duration::from_millis(1500);

fn world() -> Result<Option<(Server, Elsewhere)>> {
    match (own_address(), Elsewhere::new()?) {
        (Some(_), Some(elsewhere)) => Ok(Some((Server::start(&["--enable-aggregator-routing=true"])?, elsewhere))),
        _ => {
            fairlead_tests::skip("this needs an address besides loopback and the right to make a network namespace");
            Ok(None)
        }
    }
}

/// How long a request took, and its status.
async fn timed(connection: &mut Connection, path: &str) -> Result<(u16, Duration)> {
    let begun = Instant::now();
    let (code, _) = connection.call(&Call::get(path)).await?;
    Ok((code, begun.elapsed()))
}

#[test]
fn a_black_hole_is_left_out_within_three_seconds() -> Result<()> {
    let Some((server, elsewhere)) = world()? else {
        return Ok(());
    };
    let there = Backend::start_elsewhere(&server, "pair.example.com", &elsewhere)?;
    let here = Backend::start(&server, "pair.example.com", 0)?;
    runtime().block_on(async {
        let connection = &mut target(&server)?.connect().await?;
        here.register_both(&there, connection).await?;
        here.wait(connection, "True").await?;
        let parcels = here.parcels();
        for _ in 0..50 {
            ensure!(timed(connection, &parcels).await?.0 == 200);
        }
        elsewhere.cut()?;
        let cut = Instant::now();
        let mut quick = 0;
        while quick < 200 {
            let (code, took) = timed(connection, &parcels).await?;
            ensure!(code == 200, "a reading request fails with {code}");
            ensure!(took < NOTICED + GRACE, "a request took {took:?}");
            // From then on nobody is sent there but to try.
            quick = if took < Duration::from_millis(300) {
                quick + 1
            } else {
                0
            };
            ensure!(cut.elapsed() < Duration::from_secs(20), "requests are still sent there");
        }
        Ok(())
    })
}

#[test]
fn a_vanished_backend_ends_its_watches_and_is_told() -> Result<()> {
    let Some((server, elsewhere)) = world()? else {
        return Ok(());
    };
    let there = Backend::start_elsewhere(&server, "gone.example.com", &elsewhere)?;
    runtime().block_on(async {
        let connection = &mut target(&server)?.connect().await?;
        there.register(connection).await?;
        there.wait(connection, "True").await?;
        let parcels = there.parcels();
        let watch = connection.open(&Call::get(format!("{parcels}?watch=1"))).await?;
        ensure!(watch.status() == 200);
        elsewhere.cut()?;
        let cut = Instant::now();
        // It breaks off, or ends: nothing happens on it before.
        let ended = tokio::time::timeout(NOTICED + GRACE, watch.into_body().collect()).await;
        ensure!(ended.is_ok(), "a watch outlives its backend");
        let available = there.wait(connection, "False");
        tokio::time::timeout((NOTICED + GRACE).saturating_sub(cut.elapsed()), available)
            .await
            .context("it is still available")??;
        let (code, took) = timed(connection, &parcels).await?;
        ensure!(code == 503 && took < Duration::from_secs(1), "{code} after {took:?}");
        elsewhere.mend()?;
        there.wait(connection, "True").await?;
        ensure!(timed(connection, &parcels).await?.0 == 200);
        Ok(())
    })
}
