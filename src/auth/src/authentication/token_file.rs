//! [`TokenFile`]: static tokens from a CSV file (`--token-auth-file`): token, user, uid, optional `"group,group"`.
//!
//! Source of behaviour: kubernetes/apiserver pkg/authentication/token/tokenfile.
// PERFORMANCE: per-request path

use super::union::join;
use super::{AuthError, Authenticated, Authenticator, Credentials};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest;
use fairlead_api::UserInfo;
use futures_util::future::BoxFuture;

/// Tokens are kept and compared as digests: equal time for all, and none of them in memory.
#[derive(Default)]
pub struct TokenFile {
    users: Vec<(digest::Digest, Authenticated)>,
}

/// A line the file cannot have.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TokenFileError {
    #[error("record {record} must have at least 3 columns (token, user name, user uid), found {columns}")]
    Columns { record: usize, columns: usize },
    #[error("record {record} has an unmatched quote")]
    Quote { record: usize },
}

impl TokenFile {
    /// Reads the file's text. Records with an empty token are left out; of two with one token the last counts.
    pub fn parse(text: &str) -> Result<TokenFile, TokenFileError> {
        let mut users: Vec<(digest::Digest, Authenticated)> = Vec::new();
        for (i, columns) in records(text)?.into_iter().enumerate() {
            let [token, name, uid, rest @ ..] = columns.as_slice() else {
                return Err(TokenFileError::Columns {
                    record: i + 1,
                    columns: columns.len(),
                });
            };
            if token.is_empty() {
                tracing::warn!(record = i + 1, "empty token in the token file");
                continue;
            }
            let groups = rest
                .first()
                .map(|g| g.split(',').map(Into::into).collect())
                .unwrap_or_default();
            let mut user = UserInfo {
                name: name.into(),
                uid: uid.into(),
                groups,
                ..UserInfo::default()
            };
            join(&mut user);
            let digest = digest::digest(&digest::SHA256, token.as_bytes());
            users.retain(|(known, _)| known.as_ref() != digest.as_ref());
            users.push((digest, Authenticated::new(user, "token-file")));
        }
        Ok(TokenFile { users })
    }

    /// The user of a token. Looks at every entry, whether or not one matched.
    pub fn find(&self, token: &str) -> Option<&Authenticated> {
        let digest = digest::digest(&digest::SHA256, token.as_bytes());
        self.users.iter().fold(None, |found, (known, user)| {
            if verify_slices_are_equal(known.as_ref(), digest.as_ref()).is_ok() {
                Some(user)
            } else {
                found
            }
        })
    }
}

impl Authenticator for TokenFile {
    fn authenticate<'a>(&'a self, c: &'a Credentials<'a>) -> BoxFuture<'a, Result<Option<Authenticated>, AuthError>> {
        Box::pin(std::future::ready(Ok(c
            .bearer
            .and_then(|token| self.find(token))
            .cloned())))
    }
}

/// Splits CSV text: quoted fields may hold commas, line ends and doubled quotes; empty lines do not count.
fn records(text: &str) -> Result<Vec<Vec<String>>, TokenFileError> {
    let (mut records, mut fields, mut field) = (Vec::new(), Vec::new(), String::new());
    let (mut quoted, mut was_quoted) = (false, false);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => field.extend(chars.next()),
            '"' if quoted => quoted = false,
            '"' if field.is_empty() && !was_quoted => (quoted, was_quoted) = (true, true),
            '"' => {
                return Err(TokenFileError::Quote {
                    record: records.len() + 1,
                });
            }
            ',' if !quoted => {
                fields.push(std::mem::take(&mut field));
                was_quoted = false;
            }
            '\r' if !quoted && chars.peek() == Some(&'\n') => {}
            '\n' if !quoted => {
                end_record(&mut records, &mut fields, &mut field, was_quoted);
                was_quoted = false;
            }
            c => field.push(c),
        }
    }
    if quoted {
        return Err(TokenFileError::Quote {
            record: records.len() + 1,
        });
    }
    end_record(&mut records, &mut fields, &mut field, was_quoted);
    Ok(records)
}

fn end_record(records: &mut Vec<Vec<String>>, fields: &mut Vec<String>, field: &mut String, quoted: bool) {
    if !fields.is_empty() || !field.is_empty() || quoted {
        fields.push(std::mem::take(field));
        records.push(std::mem::take(fields));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csv_as_go_reads_it() {
        let file = TokenFile::parse("t1,ann,1\r\n\n\"t\"\"2\",bob,2,\"g1,g2\"\n,nobody,3\nt1,eve,4\n").unwrap();
        assert_eq!(file.find("t1").unwrap().user.name, "eve");
        assert_eq!(
            file.find("t\"2").unwrap().user.groups,
            ["g1", "g2", "system:authenticated"]
        );
        assert!(file.find("").is_none() && file.find("t").is_none());
        assert_eq!(
            TokenFile::parse("a,b").err(),
            Some(TokenFileError::Columns { record: 1, columns: 2 })
        );
        assert_eq!(
            TokenFile::parse("\"a,b,c").err(),
            Some(TokenFileError::Quote { record: 1 })
        );
    }
}
