//! [`Config`]: what the flags mean, checked as far as it can be without touching anything.

pub mod audit;
pub mod election;
pub mod etcd;
pub mod kubelets;

use crate::controllers;
use crate::encryption::EncryptionFile;
use crate::flags::{Flags, ports};
use crate::sight::Sight;
use anyhow::{Context, Result, bail, ensure};
use audit::AuditSettings;
use etcd::EtcdSettings;
use fairlead_auth::authentication::request_header::IdentityHeaders;
use fairlead_builtin::Enabled;
use fairlead_controllers::election::Election;
use fairlead_gateway::policy::DiscoveryMode;
use fairlead_gateway::resolve::Target;
use fairlead_server::listener::DEFAULT_MAX_STREAMS;
use fairlead_server::tls::CertificateFiles;
use http::HeaderValue;
use ipnet::IpNet;
use regex::Regex;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// A validated configuration.
#[derive(Clone, Debug)]
pub struct Config {
    pub listen: SocketAddr,
    pub advertise: IpAddr,
    pub external_hostname: Option<String>,
    pub data: DataDir,
    /// Where objects are stored instead of with the data.
    pub etcd: Option<EtcdSettings>,
    pub encryption: Option<EncryptionFile>,
    /// What is audited, and where events go.
    pub audit: AuditSettings,
    /// How long overwritten and deleted values can still be read; zero for ever.
    pub compaction_window: Duration,
    /// How often the store's size is measured.
    pub measure_every: Duration,
    pub kubeconfig_out: Option<PathBuf>,
    pub ready_file: Option<PathBuf>,
    /// The loops that run, by name.
    pub controllers: Vec<&'static str>,
    /// Where several servers may run them.
    pub election: Option<Election>,
    pub verbosity: u8,
    pub tls: Tls,
    pub limits: Limits,
    pub allowed_origins: Vec<Regex>,
    pub strict_transport_security: Option<HeaderValue>,
    pub authentication: Authentication,
    pub service_accounts: ServiceAccounts,
    pub authorization_modes: Vec<Mode>,
    pub admission: AdmissionPlugins,
    pub network: Network,
    pub proxy_client: Option<CertificateFiles>,
    pub aggregator_routing: bool,
    /// The kubeconfig of what this server stands in front of.
    pub core_backend: Option<PathBuf>,
    pub aggregator_reject_redirects: bool,
    pub backends: Backends,
    pub kubelets: kubelets::Kubelets,
    /// `--runtime-config`.
    pub enabled: Enabled,
    /// What clients are shown of aggregated API servers that do not answer.
    pub aggregated_discovery: DiscoveryMode,
    /// What operators see.
    pub sight: Sight,
    pub event_ttl: Duration,
    pub allow_privileged: bool,
    /// Seconds: not ready, unreachable.
    pub tolerations: (i64, i64),
}

/// Where backends may be, beside what APIServices say.
#[derive(Clone, Debug, Default)]
pub struct Backends {
    /// By group or APIService name.
    pub addresses: Vec<(String, Target)>,
    pub allow_loopback: bool,
}

/// Where data lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DataDir {
    Directory(PathBuf),
    /// For tests: nothing outlives the process but keys, which lie in a directory all the same.
    Memory(PathBuf),
}

#[derive(Clone, Debug)]
pub struct Tls {
    /// Generated where none is given.
    pub certificate: Option<CertificateFiles>,
    /// Where a generated one is kept, if not with the data.
    pub directory: Option<PathBuf>,
    pub by_name: Vec<(Vec<String>, CertificateFiles)>,
    pub http2: bool,
    pub only_tls13: bool,
    pub max_streams: u32,
}

#[derive(Clone, Debug)]
pub struct Limits {
    pub request_timeout: Duration,
    pub min_request_timeout: Duration,
    pub reads_in_flight: usize,
    pub writes_in_flight: usize,
    pub shutdown_delay: Duration,
}

#[derive(Clone, Debug)]
pub struct Authentication {
    pub anonymous: bool,
    pub bootstrap_tokens: bool,
    pub token_file: Option<PathBuf>,
    pub client_ca: Option<PathBuf>,
    pub front_proxy: Option<FrontProxy>,
}

#[derive(Clone, Debug)]
pub struct FrontProxy {
    pub ca: PathBuf,
    pub allowed_names: Vec<String>,
    pub headers: IdentityHeaders,
}

#[derive(Clone, Debug)]
pub struct ServiceAccounts {
    /// The first issues; all are accepted.
    pub issuers: Vec<String>,
    pub audiences: Vec<String>,
    pub key_files: Vec<PathBuf>,
    pub signing_key: Option<PathBuf>,
    pub jwks_uri: Option<String>,
    pub max_expiration: Duration,
    pub extend_expiration: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Node,
    Rbac,
    AlwaysAllow,
    AlwaysDeny,
}

#[derive(Clone, Debug, Default)]
pub struct AdmissionPlugins {
    pub enable: Vec<String>,
    pub disable: Vec<String>,
}

#[derive(Clone, Debug)]
pub struct Network {
    /// One, or one of each family; the first is that of the `kubernetes` service.
    pub service_ranges: Vec<IpNet>,
    pub node_ports: (u16, u16),
    pub kubernetes_node_port: u16,
}

const DEFAULT_ISSUER: &str = "https://kubernetes.default.svc";
/// Upstream's default range, with its warning left out: every first start would show it.
const DEFAULT_SERVICE_RANGE: &str = "10.0.0.0/24";

impl Config {
    /// Judges the flags. Nothing is opened, bound or written.
    ///
    /// # Errors
    /// A value makes no sense, alone or beside another; the error names the flag.
    pub fn new(flags: &Flags) -> Result<Config> {
        let port = flags.int("secure-port");
        let port = u16::try_from(port)
            .ok()
            .with_context(|| format!("--secure-port={port} is not a port"))?;
        let bind = address(flags, "bind-address")?.unwrap_or(IpAddr::from([0, 0, 0, 0]));
        let advertise = match address(flags, "advertise-address")? {
            Some(address) => address,
            None if !bind.is_unspecified() && !bind.is_loopback() => bind,
            None => own_address(),
        };
        for name in ["authorization-config", "authentication-config"] {
            ensure!(flags.some(name).is_none(), "--{name} is not supported by this version");
        }
        Ok(Config {
            listen: SocketAddr::new(bind, port),
            advertise,
            external_hostname: flags.some("external-hostname").map(str::to_owned),
            data: DataDir::Directory(flags.some("data-dir").context("--data-dir must not be empty")?.into()),
            etcd: etcd::settings(flags)?,
            encryption: encryption(flags)?,
            audit: audit::settings(flags)?,
            compaction_window: flags.duration("etcd-compaction-interval"),
            measure_every: flags.duration("etcd-db-metric-poll-interval"),
            kubeconfig_out: flags.some("kubeconfig-out").map(PathBuf::from),
            ready_file: flags.some("ready-file").map(PathBuf::from),
            controllers: controllers(flags)?,
            election: election::settings(flags, !flags.list("etcd-servers").is_empty())?,
            verbosity: u8::try_from(flags.int("v")).unwrap_or(u8::MAX),
            tls: tls(flags)?,
            limits: Limits {
                request_timeout: flags.duration("request-timeout"),
                min_request_timeout: Duration::from_secs(flags.int("min-request-timeout").max(0).unsigned_abs()),
                reads_in_flight: count(flags, "max-requests-inflight")?,
                writes_in_flight: count(flags, "max-mutating-requests-inflight")?,
                shutdown_delay: flags.duration("shutdown-delay-duration"),
            },
            allowed_origins: flags
                .list("cors-allowed-origins")
                .iter()
                .map(|o| {
                    Regex::new(o).with_context(|| format!("--cors-allowed-origins={o} is not a regular expression"))
                })
                .collect::<Result<_>>()?,
            strict_transport_security: strict_transport_security(flags)?,
            authentication: authentication(flags)?,
            service_accounts: service_accounts(flags),
            authorization_modes: modes(flags)?,
            admission: AdmissionPlugins {
                enable: flags.list("enable-admission-plugins"),
                disable: flags.list("disable-admission-plugins"),
            },
            network: network(flags)?,
            proxy_client: pair(flags, "proxy-client-cert-file", "proxy-client-key-file")?,
            aggregator_routing: flags.bool("enable-aggregator-routing"),
            core_backend: flags.some("core-backend").map(PathBuf::from),
            aggregator_reject_redirects: flags.bool("aggregator-reject-forwarding-redirect"),
            backends: Backends {
                addresses: flags
                    .list("backend-address")
                    .iter()
                    .map(|a| backend_address(a))
                    .collect::<Result<_>>()?,
                allow_loopback: flags.bool("backend-allow-loopback"),
            },
            kubelets: kubelets::settings(flags)?,
            enabled: Enabled::parse(flags.list("runtime-config").iter().map(String::as_str))
                .map_err(anyhow::Error::msg)
                .context("--runtime-config")?,
            aggregated_discovery: match flags.text("aggregated-discovery") {
                "Upstream" => DiscoveryMode::Upstream,
                "LastKnown" => DiscoveryMode::LastKnown,
                other => bail!("--aggregated-discovery: {other:?} is neither Upstream nor LastKnown"),
            },
            sight: Sight::new(flags)?,
            event_ttl: flags.duration("event-ttl"),
            allow_privileged: !flags.given("allow-privileged") || flags.bool("allow-privileged"),
            tolerations: (
                flags.int("default-not-ready-toleration-seconds"),
                flags.int("default-unreachable-toleration-seconds"),
            ),
        })
    }

    /// The address of the `kubernetes` service: the first of the service range.
    pub fn service_address(&self) -> IpAddr {
        self.network
            .service_ranges
            .first()
            .and_then(|r| r.hosts().next())
            .unwrap_or(IpAddr::from([10, 0, 0, 1]))
    }
}

impl DataDir {
    /// Where keys lie.
    pub fn path(&self) -> &std::path::Path {
        match self {
            DataDir::Directory(path) | DataDir::Memory(path) => path,
        }
    }
}

fn controllers(flags: &Flags) -> Result<Vec<&'static str>> {
    let mut enabled = controllers::enabled(&flags.list("controllers"))?;
    enabled.retain(|name| *name != controllers::GARBAGE_COLLECTOR || flags.bool("enable-garbage-collector"));
    Ok(enabled)
}

fn encryption(flags: &Flags) -> Result<Option<EncryptionFile>> {
    let reload = flags.bool("encryption-provider-config-automatic-reload");
    let file = flags.some("encryption-provider-config").map(|path| EncryptionFile {
        path: path.into(),
        reload,
    });
    ensure!(
        file.is_some() || !reload,
        "--encryption-provider-config-automatic-reload must be set with --encryption-provider-config"
    );
    Ok(file)
}

fn address(flags: &Flags, name: &str) -> Result<Option<IpAddr>> {
    flags
        .some(name)
        .map(|text| {
            text.parse()
                .with_context(|| format!("--{name}={text} is not an address"))
        })
        .transpose()
}

/// `GROUP=host:port`.
fn backend_address(text: &str) -> Result<(String, Target)> {
    let wrong = || format!("--backend-address={text} must be GROUP=host:port");
    let (group, address) = text.split_once('=').with_context(wrong)?;
    ensure!(!group.is_empty(), wrong());
    let (host, port) = address.rsplit_once(':').with_context(wrong)?;
    let port: u16 = port.parse().ok().filter(|p| *p > 0).with_context(wrong)?;
    let host = host.trim_matches(['[', ']']);
    ensure!(!host.is_empty(), wrong());
    Ok((group.to_owned(), Target::new(host, port)))
}

fn count(flags: &Flags, name: &str) -> Result<usize> {
    let n = flags.int(name);
    usize::try_from(n)
        .ok()
        .with_context(|| format!("--{name}={n} must not be negative"))
}

/// Two flags that only make sense together.
fn pair(flags: &Flags, certificate: &str, key: &str) -> Result<Option<CertificateFiles>> {
    match (flags.some(certificate), flags.some(key)) {
        (Some(certificate), Some(key)) => Ok(Some(CertificateFiles {
            certificate: certificate.into(),
            key: key.into(),
        })),
        (None, None) => Ok(None),
        (Some(_), None) => bail!("--{certificate} needs --{key}"),
        (None, Some(_)) => bail!("--{key} needs --{certificate}"),
    }
}

fn tls(flags: &Flags) -> Result<Tls> {
    let only_tls13 = match flags.text("tls-min-version") {
        "" | "VersionTLS12" => false,
        "VersionTLS13" => true,
        other => bail!("--tls-min-version={other} must be VersionTLS12 or VersionTLS13"),
    };
    let mut by_name = Vec::new();
    for value in flags.list("tls-sni-cert-key") {
        let (files, names) = value.split_once(':').unwrap_or((&value, ""));
        let Some((certificate, key)) = files.split_once(',') else {
            bail!("--tls-sni-cert-key={value} must be certificate,key or certificate,key:names");
        };
        ensure!(!names.is_empty(), "--tls-sni-cert-key={value} must say for which names");
        let names = names.split(',').map(str::to_owned).collect();
        by_name.push((
            names,
            CertificateFiles {
                certificate: certificate.into(),
                key: key.into(),
            },
        ));
    }
    let streams = flags.int("http2-max-streams-per-connection");
    Ok(Tls {
        certificate: pair(flags, "tls-cert-file", "tls-private-key-file")?,
        directory: flags.some("cert-dir").map(PathBuf::from),
        by_name,
        http2: !flags.bool("disable-http2-serving"),
        only_tls13,
        max_streams: u32::try_from(streams)
            .ok()
            .filter(|s| *s > 0)
            .unwrap_or(DEFAULT_MAX_STREAMS),
    })
}

fn strict_transport_security(flags: &Flags) -> Result<Option<HeaderValue>> {
    let directives = flags.list("strict-transport-security-directives");
    if directives.is_empty() {
        return Ok(None);
    }
    for directive in &directives {
        let known = directive.starts_with("max-age=") || matches!(directive.as_str(), "includeSubDomains" | "preload");
        ensure!(
            known,
            "--strict-transport-security-directives: {directive:?} must be max-age=…, includeSubDomains or preload"
        );
    }
    let value = directives.join("; ");
    Ok(Some(HeaderValue::from_str(&value).context(
        "--strict-transport-security-directives cannot be a header",
    )?))
}

fn authentication(flags: &Flags) -> Result<Authentication> {
    ensure!(
        flags.some("oidc-issuer-url").is_none(),
        "--oidc-issuer-url is not supported by this version"
    );
    ensure!(
        flags.some("authentication-token-webhook-config-file").is_none(),
        "--authentication-token-webhook-config-file is not supported by this version"
    );
    let or = |name: &str, default: Vec<String>| match flags.list(name) {
        names if names.is_empty() => default,
        names => names,
    };
    let standard = IdentityHeaders::default();
    let front_proxy = flags.some("requestheader-client-ca-file").map(|ca| FrontProxy {
        ca: ca.into(),
        allowed_names: flags.list("requestheader-allowed-names"),
        headers: IdentityHeaders {
            username: or("requestheader-username-headers", standard.username),
            uid: or("requestheader-uid-headers", standard.uid),
            group: or("requestheader-group-headers", standard.group),
            extra_prefix: or("requestheader-extra-headers-prefix", standard.extra_prefix),
        },
    });
    Ok(Authentication {
        anonymous: flags.bool("anonymous-auth"),
        bootstrap_tokens: flags.bool("enable-bootstrap-token-auth"),
        token_file: flags.some("token-auth-file").map(PathBuf::from),
        client_ca: flags.some("client-ca-file").map(PathBuf::from),
        front_proxy,
    })
}

fn service_accounts(flags: &Flags) -> ServiceAccounts {
    let mut issuers = flags.list("service-account-issuer");
    if issuers.is_empty() {
        issuers.push(DEFAULT_ISSUER.into());
    }
    let mut audiences = flags.list("api-audiences");
    if audiences.is_empty() {
        audiences = issuers.clone();
    }
    ServiceAccounts {
        issuers,
        audiences,
        key_files: flags
            .list("service-account-key-file")
            .into_iter()
            .map(PathBuf::from)
            .collect(),
        signing_key: flags.some("service-account-signing-key-file").map(PathBuf::from),
        jwks_uri: flags.some("service-account-jwks-uri").map(str::to_owned),
        max_expiration: flags.duration("service-account-max-token-expiration"),
        extend_expiration: flags.bool("service-account-extend-token-expiration"),
    }
}

fn modes(flags: &Flags) -> Result<Vec<Mode>> {
    let names = flags.list("authorization-mode");
    if names.is_empty() {
        return Ok(vec![Mode::Node, Mode::Rbac]);
    }
    let mut modes = Vec::new();
    for name in names {
        let mode = match name.as_str() {
            "Node" => Mode::Node,
            "RBAC" => Mode::Rbac,
            "AlwaysAllow" => Mode::AlwaysAllow,
            "AlwaysDeny" => Mode::AlwaysDeny,
            "ABAC" | "Webhook" => bail!("--authorization-mode={name} is not supported by this version"),
            _ => bail!("--authorization-mode={name} is not an authorization mode"),
        };
        ensure!(!modes.contains(&mode), "--authorization-mode names {name} twice");
        modes.push(mode);
    }
    Ok(modes)
}

fn network(flags: &Flags) -> Result<Network> {
    let mut texts = flags.list("service-cluster-ip-range");
    if texts.is_empty() {
        texts.push(DEFAULT_SERVICE_RANGE.into());
    }
    ensure!(
        texts.len() <= 2,
        "--service-cluster-ip-range takes one range, or one of each family"
    );
    let mut service_ranges: Vec<IpNet> = Vec::new();
    for text in texts {
        let range: IpNet = text
            .parse()
            .with_context(|| format!("--service-cluster-ip-range={text} is not a range of addresses"))?;
        ensure!(
            range.prefix_len() <= range.max_prefix_len() - 2,
            "--service-cluster-ip-range={text} has too few addresses"
        );
        ensure!(
            service_ranges
                .iter()
                .all(|r| r.addr().is_ipv4() != range.addr().is_ipv4()),
            "--service-cluster-ip-range names two ranges of one family"
        );
        service_ranges.push(range.trunc());
    }
    let node_ports =
        ports(flags.text("service-node-port-range")).context("--service-node-port-range is not a range of ports")?;
    let node_port = flags.int("kubernetes-service-node-port");
    let kubernetes_node_port = u16::try_from(node_port)
        .ok()
        .with_context(|| format!("--kubernetes-service-node-port={node_port} is not a port"))?;
    Ok(Network {
        service_ranges,
        node_ports,
        kubernetes_node_port,
    })
}

/// The address packets to others would come from; loopback where there is no network. Nothing is sent.
fn own_address() -> IpAddr {
    let probe = || -> std::io::Result<IpAddr> {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
        socket.connect("192.0.2.1:9")?;
        Ok(socket.local_addr()?.ip())
    };
    probe().unwrap_or(IpAddr::from([127, 0, 0, 1]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(arguments: &[&str]) -> Result<Config> {
        Config::new(&Flags::parse(arguments.iter().map(|a| (*a).to_owned()))?)
    }

    #[test]
    fn no_flags_are_a_good_configuration() {
        let config = config(&[]).unwrap();
        assert_eq!(config.listen.port(), 6443);
        assert_eq!(config.authorization_modes, [Mode::Node, Mode::Rbac]);
        assert_eq!(config.service_address().to_string(), "10.0.0.1");
        assert!(config.controllers.contains(&controllers::NAMESPACE));
    }

    #[test]
    fn only_servers_that_share_a_store_elect_a_leader() {
        let election = |flags: &[&str]| config(flags).map(|config| config.election).map_err(|e| e.to_string());
        assert_eq!(election(&[]), Ok(None));
        let etcd = "--etcd-servers=http://127.0.0.1:2379";
        assert_eq!(election(&[etcd, "--leader-elect=false"]), Ok(None));
        let elected = election(&[etcd]).unwrap().unwrap();
        assert_eq!(
            (elected.namespace.as_str(), elected.lease.as_secs()),
            ("kube-system", 15)
        );
        let short = election(&[etcd, "--leader-elect-lease-duration=5s"]).unwrap_err();
        assert!(short.starts_with("--leader-elect-lease-duration"), "{short}");
    }

    #[test]
    fn controllers_can_be_left_out() {
        let runs = |flag: &str, name| config(&[flag]).unwrap().controllers.contains(&name);
        assert!(!runs("--controllers=*,-namespace", controllers::NAMESPACE));
        assert!(!runs("--controllers=", controllers::NAMESPACE));
        assert!(runs("--controllers=namespace", controllers::NAMESPACE));
        assert!(!runs(
            "--enable-garbage-collector=false",
            controllers::GARBAGE_COLLECTOR
        ));
    }

    #[test]
    fn errors_name_the_flag() {
        for (flag, word) in [
            ("--secure-port=70000", "--secure-port"),
            ("--tls-cert-file=a", "--tls-private-key-file"),
            ("--authorization-mode=Nope", "--authorization-mode=Nope"),
            ("--service-cluster-ip-range=10.0.0.0/31", "too few addresses"),
            (
                "--service-cluster-ip-range=10.0.0.0/24,10.1.0.0/24",
                "two ranges of one family",
            ),
            ("--controllers=nope", "--controllers"),
            ("--cors-allowed-origins=(", "--cors-allowed-origins"),
            ("--tls-min-version=VersionTLS10", "VersionTLS12"),
            ("--strict-transport-security-directives=x", "max-age"),
        ] {
            let error = config(&[flag]).unwrap_err().to_string();
            assert!(error.contains(word), "{flag}: {error}");
        }
    }
}
