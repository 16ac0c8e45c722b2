//! What the server tells about itself, and whom: metrics that nobody can blow up, logs without secrets, pages for those who may.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use fairlead_bench::client::{Call, Connection, Target};
use fairlead_tests::server::Server;
use http::Method;
use http_body_util::BodyExt;

/// What nobody may find in a log.
const CANARY: &str = "canary-0f1e2d3c4b5a";

async fn text(connection: &mut Connection, call: &Call) -> Result<(u16, String)> {
    let response = connection.open(call).await?;
    let code = response.status().as_u16();
    let body = response.into_body().collect().await?.to_bytes();
    Ok((code, String::from_utf8(body.to_vec())?))
}

async fn series(connection: &mut Connection) -> Result<Vec<String>> {
    let (_, text) = text(connection, &Call::get("/metrics")).await?;
    let named = text.lines().filter(|l| !l.starts_with('#'));
    Ok(named
        .filter_map(|l| l.rsplit_once(' '))
        .map(|(name, _)| name.to_owned())
        .collect())
}

/// A request whose every part is somebody's fancy.
fn fancy(i: usize) -> Call {
    let (method, path) = match i % 8 {
        0 => (Method::GET, format!("/apis/group{i}.example.com/v1/things")),
        1 => (Method::GET, format!("/nowhere/{i}")),
        2 => (Method::GET, format!("/api/v1/resources{i}/name{i}")),
        3 => (
            Method::from_bytes(format!("M{i}").as_bytes()).unwrap_or(Method::GET),
            "/api/v1/pods".into(),
        ),
        4 => (Method::GET, format!("/api/v1/namespaces/n{i}/pods/p{i}/sub{i}")),
        5 => (
            Method::GET,
            format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/things{i}.example.com"),
        ),
        6 => (Method::GET, format!("/livez/check{i}?verbose={i}&dryRun={i}")),
        _ => (
            Method::GET,
            format!("/api/v1/namespaces?labelSelector=a{i}&fieldValidation={i}&dryRun={i}"),
        ),
    };
    let mut call = Call {
        method,
        ..Call::get(path)
    };
    call.headers.push(("user-agent", format!("agent{i}/v{i} (x; {i})")));
    call
}

#[test]
fn cve_2020_8552_no_client_makes_series() -> Result<()> {
    let server = Server::start(&[])?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut connection = server.connect().await?;
        // One of each kind makes the series there are.
        for i in 0..64 {
            connection.call(&fancy(i)).await?;
        }
        let before = series(&mut connection).await?;
        let count = if fairlead_tests::slow() { 100_000 } else { 4_000 };
        let mut running = tokio::task::JoinSet::new();
        for lane in 0..16 {
            let mut connection = connection.clone();
            running.spawn(async move {
                for i in (64 + lane..64 + count).step_by(16) {
                    connection.call(&fancy(i)).await?;
                }
                anyhow::Ok(())
            });
        }
        while let Some(done) = running.join_next().await {
            done??;
        }
        let after = series(&mut connection).await?;
        let new: Vec<&String> = after.iter().filter(|s| !before.contains(s)).collect();
        // What the server does by itself in the meantime may count something for the first time.
        ensure!(
            new.len() < 50,
            "{} series are new, such as {:?}",
            new.len(),
            new.first()
        );
        Ok(())
    })
}

#[test]
fn cve_2019_11250_no_secret_reaches_a_log() -> Result<()> {
    let server = Server::start(&["-v=10", "--access-log-sample=1"])?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut connection = server.connect().await?;
        let secret = format!(
            r#"{{"apiVersion":"v1","kind":"Secret","metadata":{{"name":"s"}},"stringData":{{"password":"{CANARY}"}}}}"#
        );
        let secrets = "/api/v1/namespaces/default/secrets";
        let json = "application/json";
        let merge = "application/merge-patch+json";
        let wrong = format!(r#"{{"apiVersion":"v1","kind":"Secret","metadata":{{"name":"S"}},"data":{{"p":"{CANARY}"}}}}"#);
        let review = format!(
            r#"{{"apiVersion":"authentication.k8s.io/v1","kind":"TokenReview","spec":{{"token":"{CANARY}.{CANARY}.{CANARY}"}}}}"#
        );
        let request = r#"{"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest","spec":{}}"#;
        let account = r#"{"apiVersion":"v1","kind":"ServiceAccount","metadata":{"name":"robot"}}"#;
        connection.call(&Call::send(Method::POST, secrets, json, secret)).await?;
        connection.call(&Call::send(Method::POST, secrets, json, wrong)).await?;
        let patch = format!(r#"{{"stringData":{{"password":"{CANARY}"}}}}"#);
        connection.call(&Call::send(Method::PATCH, format!("{secrets}/s"), merge, patch)).await?;
        connection.call(&Call::get(secrets)).await?;
        connection.call(&Call::get(format!("{secrets}?watch=1&timeoutSeconds=1&token={CANARY}"))).await?;
        let reviews = "/apis/authentication.k8s.io/v1/tokenreviews";
        connection.call(&Call::send(Method::POST, reviews, json, review)).await?;
        let accounts = "/api/v1/namespaces/default/serviceaccounts";
        connection.call(&Call::send(Method::POST, accounts, json, account)).await?;
        let issued = Call::send(Method::POST, format!("{accounts}/robot/token"), json, request);
        let issued = connection.json(&issued).await?["status"]["token"].as_str().context("no token")?.to_owned();
        for token in [CANARY.to_owned(), format!("{CANARY}.{CANARY}.{CANARY}"), issued.clone()] {
            let target = Target::new(server.address(), Some(token), None, true)?;
            let mut call = Call::get("/api/v1/namespaces");
            call.headers.push(("cookie", format!("session={CANARY}")));
            call.headers.push(("x-remote-extra-secret", CANARY.into()));
            call.headers.push(("sec-websocket-protocol", format!("base64url.bearer.authorization.k8s.io.{CANARY}")));
            target.connect().await?.call(&call).await?;
        }
        let basic = Call {
            headers: vec![("authorization", format!("Basic {CANARY}"))],
            ..Call::get("/version")
        };
        server.connect_anonymously().await?.call(&basic).await?;
        let log = server.output()?;
        ensure!(log.lines().filter(|l| l.contains("fairlead::access")).count() >= 12, "the log says too little: {log}");
        let signature = issued.rsplit('.').next().context("no signature")?;
        for canary in [CANARY, fairlead_tests::server::TOKEN, signature] {
            let telling: Vec<&str> = log.lines().filter(|l| l.contains(canary)).collect();
            ensure!(telling.is_empty(), "{canary} is in the log: {telling:#?}");
        }
        let (_, metrics) = text(&mut connection, &Call::get("/metrics")).await?;
        ensure!(!metrics.contains(CANARY), "a secret is a label");
        Ok(())
    })
}

#[test]
fn cve_2019_11248_strangers_see_only_whether_it_lives() -> Result<()> {
    let server = Server::start(&["--ui=true"])?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        for path in [
            "/metrics",
            "/metrics/slis",
            "/statusz",
            "/flagz",
            "/debug/aggregation",
            "/debug/pprof/",
            "/debug/flags/v",
            "/debug/nothing",
            "/logs",
            "/",
            "/apis",
            "/openapi/v2",
            "/openapi/v3",
        ] {
            let (code, _) = server.connect_anonymously().await?.call(&Call::get(path)).await?;
            ensure!(code == 403, "strangers get {code} from {path}");
        }
        for path in ["/livez", "/readyz", "/healthz", "/version"] {
            let (code, _) = server.connect_anonymously().await?.call(&Call::get(path)).await?;
            ensure!(code == 200, "{path} answers {code}");
        }
        let mut connection = server.connect().await?;
        for path in ["/metrics", "/metrics/slis", "/statusz", "/flagz"] {
            let any = Call {
                accept: "*/*",
                ..Call::get(path)
            };
            let (code, said) = text(&mut connection, &any).await?;
            ensure!(code == 200 && said.len() > 100, "{path} answers {code}: {said}");
        }
        let (code, _) = connection.call(&Call::get("/debug/flags/v")).await?;
        ensure!(code == 404, "/debug/flags/v answers {code}");
        Ok(())
    })
}

#[test]
fn health_is_told_as_metrics() -> Result<()> {
    let server = Server::start(&[])?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let (_, told) = text(&mut server.connect().await?, &Call::get("/metrics/slis")).await?;
        for line in [
            "kubernetes_healthcheck{name=\"etcd\",type=\"livez\"} 1",
            "kubernetes_healthcheck{name=\"shutdown\",type=\"readyz\"} 1",
            "kubernetes_healthchecks_total{name=\"ping\",status=\"success\",type=\"healthz\"} 1",
        ] {
            ensure!(told.lines().any(|l| l == line), "{line} is missing in:\n{told}");
        }
        Ok(())
    })
}

#[test]
fn families_that_alerts_and_dashboards_read_are_there() -> Result<()> {
    let server = Server::start(&[])?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut connection = server.connect().await?;
        let endpoints = "/api/v1/namespaces/default/endpoints";
        connection.call(&Call::get(endpoints)).await?;
        connection.call(&Call::get("/livez")).await?;
        let map = r#"{"metadata":{"name":"seen"}}"#;
        let create = Call::send(Method::POST, "/api/v1/namespaces/default/configmaps", "application/json", map);
        ensure!(connection.call(&create).await?.0 == 201);
        // Masters may do everything without anybody deciding about it.
        server.connect_anonymously().await?.call(&Call::get("/version")).await?;
        let (_, told) = text(&mut connection, &Call::get("/metrics")).await?;
        for start in [
            "aggregator_discovery_aggregation_count_total ",
            "apiserver_admission_controller_admission_duration_seconds_bucket{name=\"NamespaceLifecycle\",operation=\"CREATE\",",
            "apiserver_admission_step_admission_duration_seconds_bucket{operation=\"CREATE\",rejected=\"false\",type=\"admit\",",
            "apiserver_admission_step_admission_duration_seconds_bucket{operation=\"CREATE\",rejected=\"false\",type=\"validate\",",
            "apiserver_authorization_decisions_total{",
            "apiserver_client_certificate_expiration_seconds_count ",
            "apiserver_current_inflight_requests{",
            "apiserver_requested_deprecated_apis{group=\"\",removed_release=\"\",resource=\"endpoints\",subresource=\"\",version=\"v1\"} 1",
            "apiserver_request_sli_duration_seconds_bucket{",
            "apiserver_request_total{code=\"200\",component=\"\",dry_run=\"\",group=\"\",resource=\"\",scope=\"\",subresource=\"/livez\",verb=\"GET\",version=\"\"} 1",
            "apiserver_response_sizes_bucket{",
            "apiserver_storage_objects{",
            "authentication_attempts{",
            "authorization_attempts_total{",
            "etcd_request_duration_seconds_bucket{",
            "fairlead_metric_series_dropped_total 0",
            "go_goroutines ",
            "kubernetes_build_info{",
            "process_resident_memory_bytes ",
            "process_virtual_memory_max_bytes ",
            "workqueue_adds_total{name=\"RemoteAvailabilityController\"}",
        ] {
            ensure!(told.lines().any(|l| l.starts_with(start)), "{start} is missing in:\n{told}");
        }
        // What gets in as a label gets out as one, in both formats.
        let open = Call {
            accept: "application/openmetrics-text;version=1.0.0",
            ..Call::get("/metrics")
        };
        let (_, told) = text(&mut connection, &open).await?;
        ensure!(told.ends_with("# EOF\n") && told.contains("# TYPE process_cpu_seconds counter\n"), "{told}");
        let compressed = Call {
            gzip: true,
            ..Call::get("/metrics")
        };
        let answer = connection.open(&compressed).await?;
        ensure!(answer.status() == 200);
        let _: Bytes = answer.into_body().collect().await?.to_bytes();
        Ok(())
    })
}
