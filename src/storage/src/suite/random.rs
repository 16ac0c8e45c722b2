//! Random concurrent histories: several clients at once, watchers beside them, compactions, restarts and faults; what
//! all of them saw is then held against what a store promises (`fairlead_histories`).

use super::Bench;
use super::clients::{Door, Habit, PREFIX, Run, Step, key};
use super::faulty::{Faults, Faulty};
use super::switch::Switch;
use crate::store::Store;
use fairlead_histories::{Scope, Violation};
use proptest::prelude::*;
use proptest::test_runner::{TestCaseError, TestRunner};
use std::sync::Arc;
use std::time::Duration;

/// When a run must have ended: nobody waits for ever.
const END: Duration = Duration::from_secs(120);

/// What the clients talk to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Through {
    Store,
    /// Two watch caches over the store, as two servers would have, and the store itself.
    Caches,
}

/// How time passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Time {
    /// Two threads and a real clock.
    Real,
    /// One thread, and the clock jumps to the next moment at which something happens: the same every time.
    Jumping,
}

/// What a random run is made of.
#[derive(Clone, Debug)]
struct Plan {
    clients: Vec<Vec<Step>>,
    seed: u64,
}

fn plans() -> impl Strategy<Value = Plan> {
    let clients = prop::collection::vec(prop::collection::vec(step(), 4..24), 2..6);
    (clients, any::<u64>()).prop_map(|(clients, seed)| Plan { clients, seed })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..4u32, any::<bool>()).prop_map(|(key, look)| Step::Put { key, look }),
        3 => (0..4u32, any::<bool>()).prop_map(|(key, look)| Step::Delete { key, look }),
        2 => (0..4u32).prop_map(|key| Step::Create { key }),
        1 => (0..4u32).prop_map(|key| Step::Abandon { key }),
        3 => (0..4u32).prop_map(|key| Step::Get { key }),
        2 => (0..5u8, 0..4u32).prop_map(|(limit, from)| Step::List { limit, from }),
        1 => any::<u8>().prop_map(|back| Step::ListAt { back }),
        1 => any::<u8>().prop_map(|back| Step::Compact { back }),
        1 => (0..3000u16).prop_map(|micros| Step::Pause { micros }),
        1 => prop::bool::weighted(0.3).prop_map(|really| if really { Step::Restart } else { Step::Pause { micros: 100 } }),
    ]
}

/// Plays random plans against what `make` makes until one breaks a promise, and then looks for a smaller one that does.
/// `PROPTEST_CASES` sets how many; a plan that failed is printed with its seed.
pub fn check<F: Future<Output = Option<Bench>>>(
    make: impl Fn() -> F,
    through: Through,
    faults: Faults,
    time: Time,
    cases: u32,
) {
    let cases = if std::env::var_os("SLOW_TESTS").is_some() {
        cases * 5
    } else {
        cases
    };
    let config = ProptestConfig {
        max_shrink_iters: 100,
        ..ProptestConfig::with_cases(cases)
    };
    let outcome = TestRunner::new(config).run(&plans(), |plan| {
        let mut builder = match time {
            Time::Real => tokio::runtime::Builder::new_multi_thread(),
            Time::Jumping => tokio::runtime::Builder::new_current_thread(),
        };
        let runtime = builder
            .worker_threads(2)
            .enable_all()
            .start_paused(time == Time::Jumping)
            .build()
            .unwrap();
        let verdict = runtime.block_on(async {
            let Some(bench) = make().await else { return Ok(()) };
            match tokio::time::timeout(END, play(bench, plan, through, faults)).await {
                Ok(verdict) => verdict,
                Err(_) => Err(Violation(format!("the run has not ended after {END:?}"))),
            }
        });
        verdict.map_err(|violation| TestCaseError::fail(violation.0))
    });
    outcome.unwrap();
}

/// Through each door one who sees everything, one who rests, one who resumes often, and one who wants a single key.
fn watchers(through: Through) -> Vec<(usize, Scope, Habit)> {
    let habits = [
        Habit::default(),
        Habit {
            rests: Some((3, Duration::from_millis(2))),
            ..Habit::default()
        },
        Habit {
            hops: Some(4),
            ..Habit::default()
        },
    ];
    let doors = if through == Through::Store { 1 } else { 3 };
    let everything = (0..doors).flat_map(|door| habits.map(|habit| (door, Scope::Prefix(PREFIX.into()), habit)));
    let one_key = (0..doors).map(|door| (door, Scope::Key(key(1)), Habit::default()));
    let a_namespace = (0..doors).map(|door| (door, Scope::Prefix(format!("{PREFIX}1/").into()), Habit::default()));
    everything.chain(one_key).chain(a_namespace).collect()
}

async fn play(bench: Bench, plan: Plan, through: Through, faults: Faults) -> fairlead_histories::Verdict {
    let below = Arc::new(Switch::new(bench.store.clone()));
    let store: Arc<dyn Store> = below.clone();
    let faulty = Faulty::new(store.clone(), faults, plan.seed);
    let seen: Arc<dyn Store> = Arc::new(faulty.clone());
    let doors = move || match through {
        Through::Store => vec![Door::Store(seen.clone())],
        Through::Caches => {
            let cache = || Door::cache(seen.clone(), 8 << 10);
            vec![cache(), cache(), Door::Store(seen.clone())]
        }
    };
    let run = Run::start(store, doors(), &watchers(through)).await;
    let clients: Vec<_> = (0..)
        .zip(plan.clients)
        .map(|(number, steps)| {
            let restart = {
                let (below, restart, run, doors) = (below.clone(), bench.restart.clone(), run.clone(), doors.clone());
                move || {
                    let (below, restart, run, doors) = (below.clone(), restart.clone(), run.clone(), doors.clone());
                    async move {
                        below.replace(restart().await);
                        run.replace_doors(doors());
                    }
                }
            };
            fairlead_telemetry::task::spawn("test-client", run.clone().client(number, steps, restart))
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    faulty.calm().await;
    let history = run.end().await;
    history.check()
}
