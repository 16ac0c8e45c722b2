//! What is wrong with an expression, shown as cel-go shows it: the line, and a caret under the place.

use std::fmt::{self, Write};

/// One mistake. `at` is in characters from the start; `None` where no place can be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    pub at: Option<u32>,
    pub message: String,
}

/// All mistakes of an expression, in the order of their places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issues {
    source: String,
    issues: Vec<Issue>,
}

impl Issues {
    pub fn new(source: &str, mut issues: Vec<Issue>) -> Issues {
        issues.sort_by_key(|issue| issue.at);
        Issues {
            source: source.into(),
            issues,
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = &Issue> {
        self.issues.iter()
    }
}

impl fmt::Display for Issues {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        // cel-go stops after a hundred.
        const SHOWN: usize = 100;
        for (i, issue) in self.issues.iter().take(SHOWN).enumerate() {
            if i > 0 {
                f.write_char('\n')?;
            }
            show(&self.source, issue, f)?;
        }
        if self.issues.len() > SHOWN {
            write!(f, "\n{} more errors were truncated", self.issues.len() - SHOWN)?;
        }
        Ok(())
    }
}

fn show(source: &str, issue: &Issue, f: &mut fmt::Formatter) -> fmt::Result {
    let Some(at) = issue.at else {
        return write!(f, "ERROR: <input>:-1:0: {}", issue.message);
    };
    let (line, column) = place(source, at as usize);
    write!(f, "ERROR: <input>:{}:{}: {}", line + 1, column + 1, issue.message)?;
    let Some(text) = source.split('\n').nth(line) else {
        return Ok(());
    };
    let text = text.replace('\t', " ");
    write!(f, "\n | {text}\n | ")?;
    let mut chars = text.chars();
    for c in chars.by_ref().take(column) {
        // Wide dots keep the caret under what it points at.
        f.write_char(if c.len_utf8() > 1 { '\u{ff0e}' } else { '.' })?;
    }
    f.write_char(if chars.next().is_some_and(|c| c.len_utf8() > 1) {
        '\u{ff3e}'
    } else {
        '^'
    })
}

/// Line and column, from zero, of a character.
fn place(source: &str, at: usize) -> (usize, usize) {
    let (mut line, mut column) = (0, 0);
    for c in source.chars().take(at) {
        if c == '\n' {
            line += 1;
            column = 0;
        } else {
            column += 1;
        }
    }
    (line, column)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn carets_stand_under_their_place() {
        let issues = Issues::new(
            "a +\n 'é' + b",
            vec![Issue {
                at: Some(11),
                message: "no b".into(),
            }],
        );
        assert_eq!(
            issues.to_string(),
            "ERROR: <input>:2:8: no b\n |  'é' + b\n | ..．....^"
        );
    }
}
