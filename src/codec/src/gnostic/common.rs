//! The messages that both versions of OpenAPI have, number for number.

use super::Form::{Message as M, Text};
use super::Message;

pub(super) static CONTACT: Message = Message {
    fields: &[(1, "name", Text), (2, "url", Text), (3, "email", Text)],
    entries: None,
    extensions: 4,
};

pub(super) static LICENSE: Message = Message {
    fields: &[(1, "name", Text), (2, "url", Text)],
    entries: None,
    extensions: 3,
};

pub(super) static TAG: Message = Message {
    fields: &[
        (1, "name", Text),
        (2, "description", Text),
        (3, "externalDocs", M(&EXTERNAL_DOCS)),
    ],
    entries: None,
    extensions: 4,
};

pub(super) static EXTERNAL_DOCS: Message = Message {
    fields: &[(1, "description", Text), (2, "url", Text)],
    entries: None,
    extensions: 3,
};
