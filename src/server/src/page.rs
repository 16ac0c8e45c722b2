//! `/ui/`: the operators' page. Its files hold no data and are anybody's; what they show, they ask for as their user.

use crate::body::Response;
use crate::encode;
use crate::request::Known;
use bytes::Bytes;
use fairlead_ui::Asset;
use flate2::write::GzDecoder;
use http::header::{
    CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderName, IF_NONE_MATCH, LOCATION,
    REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderValue, Method, StatusCode};
use std::io::Write;

/// Where the page is.
const PREFIX: &str = "/ui/";

/// Whether a request is for the page's files, which every client may have. The path is as it was sent: what has to be
/// decoded is none of them.
pub fn is_file(method: &Method, path: &str) -> bool {
    let known = path == "/ui"
        || path
            .strip_prefix(PREFIX)
            .is_some_and(|rest| fairlead_ui::asset(rest).is_some());
    matches!(*method, Method::GET | Method::HEAD) && known
}

/// Answers a path of the page; `None` where it has none such.
pub fn serve(known: &Known) -> Option<Response> {
    if !is_file(&known.parts.method, &known.info.path) {
        return None;
    }
    let Some(rest) = known.info.path.strip_prefix(PREFIX) else {
        let mut moved = encode::whole(308, "text/plain; charset=utf-8", Bytes::new(), false);
        moved.headers_mut().insert(LOCATION, HeaderValue::from_static(PREFIX));
        return Some(moved);
    };
    Some(file(fairlead_ui::asset(rest)?, known))
}

fn file(asset: Asset, known: &Known) -> Response {
    let tag = format!("\"{:016x}\"", fingerprint(asset.bytes));
    let unchanged = known.header(IF_NONE_MATCH) == tag;
    let zipped = asset.gzip && encode::accepts_gzip(&known.parts.headers);
    let bytes: Bytes = match (unchanged, asset.gzip, zipped) {
        (true, ..) => Bytes::new(),
        (_, true, false) => unzipped(asset.bytes),
        _ => Bytes::from_static(asset.bytes),
    };
    let mut response = encode::whole(200, asset.content_type, bytes, false);
    if unchanged {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(asset.content_type));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(asset.policy));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    for (name, value) in [
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
        ("permissions-policy", "camera=(), geolocation=(), microphone=()"),
    ] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(ETAG, tag);
    }
    if asset.gzip {
        headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
    }
    if zipped {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

fn unzipped(bytes: &[u8]) -> Bytes {
    let mut decoder = GzDecoder::new(Vec::new());
    let whole = decoder.write_all(bytes).and_then(|()| decoder.finish());
    whole.expect("the build made this gzip").into()
}

/// Tells versions of a file apart (FNV-1a).
fn fingerprint(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, b| {
        (hash ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filters::request_info::tests::known;
    use http_body_util::BodyExt;

    #[test]
    fn only_its_files_are_anybodys() {
        assert!(is_file(&Method::GET, "/ui/"));
        assert!(is_file(&Method::HEAD, "/ui/main.js"));
        assert!(!is_file(&Method::POST, "/ui/"));
        for path in [
            "/ui/../metrics",
            "/ui/nothing",
            "/uix",
            "/ui/main.js/",
            "/metrics",
            "/ui//",
        ] {
            assert!(!is_file(&Method::GET, path), "{path}");
        }
    }

    #[tokio::test]
    async fn files_come_with_their_policy() {
        let response = serve(&known("GET", "/ui/")).unwrap();
        let policy = response.headers()[CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(
            policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"),
            "{policy}"
        );
        let mut again = known("GET", "/ui/");
        again
            .parts
            .headers
            .insert(IF_NONE_MATCH, response.headers()[ETAG].clone());
        assert_eq!(serve(&again).unwrap().status(), 304);
        assert_eq!(serve(&known("GET", "/ui")).unwrap().headers()[LOCATION], "/ui/");
    }

    #[tokio::test]
    async fn the_renderer_is_had_with_and_without_gzip() {
        let plain = serve(&known("GET", "/ui/swagger-ui.css")).unwrap();
        let plain = plain.into_body().collect().await.unwrap().to_bytes();
        assert!(plain.starts_with(b".swagger-ui"), "{:?}", &plain[..40]);
        let mut zipped = known("GET", "/ui/swagger-ui.css");
        let accepts = HeaderValue::from_static("gzip, deflate, br");
        zipped.parts.headers.insert(http::header::ACCEPT_ENCODING, accepts);
        let response = serve(&zipped).unwrap();
        assert_eq!(response.headers()[CONTENT_ENCODING], "gzip");
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(unzipped(&bytes), plain);
    }
}
