//! The loops over blocks, written once for every register width.

/// Makes `route` and `scan`.
///
/// The module that uses it says what sixteen lanes are: `Sums` and `Scores`; `nibbles(codes, rows, words)` and
/// `sevens(codes, words)`, sums of codes times bytes; `dots(sums, minus, half_step, scales)`,
/// `(2 · sum − minus) · half_step · scale`; `factors(from)`, sixteen f16; `floats(from)`, sixteen f32; `splat(x)`;
/// `add(a, b)`; `multiply(a, b)`; `above(scores, threshold)`, a bit per lane; and `store(scores)`.
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
                let mask = above(scores, best.threshold());
                if mask != 0 {
                    best.offer_block(mask, &store(scores), at as u32);
                }
            }
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
                    let from = (at * 2 * query.words.len()).min(ahead.len());
                    let to = (from + BLOCK_ROWS * 2 * query.words.len()).min(ahead.len());
                    for line in (from..to).step_by(super::CHUNK) {
                        super::prefetch_line(ahead.as_ptr().wrapping_add(line));
                    }
                    // SAFETY: the codes of `at` rows lie before this block's, two bytes per word and row; so do their
                    // factors and biases. What is left of a short block's is copied to where sixteen can be read.
                    let scores = unsafe {
                        let codes = cell.codes.as_ptr().add(at * 2 * query.words.len());
                        let sums = nibbles(codes, rows, &query.words);
                        let mut last = [0u8; 4 * BLOCK_ROWS];
                        let raw = if rows == BLOCK_ROWS {
                            cell.factors.as_ptr().add(2 * at)
                        } else {
                            last[..2 * rows].copy_from_slice(&cell.factors[2 * at..]);
                            last.as_ptr()
                        };
                        let scales = multiply(factors(raw), step);
                        let scores = add(dots(sums, 15 * query.sum, query.half_step, scales), base);
                        if cell.biases.is_empty() {
                            scores
                        } else {
                            let raw = if rows == BLOCK_ROWS {
                                cell.biases.as_ptr().add(4 * at)
                            } else {
                                last[..4 * rows].copy_from_slice(&cell.biases[4 * at..]);
                                last.as_ptr()
                            };
                            add(scores, floats(raw))
                        }
                    };
                    let mask = mask & above(scores, best.threshold());
                    if mask != 0 {
                        best.offer_block(mask, &store(scores), first);
                    }
                }
                at += BLOCK_ROWS;
            }
        }
    };
}

pub(super) use kernels;
