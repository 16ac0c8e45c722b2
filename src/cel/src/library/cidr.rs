//! Networks in CIDR notation.
//!
//! Source: kubernetes/apiserver pkg/cel/library/cidr.go.
// PERFORMANCE: per-request path

use super::Row;
use super::ip;
use crate::value::{EvalError, Extension, Result, Value};
use fairlead_api::field::go_quote;
use std::net::IpAddr;

pub const FUNCTIONS: &[Row] = &[
    ("cidr", &[("string_to_cidr", "(string) -> cidr")], |args| {
        let (ip, bits) = parse(text(&args[0])?)?;
        Ok(Value::extension(Extension::Cidr(ip, bits)))
    }),
    ("isCIDR", &[("is_cidr", "(string) -> bool")], |args| {
        Ok(Value::Bool(parse(text(&args[0])?).is_ok()))
    }),
    (
        "containsIP",
        &[
            ("cidr_contains_ip_string", "cidr.(string) -> bool"),
            ("cidr_contains_ip_ip", "cidr.(ip) -> bool"),
        ],
        |args| {
            let network = network(&args[0])?;
            let address = match &args[1] {
                Value::String(text) => ip::parse(text)?,
                other => ip::address(other)?,
            };
            Ok(Value::Bool(contains(network, address)))
        },
    ),
    (
        "containsCIDR",
        &[
            ("cidr_contains_cidr_string", "cidr.(string) -> bool"),
            ("cidr_contains_cidr", "cidr.(cidr) -> bool"),
        ],
        |args| {
            let outer = network(&args[0])?;
            let inner = match &args[1] {
                Value::String(text) => parse(text)?,
                other => network(other)?,
            };
            Ok(Value::Bool(outer.1 <= inner.1 && contains(outer, inner.0)))
        },
    ),
    ("prefixLength", &[("cidr_prefix_length", "cidr.() -> int")], |args| {
        Ok(Value::Int(i64::from(network(&args[0])?.1)))
    }),
    ("masked", &[("cidr_masked", "cidr.() -> cidr")], |args| {
        let (ip, bits) = network(&args[0])?;
        Ok(Value::extension(Extension::Cidr(masked(ip, bits), bits)))
    }),
];

fn text<'v>(value: &'v Value) -> Result<&'v str> {
    value.as_str().ok_or_else(EvalError::no_such_overload)
}

fn network(value: &Value) -> Result<(IpAddr, u8)> {
    match value {
        Value::Extension(extension) => match **extension {
            Extension::Cidr(ip, bits) => Ok((ip, bits)),
            _ => Err(EvalError::no_such_overload()),
        },
        _ => Err(EvalError::no_such_overload()),
    }
}

fn parse(text: &str) -> Result<(IpAddr, u8)> {
    let error = |why: &str| {
        EvalError::new(format!(
            "network address parse error during conversion from string: network address parse error during conversion from string: netip.ParsePrefix({}): {why}",
            go_quote(text)
        ))
    };
    let (address, bits) = text.rsplit_once('/').ok_or_else(|| error("no '/'"))?;
    if address.contains('%') {
        return Err(error("IPv6 zones cannot be present in a prefix"));
    }
    let address: IpAddr = address
        .parse()
        .map_err(|_| error(&format!("ParseAddr({}): unable to parse IP", go_quote(address))))?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let plain = !bits.is_empty() && bits.bytes().all(|b| b.is_ascii_digit()) && (bits == "0" || !bits.starts_with('0'));
    if !plain {
        return Err(error(&format!("bad bits after slash: {}", go_quote(bits))));
    }
    let bits: u8 = bits
        .parse()
        .ok()
        .filter(|b| *b <= most)
        .ok_or_else(|| error("prefix length out of range"))?;
    if matches!(address, IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some()) {
        return Err(EvalError::new(format!(
            "network address parse error during conversion from string: IPv4-mapped IPv6 address {} is not allowed",
            go_quote(text)
        )));
    }
    Ok((address, bits))
}

fn masked(ip: IpAddr, bits: u8) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            IpAddr::V4((u32::from(ip) & mask).into())
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            IpAddr::V6((u128::from(ip) & mask).into())
        }
    }
}

fn contains((network, bits): (IpAddr, u8), ip: IpAddr) -> bool {
    network.is_ipv4() == ip.is_ipv4() && masked(network, bits) == masked(ip, bits)
}
