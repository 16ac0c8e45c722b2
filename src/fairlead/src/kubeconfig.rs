//! The administrator's kubeconfig.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

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
