//! The Helm chart: it lints, renders, and a server accepts what it renders.

use anyhow::{Context, Result, ensure};
use fairlead_tests::server::Server;
use fairlead_tests::tools::{Kubectl, helm, kubectl, root};
use std::process::Command;

#[test]
fn the_chart_lints_and_its_objects_are_accepted() -> Result<()> {
    let (Some(program), Some(helm)) = (kubectl(), helm()) else {
        fairlead_tests::skip("this needs kubectl and helm");
        return Ok(());
    };
    let chart = root().join("charts/fairlead");
    let run = |arguments: &[&str]| -> Result<String> {
        let output = Command::new(&helm)
            .args(arguments)
            .arg(&chart)
            .output()
            .context("helm does not run")?;
        ensure!(
            output.status.success(),
            "helm {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8(output.stdout)?)
    };
    run(&["lint", "--strict"])?;
    let everything = [
        "template",
        "tower",
        "--kube-version=1.36.0",
        "--namespace=default",
        "--set=podDisruptionBudget.enabled=true",
        "--set=networkPolicy.enabled=true",
        "--set=dashboards.enabled=true",
        "--set=pkiSecret=pki",
        "--set-json=audit.policy={\"rules\":[{\"level\":\"Metadata\"}]}",
        "--set=audit.webhookSecret=webhook",
    ];
    let server = Server::start(&[])?;
    let k = Kubectl::new(program, &server);
    for rendered in [
        run(&["template", "tower", "--kube-version=1.36.0", "--namespace=default"])?,
        run(&everything)?,
    ] {
        let applied = k.feed(&["apply", "--dry-run=server", "-f", "-"], &rendered)?;
        ensure!(
            applied.contains("statefulset.apps/tower-fairlead created (server dry run)"),
            "{applied}"
        );
    }
    let monitored = run(&[
        "template",
        "tower",
        "--kube-version=1.36.0",
        "--set=serviceMonitor.enabled=true",
        "--set=prometheusRule.enabled=true",
    ])?;
    ensure!(
        monitored.contains("kind: ServiceMonitor") && monitored.contains("kind: PrometheusRule"),
        "{monitored}"
    );
    let refused = Command::new(&helm)
        .args(["template", "x", "--kube-version=1.36.0", "--set=replicaCount=3"])
        .arg(&chart)
        .output()?;
    ensure!(
        !refused.status.success(),
        "the schema must refuse a second replica of the embedded store"
    );
    Ok(())
}
