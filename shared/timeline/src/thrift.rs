//! Thrift in the compact protocol, as far as a look at Parquet needs it: numbers, and the way past everything else.
//!
//! <https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md>. Allocates nothing, and recurses no deeper
//! than it is told.

/// Deepest nesting that is followed; Parquet nests half as deep.
pub(crate) const DEPTH: u32 = 16;
/// The type of a struct.
pub(crate) const STRUCT: u8 = 12;
/// Shortest struct that Parquet lists: each has a field that must be there, of a header and a byte, and an end.
const LISTED_STRUCT_BYTES: u64 = 3;

/// Bytes that are read from the front.
pub(crate) struct Thrift<'a> {
    rest: &'a [u8],
}

impl<'a> Thrift<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Goes past a value; `None` when it is malformed.
    pub(crate) fn skip(&mut self, kind: u8, depth: u32) -> Option<()> {
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
            STRUCT => self.fields(|thrift, _, kind| thrift.skip(kind, depth)),
            13 => self.take(16),
            _ => None,
        }
    }

    /// Goes through a struct. `field` goes past the value of each field, whose number and type it is told; booleans have no value
    /// and are left out.
    pub(crate) fn fields(&mut self, mut field: impl FnMut(&mut Self, i64, u8) -> Option<()>) -> Option<()> {
        let mut id = 0_i64;
        loop {
            let header = self.byte()?;
            if header == 0 {
                return Some(());
            }
            id = match header >> 4 {
                0 => self.integer()?,
                step => id + i64::from(step),
            };
            if !matches!(header & 15, 1 | 2) {
                field(self, id, header & 15)?;
            }
        }
    }

    /// Goes past so many values of each kind. None is shorter than a byte.
    fn skip_all(&mut self, count: u64, kinds: &[u8], depth: u32) -> Option<()> {
        let least = if kinds == [STRUCT] { LISTED_STRUCT_BYTES } else { 1 };
        if count.checked_mul(least)? > self.rest.len() as u64 {
            return None;
        }
        for _ in 0..count {
            for &kind in kinds {
                self.skip(kind, depth)?;
            }
        }
        Some(())
    }

    /// A signed number.
    pub(crate) fn integer(&mut self) -> Option<i64> {
        let number = self.number()?;
        Some((number >> 1).cast_signed() ^ -(number & 1).cast_signed())
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
