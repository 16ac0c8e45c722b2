//! One server in front of another (`--core-backend`): the core's groups in the caller's name, CRDs and extension APIs of
//! the front's own, and one discovery of both.

use crate::aggregation::eventually;
use crate::kubectl::{built_in_session, custom_session, watch_session};
use anyhow::{Context, Result, ensure};
use fairlead_bench::client::{Call, Target};
use fairlead_tests::backend::{Backend, own_address, target};
use fairlead_tests::server::{Server, USER_TOKEN};
use fairlead_tests::tools::{Kubectl, kubectl};
use http::Method;
use serde_json::json;

/// The core, the server in front of it, and kubectl for both.
struct Pair {
    core: Server,
    front: Server,
    at_core: Kubectl,
    at_front: Kubectl,
}

fn pair(arguments: &[&str]) -> Result<Option<Pair>> {
    let Some(program) = kubectl() else {
        fairlead_tests::skip("kubectl is not installed and cannot be built");
        return Ok(None);
    };
    let core = Server::start(&[])?;
    let backend = format!("--core-backend={}", core.kubeconfig().display());
    let front = Server::start(&[&[backend.as_str()], arguments].concat())?;
    Ok(Some(Pair {
        at_core: Kubectl::new(program.clone(), &core),
        at_front: Kubectl::new(program, &front),
        core,
        front,
    }))
}

#[test]
fn a_session_goes_through_to_the_core() -> Result<()> {
    let Some(pair) = pair(&[])? else { return Ok(()) };
    built_in_session(&pair.at_front)?;
    watch_session(&pair.at_front)?;
    // What was made in front lies in the core, and the other way round.
    pair.at_front.run(&["create", "configmap", "from-front"])?;
    pair.at_core.run(&["get", "configmap", "from-front"])?;
    pair.at_core.run(&["create", "configmap", "from-core"])?;
    pair.at_front.run(&["get", "configmap", "from-core"])?;
    ensure!(!pair.front.log().contains("panicked"), "{}", pair.front.log());
    Ok(())
}

#[test]
fn custom_resources_are_the_fronts_own() -> Result<()> {
    let Some(pair) = pair(&[])? else { return Ok(()) };
    custom_session(&pair.at_front)?;
    // The core knows nothing of them.
    pair.at_front.run(&["apply", "-f", "examples/crd.yaml"])?;
    let crds = pair.at_core.run(&["get", "crds", "-o", "name"])?;
    ensure!(!crds.contains("pipelines"), "{crds}");
    // They live in the core's namespaces, and end with them.
    pair.at_front.run(&["create", "namespace", "tour"])?;
    let object = "apiVersion: flow.example.com/v1\nkind: Pipeline\nmetadata: {name: toured}\n\
                  spec: {source: {url: 'https://x'}, steps: [{name: a, type: Map}]}\n";
    eventually(|| {
        pair.at_front
            .feed(&["apply", "-n", "tour", "-f", "-"], object)
            .map(drop)
    })?;
    pair.at_core.run(&["delete", "namespace", "tour", "--timeout=30s"])?;
    eventually(|| {
        let left = pair.at_front.run(&["get", "pipelines", "-A", "-o", "name"])?;
        ensure!(left.is_empty(), "{left}");
        Ok(())
    })?;
    let refused = pair.at_front.refused(&["apply", "-n", "tour", "-f", "-"], object)?;
    ensure!(refused.contains("\"tour\" not found"), "{refused}");
    Ok(())
}

#[test]
fn the_core_decides_who_may() -> Result<()> {
    let Some(pair) = pair(&[])? else { return Ok(()) };
    pair.at_front.run(&["apply", "-f", "examples/crd.yaml"])?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let user = Target::new(pair.front.address(), Some(USER_TOKEN.into()), None, false)?;
        let mut user = user.connect().await?;
        let pipelines = Call::get("/apis/flow.example.com/v1/namespaces/default/pipelines");
        let secrets = Call::get("/api/v1/namespaces/default/secrets");
        for call in [&pipelines, &secrets] {
            let (code, _) = user.call(call).await?;
            ensure!(code == 403, "{}: {code}", call.path);
        }
        // A role of the core, for a group of the front and one of its own.
        let mut admin = target(&pair.core)?.connect().await?;
        let rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default";
        let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "r"}, "rules": [
            {"apiGroups": ["flow.example.com"], "resources": ["pipelines"], "verbs": ["list"]},
            {"apiGroups": [""], "resources": ["secrets"], "verbs": ["list"]}]});
        let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "r"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"},
            "subjects": [{"kind": "User", "name": "suite-user", "apiGroup": "rbac.authorization.k8s.io"}]});
        for (plural, object) in [("roles", role), ("rolebindings", binding)] {
            let call = Call::send(Method::POST, format!("{rbac}/{plural}"), "application/json", object.to_string());
            admin.json(&call).await?;
        }
        let begun = std::time::Instant::now();
        for call in [&secrets, &pipelines] {
            loop {
                let (code, _) = user.call(call).await?;
                if code == 200 {
                    break;
                }
                // A refusal is believed for a moment.
                ensure!(begun.elapsed().as_secs() < 20, "{}: {code}", call.path);
                tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            }
        }
        // Whose token the front does not know, the core may.
        let account = "/api/v1/namespaces/default/serviceaccounts/default/token";
        let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}).to_string();
        let token = admin.json(&Call::send(Method::POST, account, "application/json", request)).await?;
        let token = token["status"]["token"].as_str().context("no token")?.to_owned();
        let account = Target::new(pair.front.address(), Some(token), None, false)?;
        let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}).to_string();
        let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
        let who = account.connect().await?.json(&Call::send(Method::POST, path, "application/json", review)).await?;
        ensure!(who["status"]["userInfo"]["username"] == "system:serviceaccount:default:default", "{who}");
        Ok(())
    })
}

#[test]
fn extension_apis_are_added_in_front() -> Result<()> {
    if own_address().is_none() {
        fairlead_tests::skip("there is no address besides loopback");
        return Ok(());
    }
    let Some(mut pair) = pair(&["--enable-aggregator-routing=true"])? else {
        return Ok(());
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let backend = Backend::start(&pair.front, "shipping.example.com", 0)?;
    runtime.block_on(async {
        // Its Service and EndpointSlice go to the core, through the front, and come back.
        let mut admin = target(&pair.front)?.connect().await?;
        backend.register(&mut admin).await?;
        backend.wait(&mut admin, "True").await
    })?;
    pair.at_core.run(&["get", "service", "shipping"])?;
    eventually(|| {
        let resources = pair.at_front.run(&["api-resources"])?;
        ensure!(
            resources.contains("parcels") && resources.contains("deployments"),
            "{resources}"
        );
        Ok(())
    })?;
    pair.at_front.run(&["get", "parcels"])?;
    eventually(|| pair.at_front.run(&["explain", "parcel.spec"]).map(drop))?;
    eventually(|| pair.at_front.run(&["explain", "deployment.spec.strategy"]).map(drop))?;
    ensure!(
        !pair.at_core.run(&["api-resources"])?.contains("parcels"),
        "the core knows parcels"
    );

    // Without the core its groups are refused, clearly and at once; those in front go on for whom they know.
    pair.core.stop()?;
    let refused = pair
        .at_front
        .refused(&["get", "--raw", "/api/v1/namespaces/default/configmaps"], "")?;
    ensure!(
        refused.contains("unable to handle the request") || refused.contains("error trying to reach"),
        "{refused}"
    );
    pair.at_front.run(&["get", "--raw", &backend.parcels()])?;
    Ok(())
}

#[test]
fn credentials_that_need_a_program_are_refused() -> Result<()> {
    let core = Server::start(&[])?;
    let text = std::fs::read_to_string(core.kubeconfig())?;
    let (before, _) = text
        .split_once("    client-certificate-data")
        .context("no certificate")?;
    let (_, after) = text.split_once("contexts:").context("no contexts")?;
    let file = core.path("exec.kubeconfig");
    std::fs::write(&file, format!("{before}    exec: {{command: aws}}\ncontexts:{after}"))?;
    let error = Server::start(&[&format!("--core-backend={}", file.display())])
        .err()
        .context("it started")?;
    ensure!(error.to_string().contains("programs are not run"), "{error}");
    Ok(())
}
