//! Flags: one table makes parsing, help and checks. Every flag of kube-apiserver 1.36 is in it, beside our own.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

mod table;

pub use table::FLAGS;

/// One flag.
#[derive(Debug)]
pub struct Flag {
    pub name: &'static str,
    pub kind: Kind,
    /// As it would be written; empty for none.
    pub default: &'static str,
    pub effect: Effect,
    pub help: &'static str,
}

/// What a value must look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Bool,
    Int,
    Float,
    Duration,
    Ip,
    Text,
    /// Separated by commas; more of the same flag append.
    List,
    /// The flag repeated, nothing separated.
    Array,
    /// `key=value` pairs separated by commas.
    Map,
    /// `first-last` or `first+count`.
    Ports,
    /// `--version` and `--version=raw`.
    Version,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    Acts,
    /// Accepted for compatibility; a warning says that it does nothing.
    Ignored,
    /// Accepted without a word: it tunes something that works differently here.
    Silent,
}

/// A command line that cannot be read. Displays as one sentence.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum FlagError {
    #[error("unknown flag: --{0}")]
    Unknown(String),
    #[error("unexpected argument {0:?}: fairlead takes only flags")]
    Argument(String),
    #[error("flag needs a value: --{0}")]
    Missing(&'static str),
    #[error("invalid value {value:?} for --{name}: {why}")]
    Value {
        name: &'static str,
        value: String,
        why: String,
    },
}

/// Raw text of the flags that were given, in order. Values have the right form but are not judged.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Flags(BTreeMap<&'static str, Vec<String>>);

impl Flags {
    /// Reads a command line without the program's name.
    ///
    /// # Errors
    /// An unknown flag, or a value of the wrong form.
    pub fn parse<I: IntoIterator<Item = String>>(arguments: I) -> Result<Flags, FlagError> {
        let mut flags = Flags::default();
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let body = match argument.strip_prefix("--") {
                Some("") => continue,
                Some(body) => body,
                None => match argument.as_str() {
                    "-h" => "help",
                    short if short.starts_with("-v") => match short[2..].trim_start_matches('=') {
                        "" => "v",
                        level => {
                            flags.add("v", level.to_owned())?;
                            continue;
                        }
                    },
                    _ => return Err(FlagError::Argument(argument)),
                },
            };
            let (name, value) = match body.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (body, None),
            };
            let name = name.replace('_', "-");
            let flag = find(&name).ok_or(FlagError::Unknown(name))?;
            let value = match (value, flag.kind) {
                (Some(value), _) => value,
                (None, Kind::Bool | Kind::Version) => "true".into(),
                (None, _) => arguments.next().ok_or(FlagError::Missing(flag.name))?,
            };
            flags.add(flag.name, value)?;
        }
        Ok(flags)
    }

    fn add(&mut self, name: &'static str, value: String) -> Result<(), FlagError> {
        let flag = find(name).expect("the caller found it");
        if let Err(why) = flag.kind.check(&value) {
            return Err(FlagError::Value { name, value, why });
        }
        self.0.entry(name).or_default().push(value);
        Ok(())
    }

    /// Whether the flag was given at all.
    pub fn given(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The last value, or the default.
    pub fn text(&self, name: &str) -> &str {
        let flag = find(name).expect("only flags of the table are asked for");
        self.0
            .get(name)
            .and_then(|values| values.last())
            .map_or(flag.default, String::as_str)
    }

    /// The last value, where it is not empty.
    pub fn some(&self, name: &str) -> Option<&str> {
        Some(self.text(name)).filter(|t| !t.is_empty())
    }

    pub fn bool(&self, name: &str) -> bool {
        parse_bool(self.text(name)).unwrap_or(false)
    }

    pub fn int(&self, name: &str) -> i64 {
        self.text(name).parse().unwrap_or(0)
    }

    pub fn duration(&self, name: &str) -> Duration {
        let nanoseconds = fairlead_server::filters::deadline::parse_duration(self.text(name)).unwrap_or(0);
        Duration::from_nanos(nanoseconds.max(0).unsigned_abs())
    }

    /// All values; those of lists split at commas.
    pub fn list(&self, name: &str) -> Vec<String> {
        let flag = find(name).expect("only flags of the table are asked for");
        let split = |value: &str| -> Vec<String> {
            match flag.kind {
                Kind::Array => vec![value.to_owned()],
                _ => value.split(',').map(str::to_owned).collect(),
            }
        };
        let values: Vec<String> = match self.0.get(name) {
            Some(values) => values.iter().flat_map(|v| split(v)).collect(),
            None => split(flag.default),
        };
        values.into_iter().filter(|v| !v.is_empty()).collect()
    }

    /// The flags given that have no effect here and should be warned about.
    pub fn ignored(&self) -> impl Iterator<Item = &'static str> {
        let ignored = |name: &&&'static str| find(name).is_some_and(|f| f.effect == Effect::Ignored);
        self.0.keys().filter(ignored).copied().collect::<Vec<_>>().into_iter()
    }
}

/// One line a flag, as `--help` prints it.
pub fn help() -> String {
    let mut out = String::from(
        "fairlead is a Kubernetes API server and the gateway to others.\n\n\
         Usage:\n  fairlead [flags]\n  fairlead backup FILE\n  fairlead restore FILE\n\nFlags:\n",
    );
    let mut flags: Vec<&Flag> = FLAGS.iter().collect();
    flags.sort_by_key(|f| f.name);
    for flag in flags {
        let kind = flag.kind.name();
        let left = format!("      --{}{}{kind}", flag.name, if kind.is_empty() { "" } else { " " });
        out.push_str(&format!("{left:<56} {}", flag.help));
        if !matches!(flag.default, "" | "false") {
            out.push_str(&format!(" (default {})", flag.default));
        }
        if flag.effect == Effect::Ignored {
            out.push_str(" (accepted, without effect)");
        }
        out.push('\n');
    }
    out
}

fn find(name: &str) -> Option<&'static Flag> {
    FLAGS.iter().find(|f| f.name == name)
}

pub(crate) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Bool | Kind::Version => "",
            Kind::Int => "int",
            Kind::Float => "float",
            Kind::Duration => "duration",
            Kind::Ip => "ip",
            Kind::Text => "string",
            Kind::List => "strings",
            Kind::Array => "stringArray",
            Kind::Map => "mapStringString",
            Kind::Ports => "portRange",
        }
    }

    fn check(self, value: &str) -> Result<(), String> {
        let must = |ok: bool, what: &str| if ok { Ok(()) } else { Err(format!("must be {what}")) };
        match self {
            Kind::Bool => must(parse_bool(value).is_some(), "true or false"),
            Kind::Int => must(value.parse::<i64>().is_ok(), "a whole number"),
            Kind::Float => must(value.parse::<f64>().is_ok(), "a number"),
            Kind::Duration => fairlead_server::filters::deadline::parse_duration(value).map(drop),
            Kind::Ip => must(value.is_empty() || value.parse::<IpAddr>().is_ok(), "an IP address"),
            Kind::Map => must(
                value.split(',').all(|p| p.is_empty() || p.contains('=')),
                "key=value pairs",
            ),
            Kind::Ports => must(ports(value).is_some(), "a range of ports, like 30000-32767"),
            Kind::Version => must(matches!(value, "true" | "false" | "raw"), "true, false or raw"),
            Kind::Text | Kind::List | Kind::Array => Ok(()),
        }
    }
}

/// First and last port of a range.
pub fn ports(text: &str) -> Option<(u16, u16)> {
    let text = text.trim();
    let (first, last) = match (text.split_once('-'), text.split_once('+')) {
        (Some((first, last)), _) => (first.parse().ok()?, last.parse().ok()?),
        (None, Some((first, count))) => {
            let first: u16 = first.parse().ok()?;
            (first, first.checked_add(count.parse().ok()?)?)
        }
        (None, None) => {
            let port = text.parse().ok()?;
            (port, port)
        }
    };
    (first <= last).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Flags, FlagError> {
        Flags::parse(arguments.iter().map(|a| (*a).to_owned()))
    }

    #[test]
    fn values_come_behind_a_sign_or_a_space() {
        let flags = parse(&[
            "--secure-port",
            "7443",
            "--anonymous-auth=false",
            "--profiling",
            "-v",
            "4",
        ])
        .unwrap();
        assert_eq!(flags.int("secure-port"), 7443);
        assert!(!flags.bool("anonymous-auth"));
        assert!(flags.bool("profiling"));
        assert_eq!(flags.int("v"), 4);
        assert_eq!(flags.int("max-requests-inflight"), 400);
        assert!(!flags.given("max-requests-inflight"));
        assert_eq!(flags.duration("request-timeout"), Duration::from_secs(60));
    }

    #[test]
    fn lists_append_and_arrays_do_not_split() {
        let flags = parse(&["--authorization-mode=Node,RBAC", "--authorization-mode=Webhook"]).unwrap();
        assert_eq!(flags.list("authorization-mode"), ["Node", "RBAC", "Webhook"]);
        let flags = parse(&["--service-account-issuer=a,b", "--service-account-issuer=c"]).unwrap();
        assert_eq!(flags.list("service-account-issuer"), ["a,b", "c"]);
        assert_eq!(parse(&[]).unwrap().list("controllers"), ["*"]);
        assert!(parse(&["--controllers="]).unwrap().list("controllers").is_empty());
    }

    #[test]
    fn mistakes_name_the_flag() {
        for (arguments, text) in [
            (vec!["--nope"], "unknown flag: --nope"),
            (
                vec!["--secure-port=x"],
                "invalid value \"x\" for --secure-port: must be a whole number",
            ),
            (vec!["--secure-port"], "flag needs a value: --secure-port"),
            (
                vec!["serve"],
                "unexpected argument \"serve\": fairlead takes only flags",
            ),
            (
                vec!["--request-timeout=5"],
                "invalid value \"5\" for --request-timeout: missing unit in duration \"5\"",
            ),
            (
                vec!["--profiling=maybe"],
                "invalid value \"maybe\" for --profiling: must be true or false",
            ),
        ] {
            assert_eq!(parse(&arguments).unwrap_err().to_string(), text);
        }
    }

    #[test]
    fn every_default_is_a_value_of_its_kind() {
        for flag in FLAGS {
            if !flag.default.is_empty() {
                assert_eq!(flag.kind.check(flag.default), Ok(()), "--{}", flag.name);
            }
            assert_eq!(
                FLAGS.iter().filter(|f| f.name == flag.name).count(),
                1,
                "--{}",
                flag.name
            );
        }
    }

    #[test]
    fn help_has_a_line_a_flag() {
        let help = help();
        for flag in FLAGS {
            let line = format!("      --{} ", flag.name);
            assert_eq!(
                help.lines().filter(|l| l.starts_with(&line)).count(),
                1,
                "--{}",
                flag.name
            );
        }
    }

    /// Every flag of kube-apiserver is known, with its default.
    #[test]
    fn upstream_flags_are_accepted() {
        let directory = std::env::var("FAIRLEAD_CONFORMANCE").unwrap_or_else(|_| "../../../shared/conformance".into());
        let Ok(golden) = std::fs::read_to_string(format!("{directory}/golden/flags.tsv")) else {
            println!("skipped: no conformance data");
            return;
        };
        for line in golden.lines().skip(1) {
            let mut columns = line.split('\t');
            let (name, default) = (columns.next().unwrap(), columns.nth(1).unwrap_or("").trim_matches('"'));
            let flag = find(name).unwrap_or_else(|| panic!("--{name} is missing"));
            let ours = matches!(name, "cert-dir" | "authorization-mode" | "service-cluster-ip-range");
            let zero = matches!((flag.default, default), ("false" | "0" | "0s", "") | ("", "[]"));
            let list = default.trim_matches(['[', ']']) == flag.default;
            let duration = fairlead_server::filters::deadline::parse_duration;
            let same_duration = flag.kind == Kind::Duration && duration(flag.default) == duration(default);
            assert!(
                ours || zero || list || same_duration,
                "--{name}: {default:?}, not {:?}",
                flag.default
            );
        }
    }
}
