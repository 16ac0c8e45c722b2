//! Words and symbols of the label selector grammar.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Bad,
    End,
    Close,
    Comma,
    Not,
    DoubleEquals,
    Equals,
    Greater,
    Word,
    In,
    Less,
    NotEquals,
    NotIn,
    Open,
}

#[derive(Clone, Debug)]
pub(super) struct Item {
    pub token: Token,
    pub text: String,
}

/// All items of a text; the last one is [`Token::End`].
pub(super) fn scan(text: &str) -> Vec<Item> {
    let bytes = text.as_bytes();
    let mut items = Vec::new();
    let mut at = 0;
    loop {
        while bytes.get(at).is_some_and(|b| space(*b)) {
            at += 1;
        }
        // COMPAT: a NUL byte ends the text, as in upstream's reader.
        let Some(&first) = bytes.get(at).filter(|b| **b != 0) else {
            items.push(Item {
                token: Token::End,
                text: String::new(),
            });
            return items;
        };
        let start = at;
        if special(first) {
            items.push(symbol(bytes, &mut at));
            continue;
        }
        while bytes.get(at).is_some_and(|b| !special(*b) && !space(*b) && *b != 0) {
            at += 1;
        }
        let word = &text[start..at];
        let token = match word {
            "in" => Token::In,
            "notin" => Token::NotIn,
            _ => Token::Word,
        };
        items.push(Item {
            token,
            text: word.to_owned(),
        });
    }
}

/// The longest symbol that starts here.
fn symbol(bytes: &[u8], at: &mut usize) -> Item {
    let start = *at;
    let mut last: Option<(Token, usize)> = None;
    while let Some(&b) = bytes.get(*at) {
        if !special(b) {
            break;
        }
        *at += 1;
        match known(&bytes[start..*at]) {
            Some(token) => last = Some((token, *at)),
            None if last.is_some() => {
                *at -= 1;
                break;
            }
            None => {}
        }
    }
    let text = |end: usize| String::from_utf8_lossy(&bytes[start..end]).into_owned();
    match last {
        Some((token, end)) => Item { token, text: text(end) },
        None => Item {
            token: Token::Bad,
            text: format!("error expected: keyword found '{}'", text(*at)),
        },
    }
}

fn known(symbol: &[u8]) -> Option<Token> {
    Some(match symbol {
        b")" => Token::Close,
        b"," => Token::Comma,
        b"!" => Token::Not,
        b"==" => Token::DoubleEquals,
        b"=" => Token::Equals,
        b">" => Token::Greater,
        b"<" => Token::Less,
        b"!=" => Token::NotEquals,
        b"(" => Token::Open,
        _ => return None,
    })
}

fn space(b: u8) -> bool {
    matches!(b, b' ' | b'\t' | b'\r' | b'\n')
}

fn special(b: u8) -> bool {
    matches!(b, b'=' | b'!' | b'(' | b')' | b',' | b'>' | b'<')
}
