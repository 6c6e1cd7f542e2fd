//! Which rows of which segments a search is about.
//!
//! Shards that the split filter rules out are pruned; then a full or prefix split filter becomes row ranges by binary search
//! in the catalogs' directories. What is planned is exactly the rows in question: nothing is filtered by split later.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::ops::Range;

use tarn_model::Attributes;

use crate::snapshot::Snapshot;
use crate::splits::SplitFilter;

/// Some rows of one segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unit {
    /// Which segment.
    pub(crate) origin: Origin,
    /// Ascending, not empty.
    pub(crate) ranges: Vec<Range<u32>>,
}

/// A segment of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A segment file.
    Base {
        /// The shard's position.
        shard: u32,
        /// The segment's position in its catalog.
        segment: u32,
    },
    /// A part of the tail, by position.
    Tail(usize),
}

/// What of a snapshot a plan is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// All of it.
    Everything,
    /// The files of these shards.
    Files(BTreeSet<u32>),
}

/// The units of a search, files first, shard by shard. `filter` is the split filter, prepared.
pub(crate) fn plan(snapshot: &Snapshot, part: &Part, split_filter: &Attributes, filter: &SplitFilter) -> Vec<Unit> {
    let definition = &snapshot.definition;
    let wanted = |shard: u32| match part {
        Part::Everything => true,
        Part::Files(shards) => shards.contains(&shard),
    };
    let shards = (0u32..).zip(definition.index.shards.values());
    let shards = shards.filter(|(shard, definition)| wanted(*shard) && definition.may_match(split_filter));
    let shards: Vec<u32> = shards.map(|(shard, _)| shard).collect();
    let mut units = Vec::new();
    for &shard in &shards {
        let Some(catalog) = snapshot.generation.shards.get(shard as usize).and_then(Option::as_ref) else { continue };
        if *filter == SplitFilter::All {
            units.extend((0u32..).zip(&catalog.segments).filter(|(_, s)| s.rows > 0).map(|(segment, s)| Unit {
                origin: Origin::Base { shard, segment },
                ranges: std::iter::once(0..s.rows).collect(),
            }));
        } else {
            let rows = catalog.directory.rows(filter).into_iter();
            units.extend(rows.map(|(segment, ranges)| Unit { origin: Origin::Base { shard, segment }, ranges }));
        }
    }
    if *part != Part::Everything {
        return units;
    }
    for (part, position) in snapshot.tail.parts().iter().zip(0usize..) {
        let mut ranges: Vec<Range<u32>> = Vec::new();
        for directory in shards.iter().filter_map(|&shard| part.run.directory(shard)) {
            if *filter == SplitFilter::All {
                // Rows are sorted by shard, split, key; so a shard's rows are adjacent.
                if let [first, ..] = directory.entries()
                    && let [.., last] = directory.entries()
                {
                    ranges.push(first.start..last.end);
                }
            } else {
                ranges.extend(directory.rows(filter).into_iter().flat_map(|(_, ranges)| ranges));
            }
        }
        if !ranges.is_empty() {
            units.push(Unit { origin: Origin::Tail(position), ranges });
        }
    }
    units
}

/// Orders files by what they add to an answer while they arrive: more rows for its bytes first. Both are (rows, bytes).
pub(crate) fn more_for_its_bytes(a: (u64, u64), b: (u64, u64)) -> Ordering {
    let (a, b) = (u128::from(a.0) * u128::from(b.1), u128::from(b.0) * u128::from(a.1));
    b.cmp(&a)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_with_more_rows_for_their_bytes_come_first() {
        let mut files = [(10, 1000), (10, 10), (0, 5), (500, 1000)];
        files.sort_by(|a, b| more_for_its_bytes(*a, *b));
        assert_eq!(files, [(10, 10), (500, 1000), (10, 1000), (0, 5)]);
    }
}
