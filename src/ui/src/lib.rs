//! The operators' page, as files: what is served where, and what a browser may do with it.
//!
//! The page is hand-written modules without a framework; it holds no data, which it asks the API for as the user who is
//! signed in. OpenAPI documents are shown by Swagger UI in a frame of its own, whose policy lets it set styles.

/// One file of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asset {
    pub content_type: &'static str,
    pub bytes: &'static [u8],
    /// Whether `bytes` are gzipped.
    pub gzip: bool,
    /// The value of `Content-Security-Policy`.
    pub policy: &'static str,
}

/// Only files of this server, no inline script or style, no sinks that parse text, nobody's frame.
const STRICT: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
                      require-trusted-types-for 'script'";
/// The renderer sets styles and has images in them. It may not connect anywhere: documents are handed to it.
const RENDERER: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
                        connect-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'";

const HTML: &str = "text/html; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// The file at a path below `/ui/`; the page itself at the empty path.
pub fn asset(path: &str) -> Option<Asset> {
    let plain = |content_type, text: &'static str| Asset {
        content_type,
        bytes: text.as_bytes(),
        gzip: false,
        policy: STRICT,
    };
    let renderer = |asset: Asset| Asset {
        policy: RENDERER,
        ..asset
    };
    let zipped = |content_type, bytes| Asset {
        content_type,
        bytes,
        gzip: true,
        policy: RENDERER,
    };
    Some(match path {
        "" | "index.html" => plain(HTML, include_str!("../assets/index.html")),
        "page.css" => plain(STYLE, include_str!("../assets/page.css")),
        "icon.svg" => plain("image/svg+xml", include_str!("../assets/icon.svg")),
        "main.js" => plain(SCRIPT, include_str!("../assets/main.js")),
        "api.js" => plain(SCRIPT, include_str!("../assets/api.js")),
        "dom.js" => plain(SCRIPT, include_str!("../assets/dom.js")),
        "chart.js" => plain(SCRIPT, include_str!("../assets/chart.js")),
        "metrics.js" => plain(SCRIPT, include_str!("../assets/metrics.js")),
        "model.js" => plain(SCRIPT, include_str!("../assets/model.js")),
        "groups.js" => plain(SCRIPT, include_str!("../assets/groups.js")),
        "backends.js" => plain(SCRIPT, include_str!("../assets/backends.js")),
        "stale.js" => plain(SCRIPT, include_str!("../assets/stale.js")),
        "openapi.js" => plain(SCRIPT, include_str!("../assets/openapi.js")),
        "openapi.html" => renderer(plain(HTML, include_str!("../assets/openapi.html"))),
        "renderer.js" => renderer(plain(SCRIPT, include_str!("../assets/renderer.js"))),
        "swagger-ui-bundle.js" => zipped(
            SCRIPT,
            include_bytes!(concat!(env!("OUT_DIR"), "/swagger-ui-bundle.gz")),
        ),
        "swagger-ui.css" => zipped(STYLE, include_bytes!(concat!(env!("OUT_DIR"), "/swagger-ui.gz"))),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_file_is_served_and_every_import_is_a_file() {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/assets");
        let files: BTreeSet<String> = std::fs::read_dir(directory)
            .unwrap()
            .map(|f| f.unwrap().file_name().into_string().unwrap())
            .collect();
        for file in &files {
            let found = asset(file).unwrap_or_else(|| panic!("{file} is not served"));
            let text = std::str::from_utf8(found.bytes).unwrap();
            let mentions = text
                .split(['"', '\''])
                .filter(|w| w.ends_with(".js") || w.ends_with(".css"));
            for mention in mentions.map(|w| w.trim_start_matches("./")) {
                assert!(asset(mention).is_some(), "{file} mentions {mention}");
            }
        }
        assert!(files.len() > 10);
    }

    #[test]
    fn nothing_in_the_page_parses_text_or_leaves_this_server() {
        for path in [
            "main.js",
            "api.js",
            "dom.js",
            "chart.js",
            "metrics.js",
            "model.js",
            "groups.js",
            "backends.js",
            "stale.js",
            "openapi.js",
        ] {
            let text = std::str::from_utf8(asset(path).unwrap().bytes).unwrap();
            for word in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
                "localStorage",
                "sessionStorage",
                "document.cookie",
                "https://",
            ] {
                assert!(!text.contains(word), "{path} uses {word}");
            }
        }
        let html = std::str::from_utf8(asset("").unwrap().bytes).unwrap();
        assert!(
            !html.contains("style=") && !html.contains(" onclick") && !html.contains("http"),
            "{html}"
        );
    }

    #[test]
    fn the_renderer_is_gzip() {
        let bundle = asset("swagger-ui-bundle.js").unwrap();
        assert_eq!(bundle.bytes[..3], [0x1f, 0x8b, 8]);
        assert!(bundle.gzip && bundle.bytes.len() > 100_000);
    }
}
