//! Building runs: from deltas, and from runs that merge.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, FixedSizeListArray, Float32Array, Float64Array, ListArray, RecordBatch,
    UInt32Array,
};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::compute::interleave;
use arrow::datatypes::{Field, Schema, SchemaRef};
use tarn_model::{Corrupt, VectorKind};
use tarn_segment::{Segment, SegmentError, SegmentInput, Vectors};

use super::run::{Group, Run, Stored};
use crate::column::check_columns;
use crate::definition::{Definition, Place};
use crate::expiry::Expiry;
use crate::splits::{Directory, SplitEntry};

/// One delta's rows, with the name that errors give it.
pub(crate) struct DeltaRows {
    object: String,
    sequence: u64,
    data: RecordBatch,
}

/// Columns that rows are gathered from.
struct Columns {
    attributes: Vec<ArrayRef>,
    vectors: VectorColumn,
}

/// Vectors by row, as deltas and segments hold them.
enum VectorColumn {
    Dense { dimension: usize, values: ScalarBuffer<f32> },
    Sparse { offsets: Vec<(usize, usize)>, indices: ScalarBuffer<u32>, values: ScalarBuffer<f64> },
}

/// The last update of one key, so far.
struct Entry<'a> {
    place: Place,
    key: &'a [u8],
    sequence: u64,
    columns: u32,
    /// `None` for a tombstone.
    row: Option<u32>,
}

impl DeltaRows {
    /// `data` has the schema of a delta of the definition's source; `object` is its key.
    pub(crate) fn new(object: String, sequence: u64, data: RecordBatch) -> Self {
        Self { object, sequence, data }
    }

    /// The number of updates.
    pub(crate) fn rows(&self) -> usize {
        self.data.num_rows()
    }

    /// The memory that its columns take.
    pub(crate) fn bytes(&self) -> usize {
        self.data.get_array_memory_size()
    }

    /// Its sequence.
    pub(crate) fn sequence(&self) -> u64 {
        self.sequence
    }

    fn corrupt(&self, expected: &str, found: &str) -> Corrupt {
        Corrupt {
            object: self.object.clone(),
            part: "delta columns".to_owned(),
            expected: expected.to_owned(),
            found: found.to_owned(),
        }
    }

    fn column<T: 'static>(&self, name: &str) -> Result<&T, Corrupt> {
        self.data
            .column_by_name(name)
            .and_then(|column| column.as_any().downcast_ref::<T>())
            .ok_or_else(|| self.corrupt(&format!("a column '{name}' of its type"), "another, or none"))
    }

    fn columns(&self, definition: &Definition) -> Result<Columns, Corrupt> {
        let attributes = definition.source.attribute_types.keys().map(|name| {
            let column = tarn_timeline::attribute_column(name);
            self.data
                .column_by_name(&column)
                .cloned()
                .ok_or_else(|| self.corrupt(&format!("a column '{column}'"), "none"))
        });
        let attributes = attributes.collect::<Result<Vec<_>, _>>()?;
        let vectors = match definition.source.vector_kind {
            VectorKind::Dense => {
                let list: &FixedSizeListArray = self.column("_vector")?;
                let values = list.values().as_any().downcast_ref::<Float32Array>();
                let values = values.ok_or_else(|| self.corrupt("'_vector' of Float32", "another type"))?;
                let dimension = definition.source.vector_dimension as usize;
                if usize::try_from(list.value_length()) != Ok(dimension) {
                    return Err(self.corrupt(&format!("vectors of {dimension}"), &list.value_length().to_string()));
                }
                VectorColumn::Dense { dimension, values: values.values().clone() }
            }
            VectorKind::Sparse => {
                let indices: &ListArray = self.column("_indices")?;
                let values: &ListArray = self.column("_values")?;
                if indices.offsets() != values.offsets() {
                    return Err(self.corrupt("'_indices' and '_values' of equal lengths", "lengths that differ"));
                }
                let offsets = indices.offsets().windows(2).map(|w| (w[0] as usize, w[1] as usize)).collect();
                let i = indices.values().as_any().downcast_ref::<UInt32Array>();
                let v = values.values().as_any().downcast_ref::<Float64Array>();
                let (Some(i), Some(v)) = (i, v) else {
                    return Err(self.corrupt("'_indices' of UInt32, '_values' of Float64", "other types"));
                };
                VectorColumn::Sparse { offsets, indices: i.values().clone(), values: v.values().clone() }
            }
        };
        Ok(Columns { attributes, vectors })
    }
}

impl Columns {
    fn of_segment(input: &SegmentInput) -> Self {
        let vectors = match &input.vectors {
            Vectors::Dense(values) => {
                VectorColumn::Dense { dimension: input.dimension as usize, values: values.clone() }
            }
            Vectors::Sparse { offsets, indices, values } => VectorColumn::Sparse {
                offsets: offsets.windows(2).map(|w| (w[0] as usize, w[1] as usize)).collect(),
                indices: indices.clone(),
                values: values.clone(),
            },
        };
        Self { attributes: input.attributes.columns().to_vec(), vectors }
    }
}

impl Run {
    /// From consecutive deltas, oldest first.
    ///
    /// # Errors
    /// [`Corrupt`] names the delta that does not fit.
    pub(super) fn from_deltas(definition: &Definition, deltas: &[DeltaRows]) -> Result<Self, Corrupt> {
        let mut columns = Vec::with_capacity(deltas.len());
        let mut entries: Vec<Entry<'_>> = Vec::with_capacity(deltas.iter().map(DeltaRows::rows).sum());
        let mut places: HashMap<Place, Place> = HashMap::new();
        for (delta, number) in deltas.iter().zip(0..) {
            columns.push(delta.columns(definition)?);
            let keys: &BinaryArray = delta.column("_key")?;
            let deleted: &BooleanArray = delta.column("_deleted")?;
            for row in 0..delta.rows() {
                let key = keys.value(row);
                let place = definition.place(key).map_err(|_| delta.corrupt("point keys", "bytes that are none"))?;
                // A point that no shard takes is not in the index, and no update changes that.
                let Some(place) = place else { continue };
                // One copy of each split's key, however many rows the split has.
                let place = match places.get(&place) {
                    Some(known) => known.clone(),
                    None => {
                        places.insert(place.clone(), place.clone());
                        place
                    }
                };
                let row = (!deleted.value(row)).then_some(row as u32);
                entries.push(Entry { place, key, sequence: delta.sequence, columns: number, row });
            }
        }
        let last = deltas.iter().map(DeltaRows::sequence).max().unwrap_or(0);
        let object = deltas.first().map_or("", |delta| &delta.object);
        build(definition, object, &columns, entries, last)
    }

    /// From consecutive runs, oldest first; updates at or before the watermark are left out.
    ///
    /// # Errors
    /// None that a run which was built before can cause.
    pub(super) fn merge(definition: &Definition, runs: &[&Self], watermark: u64) -> Result<Self, Corrupt> {
        let mut columns = Vec::with_capacity(runs.len());
        let mut entries = Vec::with_capacity(runs.iter().map(|run| run.touched()).sum());
        for (run, number) in runs.iter().zip(0..) {
            columns.push(match &run.stored {
                Some(stored) => Columns::of_segment(&stored.input),
                None => Columns { attributes: Vec::new(), vectors: VectorColumn::none() },
            });
            for group in &run.groups {
                let place = Place { shard: group.shard, split: Arc::from(&*group.split) };
                let mut row = group.rows.start;
                for i in group.touched.clone() {
                    let (key, sequence) = (run.touched.value(i as usize), run.sequences[i as usize]);
                    // Rows are in the order of the touched keys: the next row is this key's, or the key has none.
                    let stored = run.stored.as_ref().filter(|s| row < group.rows.end && s.segment.key(row) == key);
                    let own = stored.map(|_| row);
                    row += u32::from(own.is_some());
                    if sequence > watermark {
                        entries.push(Entry { place: place.clone(), key, sequence, columns: number, row: own });
                    }
                }
            }
        }
        let last = runs.iter().map(|run| run.last).max().unwrap_or(0);
        build(definition, "the timeline's tail", &columns, entries, last)
    }
}

impl VectorColumn {
    fn none() -> Self {
        Self::Dense { dimension: 0, values: ScalarBuffer::from(Vec::new()) }
    }
}

/// Keeps the last entry of each key and makes a segment of the upserts among them.
fn build(
    definition: &Definition,
    object: &str,
    columns: &[Columns],
    mut entries: Vec<Entry<'_>>,
    last: u64,
) -> Result<Run, Corrupt> {
    // Stable: entries of one key stay in the order in which they were written.
    entries.sort_by(|a, b| a.place.cmp(&b.place).then_with(|| a.key.cmp(b.key)));
    let mut kept: Vec<Entry<'_>> = Vec::with_capacity(entries.len());
    for entry in entries {
        match kept.last_mut() {
            Some(older) if older.key == entry.key => *older = entry,
            _ => kept.push(entry),
        }
    }
    let mut groups: Vec<Group> = Vec::new();
    let mut upserts: Vec<&Entry<'_>> = Vec::with_capacity(kept.len());
    for (entry, position) in kept.iter().zip(0u32..) {
        let row = upserts.len() as u32;
        let rows = row..row + u32::from(entry.row.is_some());
        match groups.last_mut() {
            Some(group) if group.shard == entry.place.shard && *group.split == *entry.place.split => {
                group.touched.end = position + 1;
                group.rows.end = rows.end;
            }
            _ => groups.push(Group {
                shard: entry.place.shard,
                split: entry.place.split.as_ref().into(),
                touched: position..position + 1,
                rows,
            }),
        }
        upserts.extend(entry.row.is_some().then_some(entry));
    }
    let mut splits: Vec<Vec<SplitEntry>> = vec![Vec::new(); definition.shards.len()];
    for group in groups.iter().filter(|group| !group.rows.is_empty()) {
        if let Some(shard) = splits.get_mut(group.shard as usize) {
            let (start, end) = (group.rows.start, group.rows.end);
            shard.push(SplitEntry { key: group.split.clone(), segment: 0, start, end });
        }
    }
    let stored = if upserts.is_empty() { None } else { Some(store(definition, object, columns, &upserts)?) };
    Ok(Run {
        id: Run::next_id(),
        last,
        stored,
        touched: BinaryArray::from_iter_values(kept.iter().map(|entry| entry.key)),
        sequences: kept.iter().map(|entry| entry.sequence).collect(),
        groups,
        directories: splits.into_iter().map(Directory::new).collect(),
        expiry: Expiry::default(),
    })
}

fn store(
    definition: &Definition,
    object: &str,
    columns: &[Columns],
    upserts: &[&Entry<'_>],
) -> Result<Stored, Corrupt> {
    let corrupt = |part: &str, found: String| Corrupt {
        object: object.to_owned(),
        part: part.to_owned(),
        expected: "rows of the data source".to_owned(),
        found,
    };
    let picks: Vec<(usize, usize)> =
        upserts.iter().filter_map(|e| Some((e.columns as usize, e.row? as usize))).collect();
    // Sources that give no row may lack columns; interleave wants each of them whole.
    let mut used: Vec<usize> = picks.iter().map(|pick| pick.0).collect();
    used.sort_unstable();
    used.dedup();
    let renumbered: Vec<(usize, usize)> =
        picks.iter().map(|&(source, row)| (used.partition_point(|&u| u < source), row)).collect();
    let mut arrays = Vec::with_capacity(definition.source.attribute_types.len());
    for attribute in 0..definition.source.attribute_types.len() {
        let sources: Vec<&dyn Array> =
            used.iter().map(|&source| columns[source].attributes[attribute].as_ref()).collect();
        arrays.push(interleave(&sources, &renumbered).map_err(|e| corrupt("attribute columns", e.to_string()))?);
    }
    let rows = picks.len();
    let attributes = RecordBatch::try_new_with_options(
        schema(definition, &arrays),
        arrays,
        &arrow::array::RecordBatchOptions::new().with_row_count(Some(rows)),
    )
    .map_err(|e| corrupt("attribute columns", e.to_string()))?;
    check_columns(object, &attributes, &definition.source)?;
    let input = SegmentInput {
        metric: definition.index.algorithm.metric,
        dimension: definition.source.vector_dimension,
        keys: BinaryArray::from_iter_values(upserts.iter().map(|entry| entry.key)),
        attributes,
        vectors: gather(columns, &picks, definition.source.vector_kind).map_err(|found| corrupt("vectors", found))?,
    };
    let segment = Segment::in_memory(input.clone()).map_err(|e| match e {
        SegmentError::Corrupt(corrupt) => corrupt,
        other => corrupt("segment", other.to_string()),
    })?;
    Ok(Stored { segment, input, sequences: upserts.iter().map(|entry| entry.sequence).collect() })
}

fn schema(definition: &Definition, arrays: &[ArrayRef]) -> SchemaRef {
    let names = definition.source.attribute_types.keys();
    let fields = names
        .zip(arrays)
        .map(|(name, array)| Field::new(tarn_timeline::attribute_column(name), array.data_type().clone(), false));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// The vectors of the picked rows; the error says what is out of place.
fn gather(columns: &[Columns], picks: &[(usize, usize)], kind: VectorKind) -> Result<Vectors, String> {
    let outside = |row: usize| format!("row {row} without a vector");
    match kind {
        VectorKind::Dense => {
            let mut gathered = Vec::new();
            for &(source, row) in picks {
                let VectorColumn::Dense { dimension, values } = &columns[source].vectors else {
                    return Err(outside(row));
                };
                let start = row * dimension;
                gathered.extend_from_slice(values.get(start..start + dimension).ok_or_else(|| outside(row))?);
            }
            Ok(Vectors::Dense(gathered.into()))
        }
        VectorKind::Sparse => {
            let (mut lengths, mut all_indices, mut all_values) = (Vec::new(), Vec::new(), Vec::new());
            for &(source, row) in picks {
                let VectorColumn::Sparse { offsets, indices, values } = &columns[source].vectors else {
                    return Err(outside(row));
                };
                let &(start, end) = offsets.get(row).ok_or_else(|| outside(row))?;
                all_indices.extend_from_slice(indices.get(start..end).ok_or_else(|| outside(row))?);
                all_values.extend_from_slice(values.get(start..end).ok_or_else(|| outside(row))?);
                lengths.push(end - start);
            }
            if i32::try_from(all_indices.len()).is_err() {
                return Err(format!("{} coordinates in one run of deltas", all_indices.len()));
            }
            Ok(Vectors::Sparse {
                offsets: OffsetBuffer::from_lengths(lengths),
                indices: all_indices.into(),
                values: all_values.into(),
            })
        }
    }
}
