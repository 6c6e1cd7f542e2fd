//! The loop over panels, written once for every register width.

/// Makes `nearest`. The module that uses it says how a panel is scored: `score(rows, panel, biases, dimension, out)`.
macro_rules! nearest {
    ($(#[$features:meta])?) => {
        /// # Safety
        /// The processor has the instructions; there are `ROWS` rows, and whole panels.
        $(#[$features])?
        pub(super) unsafe fn nearest(rows: &[f32], panels: &super::Panels) -> [u32; ROWS] {
            let dimension = panels.dimension;
            let mut scores = [[0.0f32; WIDTH]; ROWS];
            let mut best = [[f32::NEG_INFINITY; WIDTH]; ROWS];
            let mut found = [[0u32; WIDTH]; ROWS];
            let biases = panels.biases.chunks_exact(WIDTH);
            for (number, (panel, biases)) in (0u32..).zip(panels.values.chunks_exact(WIDTH * dimension).zip(biases)) {
                // SAFETY: the rows, a whole panel and its biases are there.
                unsafe { score(rows.as_ptr(), panel.as_ptr(), biases.as_ptr(), dimension, &mut scores) };
                // Without branches, so that the compiler takes many lanes at a time.
                for ((scores, best), found) in scores.iter().zip(&mut best).zip(&mut found) {
                    for ((&score, best), found) in scores.iter().zip(best).zip(found) {
                        let nearer = score > *best;
                        *best = if nearer { score } else { *best };
                        *found = if nearer { number } else { *found };
                    }
                }
            }
            let mut out = [0; ROWS];
            for ((out, best), found) in out.iter_mut().zip(&best).zip(&found) {
                let mut first = (f32::NEG_INFINITY, u32::MAX);
                for ((&score, &panel), lane) in best.iter().zip(found).zip(0u32..) {
                    let number = panel * WIDTH as u32 + lane;
                    if score > first.0 || (score == first.0 && number < first.1) {
                        first = (score, number);
                    }
                }
                // Without any finite score, as of rows whose squares leave f32, the first centroid serves.
                *out = if first.0 > f32::NEG_INFINITY { first.1 } else { 0 };
            }
            out
        }
    };
}

pub(super) use nearest;
