//! Continue tokens, in upstream's form: base64 of `{"v":"meta.k8s.io/v1","rv":…,"start":…}`.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fairlead_api::{Node, json};

/// Where a list goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Continuation {
    /// `None`: at the latest state.
    pub revision: Option<u64>,
    /// Relative to the list's prefix.
    pub start: String,
}

/// `revision` -1 stands for the latest state.
pub fn encode(start: &str, revision: i64) -> String {
    let mut token = Vec::with_capacity(64);
    token.extend_from_slice(b"{\"v\":\"meta.k8s.io/v1\",\"rv\":");
    token.extend_from_slice(revision.to_string().as_bytes());
    token.extend_from_slice(b",\"start\":");
    json::write_str(start, &mut token);
    token.push(b'}');
    URL_SAFE_NO_PAD.encode(token)
}

/// # Errors
/// Upstream's words.
pub fn decode(token: &str) -> Result<Continuation, String> {
    let bytes = decode_base64(token)?;
    let node = json::parse(&bytes).map_err(|error| format!("{INVALID}: {error}"))?;
    if !matches!(node, Node::Map(_)) {
        let kind = crate::body::go_kind(&node);
        return Err(format!(
            "{INVALID}: json: cannot unmarshal {kind} into Go value of type storage.continueToken"
        ));
    }
    if node.str("v") != "meta.k8s.io/v1" {
        return Err(format!(
            "{INVALID}: server does not recognize this encoded version {}",
            node.str("v")
        ));
    }
    let revision = node.get("rv").and_then(Node::as_i64).unwrap_or(0);
    if revision == 0 {
        return Err(format!(
            "{INVALID}: incorrect encoded start resourceVersion (version meta.k8s.io/v1)"
        ));
    }
    let start = node.str("start");
    if start.is_empty() {
        return Err(format!("{INVALID}: encoded start key empty (version meta.k8s.io/v1)"));
    }
    if !is_clean(start) {
        return Err(format!("{INVALID}: {start}"));
    }
    let start = start.strip_prefix('/').unwrap_or(start).to_owned();
    Ok(Continuation {
        revision: u64::try_from(revision).ok(),
        start,
    })
}

/// Whether a key cannot leave the list's prefix: what Go's `path.Clean` leaves as it is.
fn is_clean(start: &str) -> bool {
    let rest = start.strip_prefix('/').unwrap_or(start);
    rest.is_empty() || rest.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

/// COMPAT: the position of the first wrong byte is told as Go tells it.
fn decode_base64(token: &str) -> Result<Vec<u8>, String> {
    URL_SAFE_NO_PAD.decode(token).map_err(|_| {
        let legal = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        let at = token
            .bytes()
            .position(|b| !legal(&b))
            .unwrap_or_else(|| token.len() - token.len() % 4);
        format!("{INVALID}: illegal base64 data at input byte {at}")
    })
}

const INVALID: &str = "continue key is not valid";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_round_trip() {
        let token = encode("a\0", 7);
        assert_eq!(
            decode(&token),
            Ok(Continuation {
                revision: Some(7),
                start: "a\0".into()
            })
        );
        assert_eq!(
            decode(&encode("ns/a\0", -1)),
            Ok(Continuation {
                revision: None,
                start: "ns/a\0".into()
            })
        );
    }

    #[test]
    fn bad_tokens_are_told_why() {
        for (token, why) in [
            (
                "abc",
                "continue key is not valid: invalid character 'i' looking for beginning of value",
            ),
            (
                "aGVsbG8=",
                "continue key is not valid: illegal base64 data at input byte 7",
            ),
            (
                "eyJ2IjogInYyIiwgInJ2IjogNSwgInN0YXJ0IjogIngifQ",
                "continue key is not valid: server does not recognize this encoded version v2",
            ),
            (
                "eyJ2IjogIm1ldGEuazhzLmlvL3YxIiwgInJ2IjogNX0",
                "continue key is not valid: encoded start key empty (version meta.k8s.io/v1)",
            ),
            (
                "eyJ2IjogIm1ldGEuazhzLmlvL3YxIiwgInJ2IjogNSwgInN0YXJ0IjogIi4uLy4uL3gifQ",
                "continue key is not valid: ../../x",
            ),
        ] {
            assert_eq!(decode(token).unwrap_err(), why);
        }
    }
}
