//! Where each split's rows are, and which splits a split filter names.
//!
//! Point and split keys order as their values do and delimit themselves, so a filter that fixes the first split attributes
//! is a prefix of bytes: full and prefix filters are two binary searches among 100,000 splits, not a scan.

use std::ops::Range;

use tarn_model::{AttributeType, Attributes, SplitKey, encode_value};

use crate::definition::Definition;

/// Which splits a search is about.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum SplitFilter {
    /// All of them.
    All,
    /// The splits whose key begins with these bytes; one split when every split attribute is fixed.
    Prefix(Vec<u8>),
    /// The splits with these values of some attributes, the first one not among them.
    Some(Attributes, Vec<(String, AttributeType)>),
}

impl SplitFilter {
    /// From a request's split filter, whose keys and types have been checked.
    pub(crate) fn new(filter: &Attributes, definition: &Definition) -> Self {
        if filter.is_empty() {
            return Self::All;
        }
        let mut prefix = Vec::new();
        let mut fixed = 0;
        for value in definition.index.split_attributes.iter().map_while(|attribute| filter.get(attribute)) {
            encode_value(value, &mut prefix);
            fixed += 1;
        }
        if fixed == filter.len() {
            return Self::Prefix(prefix);
        }
        Self::Some(filter.clone(), definition.split_types())
    }

    /// Whether every split has to be looked at.
    pub(crate) fn scans(&self) -> bool {
        matches!(self, Self::Some(..))
    }

    fn holds(&self, key: &[u8]) -> bool {
        match self {
            Self::All => true,
            Self::Prefix(prefix) => key.starts_with(prefix),
            Self::Some(fixed, types) => SplitKey::decode(types.iter().map(|(name, t)| (name, *t)), key)
                .is_some_and(|values| fixed.iter().all(|(name, value)| values.get(name) == Some(value))),
        }
    }
}

/// The rows of one split in one segment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SplitEntry {
    /// The split's key.
    pub(crate) key: Box<[u8]>,
    /// Position of the segment in its shard.
    pub(crate) segment: u32,
    /// First row.
    pub(crate) start: u32,
    /// After the last row.
    pub(crate) end: u32,
}

/// All splits of a shard, or of a part of the tail: sorted by key, then segment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Directory {
    entries: Vec<SplitEntry>,
}

impl Directory {
    /// Sorts the entries.
    pub(crate) fn new(mut entries: Vec<SplitEntry>) -> Self {
        entries.sort_unstable();
        Self { entries }
    }

    /// Every entry, by key, then segment.
    pub(crate) fn entries(&self) -> &[SplitEntry] {
        &self.entries
    }

    /// How many splits there are.
    pub(crate) fn count(&self) -> u64 {
        self.entries.chunk_by(|a, b| a.key == b.key).count() as u64
    }

    /// The entries whose key begins with `prefix`.
    pub(crate) fn with_prefix(&self, prefix: &[u8]) -> &[SplitEntry] {
        let start = self.entries.partition_point(|entry| &*entry.key < prefix);
        let length = self.entries[start..].partition_point(|entry| entry.key.starts_with(prefix));
        &self.entries[start..start + length]
    }

    /// The entries of exactly this split.
    pub(crate) fn split(&self, key: &[u8]) -> &[SplitEntry] {
        let start = self.entries.partition_point(|entry| &*entry.key < key);
        let length = self.entries[start..].partition_point(|entry| &*entry.key == key);
        &self.entries[start..start + length]
    }

    /// For each segment that holds such splits, by position, its row ranges: ascending, adjacent ones joined.
    /// [`SplitFilter::All`] is the caller's case: it needs no directory.
    pub(crate) fn rows(&self, filter: &SplitFilter) -> Vec<(u32, Vec<Range<u32>>)> {
        let candidates = match filter {
            SplitFilter::Prefix(prefix) => self.with_prefix(prefix),
            SplitFilter::All | SplitFilter::Some(..) => &self.entries,
        };
        let always = !filter.scans();
        let mut rows: Vec<(u32, u32, u32)> = candidates
            .iter()
            .filter(|entry| always || filter.holds(&entry.key))
            .map(|entry| (entry.segment, entry.start, entry.end))
            .collect();
        rows.sort_unstable();
        let mut segments: Vec<(u32, Vec<Range<u32>>)> = Vec::new();
        for (segment, start, end) in rows {
            match segments.last_mut() {
                Some((last, ranges)) if *last == segment => match ranges.last_mut() {
                    Some(range) if range.end == start => range.end = end,
                    _ => ranges.push(start..end),
                },
                _ => segments.push((segment, std::iter::once(start..end).collect())),
            }
        }
        segments
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tarn_testkit::Scenario;

    use super::*;

    /// A definition with two split attributes, and its splits spread over three segments.
    fn directory() -> (Definition, Vec<Attributes>, Directory) {
        let scenario = Scenario::dense();
        let index = scenario.indices.iter().find(|index| index.split_attributes.len() == 2).unwrap();
        let definition = Definition::new(Arc::clone(index), Arc::clone(&scenario.source));
        let (mut splits, mut entries, mut next) = (Vec::new(), Vec::new(), [0; 3]);
        for region in 0..40 {
            for split in ["", "a", "ab", "b", "z"] {
                let attributes = Attributes::from([
                    ("region".to_owned(), tarn_model::AttributeValue::Int64(region - 20)),
                    ("split".to_owned(), tarn_model::AttributeValue::String(split.to_owned())),
                ]);
                let key = SplitKey::encode(&definition.index.split_attributes, &attributes).unwrap();
                for (segment, next) in (0u32..).zip(&mut next) {
                    entries.push(SplitEntry { key: key.0.clone().into(), segment, start: *next, end: *next + 2 });
                    *next += 2;
                }
                splits.push(attributes);
            }
        }
        (definition, splits, Directory::new(entries))
    }

    #[test]
    fn full_prefix_and_other_partial_filters_name_the_same_rows_as_a_scan_does() {
        let (definition, splits, directory) = directory();
        assert_eq!(directory.count(), splits.len() as u64);
        for wanted in &splits {
            for mask in 0..4 {
                let filter: Attributes = wanted
                    .iter()
                    .zip(0..)
                    .filter(|(_, bit)| mask & (1 << bit) != 0)
                    .map(|((key, value), _)| (key.clone(), value.clone()))
                    .collect();
                let holds = |split: &Attributes| filter.iter().all(|(key, value)| split.get(key) == Some(value));
                let matching = splits.iter().filter(|split| holds(split)).count() as u32;
                let rows = directory.rows(&SplitFilter::new(&filter, &definition));
                assert_eq!(rows.len(), 3);
                for (_, ranges) in rows {
                    assert!(ranges.is_sorted_by(|a, b| a.end < b.start), "joined and ascending: {ranges:?}");
                    assert_eq!(ranges.iter().map(|range| range.end - range.start).sum::<u32>(), 2 * matching);
                }
            }
        }
    }

    #[test]
    fn a_filter_on_the_first_attributes_is_a_prefix() {
        let (definition, splits, _) = directory();
        let only =
            |key: &str| splits[7].iter().filter(|(k, _)| *k == key).map(|(k, v)| (k.clone(), v.clone())).collect();
        assert!(matches!(SplitFilter::new(&only("region"), &definition), SplitFilter::Prefix(_)));
        assert!(matches!(SplitFilter::new(&only("split"), &definition), SplitFilter::Some(..)));
        assert!(matches!(SplitFilter::new(&splits[7], &definition), SplitFilter::Prefix(_)));
        assert_eq!(SplitFilter::new(&Attributes::new(), &definition), SplitFilter::All);
    }
}
