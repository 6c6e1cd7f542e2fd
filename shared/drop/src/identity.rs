//! Which file it is: one version of one object.

use std::fmt::{self, Write as _};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};
use tarn_store::ObjectVersion;

/// SHA-256 of a file's key and version. Where a store keeps no versions, ETag and time of writing stand for one: an ETag may be a
/// digest of the bytes, and the same bytes dropped again are a new file, whose mapping may have been corrected.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity(pub [u8; 32]);

impl Identity {
    /// The identity of a version of the object `key`.
    pub fn of(key: &str, version: &ObjectVersion) -> Self {
        match (&version.version, &version.e_tag) {
            (Some(name), _) => Self::of_named(key, name),
            (None, Some(tag)) => Self::digest(key, "tag", &format!("{} {tag}", version.modified_ms)),
            (None, None) => Self::digest(key, "time", &format!("{} {}", version.bytes, version.modified_ms)),
        }
    }

    /// The identity of a version whose name is known.
    pub fn of_named(key: &str, name: &str) -> Self {
        Self::digest(key, "version", name)
    }

    fn digest(key: &str, kind: &str, value: &str) -> Self {
        let mut digest = Sha256::new();
        for part in [key, kind, value] {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part.as_bytes());
        }
        Self(digest.finalize().into())
    }

    /// From 64 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let mut identity = [0; 32];
        if text.len() != 64 || !text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return None;
        }
        for (at, byte) in identity.iter_mut().enumerate() {
            *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
        }
        Some(Self(identity))
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::with_capacity(64);
        for byte in self.0 {
            write!(text, "{byte:02x}")?;
        }
        f.pad(&text)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Identity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Identity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("an identity is 64 hexadecimal digits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(tag: Option<&str>, name: Option<&str>) -> ObjectVersion {
        ObjectVersion { bytes: 5, modified_ms: 7, e_tag: tag.map(str::to_owned), version: name.map(str::to_owned) }
    }

    #[test]
    fn a_version_is_told_by_its_name_then_by_its_tag() {
        let of = |tag, name| Identity::of("drop/a/1/x", &version(tag, name));
        assert_eq!(of(Some("t"), Some("v")), of(Some("u"), Some("v")));
        assert_eq!(of(Some("t"), Some("v")), Identity::of_named("drop/a/1/x", "v"));
        assert_ne!(of(Some("t"), None), of(Some("u"), None));
        assert_ne!(of(Some("v"), None), of(None, Some("v")));
        assert_ne!(Identity::of_named("a", "bc"), Identity::of_named("ab", "c"));
        let one = of(None, None);
        assert_eq!(Identity::parse(&one.to_string()), Some(one));
        for wrong in ["é".to_owned(), "+f".repeat(32), one.to_string().to_uppercase()] {
            assert_eq!(Identity::parse(&wrong), None, "{wrong}");
        }
    }
}
