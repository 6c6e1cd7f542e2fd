//! Arrow IPC bytes that may lie, although their checksums are true.
//!
//! Arrow's readers take what lengths and offsets say of themselves: some lead to a panic, some to an allocation that no
//! machine grants, which ends the process. So claims are held against the bytes at hand first, and readers run behind a
//! fence that takes a panic for a finding about the bytes. `tarn-timeline` does the same for streams that clients send; this
//! crate cannot link it.
//!
//! Owns `lies-do-not-panic`.

use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow::ipc::{CompressionType, RecordBatch, root_as_message};

/// What newer writers put in front of a message's length.
const CONTINUATION: [u8; 4] = [0xff; 4];

/// Runs a reader. Says what is wrong with what it read, also when it panics.
pub(crate) fn fenced<T>(read: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| Err("something that its reader panicked at".to_owned()))
}

/// Whether the batches of a stream have at most `most` bytes when they are uncompressed; what is wrong otherwise.
pub(crate) fn check_stream(stream: &[u8], most: u64) -> Result<(), String> {
    let mut rest = stream;
    let mut claimed = 0u64;
    loop {
        // As a reader sees it, the end of the bytes is the end of the stream.
        let Some(mut length) = rest.split_off(..4) else { return Ok(()) };
        if length == CONTINUATION {
            length = take(&mut rest, 4)?;
        }
        let length = i32::from_le_bytes([length[0], length[1], length[2], length[3]]);
        if length == 0 {
            return Ok(());
        }
        let message = take(&mut rest, i64::from(length))?;
        let message = root_as_message(message).map_err(|error| error.to_string())?;
        let body = take(&mut rest, message.bodyLength())?;
        if message.header_as_dictionary_batch().is_some() {
            return Err("a dictionary".to_owned());
        }
        if let Some(batch) = message.header_as_record_batch() {
            claimed = claimed.saturating_add(uncompressed(&batch, body)?);
        }
        if claimed > most {
            return Err(format!("{claimed} bytes, more than {most}"));
        }
    }
}

fn uncompressed(batch: &RecordBatch<'_>, body: &[u8]) -> Result<u64, String> {
    let codec = batch.compression().map(|compression| compression.codec());
    if codec.is_some_and(|codec| codec != CompressionType::ZSTD) {
        return Err(format!("compression with {codec:?}"));
    }
    let mut sum = 0u64;
    for buffer in batch.buffers().into_iter().flatten() {
        let place = usize::try_from(buffer.offset()).ok().zip(usize::try_from(buffer.length()).ok());
        let bytes = place.and_then(|(start, length)| body.get(start..start.checked_add(length)?));
        let bytes = bytes.ok_or("a buffer outside of its message")?;
        // A compressed buffer begins with its length uncompressed, -1 when it is not compressed after all.
        let length = match bytes.first_chunk() {
            Some(prefix) if codec.is_some() => u64::try_from(i64::from_le_bytes(*prefix)).ok(),
            _ => None,
        };
        sum = sum.saturating_add(length.unwrap_or(bytes.len() as u64));
    }
    Ok(sum)
}

fn take<'a>(rest: &mut &'a [u8], length: i64) -> Result<&'a [u8], String> {
    let taken = usize::try_from(length).ok().and_then(|length| rest.split_off(..length));
    taken.ok_or_else(|| format!("{length} bytes where {} are left", rest.len()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, StringArray};
    use arrow::buffer::Buffer;
    use arrow::ipc::writer::{FileWriter, IpcWriteOptions, StreamWriter};

    use super::*;
    use crate::catalog::Catalog;
    use crate::read::decode_attributes;

    fn stream(compression: Option<CompressionType>) -> Vec<u8> {
        let column: ArrayRef = Arc::new(Int64Array::from(vec![7; 1000]));
        let batch = arrow::array::RecordBatch::try_from_iter([("a", column)]).unwrap();
        let options = IpcWriteOptions::default().try_with_compression(compression).unwrap();
        let mut writer = StreamWriter::try_new_with_options(Vec::new(), &batch.schema(), options).unwrap();
        writer.write(&batch).unwrap();
        writer.into_inner().unwrap()
    }

    #[test]
    fn what_a_stream_claims_is_bounded() {
        for compression in [None, Some(CompressionType::ZSTD)] {
            let stream = stream(compression);
            check_stream(&stream, 10_000).unwrap();
            assert!(check_stream(&stream, 7000).unwrap_err().contains("more than 7000"));
            // Every eight bytes in turn claim to be terabytes: of a message, of a buffer, or of what it becomes.
            let refused = (0..stream.len() - 8).filter(|&at| {
                let mut bytes = stream.clone();
                bytes[at..at + 8].copy_from_slice(&(1i64 << 46).to_le_bytes());
                check_stream(&bytes, 10_000).is_err()
            });
            assert!(refused.count() > 20);
        }
        assert!(check_stream(&[0xff, 0xff, 0xff, 0x7f], 10).is_err());
        assert!(check_stream(&[0xfe, 0xff, 0xff, 0xff], 10).is_err());
    }

    /// Arrow's readers panic at some of these.
    #[test]
    fn attributes_and_catalogs_that_lie_do_not_panic() {
        let columns: [(&str, ArrayRef); 2] =
            [("a", Arc::new(Int64Array::from(vec![7; 20]))), ("b", Arc::new(StringArray::from(vec!["text"; 20])))];
        let batch = arrow::array::RecordBatch::try_from_iter(columns).unwrap();
        let mut writer = FileWriter::try_new(Vec::new(), &batch.schema()).unwrap();
        writer.write(&batch).unwrap();
        let attributes = writer.into_inner().unwrap();
        assert_eq!(decode_attributes(&attributes.as_slice().into(), 20).unwrap(), batch);
        let catalog = Catalog { shard: "0".to_owned(), segments: Vec::new() }.encode().unwrap();
        let mut refused = 0;
        for lie in [0i32, 1, -1, i32::MAX, i32::MIN, 1 << 20] {
            for at in 0..attributes.len() - 4 {
                let mut bytes = attributes.clone();
                bytes[at..at + 4].copy_from_slice(&lie.to_le_bytes());
                refused += usize::from(decode_attributes(&Buffer::from_vec(bytes), 20).is_err());
            }
            for at in 0..catalog.len() - 16 - 4 {
                let mut bytes = catalog.to_vec();
                bytes[at..at + 4].copy_from_slice(&lie.to_le_bytes());
                let sum_at = bytes.len() - 16;
                let sum = crc32c::crc32c(&bytes[..sum_at]);
                let sum = crc32c::crc32c_append(sum, &bytes[sum_at + 4..sum_at + 8]);
                bytes[sum_at..sum_at + 4].copy_from_slice(&sum.to_le_bytes());
                let outcome = Catalog::decode("catalog", &bytes.into());
                refused += usize::from(outcome.is_err_and(|corrupt| corrupt.part != "file"));
            }
        }
        assert!(refused > 1000, "{refused}");
    }

    #[test]
    fn attributes_that_are_compressed_are_refused() {
        let column: ArrayRef = Arc::new(Int64Array::from(vec![7; 1000]));
        let batch = arrow::array::RecordBatch::try_from_iter([("a", column)]).unwrap();
        let options = IpcWriteOptions::default().try_with_compression(Some(CompressionType::ZSTD)).unwrap();
        let mut writer = FileWriter::try_new_with_options(Vec::new(), &batch.schema(), options).unwrap();
        writer.write(&batch).unwrap();
        let bytes = Buffer::from_vec(writer.into_inner().unwrap());
        assert!(decode_attributes(&bytes, 1000).unwrap_err().contains("compressed"));
    }

    #[test]
    fn a_panic_is_a_finding() {
        assert_eq!(fenced(|| Ok(1)), Ok(1));
        assert!(fenced::<()>(|| panic!("out of bounds")).unwrap_err().contains("panicked"));
    }
}
