//! Watches and lists through real servers that are killed and restarted, held against what such a server promises: each
//! watcher sees exactly the log from its version, nobody reads the past, nothing acknowledged is lost. What the clients
//! saw is checked by `fairlead_histories`.

mod clients;

use anyhow::{Context, Result, ensure};
use clients::{Habit, World};
use fairlead_tests::server::Server;
use std::time::Duration;
use tokio::task::JoinSet;

const WRITERS: u64 = 6;

#[test]
fn kk_59848_and_etcd_20221_watches_and_lists_agree_with_one_log_through_restarts() -> Result<()> {
    let (rounds, writes) = if fairlead_tests::slow() { (5, 150) } else { (2, 50) };
    let mut server = Server::start(&["--controllers="])?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let world = World::new(&[server.address()]);
    runtime.block_on(async {
        world.begin().await?;
        let mut watchers = JoinSet::new();
        for habit in Habit::ALL {
            watchers.spawn(world.clone().watch(0, habit));
        }
        for round in 0..rounds {
            let mut clients = JoinSet::new();
            for writer in 0..WRITERS {
                clients.spawn(world.clone().write(0, writer, writes));
            }
            // In the middle of it all.
            let middle = world.acknowledged() + WRITERS * writes / 2;
            let mut readers = JoinSet::new();
            readers.spawn(world.clone().read(0));
            while world.acknowledged() < middle {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            if round != 1 {
                server.kill()?;
            } else {
                server.stop()?;
            }
            server.restart()?;
            world.moved(0, server.address());
            while let Some(client) = clients.join_next().await {
                client??;
            }
            readers.shutdown().await;
        }
        world.finish().await?;
        let all = async {
            while let Some(watcher) = watchers.join_next().await {
                watcher??;
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(Duration::from_secs(60), all)
            .await
            .context("a watcher has not seen the last write in 60 s")?
    })?;
    let history = world.history();
    println!(
        "{} operations, {} changes, {} lists, {} watches",
        history.operations.len(),
        history.log.len(),
        history.snapshots.len(),
        history.watches.len()
    );
    ensure!(history.log.len() as u64 >= rounds * writes, "too little happened");
    history
        .check()
        .context("no server that keeps its promises has such a history")?;
    ensure!(!server.log().contains("panicked"), "{}", server.log());
    Ok(())
}
