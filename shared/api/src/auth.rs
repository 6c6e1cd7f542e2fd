//! API keys: who calls, and what the caller may do.
//!
//! A key is `tarn_{id}_{secret}`. The store holds, at `auth/keys/{id}.json`, the SHA-256 of the whole key and its grants;
//! a second object, `auth/keys/{id}.revoked.json`, revokes it. Both are created and never rewritten, so that a server
//! which requires keys never stops requiring them because the last one was revoked.
//!
//! Secrets appear in no log and in no error; they are compared in constant time, by digest.

mod gate;
mod keys;
mod scope;

pub use gate::{AuthMode, Caller, KeysSeen};
pub(crate) use gate::{Gate, authenticate};
pub use keys::{KeyRecord, KeySummary, NewKey, auth_required, create_key, list_keys, revoke_key};
pub use scope::{Grant, Pattern, Resource, Scope};
