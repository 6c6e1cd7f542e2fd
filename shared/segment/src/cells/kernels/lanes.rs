//! The loops over blocks, written once for every register width.

/// Makes `route`, `scan` and `scan_two`.
///
/// The module that uses it says what sixteen lanes are: `Sums` and `Scores`; `nibbles(codes, rows, words)` and
/// `sevens(codes, words)`, sums of codes times bytes, and `nibbles_two(codes, rows, words)`, the former for two queries;
/// `dots(sums, minus, half_step, scales)`, `(2 · sum − minus) · half_step · scale`; `factors(from)`, sixteen f16;
/// `floats(from)`, sixteen f32; `splat(x)`; `add(a, b)`; `multiply(a, b)`; `reaching(scores, threshold)`, a bit per lane;
/// and `store(scores)`.
macro_rules! kernels {
    ($(#[$features:meta])?) => {
        /// # Safety
        /// The processor has the instructions, and the lengths have been compared as `route_with` does.
        $(#[$features])?
        pub(super) unsafe fn route(
            query: &super::CodeQuery,
            centroids: &super::Centroids<'_>,
            weight: f32,
            out: &mut [f32],
            best: &mut super::Candidates,
        ) {
            let blocks = out.len() / BLOCK_ROWS;
            let size = centroids.codes.len() / blocks.max(1);
            let words = &query.words[..size / super::CHUNK];
            let weight = splat(weight);
            for (block, out) in out.chunks_exact_mut(BLOCK_ROWS).enumerate() {
                let at = block * BLOCK_ROWS;
                // SAFETY: there are `blocks` blocks of `size` bytes, a chunk per word, and sixteen scales and biases each.
                let (dots, scores) = unsafe {
                    let sums = sevens(centroids.codes.as_ptr().add(block * size), words);
                    let scales = floats(centroids.scales.as_ptr().add(at).cast());
                    let dots = dots(sums, 127 * query.sum, query.half_step, scales);
                    let biases = floats(centroids.biases.as_ptr().add(at).cast());
                    (dots, add(dots, multiply(biases, weight)))
                };
                out.copy_from_slice(&store(dots));
                let mask = reaching(scores, best.threshold());
                if mask != 0 {
                    best.offer_block(mask, &store(scores), centroids.first + at as u32);
                }
            }
        }

        /// Asks for what of the next cell lies as far in as this block does in its own, which has codes of `block` bytes.
        $(#[$features])?
        #[inline]
        fn prefetch_block(ahead: &[u8], at: usize, block: usize) {
            let from = (at / BLOCK_ROWS * block).min(ahead.len());
            let to = (from + block).min(ahead.len());
            for line in (from..to).step_by(super::CHUNK) {
                super::prefetch_line(ahead.as_ptr().wrapping_add(line));
            }
        }

        /// The factors of the block that begins with row `at`, times `step`. What is left of a short block's is copied to
        /// where sixteen can be read.
        $(#[$features])?
        #[inline]
        fn scales(cell: &super::CellRows<'_>, at: usize, step: Scores) -> Scores {
            let mut last = [0u8; 2 * BLOCK_ROWS];
            let rest = &cell.factors[2 * at..];
            let raw = if rest.len() >= last.len() {
                rest.as_ptr()
            } else {
                last[..rest.len()].copy_from_slice(rest);
                last.as_ptr()
            };
            // SAFETY: sixteen of two bytes each are there.
            multiply(unsafe { factors(raw) }, step)
        }

        /// The biases of that block; `None` when the cell has none.
        $(#[$features])?
        #[inline]
        fn biases(cell: &super::CellRows<'_>, at: usize) -> Option<Scores> {
            if cell.biases.is_empty() {
                return None;
            }
            let mut last = [0u8; 4 * BLOCK_ROWS];
            let rest = &cell.biases[4 * at..];
            let raw = if rest.len() >= last.len() {
                rest.as_ptr()
            } else {
                last[..rest.len()].copy_from_slice(rest);
                last.as_ptr()
            };
            // SAFETY: sixteen of four bytes each are there.
            Some(unsafe { floats(raw) })
        }

        /// # Safety
        /// The processor has the instructions, and the lengths have been compared as `scan_with` does.
        $(#[$features])?
        pub(super) unsafe fn scan(
            query: &super::CodeQuery,
            cell: &super::CellRows<'_>,
            ahead: &[u8],
            allowed: Option<&crate::rows::Bits>,
            best: &mut super::Candidates,
        ) {
            let (base, step) = (splat(cell.base), splat(cell.step));
            let mut at = 0;
            while at < cell.rows {
                let rows = (cell.rows - at).min(BLOCK_ROWS);
                let first = cell.first + at as u32;
                let present = u16::MAX >> (BLOCK_ROWS - rows);
                let mask = allowed.map_or(present, |bits| bits.sixteen(first) & present);
                if mask != 0 {
                    prefetch_block(ahead, at, BLOCK_ROWS * 2 * query.words.len());
                    // SAFETY: the codes of `at` rows lie before this block's, two bytes per word and row.
                    let sums = unsafe {
                        let codes = cell.codes.as_ptr().add(at * 2 * query.words.len());
                        nibbles(codes, rows, &query.words)
                    };
                    let scales = scales(cell, at, step);
                    let scores = add(dots(sums, 15 * query.sum, query.half_step, scales), base);
                    let scores = biases(cell, at).map_or(scores, |biases| add(scores, biases));
                    let mask = mask & reaching(scores, best.threshold());
                    if mask != 0 {
                        best.offer_block(mask, &store(scores), first);
                    }
                }
                at += BLOCK_ROWS;
            }
        }

        /// Each score has the bits that `scan` gives it.
        ///
        /// # Safety
        /// The processor has the instructions, and the lengths have been compared as `scan_two_with` does.
        $(#[$features])?
        pub(super) unsafe fn scan_two(
            queries: [&super::CodeQuery; 2],
            bases: [f32; 2],
            cell: &super::CellRows<'_>,
            ahead: &[u8],
            allowed: Option<&crate::rows::Bits>,
            best: [&mut super::Candidates; 2],
        ) {
            let [best_of_one, best_of_other] = best;
            let [one, other] = queries;
            let step = splat(cell.step);
            let bases = (splat(bases[0]), splat(bases[1]));
            let mut at = 0;
            while at < cell.rows {
                let rows = (cell.rows - at).min(BLOCK_ROWS);
                let first = cell.first + at as u32;
                let present = u16::MAX >> (BLOCK_ROWS - rows);
                let mask = allowed.map_or(present, |bits| bits.sixteen(first) & present);
                if mask != 0 {
                    prefetch_block(ahead, at, BLOCK_ROWS * 2 * one.words.len());
                    // SAFETY: as in `scan`.
                    let sums = unsafe {
                        let codes = cell.codes.as_ptr().add(at * 2 * one.words.len());
                        nibbles_two(codes, rows, [&one.words, &other.words])
                    };
                    let scales = scales(cell, at, step);
                    let a = add(dots(sums.0, 15 * one.sum, one.half_step, scales), bases.0);
                    let b = add(dots(sums.1, 15 * other.sum, other.half_step, scales), bases.1);
                    let (a, b) = match biases(cell, at) {
                        Some(biases) => (add(a, biases), add(b, biases)),
                        None => (a, b),
                    };
                    let of_one = mask & reaching(a, best_of_one.threshold());
                    if of_one != 0 {
                        best_of_one.offer_block(of_one, &store(a), first);
                    }
                    let of_other = mask & reaching(b, best_of_other.threshold());
                    if of_other != 0 {
                        best_of_other.offer_block(of_other, &store(b), first);
                    }
                }
                at += BLOCK_ROWS;
            }
        }
    };
}

pub(super) use kernels;
