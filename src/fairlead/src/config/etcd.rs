//! The flags about etcd.

use crate::flags::Flags;
use anyhow::{Context, Result, bail, ensure};
use fairlead_api::GroupResource;
use fairlead_resource::at_rest::Form;
use fairlead_storage::etcd::Tls;
use std::path::PathBuf;
use std::time::Duration;

/// One or more etcd clusters to store objects in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdSettings {
    /// The nearest first.
    pub servers: Vec<String>,
    /// Resources that live in other clusters.
    pub overrides: Vec<Override>,
    pub prefix: String,
    pub tls: Option<Tls>,
    /// Between two compactions; `None` where somebody else compacts.
    pub compaction_interval: Option<Duration>,
    pub health_timeout: Duration,
    pub ready_timeout: Duration,
    /// How long objects that expire may share a lease.
    pub lease_reuse: Duration,
    /// What built-in kinds are written as.
    pub form: Form,
}

/// Where the objects of one resource live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    pub resource: GroupResource,
    pub servers: Vec<String>,
}

/// The settings; `None` where objects are stored under `--data-dir`.
///
/// # Errors
/// A value makes no sense; the error names the flag.
pub fn settings(flags: &Flags) -> Result<Option<EtcdSettings>> {
    let servers = flags.list("etcd-servers");
    let form = match flags.text("storage-media-type") {
        "application/vnd.kubernetes.protobuf" => Form::Protobuf,
        // JSON is YAML, too.
        "application/json" | "application/yaml" => Form::Json,
        other => bail!(
            "--storage-media-type={other} must be application/json, application/yaml or \
             application/vnd.kubernetes.protobuf"
        ),
    };
    match (flags.text("storage-backend"), servers.is_empty()) {
        ("" | "fairlead", true) => {
            let overrides = flags.list("etcd-servers-overrides");
            ensure!(overrides.is_empty(), "--etcd-servers-overrides needs --etcd-servers");
            return Ok(None);
        }
        ("" | "etcd3", false) => {}
        ("etcd3", true) => bail!("--storage-backend=etcd3 needs --etcd-servers"),
        ("fairlead", false) => bail!("--storage-backend=fairlead excludes --etcd-servers"),
        (other, _) => bail!("--storage-backend={other} must be etcd3 or fairlead"),
    }
    for server in &servers {
        check(server).with_context(|| format!("--etcd-servers={server}"))?;
    }
    let seconds = flags.int("lease-reuse-duration-seconds");
    Ok(Some(EtcdSettings {
        servers,
        overrides: overrides(flags)?,
        prefix: flags.text("etcd-prefix").to_owned(),
        tls: tls(flags)?,
        compaction_interval: Some(flags.duration("etcd-compaction-interval")).filter(|interval| !interval.is_zero()),
        health_timeout: flags.duration("etcd-healthcheck-timeout"),
        ready_timeout: flags.duration("etcd-readycheck-timeout"),
        lease_reuse: Duration::from_secs(seconds.max(0).unsigned_abs()),
        form,
    }))
}

fn check(server: &str) -> Result<()> {
    let scheme = server.split_once("://").map_or("http", |(scheme, _)| scheme);
    ensure!(matches!(scheme, "http" | "https"), "the scheme must be http or https");
    let address = server.rsplit("://").next().unwrap_or(server);
    ensure!(
        !address.is_empty() && !address.contains('/'),
        "must be scheme://host:port"
    );
    Ok(())
}

fn tls(flags: &Flags) -> Result<Option<Tls>> {
    let file = |name| flags.some(name).map(PathBuf::from);
    let identity = match (file("etcd-certfile"), file("etcd-keyfile")) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        (Some(_), None) => bail!("--etcd-certfile needs --etcd-keyfile"),
        (None, Some(_)) => bail!("--etcd-keyfile needs --etcd-certfile"),
    };
    let tls = Tls {
        ca: file("etcd-cafile"),
        identity,
    };
    Ok(Some(tls).filter(|tls| *tls != Tls::default()))
}

/// `group/resource#server;server`, several of them separated by commas.
fn overrides(flags: &Flags) -> Result<Vec<Override>> {
    let parse = |text: &String| {
        let wrong = || format!("--etcd-servers-overrides={text} must be group/resource#servers");
        let (resource, servers) = text.split_once('#').with_context(wrong)?;
        let (group, plural) = resource.split_once('/').with_context(wrong)?;
        ensure!(
            !plural.is_empty() && !plural.contains('/') && !servers.contains('#'),
            wrong()
        );
        let servers: Vec<String> = servers
            .split(';')
            .filter(|server| !server.is_empty())
            .map(str::to_owned)
            .collect();
        ensure!(!servers.is_empty(), wrong());
        for server in &servers {
            check(server).with_context(wrong)?;
        }
        Ok(Override {
            resource: GroupResource::new(group, plural),
            servers,
        })
    };
    flags.list("etcd-servers-overrides").iter().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(arguments: &[&str]) -> Result<Option<EtcdSettings>> {
        settings(&Flags::parse(arguments.iter().map(|a| (*a).to_owned()))?)
    }

    #[test]
    fn without_servers_there_is_no_etcd() {
        assert_eq!(of(&[]).unwrap(), None);
        assert_eq!(of(&["--storage-backend=fairlead"]).unwrap(), None);
    }

    #[test]
    fn flags_mean_what_they_mean_upstream() {
        let etcd = of(&[
            "--etcd-servers=https://a:2379,https://b:2379",
            "--etcd-servers-overrides=/events#http://c:1;http://d:2,apps/deployments#http://e:3",
            "--etcd-cafile=ca",
            "--etcd-certfile=cert",
            "--etcd-keyfile=key",
            "--etcd-compaction-interval=0",
            "--storage-backend=etcd3",
        ]);
        let etcd = etcd.unwrap().unwrap();
        assert_eq!(etcd.servers, ["https://a:2379", "https://b:2379"]);
        assert_eq!(etcd.overrides[0].resource, GroupResource::new("", "events"));
        assert_eq!(etcd.overrides[0].servers, ["http://c:1", "http://d:2"]);
        assert_eq!(etcd.overrides[1].resource, GroupResource::new("apps", "deployments"));
        assert_eq!((etcd.compaction_interval, etcd.form), (None, Form::Protobuf));
        assert_eq!((etcd.prefix.as_str(), etcd.lease_reuse.as_secs()), ("/registry", 60));
        assert_eq!(etcd.tls.unwrap().identity, Some(("cert".into(), "key".into())));
    }

    #[test]
    fn mistakes_name_the_flag() {
        let servers = "--etcd-servers=http://a:1";
        for (arguments, word) in [
            (vec!["--etcd-servers=unix://a"], "--etcd-servers=unix"),
            (vec!["--storage-backend=etcd3"], "--etcd-servers"),
            (vec!["--storage-backend=sql", servers], "--storage-backend=sql"),
            (vec!["--etcd-certfile=a", servers], "--etcd-keyfile"),
            (
                vec!["--storage-media-type=text/plain", servers],
                "--storage-media-type=text/plain",
            ),
            (
                vec!["--etcd-servers-overrides=/events#http://c:1"],
                "needs --etcd-servers",
            ),
            (
                vec![servers, "--etcd-servers-overrides=events#http://c:1"],
                "group/resource#servers",
            ),
            (
                vec![servers, "--etcd-servers-overrides=/events#"],
                "group/resource#servers",
            ),
        ] {
            let error = format!("{:#}", of(&arguments).unwrap_err());
            assert!(error.contains(word), "{arguments:?}: {error}");
        }
    }
}
