//! Bearer tokens of browsers, which cannot set headers on WebSockets: hidden in `Sec-WebSocket-Protocol`.
//!
//! Source of behaviour: kubernetes/apiserver pkg/authentication/request/websocket.

use super::AuthError;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

const PREFIX: &str = "base64url.bearer.authorization.k8s.io.";

/// What `Sec-WebSocket-Protocol` held.
#[derive(Debug, PartialEq, Eq)]
pub struct Protocols {
    pub token: String,
    /// The other protocols, which take the header's place: the token goes no further.
    pub rest: String,
}

/// Finds a token among the protocols of a WebSocket request; `None` where there is none.
pub fn token<'a>(headers: impl Iterator<Item = &'a str>) -> Result<Option<Protocols>, AuthError> {
    let mut token: Option<String> = None;
    let mut rest = Vec::new();
    for protocol in headers.flat_map(|header| header.split(',')).map(str::trim) {
        let Some(encoded) = protocol.strip_prefix(PREFIX) else {
            rest.push(protocol);
            continue;
        };
        if token.is_some() {
            return Err(AuthError::new("multiple base64.bearer.authorization tokens specified"));
        }
        let invalid = AuthError::new("invalid base64.bearer.authorization token encoding");
        let decoded = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| invalid)?;
        let invalid = AuthError::new("invalid base64.bearer.authorization token");
        token = Some(String::from_utf8(decoded).map_err(|_| invalid)?);
    }
    let Some(token) = token.filter(|t| !t.is_empty()) else {
        return Ok(None);
    };
    if rest.is_empty() {
        // The client needs a protocol echoed that is not its token.
        return Err(AuthError::new("missing additional subprotocol"));
    }
    Ok(Some(Protocols {
        token,
        rest: rest.join(","),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_taken_out() {
        let hidden = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode("secret"));
        let ask = |header: &str| token([header].into_iter());
        assert_eq!(
            ask(&format!("v4.channel.k8s.io, {hidden}")),
            Ok(Some(Protocols {
                token: "secret".into(),
                rest: "v4.channel.k8s.io".into()
            }))
        );
        assert_eq!(ask("v4.channel.k8s.io"), Ok(None));
        assert!(ask(&hidden).is_err());
        assert!(ask(&format!("a,{hidden},{hidden}")).is_err());
        let error = ask(&format!("a,{PREFIX}!secret")).unwrap_err();
        assert!(!error.to_string().contains("secret"));
    }
}
