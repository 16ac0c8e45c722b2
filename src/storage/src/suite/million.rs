//! Very many events with restarts and compactions in between: slow readers, readers that hop, readers that list first.

use super::Bench;
use super::clients::{Door, Habit, Known, PREFIX, Run, expected, key};
use super::switch::Switch;
use crate::store::Store;
use fairlead_histories::Scope;
use std::sync::Arc;
use std::time::Duration;

/// Writers, and keys of each.
const WRITERS: u32 = 48;
const KEYS: u32 = 6;
/// Events between two checks of everything that was seen.
const ROUND: u32 = 25_000;
/// So small that who rests loses its place.
const RING: usize = 256 << 10;

/// Plays rounds until there were `events`. After each the history is checked and begins anew, with an empty store.
pub async fn check(bench: Bench, events: u32) {
    let below = Arc::new(Switch::new(bench.store.clone()));
    let round = ROUND.min(events);
    let mut seen = 0;
    while seen < events as usize {
        let (changes, verdict) = play(&bench, &below, round).await;
        assert_eq!(verdict, Ok(()), "after {seen} events");
        assert!(changes > 0, "nothing happened in a round");
        seen += changes;
    }
}

/// One round: how many changes there were, and what is wrong with what was seen of them.
async fn play(bench: &Bench, below: &Arc<Switch>, events: u32) -> (usize, fairlead_histories::Verdict) {
    let store: Arc<dyn Store> = below.clone();
    let doors = || vec![Door::cache(store.clone(), RING), Door::cache(store.clone(), RING)];
    let run = Run::start(store.clone(), doors(), &watchers()).await;
    let clients: Vec<_> = (0..WRITERS)
        .map(|writer| fairlead_telemetry::task::spawn("test-client", write(run.clone(), writer, events / WRITERS)))
        .collect();
    let base = run.recorded();
    let mut restarts = 0;
    while !clients.iter().all(tokio::task::JoinHandle::is_finished) {
        tokio::time::sleep(Duration::from_millis(10)).await;
        // Four times in a round something is forgotten and somebody dies.
        if run.recorded() - base < u64::from(events) * (restarts + 1) / 5 {
            continue;
        }
        restarts += 1;
        run.compact(8).await;
        if restarts % 2 == 0 {
            below.replace((bench.restart)().await);
        }
        run.replace_doors(doors());
    }
    for client in clients {
        client.await.unwrap();
    }
    let history = run.end().await;
    println!(
        "{} events, {} watches, {} lists, {restarts} restarts",
        history.log.len(),
        history.watches.len(),
        history.snapshots.len()
    );
    (history.log.len(), history.check())
}

/// Writes its own keys, and deletes them at the end.
async fn write(run: Arc<Run>, writer: u32, events: u32) {
    let mut known = Known::new();
    for event in 0..events {
        let key = writer * KEYS + event * 7 % KEYS;
        // Something has failed: what is there has to be found out.
        if !known.contains_key(&key) {
            run.get(writer as usize, key, &mut known).await;
        }
        let expect = expected(&known, key);
        let put = event % 11 != 10 || known.get(&key).copied().flatten().is_none();
        known.remove(&key);
        run.write(writer as usize, key, expect, put, &mut known).await;
    }
    for key in writer * KEYS..(writer + 1) * KEYS {
        while known.get(&key).is_none_or(Option::is_some) {
            known.remove(&key);
            run.get(writer as usize, key, &mut known).await;
            if known.get(&key).is_some_and(Option::is_some) {
                let expect = expected(&known, key);
                known.remove(&key);
                run.write(writer as usize, key, expect, false, &mut known).await;
            }
        }
    }
}

fn watchers() -> Vec<(usize, Scope, Habit)> {
    let all = || Scope::Prefix(PREFIX.into());
    let steady = Habit::default();
    let rests = |after, millis| Habit {
        rests: Some((after, Duration::from_millis(millis))),
        ..steady
    };
    let hops = |after| Habit {
        hops: Some(after),
        ..steady
    };
    vec![
        (0, all(), steady),
        (1, all(), steady),
        (0, all(), rests(500, 60)),
        (1, all(), rests(2_000, 400)),
        (0, all(), hops(300)),
        (1, all(), hops(40)),
        (
            0,
            all(),
            Habit {
                lists: true,
                ..hops(2_000)
            },
        ),
        (1, Scope::Prefix(format!("{PREFIX}1/").into()), steady),
        (0, Scope::Prefix(format!("{PREFIX}2/").into()), hops(100)),
        (1, Scope::Key(key(7)), steady),
    ]
}
