//! Chaos: some backends die, hang, lie and break their connections while others serve. Nobody else may notice.
//!
//! `CHAOS_SECONDS=300 CHAOS_P99=1` makes it a benchmark that also judges latency; see docs/benchmarks.md.

use anyhow::{Context, Result, ensure};
use fairlead_bench::client::{Call, Connection, Target};
use fairlead_tests::backend::{Backend, own_address, target};
use fairlead_tests::server::{Server, USER_TOKEN};
use fairlead_tests::tools::on_path;
use http::Method;
use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

const PER_SECOND: u64 = 500;
/// Of a request. The server gives up after five seconds, and a body that comes slowly may be slower on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
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

struct Outcome {
    group: usize,
    result: Result<u16, String>,
    took: Duration,
}

#[test]
fn healthy_groups_notice_nothing_of_sick_ones() -> Result<()> {
    if own_address().is_none() || !on_path("openssl") {
        fairlead_tests::skip("this needs openssl and an address besides loopback");
        return Ok(());
    }
    let seconds = match std::env::var("CHAOS_SECONDS") {
        Ok(text) => text.parse().context("CHAOS_SECONDS is no number")?,
        Err(_) if fairlead_tests::slow() => 40,
        Err(_) => 10,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(chaos(seconds))
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
        let backend = Backend::start(&server, group, 0)?;
        backend.register(&mut admin).await?;
        backends.push(backend);
    }
    for backend in &backends {
        backend.wait(&mut admin, "True").await?;
    }
    let paths: Vec<String> = backends.iter().map(Backend::parcels).collect();
    let mortal = backends.pop().context("there is one")?;
    let sick = backends.split_off(HEALTHY.len());

    let calm = load(&server, &paths, Duration::from_secs(seconds / 4)).await?;
    for (group, tally) in groups.iter().zip(&calm) {
        ensure!(
            tally.failed.is_empty(),
            "{group} fails in calm weather: {:?}",
            tally.failed
        );
    }
    let troubled = Duration::from_secs(seconds);
    let (stormy, harmed, died) = tokio::join!(
        load(&server, &paths, troubled),
        harm(&server, &sick, troubled),
        kill(&server, mortal, troubled)
    );
    let (stormy, mortal) = (stormy?, died?);
    harmed?;
    for (group, (calm, stormy)) in groups.iter().zip(calm.iter().zip(&stormy)) {
        println!(
            "{group:24} calm {:6} p50 {:6} us p99 {:6} us; storm {:6} p50 {:6} us p99 {:6} us, {} failed",
            calm.sent,
            calm.percentile(0.5),
            calm.percentile(0.99),
            stormy.sent,
            stormy.percentile(0.5),
            stormy.percentile(0.99),
            stormy.failed.len()
        );
    }
    for (group, tally) in HEALTHY.iter().zip(&stormy) {
        let first: Vec<_> = tally.failed.iter().take(5).collect();
        ensure!(
            tally.failed.is_empty(),
            "{group} fails {} times: {first:?}",
            tally.failed.len()
        );
    }
    // Nothing may hang longer than the server's own patience, however sick its backend is.
    let hung: usize = stormy
        .iter()
        .flat_map(|t| &t.failed)
        .filter(|f| f.contains("hangs"))
        .count();
    ensure!(hung == 0, "{hung} requests hang");
    if std::env::var_os("CHAOS_P99").is_some() {
        let all = |tallies: &[Tally]| Tally {
            micros: tallies[..HEALTHY.len()].iter().flat_map(|t| t.micros.clone()).collect(),
            ..Tally::default()
        };
        let (before, during) = (all(&calm).percentile(0.99), all(&stormy).percentile(0.99));
        ensure!(
            during <= 2 * before,
            "p99 of healthy groups is {during} us in the storm, {before} us in calm weather"
        );
    }
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

/// Asks all groups in turn, at a steady rate, whether or not answers come.
async fn load(server: &Server, paths: &[String], time: Duration) -> Result<Vec<Tally>> {
    // Healthy and sick groups have connections of their own: it is the server that is tested, not HTTP/2 of this client.
    let mut connections: Vec<Vec<Connection>> = vec![Vec::new(), Vec::new()];
    for set in &mut connections {
        for _ in 0..4 {
            let user = Target::new(server.address(), Some(USER_TOKEN.into()), None, false)?;
            set.push(user.connect().await?);
        }
    }
    let mut tallies: Vec<Tally> = paths.iter().map(|_| Tally::default()).collect();
    let mut running: JoinSet<Outcome> = JoinSet::new();
    let mut tick = interval(Duration::from_micros(1_000_000 / PER_SECOND));
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let until = Instant::now() + time;
    let mut n = 0;
    while Instant::now() < until {
        tick.tick().await;
        let group = n % paths.len();
        let set = &connections[usize::from(group >= HEALTHY.len())];
        let connection = set[n / paths.len() % set.len()].clone();
        running.spawn(ask(connection, group, Call::get(paths[group].as_str())));
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

async fn ask(mut connection: Connection, group: usize, call: Call) -> Outcome {
    let begun = Instant::now();
    let result = match timeout(PATIENCE, connection.call(&call)).await {
        Ok(Ok((code, _))) => Ok(code),
        Ok(Err(error)) => Err(format!("{error:#}")),
        Err(_) => Err("hangs".into()),
    };
    Outcome {
        group,
        result,
        took: begun.elapsed(),
    }
}

fn note(tallies: &mut [Tally], outcome: Outcome) {
    let tally = &mut tallies[outcome.group];
    tally.sent += 1;
    tally
        .micros
        .push(u32::try_from(outcome.took.as_micros()).unwrap_or(u32::MAX));
    match outcome.result {
        Ok(200) => {}
        Ok(code) => tally.failed.push(code.to_string()),
        Err(why) => tally.failed.push(why),
    }
}

/// Gives sick backends one fault after the other, each another one.
async fn harm(server: &Server, sick: &[Backend], time: Duration) -> Result<()> {
    let step = (time / FAULTS.len() as u32).max(Duration::from_millis(200));
    let until = Instant::now() + time;
    let mut n = 0;
    while Instant::now() < until {
        let mut upgrades = Vec::new();
        for (i, backend) in sick.iter().enumerate() {
            let fault = FAULTS[(n + i * FAULTS.len() / 2) % FAULTS.len()];
            backend.order(fault)?;
            if fault.starts_with("upgrade") {
                upgrades.push(upgrade(server, backend)?);
                upgrades.push(upgrade(server, backend)?);
            }
        }
        sleep(step).await;
        // Clients of half-closed tunnels break off.
        for mut client in upgrades {
            client.kill()?;
            client.wait()?;
        }
        n += 1;
    }
    Ok(())
}

/// Kills a backend again and again, and brings it back.
async fn kill(server: &Server, mut mortal: Backend, time: Duration) -> Result<Backend> {
    let mut admin = target(server)?.connect().await?;
    let until = Instant::now() + time;
    let mut crash = false;
    while Instant::now() < until {
        let (group, port) = (mortal.group.clone(), mortal.address.port());
        if crash {
            mortal.order("crash")?;
        }
        crash = !crash;
        drop(mortal);
        sleep(Duration::from_millis(700)).await;
        mortal = Backend::start(server, &group, port)?;
        // Its CA is another one.
        mortal.register(&mut admin).await?;
        sleep(Duration::from_secs(1)).await;
    }
    Ok(mortal)
}

/// A client that switches protocols, says something, and listens.
fn upgrade(server: &Server, backend: &Backend) -> Result<Child> {
    let address = server.address().trim_start_matches("https://");
    let mut client = Command::new("openssl")
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

impl Tally {
    fn percentile(&self, q: f64) -> u32 {
        let mut sorted = self.micros.clone();
        sorted.sort_unstable();
        let last = sorted.len().saturating_sub(1);
        sorted.get((last as f64 * q).round() as usize).copied().unwrap_or(0)
    }
}
