//! A backend that dies: what stays known, what is told, and who is affected.

use crate::aggregation::{eventually, registered, registered_again, registered_with};
use anyhow::{Result, ensure};
use fairlead_tests::has;
use fairlead_tests::tools::Kubectl;

const PARCELS: &str = "/apis/shipping.example.com/v1alpha1/namespaces/default/parcels";
const VERSION: &str = "/apis/shipping.example.com/v1alpha1";
const AGGREGATED: &str = "/apis";

fn report(k: &Kubectl) -> Result<String> {
    k.run(&["get", "--raw", "/debug/aggregation?format=text"])
}

/// Waits until the report says this of the backend.
fn reported(k: &Kubectl, freshness: &str) -> Result<()> {
    eventually(|| {
        let text = report(k)?;
        let line = text.lines().find(|l| l.starts_with("shipping.example.com/v1alpha1 "));
        ensure!(line.is_some_and(|l| l.contains(freshness)), "{text}");
        Ok(())
    })
}

#[test]
fn kinds_of_a_dead_backend_stay_known_where_that_is_wished() -> Result<()> {
    let Some((server, k, extension)) = registered_with(&["--aggregated-discovery=LastKnown"])? else {
        return Ok(());
    };
    reported(&k, "Current")?;
    eventually(|| has(&k.run(&["explain", "parcel.spec"])?, "weightGrams"))?;
    let list = k.run(&["get", "--raw", VERSION])?;
    let port = extension.address.port();
    drop(extension);
    reported(&k, "Stale")?;
    // A client without a memory of its own: every document still has them.
    std::fs::remove_dir_all(server.path("home"))?;
    has(&k.run(&["api-resources"])?, "parcels")?;
    has(&k.run(&["explain", "parcel.spec"])?, "weightGrams")?;
    has(&k.run(&["get", "--raw", "/openapi/v2"])?, "shipping.example.com")?;
    let remembered = k.run(&["get", "--raw", VERSION])?;
    for word in ["\"parcels\"", "\"parcels/status\"", "\"Carrier\""] {
        ensure!(
            list.contains(word) == remembered.contains(word),
            "{word}: {list}\n{remembered}"
        );
    }
    has(
        &k.refused(&["get", "parcels"], "")?,
        "does not answer; what it serves is shown as it was last known",
    )?;
    has(&report(&k)?, "connection refused")?;
    // Unharmed: everybody else.
    k.run(&["create", "configmap", "unharmed"])?;
    let _again = registered_again(&server, &k, port)?;
    eventually(|| k.run(&["get", "parcels"]).map(drop))?;
    reported(&k, "Current")
}

#[test]
fn by_default_a_dead_backend_is_shown_as_upstream_does() -> Result<()> {
    let Some((server, k, extension)) = registered()? else {
        return Ok(());
    };
    reported(&k, "Current")?;
    drop(extension);
    reported(&k, "Stale")?;
    std::fs::remove_dir_all(server.path("home"))?;
    has(
        &k.refused(&["get", "--raw", VERSION], "")?,
        "unable to handle the request",
    )?;
    has(
        &k.refused(&["get", "--raw", PARCELS], "")?,
        "unable to handle the request",
    )?;
    // Its group is listed; clients leave out what is in it.
    has(&k.run(&["get", "--raw", AGGREGATED])?, "shipping.example.com")?;
    let known = k.command(&["api-resources"]).output()?;
    let known = String::from_utf8_lossy(&known.stdout);
    ensure!(known.contains("configmaps") && !known.contains("parcels"), "{known}");
    Ok(())
}

#[test]
fn garbage_is_collected_across_servers() -> Result<()> {
    let Some((_server, k, extension)) = registered()? else {
        return Ok(());
    };
    let uid = |object: &str| k.run(&["get", object, "-o", "jsonpath={.metadata.uid}"]);
    let gone = |object: &str| k.run(&["wait", "--for=delete", object, "--timeout=30s"]).map(drop);
    let parcel = |name: &str, owner: &str| -> Result<()> {
        let uid = uid(&format!("configmap/{owner}"))?;
        let manifest = format!(
            "apiVersion: shipping.example.com/v1alpha1\nkind: Parcel\nmetadata:\n  name: {name}\n  namespace: default\n  \
             ownerReferences: [{{apiVersion: v1, kind: ConfigMap, name: {owner}, uid: {uid}}}]\n\
             spec: {{carrier: post, destination: Main Street 1, weightGrams: 800}}\n"
        );
        eventually(|| k.feed(&["apply", "-f", "-"], &manifest).map(drop))
    };
    // A dependent there of an owner here.
    k.run(&["create", "configmap", "order"])?;
    parcel("ordered", "order")?;
    k.run(&["delete", "configmap", "order"])?;
    gone("parcel/ordered")?;
    // And orphaned, if that is asked for.
    k.run(&["create", "configmap", "gift"])?;
    parcel("given", "gift")?;
    eventually(|| {
        k.run(&["delete", "configmap", "gift", "--cascade=orphan", "--ignore-not-found"])?;
        let owners = k.run(&["get", "parcel/given", "-o", "jsonpath={.metadata.ownerReferences}"])?;
        ensure!(owners.is_empty() || owners == "[]", "{owners}");
        Ok(())
    })?;
    // A dependent here of an owner there.
    let owner = uid("parcel/given")?;
    let label = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: label\n  namespace: default\n  ownerReferences: \
         [{{apiVersion: shipping.example.com/v1alpha1, kind: Parcel, name: given, uid: {owner}}}]\n"
    );
    k.feed(&["create", "-f", "-"], &label)?;
    k.run(&["delete", "parcel", "given"])?;
    gone("configmap/label")?;
    // A backend that does not answer keeps nobody else's garbage.
    k.run(&["create", "configmap", "owner"])?;
    let uid = uid("configmap/owner")?;
    let owned = format!(
        "apiVersion: v1\nkind: Secret\nmetadata:\n  name: owned\n  namespace: default\n  ownerReferences: \
         [{{apiVersion: v1, kind: ConfigMap, name: owner, uid: {uid}}}]\n"
    );
    k.feed(&["create", "-f", "-"], &owned)?;
    drop(extension);
    k.run(&["delete", "configmap", "owner", "--cascade=foreground"])?;
    gone("secret/owned")
}
