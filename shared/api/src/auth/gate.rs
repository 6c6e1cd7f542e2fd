//! The serving side of API keys: a small cache in front of the stored records, and the check on every request.
//!
//! Owns `key-changes-show-within-seconds`: a record is asked for again once it is [`FRESH`] old, and never believed once
//! it is [`STALE`] old, not even while the store is down.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::Response;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tarn_store::{Store, StoreError};

use super::keys::{KeyRecord, auth_required, id_of, load_live};
use super::scope::{Grant, Resource, Scope};
use crate::error::ApiError;
use crate::state::AppState;

/// Age up to which a record is believed without a request to the store.
const FRESH: Duration = Duration::from_secs(3);
/// Age up to which a record is believed while another request is asking for it anew, or the store is down.
const STALE: Duration = Duration::from_secs(10);
/// Most ids in the cache, unknown ones included.
const CACHED_IDS: usize = 10_000;
/// Look-ups of ids that are not known to exist: so many at once, and so many per second. Guessing cannot cost more.
const LOOKUP_BURST: f64 = 50.0;
const LOOKUPS_PER_SECOND: f64 = 20.0;

/// When requests need a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AuthMode {
    /// Once the store has a key. Until then everybody may do everything: the server must listen on loopback alone.
    #[default]
    WhenKeysExist,
    /// Always: for a server that others can reach whatever the store holds.
    Always,
}

/// Whether requests need a key, as the store said at some moment.
#[derive(Clone, Copy, Debug)]
pub struct KeysSeen {
    required: bool,
    /// When the store was asked, on its monotonic clock.
    asked: Duration,
}

impl KeysSeen {
    /// Asks the store. Costs one LIST.
    ///
    /// # Errors
    /// The store fails.
    pub async fn look(store: &Store) -> Result<Self, StoreError> {
        let asked = store.clock().monotonic();
        Ok(Self { required: auth_required(store).await?, asked })
    }

    /// Whether requests need a key.
    pub fn required(&self) -> bool {
        self.required
    }
}

/// Who sent a request. Handlers ask it before they touch anything.
#[derive(Clone, Debug)]
pub struct Caller {
    /// `None`: keys are not required.
    grants: Option<Arc<KeyRecord>>,
}

impl Caller {
    /// Demands a permission.
    ///
    /// # Errors
    /// 403, naming the grant that is missing.
    pub fn require(&self, scope: Scope, resource: Resource<'_>) -> Result<(), ApiError> {
        if self.may(scope, resource) {
            return Ok(());
        }
        Err(ApiError::forbidden(format!(
            "The API key does not permit this; it would need the grant {scope}:{resource}"
        )))
    }

    /// Whether the caller has a permission.
    pub fn may(&self, scope: Scope, resource: Resource<'_>) -> bool {
        match &self.grants {
            None => true,
            Some(record) => record.grants.iter().any(|grant: &Grant| grant.permits(scope, resource)),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| {
            tracing::error!(path = parts.uri.path(), "a route without the authentication layer asks who calls");
            ApiError::internal()
        })
    }
}

/// The layer in front of every route that is not open: finds out who calls.
pub(crate) async fn authenticate(
    State(state): State<AppState>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let caller = state.gate().admit(request.headers()).await?;
    request.extensions_mut().insert(caller);
    Ok(next.run(request).await)
}

/// Knows the keys.
#[derive(Debug)]
pub(crate) struct Gate {
    store: Store,
    mode: AuthMode,
    state: Mutex<GateState>,
}

#[derive(Debug, Default)]
struct GateState {
    /// Whether keys are required; once they are, they stay so.
    seen: Option<KeysSeen>,
    keys: HashMap<String, Entry>,
    lookups: Option<(f64, Duration)>,
}

#[derive(Debug)]
struct Entry {
    record: Option<Arc<KeyRecord>>,
    loaded: Duration,
    refreshing: bool,
}

impl Gate {
    pub(crate) fn new(store: Store, mode: AuthMode) -> Self {
        Self { store, mode, state: Mutex::default() }
    }

    async fn admit(&self, headers: &HeaderMap) -> Result<Caller, ApiError> {
        if !self.required().await? {
            return Ok(Caller { grants: None });
        }
        let Some(key) = key_of(headers)? else {
            return Err(ApiError::unauthorized(
                "This server requires an API key: send it in the header 'Authorization: Bearer KEY' or 'X-Api-Key: KEY'",
            ));
        };
        let unknown = || ApiError::unauthorized("The API key is not known, or was revoked");
        let id = id_of(key).ok_or_else(unknown)?;
        match self.record(id).await? {
            Some(record) if record.is_of(key) => Ok(Caller { grants: Some(record) }),
            _ => Err(unknown()),
        }
    }

    async fn required(&self) -> Result<bool, ApiError> {
        if self.mode == AuthMode::Always {
            return Ok(true);
        }
        let now = self.store.clock().monotonic();
        match self.state.lock().seen {
            Some(KeysSeen { required: true, .. }) => return Ok(true),
            Some(KeysSeen { asked, .. }) if now.saturating_sub(asked) < FRESH => return Ok(false),
            _ => {}
        }
        let seen = KeysSeen::look(&self.store).await?;
        Ok(self.learn(seen))
    }

    /// Takes in what the store said, to whomever in this process; gives whether keys are required.
    pub(crate) fn learn(&self, seen: KeysSeen) -> bool {
        let mut state = self.state.lock();
        let known = state.seen.unwrap_or(seen);
        // A listing that was under way while the first key was created must not undo what another one saw.
        let required = seen.required || known.required;
        state.seen = Some(KeysSeen { required, asked: seen.asked.max(known.asked) });
        required
    }

    async fn record(&self, id: &str) -> Result<Option<Arc<KeyRecord>>, ApiError> {
        let now = self.store.clock().monotonic();
        let stale = {
            let mut state = self.state.lock();
            if let Some(entry) = state.keys.get(id) {
                let age = now.saturating_sub(entry.loaded);
                if age < FRESH || (entry.refreshing && age < STALE) {
                    return Ok(entry.record.clone());
                }
            }
            // An id that was unknown some seconds ago is a guess again.
            if state.keys.get(id).is_none_or(|entry| entry.record.is_none()) {
                state.spend_lookup(now)?;
            }
            state.keys.get_mut(id).and_then(|entry| {
                entry.refreshing = true;
                (now.saturating_sub(entry.loaded) < STALE).then(|| entry.record.clone())
            })
        };
        let loaded = load_live(&self.store, id).await;
        let mut state = self.state.lock();
        match loaded {
            Ok(record) => {
                let record = record.map(Arc::new);
                if state.keys.len() >= CACHED_IDS {
                    // Guesses go first: they must not make the keys that exist be looked up again.
                    state.keys.retain(|_, entry| entry.record.is_some());
                }
                if state.keys.len() >= CACHED_IDS {
                    state.keys.clear();
                }
                let entry = Entry { record: record.clone(), loaded: now, refreshing: false };
                state.keys.insert(id.to_owned(), entry);
                Ok(record)
            }
            Err(error) => {
                if let Some(entry) = state.keys.get_mut(id) {
                    entry.refreshing = false;
                }
                stale.ok_or(error)
            }
        }
    }
}

impl GateState {
    fn spend_lookup(&mut self, now: Duration) -> Result<(), ApiError> {
        let (left, since) = self.lookups.unwrap_or((LOOKUP_BURST, now));
        let refill = now.saturating_sub(since).as_secs_f64() * LOOKUPS_PER_SECOND;
        let left = (left + refill).min(LOOKUP_BURST);
        if left < 1.0 {
            self.lookups = Some((left, now));
            return Err(ApiError::overloaded(
                "Too many unknown API keys are being tried; repeat the request in a second",
                1,
            ));
        }
        self.lookups = Some((left - 1.0, now));
        Ok(())
    }
}

/// The key that a request carries. `X-Api-Key` goes first: where a gateway demands a token or a signature of its own, that has
/// the other header.
fn key_of(headers: &HeaderMap) -> Result<Option<&str>, ApiError> {
    let unreadable =
        || ApiError::unauthorized("The API key in the request is not readable; send 'Authorization: Bearer KEY'");
    if let Some(value) = headers.get("x-api-key") {
        return value.to_str().map(|text| Some(text.trim())).map_err(|_| unreadable());
    }
    if let Some(value) = headers.get(AUTHORIZATION) {
        let text = value.to_str().map_err(|_| unreadable())?;
        let (scheme, key) = text.split_once(' ').ok_or_else(unreadable)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(unreadable());
        }
        return Ok(Some(key.trim()));
    }
    Ok(None)
}
