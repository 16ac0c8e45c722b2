//! Go's regular expressions, translated to the `regex` crate's syntax and checked with Go's error words.
//!
//! Both engines are linear in time; the translation minds what they read differently: Perl classes and `\b` are ASCII
//! in Go, `[a&&b]` and nested classes are literal, `\Q…\E` exists, `{` is literal where it counts nothing, repeats end
//! at 1000. Source: Go's regexp/syntax.

mod class;
mod translate;

use compact_str::CompactString;
use regex::{Regex, RegexBuilder};
use std::sync::OnceLock;

/// How much memory one compiled expression may take.
const SIZE_LIMIT: usize = 16 << 20;
/// How much memory matching may take beside it.
const DFA_LIMIT: usize = 1 << 20;
/// How long an expression may be.
const LENGTH_LIMIT: usize = 64 << 10;

/// A regular expression in Go's syntax: checked when made, compiled when first used.
#[derive(Clone, Debug)]
pub struct Pattern {
    source: CompactString,
    compiled: OnceLock<Option<Regex>>,
}

/// Why an expression is none, in Go's words: ``error parsing regexp: missing closing ): `(a` ``.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("error parsing regexp: {0}")]
pub struct PatternError(pub(crate) String);

impl Pattern {
    /// Checks an expression without compiling it.
    pub fn new(source: &str) -> Result<Pattern, PatternError> {
        let translated = translated(source)?;
        regex_syntax::Parser::new()
            .parse(&translated)
            .map_err(|e| PatternError(first_line(&e.to_string(), source)))?;
        Ok(Pattern {
            source: source.into(),
            compiled: OnceLock::new(),
        })
    }

    /// As it was given.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether some part of `text` matches. An expression too large to compile matches nothing.
    pub fn matches(&self, text: &str) -> bool {
        let compiled = self
            .compiled
            .get_or_init(|| compile(&translated(&self.source).ok()?).ok());
        compiled.as_ref().is_some_and(|regex| regex.is_match(text))
    }
}

/// Compiles an expression in Go's syntax.
pub fn go_regex(source: &str) -> Result<Regex, PatternError> {
    compile(&translated(source)?).map_err(|e| PatternError(first_line(&e.to_string(), source)))
}

fn translated(source: &str) -> Result<String, PatternError> {
    if source.len() > LENGTH_LIMIT {
        return Err(PatternError("expression too large".into()));
    }
    translate::translate(source).map_err(PatternError)
}

fn compile(translated: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(translated)
        .size_limit(SIZE_LIMIT)
        .dfa_size_limit(DFA_LIMIT)
        .build()
}

/// Refusals of the Rust parser for what Go would have taken or refused in other words.
fn first_line(text: &str, source: &str) -> String {
    let reason = text
        .lines()
        .rev()
        .find_map(|l| l.trim().strip_prefix("error: "))
        .unwrap_or("expression too large");
    format!("{reason}: `{source}`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_semantics_hold() {
        for (pattern, yes, no) in [
            (r"^\d+$", "12", "١٢"),
            (r"^\w$", "a", "é"),
            (r"^[\w.]+$", "a.b", "é"),
            (r"^[^\d]$", "x", "1"),
            (r"^[\D]$", "x", "1"),
            (r"^[a&&b]+$", "a&b", "c"),
            (r"^[[a]+$", "[a", "]"),
            (r"^[]a]+$", "]a", "["),
            (r"^[a-]+$", "a-", "b"),
            (r"^[[:alpha:]]+$", "ab", "é"),
            (r"^\Qa.b\E$", "a.b", "axb"),
            (r"^a{$", "a{", "a"),
            (r"^a{,2}$", "a{,2}", "aa"),
            (r"^x{2,3}$", "xx", "x"),
            (r"^\<a\>$", "<a>", "a"),
            (r"^(?i)ab$", "AB", "c"),
            (r"^(?P<n>a|b)$", "a", "c"),
            (r"^\x41\x{1F600}$", "A😀", "A"),
            (r"^\p{L}+$", "é", "1"),
            (r"^a$", "a", "a\n"),
            (
                r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
                "a.b-c",
                "-a",
            ),
            (r"\bfoo\b", "a foo b", "afoo"),
        ] {
            let compiled = Pattern::new(pattern).unwrap_or_else(|e| panic!("{pattern}: {e}"));
            assert!(compiled.matches(yes) && !compiled.matches(no), "{pattern}");
        }
    }

    #[test]
    fn errors_have_gos_words() {
        for (pattern, error) in [
            ("(a", "missing closing ): `(a`"),
            ("a)", "unexpected ): `a)`"),
            ("[a", "missing closing ]: `[a`"),
            ("*a", "missing argument to repetition operator: `*`"),
            ("a**", "invalid nested repetition operator: `**`"),
            ("a{1001}", "invalid repeat count: `{1001}`"),
            ("a{3,2}", "invalid repeat count: `{3,2}`"),
            (r"a\", "trailing backslash at end of expression: ``"),
            (r"\8", r"invalid escape sequence: `\8`"),
            (r"\y", r"invalid escape sequence: `\y`"),
            ("(?=a)", "invalid or unsupported Perl syntax: `(?=`"),
            ("(?<!a)", "invalid or unsupported Perl syntax: `(?<`"),
            ("(?x)a", "invalid or unsupported Perl syntax: `(?x`"),
            ("[z-a]", "invalid character class range: `z-a`"),
            (r"\p{Nope}", r"invalid character class range: `\p{Nope}`"),
            ("[[:nope:]]", "invalid character class range: `[:nope:]`"),
        ] {
            assert_eq!(
                Pattern::new(pattern).unwrap_err().to_string(),
                format!("error parsing regexp: {error}")
            );
        }
    }
}
