//! What pods on Windows are checked for.
// PERFORMANCE: per-request path

use super::super::at::At;
use fairlead_api::{FieldErrors, Node, name};

const SPEC_LIMIT: usize = 64 * 1024;
const DOMAIN_LIMIT: usize = 256;
const USER_LIMIT: usize = 104;

/// `windowsOptions` of a security context.
pub fn options(context: &At, errors: &mut FieldErrors) {
    let Some(options) = context.get("windowsOptions") else {
        return;
    };
    if let Some(spec_name) = options.text("gmsaCredentialSpecName") {
        let complaints = name::is_dns1123_subdomain(spec_name);
        options.complain("gmsaCredentialSpecName", spec_name, complaints, errors);
    }
    if let Some(spec) = options.text("gmsaCredentialSpec") {
        if spec.is_empty() {
            let detail = "gmsaCredentialSpec cannot be an empty string";
            options.invalid("gmsaCredentialSpec", spec, detail, errors);
        } else if spec.len() > SPEC_LIMIT {
            let detail = "gmsaCredentialSpec size must be under 64 KiB";
            options.invalid("gmsaCredentialSpec", spec, detail, errors);
        }
    }
    if let Some(user) = options.text("runAsUserName") {
        for complaint in user_name(user) {
            options.invalid("runAsUserName", user, complaint, errors);
        }
    }
}

/// `user` or `domain\user`.
fn user_name(text: &str) -> Vec<String> {
    let one = |complaint: &str| vec![complaint.to_owned()];
    if text.is_empty() {
        return one("runAsUserName cannot be an empty string");
    }
    if text.chars().any(|c| c.is_ascii_control()) {
        return one("runAsUserName cannot contain control characters");
    }
    let parts: Vec<&str> = text.split('\\').collect();
    let (domain, user) = match parts.as_slice() {
        [user] => (None, *user),
        [domain, user] => (Some(*domain), *user),
        _ => return one("runAsUserName cannot contain more than one backslash"),
    };
    let mut complaints = Vec::new();
    if let Some(domain) = domain {
        if domain.len() >= DOMAIN_LIMIT {
            complaints.push(format!(
                "runAsUserName's Domain length must be under {DOMAIN_LIMIT} characters"
            ));
        }
        if !is_net_bios(domain) && !is_dns(domain) {
            complaints.push("runAsUserName's Domain doesn't match the NetBios nor the DNS format".into());
        }
    }
    if user.is_empty() {
        complaints.push("runAsUserName's User cannot be empty".into());
    } else if user.len() > USER_LIMIT {
        complaints.push(format!(
            "runAsUserName's User length must not be longer than {USER_LIMIT} characters"
        ));
    }
    if !user.is_empty() && user.bytes().all(|b| b == b'.' || b == b' ') {
        complaints.push("runAsUserName's User cannot contain only periods or spaces".into());
    }
    if user.contains(|c| "\"/\\:;|=,+*?<>@[]".contains(c)) {
        complaints.push(r#"runAsUserName's User cannot contain the following characters: "/\:;|=,+*?<>@[]"#.into());
    }
    complaints
}

fn is_net_bios(domain: &str) -> bool {
    let length = domain.chars().count();
    (1..=15).contains(&length) && !domain.starts_with('.') && !domain.contains(|c| "\\/:*?\"<>|".contains(c))
}

fn is_dns(domain: &str) -> bool {
    domain.split('.').all(|label| {
        let bytes = label.as_bytes();
        label.len() <= 63
            && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
            && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
            && bytes.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-')
    })
}

/// Processes of the host: all containers or none, on the host's network.
pub fn host_process(spec: &At, errors: &mut FieldErrors) {
    const PATH: &[&str] = &["securityContext", "windowsOptions", "hostProcess"];
    let of_pod = spec.node.at(PATH).and_then(Node::as_bool);
    let (mut all, mut host) = (0, 0);
    for container in super::each_container(spec) {
        all += 1;
        let own = container.node.at(PATH).and_then(Node::as_bool);
        if let (Some(pod), Some(own)) = (of_pod, own)
            && pod != own
        {
            let path = container
                .path_of("securityContext")
                .child("windowsOptions")
                .child("hostProcess");
            let detail = format!("pod hostProcess value must be identical if both are specified, was {pod}");
            errors.push(fairlead_api::FieldError::invalid(&path, own, detail));
        }
        if own.or(of_pod) == Some(true) {
            host += 1;
        }
    }
    if host == 0 {
        return;
    }
    if host != all {
        let detail = "If pod contains any hostProcess containers then all containers must be HostProcess containers";
        spec.invalid("", "", detail, errors);
    }
    if !spec.flag("hostNetwork") {
        let detail = "hostNetwork must be true if pod contains any hostProcess containers";
        spec.invalid("hostNetwork", false, detail, errors);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_names_may_have_a_domain() {
        for good in ["user", "DOMAIN\\user", "example.com\\user.name"] {
            assert!(user_name(good).is_empty(), "{good}");
        }
        for bad in ["", "a\\b\\c", "\\user", "d\\", "...", "a@b", "a\nb"] {
            assert!(!user_name(bad).is_empty(), "{bad}");
        }
    }
}
