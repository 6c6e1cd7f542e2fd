//! Values that options take: names with versions, pairs, durations, sizes.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use tarn_model::{DataSourceId, IndexId};

/// `NAME/VERSION`, percent-encoded where a part holds a slash or a percent sign, exactly as in the API's URLs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NameVersion {
    pub(crate) name: String,
    pub(crate) version: String,
}

impl NameVersion {
    pub(crate) fn source(&self) -> DataSourceId {
        DataSourceId { name: self.name.clone(), version: self.version.clone() }
    }

    pub(crate) fn index(&self) -> IndexId {
        IndexId { name: self.name.clone(), version: self.version.clone() }
    }
}

impl FromStr for NameVersion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("'{text}' is not NAME/VERSION, for example docs/1.0 (write %2F for a slash inside a part)");
        let (name, version) = text.split_once('/').ok_or_else(wrong)?;
        if version.contains('/') {
            return Err(wrong());
        }
        let decode =
            |part: &str| percent_decode_str(part).decode_utf8().map(|part| part.into_owned()).map_err(|_| wrong());
        let (name, version) = (decode(name)?, decode(version)?);
        // The rules of names are the model's; an id of either kind states them.
        DataSourceId::new(name.clone(), version.clone()).map_err(|error| error.to_string())?;
        Ok(Self { name, version })
    }
}

impl fmt::Display for NameVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&path_of(&self.name, &self.version))
    }
}

/// `NAME/VERSION` as [`NameVersion`] reads it.
pub(crate) fn path_of(name: &str, version: &str) -> String {
    let encode = |part: &str| part.replace('%', "%25").replace('/', "%2F");
    format!("{}/{}", encode(name), encode(version))
}

/// `KEY=VALUE`. The value is everything after the first `=`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) key: String,
    pub(crate) value: String,
}

impl FromStr for Pair {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok(Self { key: key.to_owned(), value: value.to_owned() }),
            _ => Err(format!("'{text}' is not KEY=VALUE")),
        }
    }
}

/// A span of time: `500ms`, `10s`, `5m`, `2h`, `7d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Idle(pub(crate) Duration);

impl FromStr for Idle {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("'{text}' is not a duration, for example 500ms, 10s, 5m, 2h or 7d");
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let number: u64 = text[..digits].parse().map_err(|_| wrong())?;
        let unit_ms: u64 = match &text[digits..] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(wrong()),
        };
        number.checked_mul(unit_ms).map(Duration::from_millis).map(Self).ok_or_else(wrong)
    }
}

/// A number of bytes: `4096`, `512MiB`, `2GiB`, `10GB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ByteSize(pub(crate) u64);

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("'{text}' is not a size, for example 512MiB or 10GB");
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let number: u64 = text[..digits].parse().map_err(|_| wrong())?;
        let unit: u64 = match text[digits..].trim().to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "kb" => 1_000,
            "mb" => 1_000_000,
            "gb" => 1_000_000_000,
            "tb" => 1_000_000_000_000,
            "k" | "kib" => 1 << 10,
            "m" | "mib" => 1 << 20,
            "g" | "gib" => 1 << 30,
            "t" | "tib" => 1 << 40,
            _ => return Err(wrong()),
        };
        number.checked_mul(unit).map(Self).ok_or_else(wrong)
    }
}
