//! IP addresses.
//!
//! Source: kubernetes/apiserver pkg/cel/library/ip.go.
// PERFORMANCE: per-request path

use super::Row;
use crate::value::{EvalError, Extension, Result, Value};
use fairlead_api::field::go_quote;
use std::net::IpAddr;

macro_rules! test {
    ($name:literal, $id:literal, $test:expr) => {
        ($name, &[($id, "ip.() -> bool")], |args| {
            let test: fn(IpAddr) -> bool = $test;
            Ok(Value::Bool(test(address(&args[0])?)))
        })
    };
}

pub const FUNCTIONS: &[Row] = &[
    (
        "ip",
        &[("string_to_ip", "(string) -> ip"), ("cidr_ip", "cidr.() -> ip")],
        |args| match &args[0] {
            Value::String(text) => Ok(Value::extension(Extension::Ip(parse(text)?))),
            Value::Extension(extension) => match &**extension {
                Extension::Cidr(ip, _) => Ok(Value::extension(Extension::Ip(*ip))),
                _ => Err(EvalError::no_such_overload()),
            },
            _ => Err(EvalError::no_such_overload()),
        },
    ),
    ("family", &[("ip_family", "ip.() -> int")], |args| {
        Ok(Value::Int(if address(&args[0])?.is_ipv4() { 4 } else { 6 }))
    }),
    ("ip.isCanonical", &[("ip_is_canonical", "(string) -> bool")], |args| {
        let text = args[0].as_str().ok_or_else(EvalError::no_such_overload)?;
        Ok(Value::Bool(parse(text)?.to_string() == text))
    }),
    ("isIP", &[("is_ip", "(string) -> bool")], |args| {
        let text = args[0].as_str().ok_or_else(EvalError::no_such_overload)?;
        Ok(Value::Bool(parse(text).is_ok()))
    }),
    test!("isUnspecified", "ip_is_unspecified", |ip| ip.is_unspecified()),
    test!("isLoopback", "ip_is_loopback", |ip| ip.is_loopback()),
    test!(
        "isLinkLocalMulticast",
        "ip_is_link_local_multicast",
        is_link_local_multicast
    ),
    test!("isLinkLocalUnicast", "ip_is_link_local_unicast", is_link_local_unicast),
    test!("isGlobalUnicast", "ip_is_global_unicast", is_global_unicast),
];

/// The address that a value is.
pub fn address(value: &Value) -> Result<IpAddr> {
    match value {
        Value::Extension(extension) => match **extension {
            Extension::Ip(ip) => Ok(ip),
            _ => Err(EvalError::no_such_overload()),
        },
        _ => Err(EvalError::no_such_overload()),
    }
}

/// Reads an address, without zone, that is no IPv4 address in disguise.
pub fn parse(text: &str) -> Result<IpAddr> {
    if text.contains(':') && text.contains('%') {
        return Err(EvalError::new(format!(
            "IP address {} with zone value is not allowed",
            go_quote(text)
        )));
    }
    match text.parse() {
        Ok(IpAddr::V6(ip)) if ip.to_ipv4_mapped().is_some() => Err(EvalError::new(format!(
            "IPv4-mapped IPv6 address {} is not allowed",
            go_quote(text)
        ))),
        Ok(ip) => Ok(ip),
        Err(_) => {
            let quoted = go_quote(text);
            Err(EvalError::new(format!(
                "IP Address {quoted} parse error during conversion from string: ParseAddr({quoted}): {}",
                why(text)
            )))
        }
    }
}

/// Go's reason for refusing an address, for the common mistakes.
fn why(text: &str) -> String {
    if !text.contains(['.', ':']) {
        return "unable to parse IP".into();
    }
    if text.contains(':') {
        return "unexpected character".into();
    }
    let fields: Vec<&str> = text.split('.').collect();
    for field in &fields {
        if field.is_empty() {
            return "IPv4 field must have at least one digit".into();
        }
        if field.bytes().any(|b| !b.is_ascii_digit()) {
            return format!("unexpected character (at {})", go_quote(field));
        }
        if field.len() > 1 && field.starts_with('0') {
            return "IPv4 field has octet with leading zero".into();
        }
        if field.parse::<u8>().is_err() {
            return "IPv4 field has value >255".into();
        }
    }
    if fields.len() < 4 {
        "IPv4 address too short".into()
    } else {
        "IPv4 address too long".into()
    }
}

fn is_link_local_multicast(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.octets()[..3] == [224, 0, 0],
        IpAddr::V6(ip) => ip.segments()[0] & 0xff0f == 0xff02,
    }
}

fn is_link_local_unicast(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

fn is_global_unicast(ip: IpAddr) -> bool {
    let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    !broadcast && !ip.is_unspecified() && !ip.is_loopback() && !ip.is_multicast() && !is_link_local_unicast(ip)
}
