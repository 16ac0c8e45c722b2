//! Kubeconfigs: the administrator's is written, any is read.

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fairlead_api::Node;
use fairlead_codec::yaml;
use std::path::Path;

/// Where to go and what to show.
pub struct Admin<'a> {
    /// `https://127.0.0.1:6443`
    pub server: &'a str,
    pub authority_pem: &'a str,
    pub certificate_pem: &'a str,
    pub key_pem: &'a str,
}

/// A kubeconfig with everything in it.
pub fn write(admin: &Admin) -> String {
    format!(
        "apiVersion: v1\n\
         kind: Config\n\
         clusters:\n\
         - name: fairlead\n\
         \x20 cluster:\n\
         \x20   server: {}\n\
         \x20   certificate-authority-data: {}\n\
         users:\n\
         - name: admin\n\
         \x20 user:\n\
         \x20   client-certificate-data: {}\n\
         \x20   client-key-data: {}\n\
         contexts:\n\
         - name: fairlead\n\
         \x20 context:\n\
         \x20   cluster: fairlead\n\
         \x20   user: admin\n\
         current-context: fairlead\n",
        admin.server,
        STANDARD.encode(admin.authority_pem),
        STANDARD.encode(admin.certificate_pem),
        STANDARD.encode(admin.key_pem),
    )
}

/// What a kubeconfig's current context says.
#[derive(Debug, Default)]
pub struct Target {
    pub server: String,
    /// Whom to trust, in PEM; `None` for the system's roots.
    pub authority: Option<Vec<u8>>,
    pub insecure: bool,
    /// Certificate and key, in PEM.
    pub certificate: Option<(Vec<u8>, Vec<u8>)>,
    pub token: Option<String>,
}

/// Reads a kubeconfig's current context.
///
/// # Errors
/// The file cannot be read, or what is missing in it. Credentials that other programs make are not supported.
pub fn read(path: &Path) -> Result<Target> {
    let shown = path.display();
    let text = std::fs::read(path).with_context(|| format!("cannot read {shown}"))?;
    let config = yaml::parse(&text).with_context(|| format!("{shown} is not a kubeconfig"))?;
    let named = |list: &str, name: &str, what: &str| {
        let entry = config.list(list).iter().find(|entry| entry.str("name") == name);
        entry
            .and_then(|entry| entry.get(what))
            .with_context(|| format!("{shown} has no {what} {name:?}"))
    };
    let context = named("contexts", config.str("current-context"), "context")?;
    let cluster = named("clusters", context.str("cluster"), "cluster")?;
    let user = named("users", context.str("user"), "user")?;
    ensure!(
        user.get("exec").is_none() && user.get("auth-provider").is_none(),
        "{shown}: credentials made by another program are not supported, give a client certificate or a token"
    );
    let directory = path.parent().unwrap_or(Path::new(""));
    // The data wins over the file.
    let bytes = |of: &Node, field: &str| -> Result<Option<Vec<u8>>> {
        let data = of.str(&format!("{field}-data"));
        let file = of.str(field);
        Ok(match (data, file) {
            ("", "") => None,
            ("", file) => {
                let file = directory.join(file);
                Some(std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?)
            }
            (data, _) => {
                let bytes = STANDARD.decode(data.replace(['\n', '\r'], ""));
                Some(bytes.with_context(|| format!("{shown}: {field}-data is not base64"))?)
            }
        })
    };
    let token = match (user.str("token"), user.str("tokenFile")) {
        ("", "") => None,
        ("", file) => {
            let file = directory.join(file);
            let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
            Some(text.trim().to_owned())
        }
        (token, _) => Some(token.to_owned()),
    };
    Ok(Target {
        server: cluster.str("server").to_owned(),
        authority: bytes(cluster, "certificate-authority")?,
        insecure: cluster.get("insecure-skip-tls-verify").and_then(Node::as_bool) == Some(true),
        certificate: bytes(user, "client-certificate")?.zip(bytes(user, "client-key")?),
        token,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_can_be_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config");
        let text = write(&Admin {
            server: "https://127.0.0.1:6443",
            authority_pem: "authority",
            certificate_pem: "certificate",
            key_pem: "key",
        });
        std::fs::write(&path, &text).unwrap();
        let target = read(&path).unwrap();
        assert_eq!(target.server, "https://127.0.0.1:6443");
        assert_eq!(target.authority.as_deref(), Some(&b"authority"[..]));
        assert_eq!(target.certificate, Some((b"certificate".to_vec(), b"key".to_vec())));
        std::fs::write(&path, text.replace("current-context: fairlead", "current-context: x")).unwrap();
        assert!(read(&path).unwrap_err().to_string().ends_with("has no context \"x\""));
    }
}
