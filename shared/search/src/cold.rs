//! What is known of files that stay where they are: outlines, cells, and columns that filters have needed.
//!
//! It is kept in memory with the file's entry, until the file is mapped or others need the space: then what was used longest
//! ago goes, a file at a time. A search that uses it has a handle of its own.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Weak};

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::Schema;
use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use roaring::RoaringBitmap;
use tarn_model::{Corrupt, DataSource};
use tarn_segment::{FetchedCells, Outline};
use tarn_store::RangeReads;

use crate::column::check_columns;
use crate::definition::Definition;
use crate::error::SearchError;
use crate::execute::NamedFilter;
use crate::filter::{FilterCache, matching_rows};
use crate::generation::{BaseSegment, Files, SegmentFile};

/// A column is read in this many requests at most, of at least so many bytes: one connection is slower than several.
const COLUMN_PIECES: u64 = 4;
const COLUMN_PIECE_BYTES: u64 = 512 << 10;

/// A file whose outline has been read.
#[derive(Debug)]
pub(crate) struct ColdFile {
    /// Where everything is.
    pub(crate) outline: Arc<Outline>,
    /// The cells that searches have read.
    pub(crate) cells: FetchedCells,
    /// The columns that filters have needed, by position.
    columns: Mutex<BTreeMap<usize, ArrayRef>>,
    /// Held by whoever is reading some.
    reading_columns: tokio::sync::Mutex<()>,
}

/// What reading columns took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ColumnReads {
    /// Requests.
    pub(crate) ranges: usize,
    /// Bytes that they brought.
    pub(crate) bytes: u64,
}

/// The files of an engine of which something is known.
#[derive(Debug)]
pub(crate) struct ColdFiles {
    bytes_max: usize,
    files: Mutex<Vec<Weak<SegmentFile>>>,
}

impl ColdFiles {
    /// None.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, files: Mutex::default() }
    }

    /// Notes a file whose outline has been read.
    pub(crate) fn add(&self, file: &Arc<SegmentFile>) {
        let mut files = self.files.lock();
        let known = files.iter().any(|known| known.as_ptr() == Arc::as_ptr(file));
        if !known {
            files.push(Arc::downgrade(file));
        }
    }

    /// Memory for the cells of one file: others need some too.
    pub(crate) fn cells_bytes_max(&self) -> usize {
        self.bytes_max / 2
    }

    /// Forgets what was used longest ago, as far as all of it together is too much.
    pub(crate) fn settle(&self) {
        let mut files = self.files.lock();
        let known = files.drain(..).filter_map(|file| file.upgrade());
        let mut known: Vec<_> = known.filter_map(|file| file.cold().map(|cold| (cold.bytes(), file))).collect();
        let mut bytes: usize = known.iter().map(|(bytes, _)| bytes).sum();
        known.sort_by_cached_key(|(_, file)| file.last_use());
        known.retain(|(own, file)| {
            let goes = bytes > self.bytes_max;
            if goes {
                bytes -= own;
                file.forget_cold();
            }
            !goes
        });
        files.extend(known.iter().map(|(_, file)| Arc::downgrade(file)));
    }
}

impl ColdFile {
    /// Nothing is known but the outline.
    pub(crate) fn new(outline: Outline, cells_bytes_max: usize) -> Self {
        Self {
            outline: Arc::new(outline),
            cells: FetchedCells::new(cells_bytes_max),
            columns: Mutex::default(),
            reading_columns: tokio::sync::Mutex::default(),
        }
    }

    /// Memory that it takes, roughly.
    pub(crate) fn bytes(&self) -> usize {
        let columns: usize = self.columns.lock().values().map(|column| column.get_array_memory_size()).sum();
        self.outline.bytes() + self.cells.bytes() + columns
    }

    /// The rows that satisfy a filter, from the cache or from the columns that it is about. `None`: these are so much of
    /// the file, or of memory, that it had better be fetched whole.
    ///
    /// # Errors
    /// [`SearchError::Corrupt`] when a column is not what was written; [`SearchError::Store`].
    pub(crate) async fn matching(
        self: &Arc<Self>,
        files: &Files,
        definition: &Arc<Definition>,
        base: &BaseSegment,
        filter: &NamedFilter,
        cache: &Arc<FilterCache>,
    ) -> Result<Option<(Arc<RoaringBitmap>, ColumnReads)>, SearchError> {
        let number = base.file.number;
        if filter.lasts
            && let Some(rows) = cache.find(number, &filter.text)
        {
            return Ok(Some((rows, ColumnReads::default())));
        }
        let attributes = filter.filter.attributes();
        let names = definition.source.attribute_types.keys().enumerate();
        let needed: Vec<usize> =
            names.filter(|(_, name)| attributes.contains(name.as_str())).map(|(position, _)| position).collect();
        let Some(reads) = self.read_columns(files, definition, base, &needed).await? else { return Ok(None) };
        let (cold, definition, filter) = (Arc::clone(self), Arc::clone(definition), filter.clone());
        let (cache, name) = (Arc::clone(cache), base.file.name(&definition));
        let evaluate = move || {
            let (batch, source) = cold.batch(&name, &definition.source, &needed)?;
            let everything = 0..cold.outline.rows();
            let matching = || matching_rows(&filter.filter, &batch, &source, std::slice::from_ref(&everything));
            Ok(match filter.lasts {
                true => cache.get_or_compute(number, &filter.text, matching),
                false => Arc::new(matching()),
            })
        };
        let rows = files.pool.run(move |_| evaluate()).await?;
        Ok(Some((rows, reads)))
    }

    /// Reads those of the columns that have not been read.
    async fn read_columns(
        self: &Arc<Self>,
        files: &Files,
        definition: &Definition,
        base: &BaseSegment,
        needed: &[usize],
    ) -> Result<Option<ColumnReads>, SearchError> {
        let _turn = self.reading_columns.lock().await;
        let missing: Vec<usize> = {
            let columns = self.columns.lock();
            needed.iter().copied().filter(|position| !columns.contains_key(position)).collect()
        };
        if missing.is_empty() {
            return Ok(Some(ColumnReads::default()));
        }
        let name = base.file.name(definition);
        let place = |&position: &usize| self.outline.column_range(position).ok_or(position);
        let places = missing.iter().map(place).collect::<Result<Vec<_>, usize>>();
        let places = places.map_err(|position| Corrupt {
            object: name.clone(),
            part: "columns".to_owned(),
            expected: format!("a column {position}"),
            found: "none".to_owned(),
        })?;
        let bytes: u64 = places.iter().map(|place| place.end - place.start).sum();
        if bytes > base.file.object.bytes / 2 || bytes > files.cold.bytes_max as u64 {
            return Ok(None);
        }
        let pieces: Vec<Vec<Range<u64>>> = places.into_iter().map(pieces).collect();
        let ranges: Vec<Range<u64>> = pieces.iter().flatten().cloned().collect();
        let read = files.store.read_ranges(&base.file.key(definition), &ranges, &RangeReads::as_planned()).await?;
        let cold = Arc::clone(self);
        let decode = move || {
            let mut read = read.into_iter();
            let fetched = missing.iter().zip(&pieces);
            let fetched: Vec<(usize, Bytes)> =
                fetched.map(|(&position, pieces)| (position, joined(read.by_ref().take(pieces.len())))).collect();
            let batch = cold.outline.columns(&fetched)?;
            let mut columns = cold.columns.lock();
            columns.extend(missing.iter().copied().zip(batch.columns().iter().cloned()));
            Ok(())
        };
        files.pool.run(move |_| decode()).await?;
        Ok(Some(ColumnReads { ranges: ranges.len(), bytes }))
    }

    /// The needed columns, of all rows, and the data source with their attributes alone.
    fn batch(
        &self,
        object: &str,
        source: &DataSource,
        needed: &[usize],
    ) -> Result<(RecordBatch, DataSource), SearchError> {
        let columns = self.columns.lock();
        let arrays: Vec<ArrayRef> = needed.iter().filter_map(|position| columns.get(position).cloned()).collect();
        drop(columns);
        let schema = self.outline.schema();
        let fields: Vec<_> = needed.iter().filter_map(|&position| schema.fields().get(position).cloned()).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(self.outline.rows() as usize));
        let batch = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options);
        let batch = batch.map_err(|error| SearchError::Internal(format!("columns of {object}: {error}")))?;
        let mut some = source.clone();
        let mut position = 0..;
        some.attribute_types.retain(|_, _| position.next().is_some_and(|position| needed.contains(&position)));
        check_columns(object, &batch, &some)?;
        Ok((batch, some))
    }
}

/// `outline-is-what-the-catalog-says`: rows, metric, dimension, and the columns that the data source has.
///
/// # Errors
/// [`Corrupt`] names what differs.
pub(crate) fn check_outline(
    object: &str,
    outline: &Outline,
    definition: &Definition,
    rows: u32,
) -> Result<(), Corrupt> {
    let (index, source) = (&definition.index, &definition.source);
    let expected = (rows, index.algorithm.metric, source.vector_dimension);
    let found = (outline.rows(), outline.metric(), outline.dimension());
    if expected != found {
        return Err(Corrupt {
            object: object.to_owned(),
            part: "outline-is-what-the-catalog-says".to_owned(),
            expected: format!("{expected:?}"),
            found: format!("{found:?}"),
        });
    }
    check_columns(object, &RecordBatch::new_empty(Arc::clone(outline.schema())), source)
}

/// Cuts a range into pieces of about equal length.
fn pieces(range: Range<u64>) -> Vec<Range<u64>> {
    let bytes = range.end - range.start;
    let count = (bytes / COLUMN_PIECE_BYTES).clamp(1, COLUMN_PIECES);
    let at = |piece: u64| range.start + bytes * piece / count;
    (0..count).map(|piece| at(piece)..at(piece + 1)).collect()
}

fn joined(mut pieces: impl Iterator<Item = Bytes>) -> Bytes {
    let first = pieces.next().unwrap_or_default();
    match pieces.next() {
        None => first,
        Some(second) => {
            let mut all = BytesMut::from(first);
            all.extend_from_slice(&second);
            pieces.for_each(|piece| all.extend_from_slice(&piece));
            all.freeze()
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{BinaryArray, Int64Array};
    use tarn_model::{AttributeType, DataSourceId, Index, IndexAlgorithm, IndexId, Metric, ObjectRef, VectorKind};
    use tarn_segment::{Build, SegmentInput, SegmentSettings, Vectors, write_segment_to};

    use super::*;

    const ROWS: u32 = 40;

    fn outline() -> Outline {
        let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..i64::from(ROWS)));
        let input = SegmentInput {
            metric: Metric::L2,
            dimension: 3,
            keys: BinaryArray::from_iter_values((0..ROWS).map(u32::to_be_bytes)),
            attributes: RecordBatch::try_from_iter([("id", ids)]).unwrap(),
            vectors: Vectors::Dense((0..3 * ROWS).map(|x| x as f32).collect()),
        };
        let mut file = Vec::new();
        let settings = SegmentSettings::default();
        let summary = write_segment_to(&input, Build::Cells, &settings, &mut file, &|_, _| {}).unwrap();
        let object = ObjectRef { id: 1.into(), bytes: summary.bytes, crc32c: summary.crc32c };
        let tail = file.split_off(file.len() - usize::try_from(summary.outline).unwrap());
        Outline::read("a file", tail.into(), &object).unwrap()
    }

    fn definition(metric: Metric, dimension: u32, kind: AttributeType) -> Definition {
        let source = DataSource {
            id: DataSourceId::new("points", "1").unwrap(),
            vector_dimension: dimension,
            vector_kind: VectorKind::Dense,
            attribute_types: [("id".to_owned(), kind)].into(),
            permanent_attributes: ["id".to_owned()].into(),
            sharders: BTreeMap::new(),
            policy: Default::default(),
        };
        let index = Index {
            id: IndexId::new("all", "1").unwrap(),
            data_source: source.id.clone(),
            algorithm: IndexAlgorithm { metric, hnsw: None },
            id_attributes: ["id".to_owned()].into(),
            split_attributes: [].into(),
            shards: Index::single_shard(),
        };
        Definition::new(Arc::new(index), Arc::new(source))
    }

    #[test]
    fn outline_is_what_the_catalog_says() {
        let outline = outline();
        let check = |definition, rows| check_outline("a file", &outline, &definition, rows);
        let integers = AttributeType::Int64;
        assert_eq!(check(definition(Metric::L2, 3, integers), ROWS), Ok(()));
        for (definition, rows) in [
            (definition(Metric::L2, 3, integers), ROWS - 1),
            (definition(Metric::Cosine, 3, integers), ROWS),
            (definition(Metric::L2, 4, integers), ROWS),
        ] {
            let error = check(definition, rows).unwrap_err();
            assert_eq!((error.object.as_str(), error.part.as_str()), ("a file", "outline-is-what-the-catalog-says"));
        }
        assert_eq!(check(definition(Metric::L2, 3, AttributeType::String), ROWS).unwrap_err().object, "a file");
    }

    #[test]
    fn pieces_of_a_column_cover_it_in_order() {
        for bytes in [0, 1, 511 << 10, 1 << 20, (3 << 20) + 7, 100 << 20] {
            let pieces = pieces(64..64 + bytes);
            assert!(pieces.len() <= 4);
            assert_eq!((pieces[0].start, pieces[pieces.len() - 1].end), (64, 64 + bytes));
            assert!(pieces.windows(2).all(|pair| pair[0].end == pair[1].start), "{pieces:?}");
        }
    }

    #[test]
    fn pieces_that_were_read_are_joined() {
        for count in 0..4 {
            let pieces = (0..count).map(|piece: u8| Bytes::from(vec![piece; 3]));
            let expected: Vec<u8> = (0..count).flat_map(|piece| [piece; 3]).collect();
            assert_eq!(joined(pieces), expected);
        }
    }
}
