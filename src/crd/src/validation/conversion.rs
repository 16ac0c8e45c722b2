//! `spec.conversion`.

use super::options::Options;
use super::props::present;
use base64::Engine;
use fairlead_api::name::is_dns1035_label;
use fairlead_api::{FieldError, FieldErrors, FieldPath, Node, webhook};

const REVIEWS: [&str; 2] = ["v1", "v1beta1"];

pub fn check(spec: &Node, options: &Options, path: &FieldPath) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let Some(conversion) = present(spec, "conversion") else {
        return errors;
    };
    let strategy = conversion.str("strategy");
    match strategy {
        "" => errors.push(FieldError::required(&path.child("strategy"), "")),
        "None" | "Webhook" => {}
        other => errors.push(FieldError::not_supported(
            &path.child("strategy"),
            other,
            &["None", "Webhook"],
        )),
    }
    let (at, reviews_at) = (
        path.child("webhookClientConfig"),
        path.child("conversionReviewVersions"),
    );
    let webhook = present(conversion, "webhook");
    let client = webhook.and_then(|w| present(w, "clientConfig"));
    let reviews = webhook.map_or(&[][..], |w| w.list("conversionReviewVersions"));
    if strategy == "Webhook" {
        match client {
            None => errors.push(FieldError::required(&at, "required when strategy is set to Webhook")),
            Some(client) => client_config(client, options, &at, &mut errors),
        }
        review_versions(reviews, options, &reviews_at, &mut errors);
    } else {
        let detail = "should not be set when strategy is not set to Webhook";
        if client.is_some() {
            errors.push(FieldError::forbidden(&at, detail));
        }
        if !reviews.is_empty() {
            errors.push(FieldError::forbidden(&reviews_at, detail));
        }
    }
    errors
}

fn client_config(client: &Node, options: &Options, path: &FieldPath, errors: &mut FieldErrors) {
    match (present(client, "url"), present(client, "service")) {
        (Some(url), None) => {
            errors.extend(webhook::validate_url(
                url.as_str().unwrap_or_default(),
                &path.child("url"),
            ));
        }
        (None, Some(service)) => errors.extend(webhook::validate_service(service, &path.child("service"))),
        _ => errors.push(FieldError::required(path, "exactly one of url or service is required")),
    }
    let bundle = client.str("caBundle");
    if !bundle.is_empty()
        && !options.broken_ca
        && let Some(why) = broken_ca(bundle)
    {
        errors.push(FieldError::invalid(&path.child("caBundle"), bundle, why));
    }
}

fn review_versions(versions: &[Node], options: &Options, path: &FieldPath, errors: &mut FieldErrors) {
    if versions.is_empty() {
        errors.push(FieldError::required(path, ""));
        return;
    }
    for (i, version) in versions.iter().enumerate() {
        let name = version.as_str().unwrap_or_default();
        if versions[..i].contains(version) {
            errors.push(FieldError::invalid(&path.index(i), name, "duplicate version"));
            continue;
        }
        for complaint in is_dns1035_label(name) {
            errors.push(FieldError::invalid(&path.index(i), name, complaint));
        }
    }
    if options.recognized_reviews && !recognized(versions) {
        let detail = format!("must include at least one of {}", REVIEWS.join(", "));
        errors.push(FieldError::invalid(path, versions.to_vec(), detail));
    }
}

fn recognized(versions: &[Node]) -> bool {
    versions.iter().filter_map(Node::as_str).any(|v| REVIEWS.contains(&v))
}

/// Whether a stored definition names a version of reviews that this server speaks, or none at all.
pub fn has_recognized_or_no_reviews(spec: &Node) -> bool {
    let versions = spec
        .at(&["conversion", "webhook"])
        .map_or(&[][..], |w| w.list("conversionReviewVersions"));
    versions.is_empty() || recognized(versions)
}

/// Whether a stored definition has a CA bundle that is none.
pub fn has_broken_ca(spec: &Node) -> bool {
    let bundle = spec.str_at(&["conversion", "webhook", "clientConfig", "caBundle"]);
    !bundle.is_empty() && broken_ca(bundle).is_some()
}

/// What is wrong with base64 of PEM certificates, as Go's TLS configuration says it.
fn broken_ca(bundle: &str) -> Option<&'static str> {
    let bytes = base64::engine::general_purpose::STANDARD.decode(bundle).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    // One certificate is enough for Go; anything around it is skipped.
    let block = |kind: &str| text.contains(&format!("-----BEGIN {kind}")) && text.contains(&format!("-----END {kind}"));
    if block("CERTIFICATE-----") {
        None
    } else if block("") {
        Some("unable to load root certificates: no valid certificate authority data seen")
    } else {
        Some("unable to load root certificates: unable to parse bytes as PEM block")
    }
}
