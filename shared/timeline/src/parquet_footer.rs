//! A look at a Parquet file's footer before it is decoded.
//!
//! The decoder makes room for as many row groups as the footer says there are, and the allocator ends the process when
//! that cannot be had: no error, and no panic that could be caught. So every list is held against the bytes at hand first.
//!
//! Owns `a-footer-lists-what-it-has`. Nothing is read of the footer but lengths.

use crate::thrift::{DEPTH, STRUCT, Thrift};

const MAGIC: &[u8; 4] = b"PAR1";

/// Checks that the footer's lists fit into it, and that it has at most `footer_bytes`. The end of a file is enough, if the whole
/// footer is in it.
///
/// # Errors
/// What is wrong.
pub fn check_parquet_footer(file: &[u8], footer_bytes: usize) -> Result<(), String> {
    let (rest, magic) = file.split_last_chunk::<4>().ok_or("it is too short")?;
    let (rest, length) = rest.split_last_chunk::<4>().ok_or("it is too short")?;
    if magic != MAGIC {
        return Err("it does not end as Parquet files do".to_owned());
    }
    let length = u32::from_le_bytes(*length) as usize;
    if length > footer_bytes {
        return Err(format!("its footer has {length} bytes; at most {footer_bytes} are allowed"));
    }
    let start = rest.len().checked_sub(length).ok_or("its footer is longer than the file")?;
    let mut footer = Thrift::new(rest.get(start..).unwrap_or_default());
    footer.skip(STRUCT, DEPTH).ok_or_else(|| "its footer is damaged".to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray};
    use parquet::arrow::ArrowWriter;

    use super::*;

    fn file(footer: &[u8]) -> Vec<u8> {
        let length = u32::try_from(footer.len()).unwrap().to_le_bytes();
        [&MAGIC[..], footer, &length, MAGIC].concat()
    }

    #[test]
    fn a_footer_lists_what_it_has() {
        let batch = RecordBatch::try_from_iter([
            ("a", Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef),
            ("b", Arc::new(StringArray::from(vec![Some("x"), None]))),
            ("c", Arc::new(BooleanArray::from(vec![true, false]))),
        ])
        .unwrap();
        let mut good = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut good, batch.schema(), None).unwrap();
        for _ in 0..20 {
            writer.write(&batch).unwrap();
            writer.flush().unwrap();
        }
        writer.close().unwrap();
        assert_eq!(check_parquet_footer(&good, 1 << 20), Ok(()));

        // Field 4, a list of structs, of as many as 32 bits can say.
        let hostile = [0x49, 0xfc, 0xff, 0xff, 0xff, 0xff, 0x07, 0x00];
        assert!(check_parquet_footer(&file(&hostile), 1 << 20).is_err());
        // The same, of as many empty structs as there are bytes.
        let empty = [&[0x49, 0xfc, 0x80, 0x08][..], &[0; 1_024], &[0]].concat();
        assert!(check_parquet_footer(&file(&empty), 1 << 20).is_err());
        // Structs within structs.
        assert!(check_parquet_footer(&file(&[0x1c; 1_000]), 1 << 20).is_err());
        for short in [&b""[..], b"PAR1", b"PAR1PAR1", b"\xff\xff\xff\xffPAR1", b"\x09\x00\x00\x00PAR1"] {
            assert!(check_parquet_footer(short, 1 << 20).is_err(), "{short:?}");
        }
    }
}
