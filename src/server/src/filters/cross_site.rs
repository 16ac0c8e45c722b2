//! Cross-site requests: where the page is served, browsers hold credentials for this server (client certificates above
//! all) and send them along with requests that other sites make. Those end here, unless CORS allows their site.
//!
//! Browsers say by `Sec-Fetch-Site` who made a request (Fetch Metadata); other clients send no such header.
// PERFORMANCE: per-request path

use crate::body::Response;
use crate::encode;
use crate::filters::Gate;
use crate::filters::cors::allows;
use crate::request::Known;
use fairlead_api::{GroupResource, Status};
use http::Method;
use http::header::{HeaderName, ORIGIN};
use regex::Regex;

pub struct CrossSite {
    /// Whether browsers are invited at all.
    pub page: bool,
    pub allowed_origins: Vec<Regex>,
}

const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

impl Gate for CrossSite {
    type In = Box<Known>;
    type Out = Box<Known>;

    fn check(&self, request: Box<Known>) -> Result<Box<Known>, Response> {
        if !self.page || !matches!(request.header(SITE), "cross-site" | "same-site") {
            return Ok(request);
        }
        // A link that somebody follows.
        let followed = request.header(MODE) == "navigate" && request.parts.method == Method::GET;
        if followed || allows(&self.allowed_origins, request.header(ORIGIN)) {
            return Ok(request);
        }
        let why = "requests that other sites make are not served, unless --cors-allowed-origins names them";
        let status = Status::forbidden(&GroupResource::default(), "", why);
        Err(encode::status(&status, &request.parts.headers, &request.query))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filters::request_info::tests::known;

    fn passes(page: bool, method: &str, headers: &[(&'static str, &str)]) -> bool {
        let gate = CrossSite {
            page,
            allowed_origins: vec![Regex::new(r"^https://good\.example$").unwrap()],
        };
        let mut request = known(method, "/api/v1/namespaces");
        for (name, value) in headers {
            request.parts.headers.insert(*name, value.parse().unwrap());
        }
        gate.check(request).is_ok()
    }

    #[test]
    fn other_sites_ride_on_nobodys_certificate() {
        let cross = ("sec-fetch-site", "cross-site");
        assert!(passes(true, "POST", &[]));
        assert!(passes(true, "POST", &[("sec-fetch-site", "same-origin")]));
        assert!(passes(true, "GET", &[cross, ("sec-fetch-mode", "navigate")]));
        assert!(passes(true, "POST", &[cross, ("origin", "https://good.example")]));
        assert!(passes(false, "POST", &[cross]));
        for method in ["GET", "POST", "DELETE"] {
            assert!(
                !passes(true, method, &[cross, ("origin", "https://evil.example")]),
                "{method}"
            );
        }
        assert!(!passes(true, "POST", &[cross, ("sec-fetch-mode", "navigate")]));
        assert!(!passes(
            true,
            "GET",
            &[("sec-fetch-site", "same-site"), ("sec-fetch-mode", "websocket")]
        ));
    }
}
