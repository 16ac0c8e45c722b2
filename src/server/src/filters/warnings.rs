//! Warnings: what the answer carries as [`Warnings`] becomes `Warning` headers, bounded.

use crate::body::Response;
use crate::filters::{Filter, Next, go_on};
use crate::request::Known;
use http::HeaderValue;
use http::header::WARNING;
use std::future::Future;
use std::sync::Arc;

/// Texts for `Warning` headers; an extension of the response.
#[derive(Clone, Debug, Default)]
pub struct Warnings(pub Vec<String>);

pub struct WarningHeaders;

/// All texts together may be this long; beyond it each is cut to [`ITEM`].
const TOTAL: usize = 4 * 1024;
const ITEM: usize = 256;

impl Filter for WarningHeaders {
    type In = Box<Known>;
    type Out = Box<Known>;

    fn handle<S: Next<Box<Known>>>(
        self: Arc<Self>,
        request: Box<Known>,
        next: S,
    ) -> impl Future<Output = Response> + Send + 'static {
        async move {
            let mut response = go_on(next, request).await;
            if let Some(Warnings(texts)) = response.extensions_mut().remove::<Warnings>() {
                for value in header_values(texts) {
                    response.headers_mut().append(WARNING, value);
                }
            }
            response
        }
    }
}

/// `299 - "text"` of each text, once; texts that cannot stand in a header are left out.
///
/// Texts are taken as they come. The first that does not fit cuts itself and those before it, whatever comes of it;
/// from then on more are taken, cut, until what is allowed has been reached.
fn header_values(texts: Vec<String>) -> Vec<HeaderValue> {
    let mut unique: Vec<String> = Vec::new();
    let (mut written, mut cutting) = (0, false);
    for text in texts {
        let writable = !text.is_empty() && !text.chars().any(char::is_control);
        if !writable || unique.contains(&text) || (cutting && written >= TOTAL) {
            continue;
        }
        let length = |text: &String| text.chars().count();
        if cutting {
            written += length(&text).min(ITEM);
        } else if written + length(&text) > TOTAL {
            cutting = true;
            written = unique.iter().chain([&text]).map(|text| length(text).min(ITEM)).sum();
        } else {
            written += length(&text);
        }
        unique.push(text);
    }
    let cut = |text: String| match cutting {
        true => text.chars().take(ITEM).collect(),
        false => text,
    };
    unique
        .into_iter()
        .map(cut)
        .filter_map(|text| header_value(&text))
        .collect()
}

fn header_value(text: &str) -> Option<HeaderValue> {
    let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
    HeaderValue::from_bytes(format!("299 - \"{quoted}\"").as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(texts: &[&str]) -> Vec<String> {
        let values = header_values(texts.iter().map(|t| (*t).to_owned()).collect());
        values
            .iter()
            .map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned())
            .collect()
    }

    #[test]
    fn texts_are_quoted_and_said_once() {
        assert_eq!(
            values(&["a \"b\" \\", "a \"b\" \\", "", "c\nd"]),
            [r#"299 - "a \"b\" \\""#]
        );
    }

    #[test]
    fn too_much_text_is_cut() {
        let texts: Vec<String> = (0..30).map(|i| format!("{i:02}{}", "x".repeat(1000))).collect();
        let values = values(&texts.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(values.len(), TOTAL / ITEM);
        assert_eq!(values[0].len(), "299 - \"\"".len() + ITEM);
    }

    #[test]
    fn the_text_that_is_too_much_is_cut_and_still_said() {
        let short: Vec<String> = (0..17).map(|i| format!("{i:02}{}", "x".repeat(250))).collect();
        let values = values(&short.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(values.len(), 17);
    }
}
