//! What is wrong with a document, in the words of Go's library, which are libyaml's.

use super::Error;
use granit_parser::{ErrorKind, ScanError};

/// The text of a document.
///
/// # Errors
/// It is not UTF-8, or holds characters that YAML has no place for.
pub fn readable(bytes: &[u8]) -> Result<&str, Error> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let first = bytes.get(error.valid_up_to()).copied().unwrap_or_default();
        let why = match (error.error_len(), first) {
            (None, _) => "incomplete UTF-8 octet sequence",
            (Some(_), 0xc2..=0xf4) => "invalid trailing UTF-8 octet",
            (Some(_), _) => "invalid leading UTF-8 octet",
        };
        Error(why.into())
    })?;
    if text.chars().all(is_allowed) {
        return Ok(text);
    }
    Err(Error("control characters are not allowed".into()))
}

fn is_allowed(c: char) -> bool {
    matches!(
        c,
        '\t' | '\n' | '\r' | ' '..='~' | '\u{85}' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..='\u{10ffff}'
    )
}

/// Who finds a mistake decides how its line is counted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Finder {
    /// COMPAT: lines start with 0, which is not shown.
    Parser,
    /// COMPAT: lines start with 1, and the first is not shown.
    Scanner,
}

/// A mistake in the syntax.
pub fn syntax(error: &ScanError, text: &str) -> Error {
    let (finder, words) = words(error.kind());
    let at_end = matches!(
        error.kind(),
        ErrorKind::UnexpectedEofFlowSequence
            | ErrorKind::UnexpectedEofFlowMapping
            | ErrorKind::UnexpectedEofImplicitFlowMapping
            | ErrorKind::UnclosedFlowCollection { .. }
    );
    let index = error.marker().index();
    let line = match at_end || index >= text.chars().count() {
        // The end stands on a line of its own.
        true => text.lines().count(),
        false => error.marker().line().saturating_sub(1),
    };
    let shown = match finder {
        Finder::Parser => line,
        Finder::Scanner if line > 0 => line + 1,
        Finder::Scanner => 0,
    };
    match shown {
        0 => Error(words),
        line => Error(format!("line {line}: {words}")),
    }
}

fn words(kind: &ErrorKind) -> (Finder, String) {
    use Finder::{Parser, Scanner};
    let (finder, words) = match kind {
        ErrorKind::ExpectedFlowMappingSeparator
        | ErrorKind::UnexpectedEofFlowMapping
        | ErrorKind::UnexpectedEofImplicitFlowMapping
        | ErrorKind::UnclosedFlowCollection { open: '{' } => (Parser, "did not find expected ',' or '}'"),
        ErrorKind::ExpectedFlowSequenceSeparator
        | ErrorKind::UnexpectedEofFlowSequence
        | ErrorKind::UnclosedFlowCollection { .. } => (Parser, "did not find expected ',' or ']'"),
        ErrorKind::ExpectedBlockMappingKey | ErrorKind::UnexpectedEofBlockMapping => {
            (Parser, "did not find expected key")
        }
        ErrorKind::ExpectedBlockSequenceEntry | ErrorKind::UnexpectedEofBlockSequence => {
            (Parser, "did not find expected '-' indicator")
        }
        ErrorKind::ExpectedNodeContent
        | ErrorKind::MisplacedFlowCollectionEnd
        | ErrorKind::MismatchedFlowCollectionEnd { .. } => (Parser, "did not find expected node content"),
        ErrorKind::ExpectedDocumentStart => (Parser, "did not find expected <document start>"),
        ErrorKind::UndeclaredTagHandle => (Parser, "found undefined tag handle"),
        ErrorKind::MappingValueNotAllowed => (Scanner, "mapping values are not allowed in this context"),
        ErrorKind::MappingKeyNotAllowed => (Scanner, "mapping keys are not allowed in this context"),
        ErrorKind::BlockSequenceEntryNotAllowed => (Scanner, "block sequence entries are not allowed in this context"),
        ErrorKind::SimpleKeyExpected | ErrorKind::InvalidSimpleKey => (Scanner, "could not find expected ':'"),
        ErrorKind::UnexpectedCharacter { .. }
        | ErrorKind::TabNotAllowed
        | ErrorKind::TabInBlockIndentation
        | ErrorKind::TabInIndentation => (Scanner, "found character that cannot start any token"),
        ErrorKind::TabInPlainScalar => (Scanner, "found a tab character that violates indentation"),
        ErrorKind::UnclosedQuotedScalar => (Scanner, "found unexpected end of stream"),
        ErrorKind::DocumentIndicatorInQuotedScalar => (Scanner, "found unexpected document indicator"),
        ErrorKind::UnknownQuotedScalarEscape => (Scanner, "found unknown escape character"),
        ErrorKind::InvalidQuotedScalarHexEscape => (Scanner, "did not find expected hexdecimal number"),
        ErrorKind::MissingAnchorOrAliasName => (Scanner, "did not find expected alphabetic or numeric character"),
        ErrorKind::InvalidBlockScalarHeader => (Scanner, "did not find expected comment or line break"),
        ErrorKind::ZeroBlockScalarIndent => (Scanner, "found an indentation indicator equal to 0"),
        other => return (Scanner, other.to_string()),
    };
    (finder, words.into())
}
