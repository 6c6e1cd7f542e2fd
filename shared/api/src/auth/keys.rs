//! The stored side of API keys.

use bytes::Bytes;
use rand::TryRngCore;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tarn_model::{Corrupt, KeyPrefix, ObjectKey, ValidationError};
use tarn_store::{Created, Store, StoreError};

use super::scope::Grant;
use crate::error::ApiError;

/// What [`KeyRecord::format`] says.
const FORMAT: u32 = 1;
/// Hexadecimal digits of a key's id.
const ID_DIGITS: usize = 16;
/// Bytes of a key's secret, all random.
const SECRET_BYTES: usize = 32;
/// Longest name of a key, in bytes.
const NAME_BYTES: usize = 200;
/// Most grants of one key.
const GRANTS: usize = 100;
/// What the id of a revocation record ends with. No key's id holds a dot.
const REVOKED: &str = ".revoked";

/// What the store knows of a key. Not the key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyRecord {
    /// The version of this record's form.
    pub format: u32,
    /// The public part of the key.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// SHA-256 of the whole key, in hexadecimal.
    pub sha256: String,
    /// What the key permits.
    pub grants: Vec<Grant>,
    /// When it was created, in milliseconds since the Unix epoch.
    pub created_ms: i64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Revocation {
    format: u32,
    id: String,
    revoked_ms: i64,
}

/// A key that was just created. The only place where the whole key ever is; its `Debug` does not show it.
pub struct NewKey {
    /// What to send: `tarn_{id}_{secret}`.
    pub key: String,
    /// What was stored.
    pub record: KeyRecord,
}

impl std::fmt::Debug for NewKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewKey").field("record", &self.record).finish_non_exhaustive()
    }
}

/// A key as [`list_keys`] shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KeySummary {
    /// The public part of the key.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// What the key permits.
    pub grants: Vec<Grant>,
    /// When it was created, in milliseconds since the Unix epoch.
    pub created_ms: i64,
    /// When it was revoked, if it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revoked_ms: Option<i64>,
}

/// Whether requests need a key: whether one was ever created in this store, revoked or not. Costs one LIST.
///
/// # Errors
/// The store fails.
pub async fn auth_required(store: &Store) -> Result<bool, StoreError> {
    Ok(store.first(&KeyPrefix::AuthKeys).await?.is_some())
}

/// Creates a key.
///
/// # Errors
/// 400 for a name or grants beyond the limits; the store fails.
pub async fn create_key(store: &Store, name: &str, grants: Vec<Grant>) -> Result<NewKey, ApiError> {
    if name.is_empty() || name.len() > NAME_BYTES || name.chars().any(char::is_control) {
        return Err(ValidationError::one(format!("The name of a key must have 1 to {NAME_BYTES} bytes")).into());
    }
    if grants.is_empty() || grants.len() > GRANTS {
        return Err(
            ValidationError::one(format!("A key must have 1 to {GRANTS} grants, such as read:indices/*")).into()
        );
    }
    loop {
        let id = random_hex::<{ ID_DIGITS / 2 }>()?;
        let key = format!("tarn_{id}_{}", random_hex::<SECRET_BYTES>()?);
        let record = KeyRecord {
            format: FORMAT,
            id: id.clone(),
            name: name.to_owned(),
            sha256: hex(&Sha256::digest(key.as_bytes())),
            grants: grants.clone(),
            created_ms: store.clock().now_ms(),
        };
        let bytes = to_bytes(&record)?;
        let ours = bytes.clone();
        match store.create(&ObjectKey::AuthKey { id }, bytes, move |found| *found == ours).await? {
            Created::Ours => return Ok(NewKey { key, record }),
            Created::Taken(_) => {}
        }
    }
}

/// Every key of the store, revoked ones included, by id.
///
/// # Errors
/// The store fails, or holds a record that is none.
pub async fn list_keys(store: &Store) -> Result<Vec<KeySummary>, ApiError> {
    let mut keys = Vec::new();
    for listed in store.list(&KeyPrefix::AuthKeys).await? {
        let Some(ObjectKey::AuthKey { id }) = listed.key else { continue };
        if !is_id(&id) {
            continue;
        }
        if let Some(record) = load_record(store, &id).await? {
            let revoked_ms = load_revocation(store, &id).await?.map(|revocation| revocation.revoked_ms);
            let KeyRecord { name, grants, created_ms, .. } = record;
            keys.push(KeySummary { id, name, grants, created_ms, revoked_ms });
        }
    }
    Ok(keys)
}

/// Revokes a key; servers notice within seconds. `false` when there is no such key; revoking twice is no error.
///
/// # Errors
/// The store fails.
pub async fn revoke_key(store: &Store, id: &str) -> Result<bool, ApiError> {
    if !is_id(id) || load_record(store, id).await?.is_none() {
        return Ok(false);
    }
    let revocation = Revocation { format: FORMAT, id: id.to_owned(), revoked_ms: store.clock().now_ms() };
    // Whoever revokes first, the key is revoked.
    store.create(&revocation_key(id), to_bytes(&revocation)?, |_| true).await?;
    Ok(true)
}

/// The record of a key that is not revoked.
pub(super) async fn load_live(store: &Store, id: &str) -> Result<Option<KeyRecord>, ApiError> {
    if !is_id(id) {
        return Ok(None);
    }
    let (record, revocation) = futures::future::try_join(load_record(store, id), load_revocation(store, id)).await?;
    Ok(if revocation.is_some() { None } else { record })
}

impl KeyRecord {
    /// Whether the record belongs to this key. Takes the same time wherever a wrong key differs.
    pub(super) fn is_of(&self, key: &str) -> bool {
        let digest = hex(&Sha256::digest(key.as_bytes()));
        digest.as_bytes().ct_eq(self.sha256.as_bytes()).into()
    }
}

/// The id within a key; `None` when the text is no key.
pub(super) fn id_of(key: &str) -> Option<&str> {
    let (id, secret) = key.strip_prefix("tarn_")?.split_once('_')?;
    (is_id(id) && secret.len() == SECRET_BYTES * 2).then_some(id)
}

fn is_id(text: &str) -> bool {
    text.len() == ID_DIGITS && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn revocation_key(id: &str) -> ObjectKey {
    ObjectKey::AuthKey { id: format!("{id}{REVOKED}") }
}

async fn load_record(store: &Store, id: &str) -> Result<Option<KeyRecord>, ApiError> {
    let key = ObjectKey::AuthKey { id: id.to_owned() };
    let Some(bytes) = store.get(&key).await? else { return Ok(None) };
    let corrupt = |expected: &str, found: String| Corrupt {
        object: key.render(),
        part: "key record".to_owned(),
        expected: expected.to_owned(),
        found,
    };
    let record: KeyRecord =
        serde_json::from_slice(&bytes).map_err(|error| corrupt("JSON of a key record", error.to_string()))?;
    if record.format != FORMAT || record.id != id {
        return Err(
            corrupt("format 1 and the id of its path", format!("format {} of {}", record.format, record.id)).into()
        );
    }
    Ok(Some(record))
}

/// A revocation that cannot be read still revokes.
async fn load_revocation(store: &Store, id: &str) -> Result<Option<Revocation>, ApiError> {
    let Some(bytes) = store.get(&revocation_key(id)).await? else { return Ok(None) };
    let unreadable = || Revocation { format: FORMAT, id: id.to_owned(), revoked_ms: 0 };
    Ok(Some(serde_json::from_slice(&bytes).unwrap_or_else(|_| unreadable())))
}

fn to_bytes(record: &impl Serialize) -> Result<Bytes, ApiError> {
    serde_json::to_vec_pretty(record).map(Bytes::from).map_err(|error| {
        tracing::error!(%error, "cannot write a key record as JSON");
        ApiError::internal()
    })
}

fn random_hex<const N: usize>() -> Result<String, ApiError> {
    let mut bytes = [0_u8; N];
    rand::rngs::OsRng.try_fill_bytes(&mut bytes).map_err(|error| {
        tracing::error!(%error, "the operating system gives no random bytes");
        ApiError::internal()
    })?;
    Ok(hex(&bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from_digit(u32::from(digit), 16).unwrap_or('0'));
        }
        text
    })
}
