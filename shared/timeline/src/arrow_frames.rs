//! A look at an Arrow IPC stream before it is decoded.
//!
//! The decoder allocates what a message says of itself, and the allocator ends the process when that cannot be had: no
//! error, and no panic that could be caught. So the sizes are held against the bytes at hand first.
//!
//! Owns `a-stream-claims-what-it-has`. Does not look at schemas or values; the decoder does.

use arrow::ipc::{CompressionType, RecordBatch, root_as_message};

/// What newer writers put in front of a message's length.
const CONTINUATION: [u8; 4] = [0xff; 4];
/// A compressed buffer begins with its length uncompressed, -1 when it is not compressed after all.
const PREFIX_BYTES: usize = 8;

/// The bytes that the buffers of a stream's batches say they have, uncompressed.
///
/// # Errors
/// What is wrong: a message longer than the rest of the stream, a buffer outside of its message, or compression with LZ4,
/// whose frames do not say how long they become.
pub fn check_arrow_frames(stream: &[u8]) -> Result<u64, String> {
    let mut rest = stream;
    let mut claimed = 0_u64;
    loop {
        // The end of the bytes, as the decoder sees it, is the end of the stream.
        if rest.len() < 4 {
            return Ok(claimed);
        }
        let mut length = word(&mut rest)?;
        if length == CONTINUATION {
            length = word(&mut rest)?;
        }
        let length = usize::try_from(i32::from_le_bytes(length)).map_err(|_| "a message has a negative length")?;
        if length == 0 {
            return Ok(claimed);
        }
        let metadata = take(&mut rest, length)?;
        let message = root_as_message(metadata).map_err(|error| format!("a message cannot be read: {error}"))?;
        let length = usize::try_from(message.bodyLength()).map_err(|_| "a message has a body of a negative length")?;
        let body = take(&mut rest, length)?;
        let dictionary = message.header_as_dictionary_batch().and_then(|dictionary| dictionary.data());
        for batch in message.header_as_record_batch().into_iter().chain(dictionary) {
            claimed = claimed.saturating_add(buffer_bytes(&batch, body)?);
        }
    }
}

fn buffer_bytes(batch: &RecordBatch<'_>, body: &[u8]) -> Result<u64, String> {
    let compressed = batch.compression().is_some();
    if batch.compression().is_some_and(|compression| compression.codec() == CompressionType::LZ4_FRAME) {
        return Err("its record batches are compressed with LZ4, which does not say how much they grow; write them uncompressed or with ZSTD".to_owned());
    }
    let mut sum = 0_u64;
    for buffer in batch.buffers().into_iter().flatten() {
        let span = usize::try_from(buffer.offset()).ok().zip(usize::try_from(buffer.length()).ok());
        let bytes = span.and_then(|(start, length)| body.get(start..start.checked_add(length)?));
        let bytes = bytes.ok_or("a buffer lies outside of its message")?;
        let prefix = bytes.get(..PREFIX_BYTES).and_then(|prefix| prefix.try_into().ok()).map(i64::from_le_bytes);
        let length = match prefix {
            Some(length) if compressed => u64::try_from(length).unwrap_or(bytes.len() as u64),
            _ => bytes.len() as u64,
        };
        sum = sum.saturating_add(length);
    }
    Ok(sum)
}

fn word(rest: &mut &[u8]) -> Result<[u8; 4], String> {
    take(rest, 4)?.try_into().map_err(|_| "it ends within a length".to_owned())
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], String> {
    let (taken, left) = rest
        .split_at_checked(length)
        .ok_or_else(|| format!("a message of {length} bytes begins where {} are left", rest.len()))?;
    *rest = left;
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array};
    use arrow::ipc::writer::{IpcWriteOptions, StreamWriter};

    use super::*;

    fn stream(compression: Option<CompressionType>) -> Vec<u8> {
        let column: ArrayRef = Arc::new(Int64Array::from(vec![7; 1_000]));
        let batch = arrow::array::RecordBatch::try_from_iter([("a", column)]).unwrap();
        let options = IpcWriteOptions::default().try_with_compression(compression).unwrap();
        let mut writer = StreamWriter::try_new_with_options(Vec::new(), &batch.schema(), options).unwrap();
        writer.write(&batch).unwrap();
        writer.write(&batch).unwrap();
        writer.into_inner().unwrap()
    }

    #[test]
    fn a_stream_claims_what_it_has() {
        for compression in [None, Some(CompressionType::ZSTD)] {
            let claimed = check_arrow_frames(&stream(compression)).unwrap();
            assert!((16_000..17_000).contains(&claimed), "{claimed}");
        }
        assert_eq!(check_arrow_frames(&[]), Ok(0));
        assert!(check_arrow_frames(&stream(Some(CompressionType::LZ4_FRAME))).unwrap_err().contains("LZ4"));
    }

    #[test]
    fn lengths_beyond_the_stream_are_refused() {
        for bytes in [
            // Two gigabytes of metadata; the same after a continuation mark; a negative length.
            &[0xff, 0xff, 0xff, 0x7f][..],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
            &[0xfe, 0xff, 0xff, 0xff],
        ] {
            assert!(check_arrow_frames(bytes).is_err(), "{bytes:?}");
        }
        // Every eight bytes in turn become a length of terabytes: of a body, of a buffer, or of what it uncompresses to.
        let good = stream(Some(CompressionType::ZSTD));
        let mut refused = 0;
        for at in 0..good.len() - 8 {
            let mut bytes = good.clone();
            bytes[at..at + 8].copy_from_slice(&(1_i64 << 46).to_le_bytes());
            refused += usize::from(check_arrow_frames(&bytes).map_or(true, |claimed| claimed >= 1 << 46));
        }
        assert!(refused > 20, "{refused}");
    }
}
