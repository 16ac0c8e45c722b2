//! The fault `new-kind`: documents as they are after an upgrade, with `packets` where `parcels` were. No part of a real
//! server.

use crate::api::{self, Answer};
use crate::{GROUP_VERSION, discovery, openapi};
use http::{HeaderMap, Response, header};
use sha2::{Digest, Sha256};

/// The other document of a path; `None` where it stays as it is.
pub fn answer(path: &str, headers: &HeaderMap) -> Option<Response<Answer>> {
    let accept = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok());
    let renamed = |text: &[u8]| String::from_utf8_lossy(text).replace("parcels", "packets");
    let v3 = openapi::v3();
    let document = match path.trim_end_matches('/') {
        "/apis" if discovery::wants_aggregated(accept.unwrap_or_default()) => {
            return Some(api::typed_text(
                discovery::AGGREGATED,
                renamed(discovery::aggregated().to_string().as_bytes()),
            ));
        }
        "/openapi/v2" => renamed(&openapi::v2().bytes),
        "/openapi/v3" => {
            let hash = format!("{:X}", Sha256::digest(renamed(&v3.bytes)));
            renamed(&openapi::v3_index().bytes).replace(&v3.hash, &hash)
        }
        path if path == format!("/openapi/v3/apis/{GROUP_VERSION}") => renamed(&v3.bytes),
        path if path == format!("/apis/{GROUP_VERSION}") => renamed(discovery::resource_list().to_string().as_bytes()),
        _ => return None,
    };
    Some(api::typed_text("application/json", document))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    #[tokio::test]
    async fn the_index_leads_to_the_new_document() {
        let read = async |path: &str| {
            let answer = answer(path, &HeaderMap::new()).unwrap();
            let bytes = answer.into_body().collect().await.unwrap().to_bytes();
            String::from_utf8(bytes.to_vec()).unwrap()
        };
        let index = read("/openapi/v3").await;
        let document = read(&format!("/openapi/v3/apis/{GROUP_VERSION}")).await;
        assert!(index.contains(&format!("{:X}", Sha256::digest(document.as_bytes()))));
        assert!(document.contains("/packets/") && !document.contains("parcels"));
        assert!(answer("/api/v1", &HeaderMap::new()).is_none());
    }
}
