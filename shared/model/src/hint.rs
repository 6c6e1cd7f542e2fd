//! The hint of an index: a copy of what a reader that holds nothing would otherwise ask for one after the other.
//!
//! One object beside the manifests, overwritten by the builder after each manifest that it publishes. It is a *cache* and
//! commits nothing: it may be absent, stale or damaged at any time, and whoever reads it must be able to do without.
//!
//! `hints-agree-with-manifests`: a hint says which manifest it is a copy of, by key and ETag. A reader lists the newest
//! manifest itself and takes a hint only when both are the listed ones, see [`Hint::is_of`]. What the copy holds has then to
//! pass the checks that the originals have to; catalogs are compared with the length and the checksum in the manifest.
//!
//! Not here: reading and writing it.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use ulid::Ulid;

use crate::error::Corrupt;
use crate::ids::IndexId;
use crate::layout::ObjectKey;
use crate::limits;
use crate::manifest::{FORMAT, Manifest, ObjectRef};
use crate::source::DataSource;

/// What the first search of an index needs to know before it can read a segment.
#[derive(Clone, Debug, PartialEq)]
pub struct Hint {
    /// The manifest that was the newest when the hint was written.
    pub manifest: Manifest,
    /// The ETag of that manifest's object, as a listing shows it. Opaque: only equality means anything.
    pub manifest_e_tag: String,
    /// The definition of the index's data source.
    pub data_source: DataSource,
    /// Catalogs that the manifest names, by id: all of them, or none when they are too large together
    /// ([`limits::HINT_CATALOG_BYTES`]).
    pub catalogs: BTreeMap<Ulid, Vec<u8>>,
}

/// As it is stored. The manifest is text, so that it is checked by what checks manifests.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stored {
    format_version: u32,
    index: IndexId,
    data_source: DataSource,
    manifest: String,
    #[serde(rename = "manifestETag")]
    manifest_e_tag: String,
    catalogs: Vec<StoredCatalog>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct StoredCatalog {
    id: Ulid,
    /// In base64.
    bytes: String,
}

impl Hint {
    /// Where it is stored.
    pub fn key(&self) -> ObjectKey {
        ObjectKey::Hint(self.manifest.index.clone())
    }

    /// Whether it is a copy of the manifest that a listing found, given the listed key and ETag. Stores that tell no ETags
    /// have no hints.
    pub fn is_of(&self, listed: &ObjectKey, e_tag: Option<&str>) -> bool {
        *listed == self.manifest.key() && e_tag == Some(self.manifest_e_tag.as_str())
    }

    /// The bytes of a catalog that the manifest names.
    pub fn catalog(&self, object: &ObjectRef) -> Option<&[u8]> {
        self.catalogs.get(&object.id).map(Vec::as_slice)
    }

    /// Parses and checks a hint; `object` is its key, for the error.
    ///
    /// # Errors
    /// [`Corrupt`] when it is larger than [`limits::HINT_BYTES`], no hint of this index, or does not agree with itself.
    pub fn parse(object: &str, bytes: &[u8], index: &IndexId) -> Result<Self, Corrupt> {
        let corrupt = |part: &str, expected: String, found: String| Corrupt {
            object: object.to_owned(),
            part: part.to_owned(),
            expected,
            found,
        };
        if bytes.len() > limits::HINT_BYTES {
            let expected = format!("at most {} bytes", limits::HINT_BYTES);
            return Err(corrupt("length", expected, format!("{} bytes", bytes.len())));
        }
        let stored: Stored =
            serde_json::from_slice(bytes).map_err(|error| corrupt("json", "a hint".to_owned(), error.to_string()))?;
        if stored.format_version != FORMAT {
            let expected = format!("{FORMAT}, all that this version reads");
            return Err(corrupt("format", expected, stored.format_version.to_string()));
        }
        if stored.index != *index {
            return Err(corrupt("owner", index.to_string(), stored.index.to_string()));
        }
        if stored.manifest_e_tag.is_empty() {
            return Err(corrupt("manifestETag", "an ETag".to_owned(), "an empty text".to_owned()));
        }
        stored
            .data_source
            .validate()
            .map_err(|error| corrupt("dataSource", "the definition of a data source".to_owned(), error.to_string()))?;
        let manifest = Manifest::parse_copy(object, stored.manifest.as_bytes(), index)?;
        let named: BTreeMap<Ulid, &ObjectRef> =
            manifest.shards.iter().filter_map(|entry| entry.catalog.as_ref()).map(|named| (named.id, named)).collect();
        let mut catalogs = BTreeMap::new();
        for catalog in stored.catalogs {
            let part = || format!("catalog {}", catalog.id);
            let Some(named) = named.get(&catalog.id) else {
                return Err(corrupt(&part(), "one that the manifest names".to_owned(), "another".to_owned()));
            };
            let bytes = BASE64
                .decode(&catalog.bytes)
                .map_err(|error| corrupt(&part(), "base64".to_owned(), error.to_string()))?;
            let crc32c = crc32c::crc32c(&bytes);
            if (bytes.len() as u64, crc32c) != (named.bytes, named.crc32c) {
                return Err(corrupt(
                    &part(),
                    format!("{} bytes with checksum {:08x}", named.bytes, named.crc32c),
                    format!("{} bytes with checksum {crc32c:08x}", bytes.len()),
                ));
            }
            catalogs.insert(catalog.id, bytes);
        }
        let Stored { data_source, manifest_e_tag, .. } = stored;
        Ok(Self { manifest, manifest_e_tag, data_source, catalogs })
    }

    /// As it is stored; `None` when it would be larger than a reader takes.
    pub fn encode(&self) -> Option<Vec<u8>> {
        let catalogs = self.catalogs.iter();
        let stored = Stored {
            format_version: FORMAT,
            index: self.manifest.index.clone(),
            data_source: self.data_source.clone(),
            manifest: serde_json::to_string(&self.manifest).ok()?,
            manifest_e_tag: self.manifest_e_tag.clone(),
            catalogs: catalogs.map(|(&id, bytes)| StoredCatalog { id, bytes: BASE64.encode(bytes) }).collect(),
        };
        let bytes = serde_json::to_vec(&stored).ok()?;
        (bytes.len() <= limits::HINT_BYTES).then_some(bytes)
    }
}

#[cfg(test)]
mod tests;
