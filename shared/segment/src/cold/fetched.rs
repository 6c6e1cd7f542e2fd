//! Cells that were read before.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

/// Verified cells of one file, at most so many bytes; the ones used longest ago go first. Belongs to one [`Outline`]:
/// keep them together, behind an `Arc` each. Plans look into it, [`CellPlan::scan`] fills it.
///
/// [`Outline`]: super::Outline
/// [`CellPlan::scan`]: super::CellPlan::scan
#[derive(Debug)]
pub struct FetchedCells {
    bytes_max: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    cells: HashMap<u32, Held>,
    bytes: usize,
    /// Counts uses.
    now: u64,
}

#[derive(Debug)]
struct Held {
    bytes: Bytes,
    used: u64,
}

impl FetchedCells {
    /// Nothing yet. With 0 it stays so.
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes_max, state: Mutex::default() }
    }

    /// Bytes that it holds.
    pub fn bytes(&self) -> usize {
        self.state().bytes
    }

    /// The cells that are wanted, as far as they are here, which counts as a use.
    pub(super) fn get_all(&self, wanted: impl Fn(u32) -> bool) -> HashMap<u32, Bytes> {
        let mut state = self.state();
        state.now += 1;
        let now = state.now;
        let held = state.cells.iter_mut().filter(|(cell, _)| wanted(**cell));
        held.map(|(&cell, held)| {
            held.used = now;
            (cell, held.bytes.clone())
        })
        .collect()
    }

    /// Keeps verified cells.
    pub(super) fn keep<'a>(&self, cells: impl Iterator<Item = (u32, &'a [u8])>) {
        if self.bytes_max == 0 {
            return;
        }
        let mut state = self.state();
        state.now += 1;
        let used = state.now;
        for (cell, bytes) in cells {
            // Copied: a slice would keep all of the read that brought it.
            let held = Held { bytes: Bytes::copy_from_slice(bytes), used };
            state.bytes += bytes.len();
            if let Some(old) = state.cells.insert(cell, held) {
                state.bytes -= old.bytes.len();
            }
        }
        if state.bytes > self.bytes_max {
            let mut by_use: Vec<(u64, u32)> = state.cells.iter().map(|(&cell, held)| (held.used, cell)).collect();
            by_use.sort_unstable();
            // A little more than necessary, so that the next few cells have room.
            let enough = self.bytes_max - self.bytes_max / 8;
            for (_, cell) in by_use {
                if state.bytes <= enough {
                    break;
                }
                if let Some(old) = state.cells.remove(&cell) {
                    state.bytes -= old.bytes.len();
                }
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Whoever panicked while holding it left whole cells.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_used_longest_ago_make_room() {
        let fetched = FetchedCells::new(1000);
        for cell in 0..9 {
            fetched.keep(std::iter::once((cell, [cell as u8; 100].as_slice())));
        }
        assert_eq!(fetched.bytes(), 900);
        let get = |cell| fetched.get_all(|other| other == cell).remove(&cell);
        assert_eq!(get(0).unwrap().as_ref(), [0; 100]);
        fetched.keep([(9, [9u8; 100].as_slice()), (10, [10; 100].as_slice()), (10, [10; 100].as_slice())].into_iter());
        assert!(fetched.bytes() <= 1000);
        assert!(get(0).is_some() && get(1).is_none() && get(10).is_some());
        let nothing = FetchedCells::new(0);
        nothing.keep(std::iter::once((1, [1u8; 10].as_slice())));
        assert_eq!((nothing.bytes(), nothing.get_all(|_| true).len()), (0, 0));
    }
}
