//! A look at a Parquet file's footer before it is decoded.
//!
//! The decoder makes room for as many row groups as the footer says there are, and the allocator ends the process when
//! that cannot be had: no error, and no panic that could be caught. So every list is held against the bytes at hand first.
//!
//! Owns `a-footer-lists-what-it-has`. The footer is Thrift in the compact protocol
//! (<https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md>); nothing is read of it but lengths.

const MAGIC: &[u8; 4] = b"PAR1";
/// Deepest nesting; files nest half as deep.
const DEPTH: u32 = 16;

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
    let mut footer = Thrift { rest: rest.get(start..).unwrap_or_default() };
    footer.skip(STRUCT, DEPTH).ok_or_else(|| "its footer is damaged".to_owned())
}

const STRUCT: u8 = 12;

struct Thrift<'a> {
    rest: &'a [u8],
}

impl Thrift<'_> {
    /// Goes past a value; `None` when it is malformed.
    fn skip(&mut self, kind: u8, depth: u32) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        match kind {
            // A boolean of a list; one of a struct is in its field's header.
            1..=3 => self.take(1),
            4..=6 => self.number().map(|_| ()),
            7 => self.take(8),
            8 => {
                let length = usize::try_from(self.number()?).ok()?;
                self.take(length)
            }
            9 | 10 => {
                let header = self.byte()?;
                let count = if header >> 4 == 15 { self.number()? } else { u64::from(header >> 4) };
                self.skip_all(count, &[header & 15], depth)
            }
            11 => {
                let count = self.number()?;
                let kinds = if count == 0 { 0 } else { self.byte()? };
                self.skip_all(count, &[kinds >> 4, kinds & 15], depth)
            }
            STRUCT => loop {
                let header = self.byte()?;
                if header == 0 {
                    return Some(());
                }
                if header >> 4 == 0 {
                    self.number()?;
                }
                if !matches!(header & 15, 1 | 2) {
                    self.skip(header & 15, depth)?;
                }
            },
            13 => self.take(16),
            _ => None,
        }
    }

    /// Goes past so many values of each kind. None is shorter than a byte.
    fn skip_all(&mut self, count: u64, kinds: &[u8], depth: u32) -> Option<()> {
        if count > self.rest.len() as u64 {
            return None;
        }
        for _ in 0..count {
            for &kind in kinds {
                self.skip(kind, depth)?;
            }
        }
        Some(())
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(byte)
    }

    fn take(&mut self, length: usize) -> Option<()> {
        self.rest = self.rest.get(length..)?;
        Some(())
    }
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
        // Structs within structs.
        assert!(check_parquet_footer(&file(&[0x1c; 1_000]), 1 << 20).is_err());
        for short in [&b""[..], b"PAR1", b"PAR1PAR1", b"\xff\xff\xff\xffPAR1", b"\x09\x00\x00\x00PAR1"] {
            assert!(check_parquet_footer(short, 1 << 20).is_err(), "{short:?}");
        }
    }
}
