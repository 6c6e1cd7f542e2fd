//! What a dropped file is: by its first bytes, and by its name where bytes do not tell.

use std::fmt;
use std::io::Read;

use serde::{Deserialize, Serialize};

use crate::chunk::Stop;
use crate::report::DropReport;

/// Bytes that are looked at.
const HEAD_BYTES: usize = 512;

/// What a file holds, once uncompressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum FileFormat {
    /// Apache Parquet.
    Parquet,
    /// Arrow IPC, the file format (also called Feather 2).
    ArrowFile,
    /// Arrow IPC, the stream format.
    ArrowStream,
    /// One JSON object a line.
    Ndjson,
    /// Comma-separated values under a header.
    Csv,
}

/// How a file is compressed as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
}

impl fmt::Display for FileFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Parquet => "Parquet",
            Self::ArrowFile => "Arrow IPC file",
            Self::ArrowStream => "Arrow IPC stream",
            Self::Ndjson => "NDJSON",
            Self::Csv => "CSV",
        })
    }
}

/// The compression by the first bytes of a file.
pub(crate) fn compression(head: &[u8]) -> Compression {
    match head {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
        _ => Compression::None,
    }
}

/// The first bytes of what a reader gives.
pub(crate) fn head(reader: &mut dyn Read) -> std::io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(HEAD_BYTES);
    reader.take(HEAD_BYTES as u64).read_to_end(&mut head)?;
    Ok(head)
}

/// The format of uncompressed bytes. Bytes count for more than names, except that text has no bytes of its own.
pub(crate) fn format(name: &str, head: &[u8], told: Option<FileFormat>) -> Result<FileFormat, Stop> {
    let by_name = by_name(name);
    let by_bytes = match head {
        [b'P', b'A', b'R', b'1', ..] => Some(FileFormat::Parquet),
        [b'A', b'R', b'R', b'O', b'W', b'1', ..] => Some(FileFormat::ArrowFile),
        [0xff, 0xff, 0xff, 0xff, ..] => Some(FileFormat::ArrowStream),
        _ => None,
    };
    if let Some(format) = by_bytes {
        return Ok(format);
    }
    let is_text = |format: &FileFormat| matches!(format, FileFormat::Ndjson | FileFormat::Csv);
    if let Some(other) = foreign(head) {
        return Err(unclear(name, head, &format!("it is {other}")));
    }
    if let Some(format) = told.or(by_name) {
        if is_text(&format) {
            return Ok(format);
        }
        return Err(unclear(name, head, &format!("it does not begin as {format} does")));
    }
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    match text.first() {
        Some(b'{') => Ok(FileFormat::Ndjson),
        Some(b'[') => Err(unclear(name, head, "it is one JSON array; write one object a line")),
        _ => Err(unclear(name, head, "neither its name nor its first bytes tell the format")),
    }
}

fn by_name(name: &str) -> Option<FileFormat> {
    let mut name = name.to_ascii_lowercase();
    for compressed in [".gz", ".gzip", ".zst", ".zstd"] {
        if let Some(inner) = name.strip_suffix(compressed) {
            name = inner.to_owned();
            break;
        }
    }
    let (_, extension) = name.rsplit_once('.')?;
    Some(match extension {
        "parquet" | "pq" => FileFormat::Parquet,
        "arrow" | "ipc" | "feather" => FileFormat::ArrowFile,
        "arrows" => FileFormat::ArrowStream,
        "ndjson" | "jsonl" | "json" => FileFormat::Ndjson,
        "csv" => FileFormat::Csv,
        _ => return None,
    })
}

/// What else is often dropped.
fn foreign(head: &[u8]) -> Option<&'static str> {
    Some(match head {
        [b'P', b'K', 3 | 5, ..] => "a ZIP archive",
        [b'B', b'Z', b'h', ..] => "bzip2",
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => "xz",
        [0x04, 0x22, 0x4d, 0x18, ..] => "LZ4",
        [0x1f, 0x8b, ..] => "gzip inside another compression",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "Zstandard inside another compression",
        [b'O', b'R', b'C', ..] => "ORC",
        [b'O', b'b', b'j', 1, ..] => "Avro",
        [0x89, b'H', b'D', b'F', ..] => "HDF5",
        [0x93, b'N', b'U', b'M', b'P', b'Y', ..] => "a NumPy array",
        _ => return None,
    })
}

fn unclear(name: &str, head: &[u8], why: &str) -> Stop {
    let shown: String = head.iter().take(16).map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ");
    let begins = if head.is_empty() { "is empty".to_owned() } else { format!("begins with the bytes {shown}") };
    let message = format!("The file '{name}' {begins}: {why}.");
    let action = "Drop Parquet, Arrow IPC, NDJSON or CSV, as it is or compressed with gzip or Zstandard, under a name that ends \
                  in .parquet, .arrow, .ndjson or .csv, or name the format in a mapping beside the file.";
    DropReport::file(message, action).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(name: &str, head: &[u8]) -> Result<FileFormat, String> {
        format(name, head, None).map_err(|stop| match stop {
            Stop::Refused(report) => report.message,
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn bytes_tell_before_names_do() {
        assert_eq!(found("x.csv", b"PAR1...."), Ok(FileFormat::Parquet));
        assert_eq!(found("x", b"ARROW1\0\0"), Ok(FileFormat::ArrowFile));
        assert_eq!(found("x.arrow", &[0xff; 8]), Ok(FileFormat::ArrowStream));
        assert_eq!(found("x.csv.gz", b"{a,b"), Ok(FileFormat::Csv));
        assert_eq!(found("x.JSONL.zst", b""), Ok(FileFormat::Ndjson));
        assert_eq!(found("data", b"\xef\xbb\xbf {\"id\": 1}"), Ok(FileFormat::Ndjson));
        assert_eq!(format("x.txt", b"a,b", Some(FileFormat::Csv)).unwrap(), FileFormat::Csv);
    }

    #[test]
    fn a_file_of_no_known_format_is_told_what_was_seen() {
        for (name, head, said) in [
            ("x.parquet", &b"id,vector"[..], "69 64 2c 76 65 63 74 6f 72: it does not begin as Parquet does"),
            ("x.csv", b"PK\x03\x04", "a ZIP archive"),
            ("x.bin", b"\0\0", "00 00: neither"),
            ("x", b"[{}]", "one object a line"),
            ("x", b"", "is empty"),
        ] {
            let message = found(name, head).unwrap_err();
            assert!(message.contains(said) && message.contains(name), "{message}");
        }
    }
}
