//! The seal: a checksum of a whole Parquet file, at a place that Parquet readers skip.
//!
//! ```text
//! "PAR1" column chunks, page indexes | "TARNSEAL" crc32c:u32 LE | footer | footer length:u32 LE "PAR1"
//! ```
//! A reader finds the footer from the end, and everything else by the absolute offsets in it; so twelve bytes between the
//! last index and the footer disturb nobody. The checksum is CRC-32C over all other bytes: those before it and those
//! after. A flipped footer length makes the seal be looked for at a wrong place, where it is not.
//!
//! Parquet's own page checksums would not do: they leave out page headers and the footer, where a flipped bit does the
//! most harm. `sealed-bytes-are-unchanged`: [`verify`] accepts what [`seal`] wrote, and refuses it after any change of up
//! to 32 neighbouring bits, and after truncation, to within the odds of 2⁻³² that any 32-bit checksum leaves.

use bytes::Bytes;
use tarn_model::Corrupt;

const MAGIC: &[u8; 8] = b"TARNSEAL";
const SEAL_BYTES: usize = MAGIC.len() + 4;
const PARQUET_MAGIC: &[u8; 4] = b"PAR1";
const TRAILER_BYTES: usize = 8;

/// Puts the seal into a Parquet file.
///
/// # Errors
/// The bytes are no Parquet file.
pub(crate) fn seal(object: &str, parquet: &[u8]) -> Result<Bytes, Corrupt> {
    let footer = footer_start(object, parquet)?;
    let (body, rest) = parquet.split_at(footer);
    let mut sealed = Vec::with_capacity(parquet.len() + SEAL_BYTES);
    sealed.extend_from_slice(body);
    sealed.extend_from_slice(MAGIC);
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&sealed), rest);
    sealed.extend_from_slice(&checksum.to_le_bytes());
    sealed.extend_from_slice(rest);
    Ok(Bytes::from(sealed))
}

/// Checks the seal of a file.
///
/// # Errors
/// [`Corrupt`], naming `object`: the file is not, byte for byte, one that was sealed.
pub(crate) fn verify(object: &str, bytes: &[u8]) -> Result<(), Corrupt> {
    let footer = footer_start(object, bytes)?;
    let (before, after) = bytes.split_at(footer);
    let Some((body, checksum)) = before.split_last_chunk::<4>() else {
        return Err(corrupt(object, "length", "a seal before the footer", format!("{} bytes", bytes.len())));
    };
    if !body.ends_with(MAGIC) {
        return Err(corrupt(object, "seal", "TARNSEAL before the footer", "other bytes".to_owned()));
    }
    let expected = u32::from_le_bytes(*checksum);
    let found = crc32c::crc32c_append(crc32c::crc32c(body), after);
    if expected != found {
        return Err(corrupt(object, "seal", &format!("CRC-32C {expected:08x}"), format!("{found:08x}")));
    }
    Ok(())
}

fn footer_start(object: &str, bytes: &[u8]) -> Result<usize, Corrupt> {
    let Some((rest, trailer)) = bytes.split_last_chunk::<TRAILER_BYTES>() else {
        return Err(corrupt(object, "length", "a Parquet file", format!("{} bytes", bytes.len())));
    };
    let [a, b, c, d, magic @ ..] = trailer;
    if magic != PARQUET_MAGIC || !rest.starts_with(PARQUET_MAGIC) {
        return Err(corrupt(object, "magic", "PAR1 at both ends", format!("{} bytes without it", bytes.len())));
    }
    let length = u32::from_le_bytes([*a, *b, *c, *d]);
    usize::try_from(length)
        .ok()
        .and_then(|length| rest.len().checked_sub(length))
        .filter(|&start| start >= PARQUET_MAGIC.len())
        .ok_or_else(|| corrupt(object, "footer length", &format!("at most {}", rest.len()), length.to_string()))
}

fn corrupt(object: &str, part: &str, expected: &str, found: String) -> Corrupt {
    Corrupt { object: object.to_owned(), part: part.to_owned(), expected: expected.to_owned(), found }
}
