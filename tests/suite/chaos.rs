//! Chaos: some backends die, hang, lie and break their connections while others serve. Nobody else may notice.
//!
//! Calm and storm take turns, so that what else the machine does hits both. `CHAOS_SECONDS=300 CHAOS_P99=1` makes it a
//! benchmark that also judges latency; see docs/benchmarks.md.

use anyhow::{Context, Result, anyhow, ensure};
use fairlead_bench::client::{Call, Connection, Target};
use fairlead_tests::backend::{Backend, aside, own_address, target};
use fairlead_tests::server::{Server, USER_TOKEN};
use fairlead_tests::tools::on_path;
use fairlead_tests::{number, runtime};
use futures_util::future::try_join_all;
use http::Method;
use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Child, Stdio};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};

const PER_SECOND: u64 = 500;
/// Of a request. The server gives up after five seconds, and a body that comes slowly may be slower on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a fault lasts at least.
const STEP: Duration = Duration::from_millis(400);
const HEALTHY: [&str; 3] = ["apples.example.com", "pears.example.com", "plums.example.com"];
const SICK: [&str; 2] = ["thorns.example.com", "nettles.example.com"];
const MORTAL: &str = "mayflies.example.com";
const FAULTS: [&str; 22] = [
    "hang",
    "objects:hang",
    "objects:delay=700",
    "status=500",
    "objects:status=503",
    "reset-stream",
    "objects:reset-stream",
    "refuse-stream",
    "redirect=https://192.0.2.1/",
    "objects:slow-body=1",
    "objects:big-body=300000",
    "html",
    "not-acceptable",
    "empty",
    "other-groups",
    "goaway",
    "reset",
    "blackhole",
    "other-ca",
    "other-name",
    "expired",
    "upgrade-half-close",
];

/// What became of requests to one group.
#[derive(Default)]
struct Tally {
    sent: usize,
    failed: Vec<String>,
    micros: Vec<u32>,
}

/// Calm, storm, calm, storm …
#[derive(Clone, Copy)]
struct Plan {
    begun: Instant,
    phase: Duration,
    phases: u32,
}

struct Outcome {
    group: usize,
    phase: usize,
    /// The phase before still has its effects.
    turning: bool,
    result: Result<u16, String>,
    took: Duration,
}

#[test]
fn healthy_groups_notice_nothing_of_sick_ones() -> Result<()> {
    if own_address().is_none() || !on_path("openssl") {
        fairlead_tests::skip("this needs openssl and an address besides loopback");
        return Ok(());
    }
    let usual = if fairlead_tests::slow() { 40 } else { 10 };
    let seconds = number("CHAOS_SECONDS")?.unwrap_or(usual);
    runtime().block_on(chaos(seconds))
}

async fn chaos(seconds: u64) -> Result<()> {
    let server = Server::start(&["--enable-aggregator-routing=true", "--request-timeout=5s"])?;
    let groups: Vec<&str> = HEALTHY.iter().chain(&SICK).chain([&MORTAL]).copied().collect();
    let mut backends = Vec::new();
    let mut admin = target(&server)?.connect().await?;
    // Not as an administrator, whom no bound holds.
    let binding = r#"{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRoleBinding","metadata":{"name":"suite"},
        "roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"cluster-admin"},
        "subjects":[{"kind":"Group","name":"suite","apiGroup":"rbac.authorization.k8s.io"}]}"#;
    let path = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
    admin
        .json(&Call::send(Method::POST, path, "application/json", binding))
        .await?;
    for group in &groups {
        let start = if HEALTHY.contains(group) {
            Backend::start
        } else {
            Backend::start_aside
        };
        let backend = start(&server, group, 0)?;
        backend.register(&mut admin).await?;
        backends.push(backend);
    }
    for backend in &backends {
        backend.wait(&mut admin, "True").await?;
    }
    let paths: Vec<String> = backends.iter().map(Backend::parcels).collect();
    let mortal = backends.pop().context("there is one")?;
    let sick = backends.split_off(HEALTHY.len());

    let plan = Plan::of(seconds);
    // On a thread of its own, which does not have to start and order backends.
    let address = server.address().to_owned();
    let load = std::thread::Builder::new().name("load".into()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(load(&address, &paths, plan))
    })?;
    let (harmed, died) = tokio::join!(harm(&server, &sick, plan), kill(&server, mortal, plan));
    let (mortal, deaths) = died?;
    harmed?;
    let tallies = load.join().map_err(|_| anyhow!("the load broke off"))??;
    for (i, group) in groups.iter().enumerate() {
        let [calm, storm] = [0, 1].map(|which| Tally::all(tallies.iter().skip(which).step_by(2).map(|t| &t[i])));
        println!(
            "{group:24} calm {:6} p50 {:6} us p99 {:6} us, {} failed; storm {:6} p50 {:6} us p99 {:6} us, {} failed",
            calm.sent,
            calm.percentile(0.5),
            calm.percentile(0.99),
            calm.failed.len(),
            storm.sent,
            storm.percentile(0.5),
            storm.percentile(0.99),
            storm.failed.len()
        );
        let first: Vec<_> = calm.failed.iter().chain(&storm.failed).take(5).collect();
        ensure!(i >= HEALTHY.len() || first.is_empty(), "{group} fails: {first:?}");
        // Nothing may hang longer than the server's own patience, however sick its backend is.
        let hung = storm.failed.iter().filter(|f| f.contains("hangs")).count();
        ensure!(hung == 0, "{hung} requests to {group} hang");
    }
    let mut struck: BTreeMap<String, u64> = BTreeMap::new();
    for backend in &sick {
        for (fault, hits) in backend.struck()? {
            *struck.entry(fault).or_default() += hits;
        }
    }
    println!("{deaths} deaths; hit by faults: {struck:?}");
    let unseen: Vec<_> = FAULTS.iter().filter(|fault| !struck.contains_key(**fault)).collect();
    let judged = std::env::var_os("CHAOS_P99").is_some();
    // A short run does not come to all of them.
    let allowed = if judged { 0 } else { FAULTS.len() / 2 };
    ensure!(
        deaths > 0 && unseen.len() <= allowed,
        "these faults have hit nobody: {unseen:?}"
    );
    let [calm, storm] = [0, 1].map(|which| {
        let healthy = tallies.iter().skip(which).step_by(2);
        let p99 = healthy.map(|phase| Tally::all(phase[..HEALTHY.len()].iter()).percentile(0.99));
        median(p99.collect())
    });
    println!("healthy groups, median of the phases' p99: {calm} us in calm weather, {storm} us in the storm");
    ensure!(
        !judged || storm <= 2 * calm,
        "p99 of healthy groups is {storm} us in the storm, {calm} us in calm weather"
    );
    // Everybody recovers.
    for backend in sick.iter().chain([&mortal]) {
        backend.order("none")?;
        backend.wait(&mut admin, "True").await?;
        let begun = Instant::now();
        while admin.call(&Call::get(backend.parcels())).await?.0 != 200 {
            ensure!(
                begun.elapsed() < Duration::from_secs(10),
                "{} stays sick",
                backend.group
            );
            sleep(Duration::from_millis(50)).await;
        }
    }
    ensure!(!server.log().contains("panicked"), "{}", server.log());
    Ok(())
}

/// Asks all groups in turn, at a steady rate, whether or not answers come. Answers what came of it in each phase.
async fn load(address: &str, paths: &[String], plan: Plan) -> Result<Vec<Vec<Tally>>> {
    // Healthy and sick groups have connections of their own: it is the server that is tested, not HTTP/2 of this client.
    let mut connections: Vec<Vec<Connection>> = vec![Vec::new(), Vec::new()];
    for set in &mut connections {
        for _ in 0..4 {
            let user = Target::new(address, Some(USER_TOKEN.into()), None, false)?;
            set.push(user.connect().await?);
        }
    }
    let mut tallies: Vec<Vec<Tally>> = Vec::new();
    tallies.resize_with(plan.phases as usize, || {
        paths.iter().map(|_| Tally::default()).collect()
    });
    let mut running: JoinSet<Outcome> = JoinSet::new();
    let mut tick = interval(Duration::from_micros(1_000_000 / PER_SECOND));
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut n = 0;
    while let Some((phase, turning)) = plan.now() {
        tick.tick().await;
        let group = n % paths.len();
        let set = &connections[usize::from(group >= HEALTHY.len())];
        let connection = set[n / paths.len() % set.len()].clone();
        let asking = ask(connection, Call::get(paths[group].as_str()));
        running.spawn(async move {
            let (result, took) = asking.await;
            Outcome {
                group,
                phase,
                turning,
                result,
                took,
            }
        });
        n += 1;
        while let Some(done) = running.try_join_next() {
            note(&mut tallies, done?);
        }
    }
    while let Some(done) = running.join_next().await {
        note(&mut tallies, done?);
    }
    Ok(tallies)
}

async fn ask(mut connection: Connection, call: Call) -> (Result<u16, String>, Duration) {
    let begun = Instant::now();
    let result = match timeout(PATIENCE, connection.call(&call)).await {
        Ok(Ok((code, _))) => Ok(code),
        Ok(Err(error)) => Err(format!("{error:#}")),
        Err(_) => Err("hangs".into()),
    };
    (result, begun.elapsed())
}

fn note(tallies: &mut [Vec<Tally>], outcome: Outcome) {
    let tally = &mut tallies[outcome.phase][outcome.group];
    tally.sent += 1;
    if !outcome.turning {
        let micros = u32::try_from(outcome.took.as_micros());
        tally.micros.push(micros.unwrap_or(u32::MAX));
    }
    match outcome.result {
        Ok(200) => {}
        Ok(code) => tally.failed.push(code.to_string()),
        Err(why) => tally.failed.push(why),
    }
}

/// Gives sick backends one fault after the other in every storm, each another one.
async fn harm(server: &Server, sick: &[Backend], plan: Plan) -> Result<()> {
    let all = sick.iter().enumerate();
    let harming = all.map(|(i, backend)| harm_one(server, backend, i * FAULTS.len() / sick.len(), plan));
    try_join_all(harming).await.map(drop)
}

/// Each fault lasts until somebody has been hit by it, or the storm is over: then it comes again in the next.
async fn harm_one(server: &Server, backend: &Backend, first: usize, plan: Plan) -> Result<()> {
    let mut faults = FAULTS.iter().cycle().skip(first);
    let mut next = faults.next().context("there are some")?;
    for end in plan.storms() {
        sleep_until(end - plan.phase).await;
        while Instant::now() < end {
            let before = backend.struck()?.get(*next).copied();
            backend.order(next)?;
            let upgrades = next
                .starts_with("upgrade")
                .then(|| upgrade(server, backend))
                .transpose()?;
            let least = Instant::now() + STEP;
            let mut hit = false;
            while Instant::now() < end && (Instant::now() < least || !hit) {
                sleep(Duration::from_millis(50)).await;
                hit = backend.struck()?.get(*next).copied() != before;
            }
            // The client of a half-closed tunnel breaks off.
            if let Some(mut client) = upgrades {
                client.kill()?;
                client.wait()?;
            }
            if hit {
                next = faults.next().context("there are some")?;
            }
        }
        backend.order("none")?;
    }
    Ok(())
}

/// Kills a backend again and again in every storm, and brings it back. Answers how often.
async fn kill(server: &Server, mut mortal: Backend, plan: Plan) -> Result<(Backend, usize)> {
    let mut admin = target(server)?.connect().await?;
    let dead = Duration::from_millis(700).min(plan.phase / 3);
    let mut deaths = 0;
    for end in plan.storms() {
        sleep_until(end - plan.phase).await;
        while Instant::now() + dead < end {
            let (group, port) = (mortal.group.clone(), mortal.address.port());
            if deaths % 2 == 1 {
                mortal.order("crash")?;
            }
            drop(mortal);
            deaths += 1;
            sleep(dead).await;
            mortal = Backend::start_aside(server, &group, port)?;
            // Its CA is another one.
            mortal.register(&mut admin).await?;
            sleep(Duration::from_secs(1)).await;
        }
    }
    Ok((mortal, deaths))
}

/// A client that switches protocols, says something, and listens.
fn upgrade(server: &Server, backend: &Backend) -> Result<Child> {
    let address = server.address().trim_start_matches("https://");
    let mut client = aside("openssl")
        .args(["s_client", "-quiet", "-connect", address])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let request = format!(
        "GET {}/x/exec HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\nhello",
        backend.parcels(),
        fairlead_tests::server::TOKEN
    );
    client
        .stdin
        .as_mut()
        .context("no standard input")?
        .write_all(request.as_bytes())?;
    Ok(client)
}

fn median(mut numbers: Vec<u32>) -> u32 {
    numbers.sort_unstable();
    numbers.get(numbers.len() / 2).copied().unwrap_or(0)
}

impl Plan {
    /// Phases of about four seconds, two of each at least.
    fn of(seconds: u64) -> Plan {
        let phases = u32::try_from(seconds / 8).unwrap_or(u32::MAX).max(2) * 2;
        Plan {
            begun: Instant::now(),
            phase: Duration::from_secs(seconds) / phases,
            phases,
        }
    }

    /// The phase, and whether it has only begun; `None` when all is over.
    fn now(&self) -> Option<(usize, bool)> {
        let elapsed = self.begun.elapsed();
        let phase = (elapsed.as_micros() / self.phase.as_micros()) as u32;
        let turning = elapsed - self.phase * phase < self.phase / 4;
        (phase < self.phases).then_some((phase as usize, turning))
    }

    /// When each storm ends.
    fn storms(&self) -> impl Iterator<Item = Instant> + use<> {
        let plan = *self;
        (2..=plan.phases)
            .step_by(2)
            .map(move |phase| plan.begun + plan.phase * phase)
    }
}

impl Tally {
    fn all<'a>(tallies: impl Iterator<Item = &'a Tally>) -> Tally {
        let mut all = Tally::default();
        for tally in tallies {
            all.sent += tally.sent;
            all.failed.extend(tally.failed.iter().cloned());
            all.micros.extend(&tally.micros);
        }
        all
    }

    fn percentile(&self, q: f64) -> u32 {
        let mut sorted = self.micros.clone();
        sorted.sort_unstable();
        let last = sorted.len().saturating_sub(1);
        sorted.get((last as f64 * q).round() as usize).copied().unwrap_or(0)
    }
}
