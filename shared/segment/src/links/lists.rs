//! Links while they are made: room for as many as a row may have.

use super::Links;

/// A list of links for each row.
pub(super) struct Lists {
    /// At least 1.
    most: usize,
    lengths: Vec<u32>,
    links: Vec<u32>,
}

impl Lists {
    /// Of rows without links.
    pub(super) fn new(rows: usize, most: usize) -> Self {
        Self { most, lengths: vec![0; rows], links: vec![0; rows * most] }
    }

    pub(super) fn of(&self, row: u32) -> &[u32] {
        let at = row as usize * self.most;
        &self.links[at..at + self.lengths[row as usize] as usize]
    }

    /// The room and the lengths of all lists.
    pub(super) fn parts_mut(&mut self) -> (&mut [u32], &mut [u32], usize) {
        (&mut self.links, &mut self.lengths, self.most)
    }

    /// At most as many as there is room for.
    pub(super) fn set(&mut self, row: u32, links: &[u32]) {
        let at = row as usize * self.most;
        self.links[at..at + links.len()].copy_from_slice(links);
        self.lengths[row as usize] = links.len() as u32;
    }

    /// Without the room between them.
    pub(super) fn packed(&self) -> Links {
        let mut starts = Vec::with_capacity(self.lengths.len() + 1);
        let mut links = Vec::with_capacity(self.lengths.iter().map(|&length| length as usize).sum());
        starts.push(0);
        for row in 0..self.lengths.len() as u32 {
            links.extend_from_slice(self.of(row));
            starts.push(links.len() as u32);
        }
        Links { starts: starts.into(), links: links.into() }
    }
}
