//! All variants against sums in i64, and against one another to the bit.

use half::f16;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::rows::{Allowed, Rows};

/// Codes, bytes of the query and what else a cell has, from a generator of extremes or of anything.
struct Case {
    dimension: usize,
    query: Vec<f32>,
    /// Row by row, a code each coordinate.
    codes: Vec<u8>,
    factors: Vec<f32>,
    biases: Vec<f32>,
}

impl Case {
    fn new(rng: &mut SmallRng, dimension: usize, rows: usize, highest: u8, extreme: bool) -> Self {
        let mut pick = |random: bool, high: u8| match random {
            true => rng.random_range(0..=high),
            false => [0, high][rng.random_range(0..2usize)],
        };
        let codes = (0..dimension * rows).map(|_| pick(!extreme, highest)).collect();
        let query = (0..dimension).map(|_| f32::from(pick(!extreme, 254)) - 127.0).collect();
        let factors = (0..rows).map(|_| f32::from(pick(true, 255)) / 64.0).collect();
        let biases = (0..rows).map(|_| f32::from(pick(true, 255)) * 17.0 - 2000.0).collect();
        Self { dimension, query, codes, factors, biases }
    }

    fn rows(&self) -> usize {
        self.factors.len()
    }

    fn query(&self) -> CodeQuery {
        CodeQuery::new(&self.query)
    }

    /// `Σ (2 · code − odd) · byte`, wide.
    fn sum(&self, row: usize, odd: i64) -> i64 {
        let query = self.query();
        let byte = |i: usize| i64::from(query.words[i / 4].to_le_bytes()[i % 4] as i8);
        (0..self.dimension).map(|i| (2 * i64::from(self.codes[row * self.dimension + i]) - odd) * byte(i)).sum()
    }

    fn nibbles(&self) -> Vec<u8> {
        let chunks = row_chunks(self.dimension);
        let mut out = Vec::new();
        for rows in (0..self.rows()).collect::<Vec<_>>().chunks(BLOCK_ROWS) {
            let mut block = vec![0u8; chunks * 4 * rows.len()];
            for (lane, row) in rows.iter().enumerate() {
                for i in 0..self.dimension {
                    let at = i / 8 * 4 * rows.len() + 4 * lane + i % 4;
                    block[at] |= self.codes[row * self.dimension + i] << (4 * (i / 4 % 2));
                }
            }
            out.extend(block);
        }
        out
    }

    fn sevens(&self) -> Vec<u8> {
        let chunks = centroid_chunks(self.dimension);
        let mut out = vec![0u8; self.rows().div_ceil(BLOCK_ROWS) * chunks * CHUNK];
        for row in 0..self.rows() {
            for i in 0..self.dimension {
                let block = row / BLOCK_ROWS * chunks * CHUNK;
                out[block + i / 4 * CHUNK + 4 * (row % BLOCK_ROWS) + i % 4] = self.codes[row * self.dimension + i];
            }
        }
        out
    }

    fn scan(&self, isa: Isa, biased: bool, allowed: Option<&Bits>, wanted: usize) -> Vec<(f32, u32)> {
        let codes = self.nibbles();
        let factors: Vec<u8> = self.factors.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect();
        let biases: Vec<u8> = self.biases.iter().flat_map(|x| x.to_le_bytes()).collect();
        let biases = if biased { biases.as_slice() } else { &[] };
        let rows = self.rows();
        let cell = CellRows { rows, codes: &codes, factors: &factors, biases, first: 5, step: 0.25, base: 3.0 };
        let mut best = Candidates::new(wanted, 1000);
        scan_with(isa, &self.query(), &cell, &[], allowed, &mut best);
        best.into_sorted()
    }
}

fn cases(highest: u8) -> Vec<Case> {
    let mut rng = SmallRng::seed_from_u64(31);
    let mut cases = Vec::new();
    for dimension in (1..=40).chain([63, 64, 65, 100, 128, 1000, 16_384]) {
        for extreme in [false, true] {
            let rows = rng.random_range(1..=50);
            cases.push(Case::new(&mut rng, dimension, rows, highest, extreme));
        }
    }
    // Every length of the last block.
    cases.extend((1..=33).map(|rows| Case::new(&mut rng, 20, rows, highest, false)));
    // All at the upper end: what overflows, overflows here.
    for (dimension, sign) in [(100, 1.0), (16_384, -1.0)] {
        let rows = 17;
        let codes = vec![highest; dimension * rows];
        let factors = vec![1.0; rows];
        cases.push(Case { dimension, query: vec![sign * 127.0; dimension], codes, factors, biases: vec![0.0; rows] });
    }
    cases
}

#[test]
fn same_codes_same_bits_of_rows() {
    for case in cases(15) {
        let query = case.query();
        for biased in [false, true] {
            let mut want: Vec<(f32, u32)> = (0..case.rows())
                .map(|row| {
                    let sum = case.sum(row, 15) as f32;
                    let scale = f16::from_f32(case.factors[row]).to_f32() * 0.25;
                    let score = sum * query.half_step * scale + 3.0;
                    (if biased { score + case.biases[row] } else { score }, 5 + row as u32)
                })
                .collect();
            want.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            for isa in available() {
                let got = case.scan(isa, biased, None, 1000);
                let same = got.iter().zip(&want).all(|(a, b)| (a.0.to_bits(), a.1) == (b.0.to_bits(), b.1));
                assert!(same && got.len() == want.len(), "{isa:?} at {}: {got:?} for {want:?}", case.dimension);
            }
        }
    }
}

#[test]
fn two_queries_get_the_bits_of_each() {
    let everything = 0..1000;
    let some: roaring::RoaringBitmap = (0..1000).filter(|row| row % 3 != 1).collect();
    let mask = Rows { ranges: std::slice::from_ref(&everything), matches: Some(&some), ..Rows::default() };
    let some = Allowed::resolve(&mask, 1000).bits(1000);
    for case in cases(15) {
        let other: Vec<f32> = case.query.iter().rev().map(|x| 40.0 - 0.7 * x).collect();
        let queries = [&case.query(), &CodeQuery::new(&other)];
        let codes = case.nibbles();
        let factors: Vec<u8> = case.factors.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect();
        let biases: Vec<u8> = case.biases.iter().flat_map(|x| x.to_le_bytes()).collect();
        let rows = case.rows();
        for (biases, allowed, wanted) in
            [(&[][..], None, 1000), (&biases[..], Some(&some), 1000), (&biases[..], None, 7)]
        {
            let cell = |base| CellRows { rows, codes: &codes, factors: &factors, biases, first: 5, step: 0.25, base };
            for isa in available() {
                let alone = |query: &CodeQuery, base: f32| {
                    let mut best = Candidates::new(wanted, 1000);
                    scan_with(isa, query, &cell(base), &[], allowed, &mut best);
                    best.into_sorted()
                };
                let mut both = [0, 1].map(|_| Candidates::new(wanted, 1000));
                scan_two_with(isa, queries, [3.0, -8.5], &cell(0.0), &codes, allowed, both.each_mut());
                let both = both.map(Candidates::into_sorted);
                assert_eq!(both, [alone(queries[0], 3.0), alone(queries[1], -8.5)], "{isa:?} at {}", case.dimension);
            }
        }
    }
}

#[test]
fn same_codes_same_bits_of_centroids() {
    for case in cases(127) {
        let (query, codes) = (case.query(), case.sevens());
        let count = case.rows().next_multiple_of(BLOCK_ROWS);
        let mut scales = case.factors.clone();
        scales.resize(count, 1.0);
        let mut biases = case.biases.clone();
        biases.resize(count, f32::NEG_INFINITY);
        let centroids = Centroids { codes: &codes, scales: &scales, biases: &biases, first: 0 };
        for isa in available() {
            let mut dots = vec![0.0; count];
            let mut best = Candidates::new(1000, count);
            route_with(isa, &query, &centroids, 0.5, &mut dots, &mut best);
            for (row, dot) in dots.iter().enumerate().take(case.rows()) {
                let want = case.sum(row, 127) as f32 * query.half_step * case.factors[row];
                assert_eq!(dot.to_bits(), want.to_bits(), "{isa:?} at {}", case.dimension);
            }
            let best = best.into_sorted();
            assert_eq!(best.len(), case.rows(), "a centroid that is not there was offered");
            for (score, row) in best {
                let row = row as usize;
                assert_eq!(score.to_bits(), (dots[row] + case.biases[row] * 0.5).to_bits());
            }
        }
    }
}

#[test]
fn rows_that_are_not_allowed_are_not_offered() {
    let mut rng = SmallRng::seed_from_u64(32);
    for rows in [1, 15, 16, 17, 40, 64, 200] {
        let case = Case::new(&mut rng, 12, rows, 15, false);
        let deleted = (0..300).filter(|_| rng.random_bool(0.5)).collect();
        let all = 0..300;
        let mask = Rows { ranges: std::slice::from_ref(&all), deleted: Some(&deleted), ..Rows::default() };
        let bits = Allowed::resolve(&mask, 300).bits(300);
        for isa in available() {
            let mut want = case.scan(isa, false, None, 1000);
            want.retain(|(_, row)| !deleted.contains(*row));
            assert_eq!(case.scan(isa, false, Some(&bits), 1000), want, "{isa:?}");
            want.truncate(7);
            assert_eq!(case.scan(isa, false, Some(&bits), 7).len(), want.len(), "{isa:?}");
        }
    }
}

#[test]
fn a_query_without_direction_scores_zero() {
    for values in [vec![0.0; 9], vec![1e-45; 9]] {
        let query = CodeQuery::new(&values);
        assert!(query.words.iter().all(|&word| word == 0) && query.half_step.is_finite());
    }
}

#[test]
fn bytes_of_a_query_stand_for_its_coordinates() {
    let mut rng = SmallRng::seed_from_u64(34);
    for scale in [1e-20f32, 1.0, 1e16] {
        let values: Vec<f32> = (0..50).map(|_| rng.random_range(-1.0..1.0) * scale).collect();
        let query = CodeQuery::new(&values);
        let bytes: Vec<i8> = query.words.iter().flat_map(|word| word.to_le_bytes()).map(|byte| byte as i8).collect();
        for (x, &byte) in values.iter().zip(&bytes) {
            let step = 2.0 * query.half_step;
            assert!((x - f32::from(byte) * step).abs() <= 0.51 * step, "{byte} for {x} at {scale}");
        }
        assert!(bytes[50..].iter().all(|&byte| byte == 0));
        assert_eq!(query.sum, bytes.iter().map(|&byte| i32::from(byte)).sum::<i32>());
    }
}

/// What the kernels do not look at again.
#[test]
fn lengths_that_disagree_are_refused() {
    let query = CodeQuery::new(&[1.0; 8]);
    let refused = |call: &dyn Fn()| std::panic::catch_unwind(std::panic::AssertUnwindSafe(call)).is_err();
    let scan = |rows, codes: usize, factors: usize, biases: usize| {
        let bytes = [0; 200];
        let (codes, factors, biases) = (&bytes[..codes], &bytes[..factors], &bytes[..biases]);
        let cell = CellRows { rows, codes, factors, biases, first: 0, step: 1.0, base: 0.0 };
        refused(&|| scan(&query, &cell, None, &mut Candidates::new(1, 2)))
    };
    assert!(!scan(2, 8, 4, 0) && !scan(2, 8, 4, 8));
    assert!(scan(2, 4, 4, 0) && scan(2, 12, 4, 0) && scan(2, 8, 2, 0) && scan(2, 8, 4, 4) && scan(usize::MAX, 8, 4, 0));
    assert!(!scan(16, 64, 32, 64) && scan(16, 64, 30, 0) && scan(16, 64, 32, 60));
    let route = |codes: usize, scales: usize, biases: usize, dots: usize| {
        let (bytes, floats) = ([0; 512], [0.0; 48]);
        let centroids =
            Centroids { codes: &bytes[..codes], scales: &floats[..scales], biases: &floats[..biases], first: 0 };
        refused(&|| super::route(&query, &centroids, 1.0, &mut vec![0.0; dots], &mut Candidates::new(1, 48)))
    };
    // One block of two chunks; two blocks.
    assert!(!route(128, 16, 16, 16) && !route(256, 32, 32, 32) && !route(0, 0, 0, 0));
    assert!(route(192, 16, 16, 16) && route(96, 16, 16, 16) && route(128, 15, 16, 16) && route(128, 16, 0, 16));
    assert!(route(128, 16, 16, 15) && route(100, 16, 16, 16));
}

/// Bytes with nothing behind them: reading on ends the process.
struct AtTheEdge {
    map: memmap2::Mmap,
    start: usize,
    end: usize,
}

impl AtTheEdge {
    fn new(bytes: &[u8]) -> Self {
        use std::io::Write;
        // More than any page; what lies beyond the end of a file is mapped, but cannot be read.
        const PAGES: usize = 64 * 1024;
        let end = bytes.len().next_multiple_of(PAGES);
        let start = end - bytes.len();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![0; start]).unwrap();
        file.write_all(bytes).unwrap();
        // SAFETY: nobody else has the file; what is beyond its end is never part of a slice.
        let map = unsafe { memmap2::MmapOptions::new().len(end + PAGES).map(&file) }.unwrap();
        Self { map, start, end }
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: inside of the map, and of the file.
        unsafe { std::slice::from_raw_parts(self.map.as_ptr().add(self.start), self.end - self.start) }
    }
}

#[cfg(unix)]
#[test]
fn nothing_is_read_beyond_codes_factors_and_biases() {
    let mut rng = SmallRng::seed_from_u64(33);
    for rows in 1..=33 {
        let case = Case::new(&mut rng, 20, rows, 15, false);
        let query = case.query();
        let codes = AtTheEdge::new(&case.nibbles());
        let factors =
            AtTheEdge::new(&case.factors.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect::<Vec<_>>());
        let biases = AtTheEdge::new(&case.biases.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>());
        let (codes, factors, biases) = (codes.bytes(), factors.bytes(), biases.bytes());
        let cell = CellRows { rows, codes, factors, biases, first: 0, step: 0.25, base: 3.0 };
        let centroids = AtTheEdge::new(&case.sevens());
        let count = rows.next_multiple_of(BLOCK_ROWS);
        let (scales, zeros) = (vec![1.0; count], vec![0.0; count]);
        let centroids = Centroids { codes: centroids.bytes(), scales: &scales, biases: &zeros, first: 0 };
        for isa in available() {
            let mut best = Candidates::new(rows, rows);
            scan_with(isa, &query, &cell, &[], None, &mut best);
            assert_eq!(best.into_sorted().len(), rows, "{isa:?}");
            let mut best = Candidates::new(count, count);
            route_with(isa, &query, &centroids, 1.0, &mut vec![0.0; count], &mut best);
            assert_eq!(best.into_sorted().len(), count, "{isa:?}");
        }
    }
}
