//! A Parquet file whose page headers are looked at before their pages are decoded.
//!
//! A page says how long it becomes, and the decoder makes room for it; a few bytes of run lengths say any number of values, and
//! a row may have all of them. So each page is held against bounds, and so are the pages that one batch of rows is made of.
//!
//! The decoder reads a header byte by byte from what `get_read` gives, and asks for the page by `get_bytes`. What it has read is
//! judged when it asks for anything more, so before it decodes.
//!
//! Owns `pages-are-bounded`. Judges headers alone; whether pages hold what they say, the decoder finds out.

use std::io::{self, Read};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use parquet::errors::{ParquetError, Result};
use parquet::file::reader::{ChunkReader, Length};

use crate::thrift::{DEPTH, STRUCT, Thrift};

/// What pages may say of themselves.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    /// Bytes of a page, once uncompressed.
    page_bytes: u64,
    /// Bytes of the pages that are opened for one batch.
    batch_bytes: u64,
    /// Values in them.
    batch_values: u64,
}

const BOUNDS: Bounds = Bounds { page_bytes: 128 << 20, batch_bytes: 512 << 20, batch_values: 64 << 20 };
/// Longest header; statistics are in it.
const HEADER_BYTES: usize = 16 << 20;
/// What is at the end of a file, and no page.
const TRAILER_BYTES: u64 = 8;

/// A Parquet file within bounds. Clones are the same file.
#[derive(Debug)]
pub struct BoundedPages<R> {
    file: Arc<R>,
    judge: Arc<Mutex<Judge>>,
}

#[derive(Debug)]
struct Judge {
    bounds: Bounds,
    /// The header that the decoder is reading.
    header: Vec<u8>,
    /// Uncompressed bytes, and values, of the pages since the last batch.
    bytes: u64,
    values: u64,
    /// They are not summed up: the pages of rows that are skipped come and go one by one.
    skipping: bool,
}

impl<R> BoundedPages<R> {
    /// Looks at the pages of a file.
    pub fn new(file: R) -> Self {
        Self::within(BOUNDS, file)
    }

    fn within(bounds: Bounds, file: R) -> Self {
        let judge = Judge { bounds, header: Vec::new(), bytes: 0, values: 0, skipping: false };
        Self { file: Arc::new(file), judge: Arc::new(Mutex::new(judge)) }
    }

    /// A batch is complete: what is read from here on is for the next one.
    pub fn next_batch(&self) {
        let mut judge = self.judge.lock();
        (judge.bytes, judge.values, judge.skipping) = (0, 0, false);
    }

    /// Rows are skipped before the next batch.
    pub fn skip_rows(&self) {
        self.judge.lock().skipping = true;
    }

    fn judge(&self) -> Result<()> {
        self.judge.lock().judge().map_err(ParquetError::General)
    }
}

impl<R> Clone for BoundedPages<R> {
    fn clone(&self) -> Self {
        Self { file: Arc::clone(&self.file), judge: Arc::clone(&self.judge) }
    }
}

impl Judge {
    /// Judges the header that was read, if there is one.
    fn judge(&mut self) -> std::result::Result<(), String> {
        if self.header.is_empty() {
            return Ok(());
        }
        let claims = claims(&std::mem::take(&mut self.header)).ok_or("a page header is damaged")?;
        self.bytes = self.bytes.saturating_add(claims.bytes);
        self.values = self.values.saturating_add(claims.values);
        let Bounds { page_bytes, batch_bytes, batch_values } = self.bounds;
        let advice = "write the file with smaller pages";
        if claims.bytes > page_bytes {
            return Err(format!("a page has {} bytes; at most {page_bytes} are read: {advice}", claims.bytes));
        }
        if !self.skipping && (self.bytes > batch_bytes || self.values > batch_values) {
            return Err(format!(
                "the pages of a few rows have {} bytes and {} values; at most {batch_bytes} and {batch_values} are read: {advice}",
                self.bytes, self.values
            ));
        }
        Ok(())
    }
}

/// What a page header says of its page.
#[derive(Debug, Default, PartialEq, Eq)]
struct Claims {
    bytes: u64,
    values: u64,
}

/// Reads a page header; `None` when it is malformed. Of fields that come more than once the largest counts.
fn claims(header: &[u8]) -> Option<Claims> {
    let mut claims = Claims::default();
    let positive = |number: i64| u64::try_from(number).unwrap_or(0);
    Thrift::new(header).fields(|thrift, id, kind| match (id, kind) {
        // The uncompressed length.
        (2, 4..=6) => {
            claims.bytes = claims.bytes.max(positive(thrift.integer()?));
            Some(())
        }
        // The headers of the kinds of pages; each begins with the number of values.
        (5 | 7 | 8, STRUCT) => thrift.fields(|thrift, id, kind| match (id, kind) {
            (1, 4..=6) => {
                claims.values = claims.values.max(positive(thrift.integer()?));
                Some(())
            }
            _ => thrift.skip(kind, DEPTH),
        }),
        _ => thrift.skip(kind, DEPTH),
    })?;
    Some(claims)
}

impl<R: Length> Length for BoundedPages<R> {
    fn len(&self) -> u64 {
        self.file.len()
    }
}

impl<R: ChunkReader> ChunkReader for BoundedPages<R> {
    type T = PageRead<R::T>;

    fn get_read(&self, start: u64) -> Result<Self::T> {
        self.judge()?;
        let judge = (start.saturating_add(TRAILER_BYTES) != self.file.len()).then(|| Arc::clone(&self.judge));
        Ok(PageRead { inner: self.file.get_read(start)?, judge })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        self.judge()?;
        self.file.get_bytes(start, length)
    }
}

/// Reads a page header, and keeps what was read.
#[derive(Debug)]
pub struct PageRead<T> {
    inner: T,
    judge: Option<Arc<Mutex<Judge>>>,
}

impl<T: Read> Read for PageRead<T> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(out)?;
        if let Some(judge) = &self.judge {
            let header = &mut judge.lock().header;
            if header.len() + count > HEADER_BYTES {
                return Err(io::Error::other(format!("a page header is longer than {HEADER_BYTES} bytes")));
            }
            header.extend_from_slice(&out[..count]);
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Float32Array, ListArray, RecordBatch, StringArray};
    use arrow::datatypes::Float32Type;
    use parquet::arrow::ArrowWriter;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    use parquet::basic::{Compression, ZstdLevel};
    use parquet::file::properties::WriterProperties;

    use super::*;

    const SMALL: Bounds = Bounds { page_bytes: 1 << 20, batch_bytes: 4 << 20, batch_values: 100_000 };

    fn file(column: ArrayRef) -> Bytes {
        let batch = RecordBatch::try_from_iter([("a", column)]).unwrap();
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_data_page_size_limit(1_000)
            .set_write_batch_size(100)
            .build();
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        writer.into_inner().unwrap().into()
    }

    /// Reads the file to its end, a few rows at a time.
    fn read(file: Bytes) -> std::result::Result<usize, String> {
        read_after(0, file)
    }

    fn read_after(skipped: usize, file: Bytes) -> std::result::Result<usize, String> {
        let file = BoundedPages::within(SMALL, file);
        if skipped > 0 {
            file.skip_rows();
        }
        let reader = ParquetRecordBatchReaderBuilder::try_new(file.clone()).map_err(|error| error.to_string())?;
        let mut rows = 0;
        for batch in reader.with_batch_size(10).with_offset(skipped).build().map_err(|error| error.to_string())? {
            rows += batch.map_err(|error| error.to_string())?.num_rows();
            file.next_batch();
        }
        Ok(rows)
    }

    #[test]
    fn ordinary_pages_are_read() {
        let strings: ArrayRef = Arc::new(StringArray::from_iter_values((0..50_000).map(|row| format!("row {row}"))));
        assert_eq!(read(file(strings)), Ok(50_000));
        // More values in all than a batch may have.
        let vectors = (0..10_000).map(|row: u16| Some(vec![Some(f32::from(row)); 20]));
        let vectors = file(Arc::new(ListArray::from_iter_primitive::<Float32Type, _, _>(vectors)));
        assert_eq!(read(vectors.clone()), Ok(10_000));
        assert_eq!(read_after(9_990, vectors), Ok(10));
    }

    #[test]
    fn pages_are_bounded() {
        // One long page; then one long row of many short pages.
        let long: ArrayRef = Arc::new(StringArray::from(vec!["0".repeat(2 << 20)]));
        let file_of_one_page = file(long);
        assert!(file_of_one_page.len() < 10_000, "{}", file_of_one_page.len());
        assert!(read(file_of_one_page).unwrap_err().contains("a page has 20971"));
        let zeros = Float32Array::from(vec![0.0; 200_000]);
        let offsets = arrow::buffer::OffsetBuffer::from_lengths([zeros.len()]);
        let field = Arc::new(arrow::datatypes::Field::new_list_field(arrow::datatypes::DataType::Float32, true));
        let row: ArrayRef = Arc::new(ListArray::new(field, offsets, Arc::new(zeros), None));
        let file_of_one_row = file(row);
        assert!(file_of_one_row.len() < 10_000, "{}", file_of_one_row.len());
        assert!(read(file_of_one_row).unwrap_err().contains("the pages of a few rows have"));
    }

    #[test]
    fn a_header_is_read_as_the_decoder_reads_it() {
        // Type 0, 1000 bytes uncompressed, 10 compressed, and a data page header of 7 values.
        let header = [0x15, 0x00, 0x15, 0xd0, 0x0f, 0x15, 0x14, 0x2c, 0x15, 0x0e, 0x15, 0x00, 0x00, 0x00];
        assert_eq!(claims(&header), Some(Claims { bytes: 1_000, values: 7 }));
        // The length a second time, by its number.
        let twice = [&header[..header.len() - 1], &[0x05, 0x04, 0xfe, 0xff, 0xff, 0xff, 0x0f, 0x00]].concat();
        assert_eq!(claims(&twice), Some(Claims { bytes: i32::MAX as u64, values: 7 }));
        for cut in 0..header.len() {
            assert_eq!(claims(&header[..cut]), None, "{cut}");
        }
    }
}
