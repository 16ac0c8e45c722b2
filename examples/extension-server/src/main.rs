//! Flags and start-up.

use anyhow::{Context, bail};
use extension_server::faults::Faults;
use extension_server::rename::Rename;
use extension_server::{GROUP, Options, serve, tls};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

const USAGE: &str = "extension-server: serves shipping.example.com/v1alpha1 behind an API aggregator

  --port PORT                               port to listen on (default 8443; 0 picks a free one)
  --bind-address ADDRESS                    address to listen on (default 0.0.0.0)
  --cert-file FILE --key-file FILE          serving certificate; without them one is made at start
  --dns-name NAME                           name in the made certificate, repeatable (default shipping.default.svc)
  --print-ca FILE                           write the CA of the made certificate to FILE ('-' for standard output)
  --requestheader-client-ca-file FILE       CA of the front proxy's client certificate
  --requestheader-allowed-names NAME,...    common names that may speak for users (default: any the CA signed)
  --group NAME                              serve the API under this group's name, for tests
  --copies N                                serve N times in one process, at a port and under a group cI.NAME each, for
                                            tests with many backends
  --faults ADDRESS                          take orders to misbehave here, for tests (see src/faults.rs)";

#[derive(Default)]
struct Flags {
    port: Option<u16>,
    bind_address: Option<IpAddr>,
    cert_file: Option<String>,
    key_file: Option<String>,
    dns_names: Vec<String>,
    print_ca: Option<String>,
    client_ca_file: Option<String>,
    allowed_names: Vec<String>,
    faults: Option<SocketAddr>,
    group: Option<String>,
    copies: Option<usize>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Some(flags) = parse(std::env::args().skip(1))? else {
        println!("{USAGE}");
        return Ok(());
    };
    let identity = match (&flags.cert_file, &flags.key_file) {
        (Some(cert), Some(key)) => tls::Identity::from_files(cert, key)?,
        (None, None) => {
            let names = if flags.dns_names.is_empty() {
                vec!["shipping.default.svc".into()]
            } else {
                flags.dns_names
            };
            tls::Identity::self_signed(&names)?
        }
        _ => bail!("--cert-file and --key-file belong together"),
    };
    match flags.print_ca.as_deref() {
        Some("-") => print!("{}", identity.ca_pem),
        Some(file) => {
            std::fs::write(file, &identity.ca_pem).with_context(|| format!("--print-ca: cannot write {file}"))?
        }
        None => {}
    }
    let client_ca = match &flags.client_ca_file {
        Some(file) => {
            Some(std::fs::read(file).with_context(|| format!("--requestheader-client-ca-file: cannot read {file}"))?)
        }
        None => {
            eprintln!("no --requestheader-client-ca-file: every request is served, as system:anonymous");
            None
        }
    };
    let control = match flags.faults {
        Some(address) => Some(
            TcpListener::bind(address)
                .await
                .with_context(|| format!("--faults: cannot listen on {address}"))?,
        ),
        None => None,
    };
    if let Some(control) = &control {
        eprintln!("faults at http://{}", control.local_addr()?);
    }
    let tls = Arc::new(tls::server_config(&identity, client_ca.as_deref())?);
    let group = flags.group.as_deref().unwrap_or(GROUP);
    let groups: Vec<Option<String>> = match flags.copies {
        None => vec![flags.group.clone()],
        Some(copies) => (0..copies).map(|i| Some(format!("c{i}.{group}"))).collect(),
    };
    let host = flags.bind_address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let port = flags.port.unwrap_or(8443);
    let (mut all, mut serving) = (Vec::new(), JoinSet::new());
    for (i, group) in groups.iter().enumerate() {
        let port = match port {
            0 => 0,
            first => u16::try_from(usize::from(first) + i).context("there are not so many ports")?,
        };
        let listener = TcpListener::bind((host, port))
            .await
            .with_context(|| format!("cannot listen on {host}:{port}"))?;
        eprintln!("serving on https://{}", listener.local_addr()?);
        let options = Options {
            tls: tls.clone(),
            front_proxy: client_ca.is_some(),
            allowed_names: flags.allowed_names.clone(),
            faults: Faults::default(),
            rename: group.as_deref().map(Rename::new),
        };
        all.push(options.faults.clone());
        serving.spawn(serve(listener, options));
    }
    let orders = async move {
        match control {
            Some(control) => Faults::take_orders(all, control).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = serving.join_next() => {}
        () = orders => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    Ok(())
}

/// Reads `--name value` and `--name=value`; `None` when help is asked for.
fn parse(mut arguments: impl Iterator<Item = String>) -> anyhow::Result<Option<Flags>> {
    let mut flags = Flags::default();
    while let Some(argument) = arguments.next() {
        if argument == "--help" || argument == "-h" {
            return Ok(None);
        }
        let (name, value) = match argument.split_once('=') {
            Some((name, value)) => (name.to_owned(), value.to_owned()),
            None => {
                let value = arguments.next().with_context(|| format!("{argument} needs a value"))?;
                (argument, value)
            }
        };
        match name.as_str() {
            "--port" => flags.port = Some(value.parse().with_context(|| format!("--port: {value:?} is no port"))?),
            "--bind-address" => {
                flags.bind_address = Some(
                    value
                        .parse()
                        .with_context(|| format!("--bind-address: {value:?} is no address"))?,
                );
            }
            "--cert-file" => flags.cert_file = Some(value),
            "--key-file" => flags.key_file = Some(value),
            "--faults" => {
                flags.faults = Some(
                    value
                        .parse()
                        .with_context(|| format!("--faults: {value:?} is no address"))?,
                );
            }
            "--copies" => {
                flags.copies = Some(
                    value
                        .parse()
                        .with_context(|| format!("--copies: {value:?} is no number"))?,
                );
            }
            "--group" => flags.group = Some(value),
            "--dns-name" => flags.dns_names.push(value),
            "--print-ca" => flags.print_ca = Some(value),
            "--requestheader-client-ca-file" => flags.client_ca_file = Some(value),
            "--requestheader-allowed-names" => {
                flags
                    .allowed_names
                    .extend(value.split(',').filter(|n| !n.is_empty()).map(str::to_owned));
            }
            _ => bail!("unknown flag {name}\n\n{USAGE}"),
        }
    }
    Ok(Some(flags))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> anyhow::Result<Option<Flags>> {
        parse(arguments.iter().map(|a| (*a).to_owned()))
    }

    #[test]
    fn both_ways_to_give_a_value() {
        let flags = parsed(&["--port=1", "--requestheader-allowed-names", "a,b"])
            .unwrap()
            .unwrap();
        assert_eq!(flags.port, Some(1));
        assert_eq!(flags.allowed_names, ["a", "b"]);
        assert!(parsed(&["--port", "x"]).is_err());
        assert!(parsed(&["--prot", "1"]).is_err());
        assert!(parsed(&["--help"]).unwrap().is_none());
    }
}
