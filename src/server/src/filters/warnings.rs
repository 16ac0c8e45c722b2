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
    type In = Known;
    type Out = Known;

    fn handle<S: Next<Known>>(
        self: Arc<Self>,
        request: Known,
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
fn header_values(texts: Vec<String>) -> Vec<HeaderValue> {
    let mut unique: Vec<String> = Vec::new();
    for text in texts {
        if !text.is_empty() && !text.chars().any(char::is_control) && !unique.contains(&text) {
            unique.push(text);
        }
    }
    let long = unique.iter().map(|t| t.chars().count()).sum::<usize>() > TOTAL;
    let mut room = TOTAL;
    let mut values = Vec::new();
    for text in unique {
        let text = if long { text.chars().take(ITEM).collect() } else { text };
        let length = text.chars().count();
        if length > room {
            break;
        }
        room -= length;
        let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = HeaderValue::from_bytes(format!("299 - \"{quoted}\"").as_bytes()) {
            values.push(value);
        }
    }
    values
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
}
