//! The graph beside cells: links from each row to rows near it, and the walk along them.
//!
//! Cells say where a walk begins, so the graph has neither levels nor an entry. Distances are those of the f32 originals in
//! the rows' slots, by the kernels of the exact scan, so it has no vectors and nothing is to be rescored. What is left are the
//! links, at most twice `m` numbers a row. (Where there are no cells a graph brings all of that itself: see `graph`.)
//!
//! Owns `links-lead-to-rows`: no link of an open segment points outside of it.

mod build;
mod lists;
mod select;
mod walk;

use arrow::buffer::ScalarBuffer;

pub(crate) use build::build;
pub(crate) use walk::{ENTRIES, Ground};

use crate::format::BlockKind;

/// Links over bytes that they keep alive.
#[derive(Debug)]
pub(crate) struct Links {
    /// Where each row's begin, and where the last row's end.
    starts: ScalarBuffer<u32>,
    links: ScalarBuffer<u32>,
}

impl Links {
    /// Opens the two blocks of a segment's links, after checking every number in them. `most`: links of a row.
    pub(crate) fn read(
        starts: ScalarBuffer<u32>,
        links: ScalarBuffer<u32>,
        rows: usize,
        most: usize,
    ) -> Result<Self, (BlockKind, String)> {
        let ends = starts.first().copied().zip(starts.last().copied());
        if starts.len() != rows + 1
            || !starts.is_sorted()
            || ends != u32::try_from(links.len()).ok().map(|end| (0, end))
        {
            let found = format!("{} starts that do not ascend from 0 to {}", starts.len(), links.len());
            return Err((BlockKind::LinkStarts, found));
        }
        if let Some(row) = starts.windows(2).position(|ends| (ends[1] - ends[0]) as usize > most) {
            return Err((BlockKind::LinkStarts, format!("more than {most} links of row {row}")));
        }
        match links.iter().max() {
            Some(&link) if link as usize >= rows => Err((BlockKind::Links, format!("a link to row {link} of {rows}"))),
            _ => Ok(Self { starts, links }),
        }
    }

    /// The number of rows.
    pub(crate) fn rows(&self) -> usize {
        self.starts.len() - 1
    }

    /// Links of a row, on average.
    pub(crate) fn mean(&self) -> f64 {
        self.links.len() as f64 / self.rows().max(1) as f64
    }

    /// Where each row's links begin, and all links: what a file holds.
    pub(crate) fn blocks(&self) -> (&[u32], &[u32]) {
        (&self.starts, &self.links)
    }

    fn of(&self, row: u32) -> &[u32] {
        &self.links[self.starts[row as usize] as usize..self.starts[row as usize + 1] as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_to_rows() {
        let read = |starts: &[u32], links: &[u32]| {
            Links::read(starts.to_vec().into(), links.to_vec().into(), 3, 2).map_err(|(kind, _)| kind)
        };
        let valid = read(&[0, 2, 2, 3], &[1, 2, 0]).unwrap();
        assert_eq!([valid.of(0), valid.of(1), valid.of(2)], [&[1, 2][..], &[], &[0]]);
        assert!((valid.mean() - 1.0).abs() < 1e-9);
        for starts in [&[][..], &[0, 2, 3], &[0, 2, 1, 3], &[1, 2, 2, 3], &[0, 2, 2, 2], &[0, 2, 2, 4], &[0, 3, 3, 3]] {
            assert_eq!(read(starts, &[1, 2, 0]).unwrap_err(), BlockKind::LinkStarts, "{starts:?}");
        }
        assert_eq!(read(&[0, 2, 2, 3], &[1, 3, 0]).unwrap_err(), BlockKind::Links);
        assert!(Links::read(vec![0].into(), Vec::new().into(), 0, 2).is_ok());
    }
}
