//! `ListOptions`, for lists, watches and collection deletes.

use super::{boolean, check, parse_int};
use crate::request::Request;
use fairlead_api::{FieldError, FieldErrors, FieldPath, StatusResult};

/// `ListOptions`; selectors are parsed by [`crate::selection`].
#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    pub watch: bool,
    pub allow_bookmarks: bool,
    pub resource_version: String,
    pub version_match: Match,
    pub timeout_seconds: Option<i64>,
    /// Zero or less: no limit.
    pub limit: i64,
    pub continue_token: String,
    pub send_initial_events: Option<bool>,
}

/// `resourceVersionMatch`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Match {
    #[default]
    Unset,
    Exact,
    NotOlderThan,
}

impl ListOptions {
    /// Reads and validates. `watch` says whether the path itself asks for a watch.
    ///
    /// # Errors
    /// BadRequest for what cannot be parsed, Invalid for `ListOptions.meta.k8s.io`.
    pub fn parse(request: &Request, watch: bool) -> StatusResult<ListOptions> {
        let text = |name| request.query(name).unwrap_or("");
        let mut options = ListOptions {
            watch: watch || request.query("watch").is_some_and(boolean),
            allow_bookmarks: request.query("allowWatchBookmarks").is_some_and(boolean),
            resource_version: text("resourceVersion").into(),
            timeout_seconds: request.query("timeoutSeconds").map(parse_int).transpose()?,
            limit: request.query("limit").map(parse_int).transpose()?.unwrap_or(0),
            continue_token: text("continue").into(),
            send_initial_events: request.query("sendInitialEvents").map(boolean),
            version_match: Match::Unset,
        };
        let mut matching = text("resourceVersionMatch");
        // KEP-3157: a legacy watch "from now" is one with initial events.
        let legacy = matches!(options.resource_version.as_str(), "" | "0");
        if options.watch && legacy && options.send_initial_events.is_none() && matching.is_empty() {
            options.send_initial_events = Some(true);
            matching = "NotOlderThan";
        }
        let mut errors = FieldErrors::new();
        if options.watch {
            options.validate_watch(matching, &mut errors);
        } else {
            options.validate_list(matching, &mut errors);
        }
        check("ListOptions", &errors)?;
        options.version_match = match matching {
            "Exact" => Match::Exact,
            "NotOlderThan" => Match::NotOlderThan,
            _ => Match::Unset,
        };
        Ok(options)
    }

    fn validate_list(&self, matching: &str, errors: &mut FieldErrors) {
        let path = FieldPath::new("resourceVersionMatch");
        if !matching.is_empty() {
            if self.resource_version.is_empty() {
                let why = "resourceVersionMatch is forbidden unless resourceVersion is provided";
                errors.push(FieldError::forbidden(&path, why));
            }
            if !self.continue_token.is_empty() {
                let why = "resourceVersionMatch is forbidden when continue is provided";
                errors.push(FieldError::forbidden(&path, why));
            }
            if !matches!(matching, "Exact" | "NotOlderThan") {
                errors.push(FieldError::not_supported(
                    &path,
                    matching,
                    &["Exact", "NotOlderThan", ""],
                ));
            }
            if matching == "Exact" && self.resource_version == "0" {
                let why = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
                errors.push(FieldError::forbidden(&path, why));
            }
        }
        if self.send_initial_events.is_some() {
            let path = FieldPath::new("sendInitialEvents");
            errors.push(FieldError::forbidden(&path, "sendInitialEvents is forbidden for list"));
        }
    }

    fn validate_watch(&self, matching: &str, errors: &mut FieldErrors) {
        let path = FieldPath::new("resourceVersionMatch");
        if self.send_initial_events.is_some() && matching != "NotOlderThan" {
            let why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
            errors.push(FieldError::forbidden(&path, why));
        }
        if matching.is_empty() {
            return;
        }
        if self.send_initial_events.is_none() {
            let why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
            errors.push(FieldError::forbidden(&path, why));
        }
        if matching != "NotOlderThan" {
            errors.push(FieldError::not_supported(&path, matching, &["NotOlderThan"]));
        }
        if !self.continue_token.is_empty() {
            let why = "resourceVersionMatch is forbidden when continue is provided";
            errors.push(FieldError::forbidden(&path, why));
        }
    }
}
