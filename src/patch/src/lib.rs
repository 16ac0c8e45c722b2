//! How objects change: the patch formats, and server-side apply with its record of who owns which field.
//!
//! - [`json_patch`], [`merge_patch`], [`strategic`]: the three patch formats, in place on a [`fairlead_api::Node`].
//! - [`configuration`]: apply without owners, for policies.
//! - [`fields`]: sets of field paths, as `fieldsV1` holds them.
//! - [`apply`]: server-side apply, and the bookkeeping of `metadata.managedFields` for every other write.
//! - [`go_text`]: values as Go prints them, for messages.
//!
//! The rules are those of structured-merge-diff v6, apimachinery's strategicpatch and managedfields, and
//! evanphx/json-patch v4. Related: `fairlead-schema` says what types a list or map has; `fairlead-resource` calls in here.

pub mod apply;
pub mod configuration;
pub mod fields;
pub mod go_text;
pub mod json_patch;
pub mod merge_patch;
pub mod strategic;

mod error;
mod typed;

pub use error::PatchError;
