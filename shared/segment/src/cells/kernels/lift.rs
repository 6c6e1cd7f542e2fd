//! Queries whose scores are bounds: what bytes lose of a query, and sums that begin higher.

use super::CodeQuery;

impl CodeQuery {
    /// `values`, of which this was made, less what its bytes stand for.
    pub(crate) fn lost(&self, values: &[f32]) -> Vec<f64> {
        let step = 2.0 * f64::from(self.half_step);
        let bytes = self.words.iter().flat_map(|word| word.to_le_bytes());
        values.iter().zip(bytes).map(|(&x, byte)| f64::from(x) - f64::from(byte as i8) * step).collect()
    }

    /// What a lift of 1 adds to the score of a row, for each unit of its factor times the cell's step.
    pub(crate) fn lift_step(&self) -> f64 {
        15.0 * f64::from(self.half_step)
    }

    /// Rows score as for `query`, whose bytes these are, and higher by `lift` times [`Self::lift_step`]: sums begin at
    /// another number, which costs the kernels nothing. Not for centroids.
    pub(crate) fn lift(&mut self, query: &Self, lift: i32) {
        self.sum = query.sum - lift;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_bytes_lose_is_at_most_half_a_step() {
        let values: Vec<f32> = (0..37).map(|i| (i as f32 * 0.7).sin()).collect();
        let query = CodeQuery::new(&values);
        let half = f64::from(query.half_step);
        let lost = query.lost(&values);
        assert!(lost.len() == 37 && lost.iter().all(|x| x.abs() <= half * 1.0001) && lost.iter().any(|x| *x != 0.0));
        let nothing = CodeQuery::new(&[0.0; 3]);
        assert_eq!((nothing.lost(&[0.0; 3]), nothing.lift_step()), (vec![0.0; 3], 0.0));
    }
}
