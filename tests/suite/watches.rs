//! Watches and lists through real servers that are killed and restarted, or whose etcd loses members, held against what
//! such a server promises: each watcher sees exactly the log from its version, nobody reads the past, nothing
//! acknowledged is lost. What the clients saw is checked by `fairlead_histories`.

mod clients;

use anyhow::{Context, Result, ensure};
use clients::{Habit, World};
use fairlead_storage::etcd::server::Cluster;
use fairlead_tests::server::Server;
use std::sync::Arc;
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
        ended(watchers).await
    })?;
    held_against_the_promises(&world, rounds * writes)?;
    ensure!(!server.log().contains("panicked"), "{}", server.log());
    Ok(())
}

/// Writers, readers and watchers at both servers, and every member of the cluster dies once: its leader, too.
#[test]
fn kk_59848_and_etcd_20221_two_servers_agree_with_one_log_while_etcd_loses_its_leader() -> Result<()> {
    let writes = if fairlead_tests::slow() { 120 } else { 40 };
    let Some(mut cluster) = Cluster::start(3)? else {
        return Ok(());
    };
    let etcd = format!("--etcd-servers={}", cluster.urls().join(","));
    let servers = [
        Server::start(&["--controllers=", &etcd])?,
        Server::start(&["--controllers=", &etcd])?,
    ];
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let world = World::new(&[servers[0].address(), servers[1].address()]);
    runtime.block_on(async {
        world.begin().await?;
        let mut watchers = JoinSet::new();
        for (server, habit) in Habit::ALL.into_iter().flat_map(|habit| [(0, habit), (1, habit)]) {
            watchers.spawn(world.clone().watch(server, habit));
        }
        for member in 0..3 {
            let mut clients = JoinSet::new();
            for writer in 0..WRITERS {
                clients.spawn(world.clone().write((writer % 2) as usize, writer, writes));
            }
            let middle = world.acknowledged() + WRITERS * writes / 3;
            let mut readers = JoinSet::new();
            readers.spawn(world.clone().read(0));
            readers.spawn(world.clone().read(1));
            while world.acknowledged() < middle {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            cluster.kill(member)?;
            while let Some(client) = clients.join_next().await {
                client??;
            }
            readers.shutdown().await;
            cluster.restart(member)?;
        }
        world.finish().await?;
        ended(watchers).await
    })?;
    held_against_the_promises(&world, writes)?;
    for server in &servers {
        ensure!(!server.log().contains("panicked"), "{}", server.log());
    }
    Ok(())
}

async fn ended(mut watchers: JoinSet<Result<()>>) -> Result<()> {
    let all = async {
        while let Some(watcher) = watchers.join_next().await {
            watcher??;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(Duration::from_secs(60), all)
        .await
        .context("a watcher has not seen the last write in 60 s")?
}

fn held_against_the_promises(world: &Arc<World>, least: u64) -> Result<()> {
    let history = world.history();
    println!(
        "{} operations, {} changes, {} lists, {} watches",
        history.operations.len(),
        history.log.len(),
        history.snapshots.len(),
        history.watches.len()
    );
    ensure!(history.log.len() as u64 >= least, "too little happened");
    history
        .check()
        .context("no server that keeps its promises has such a history")
}
