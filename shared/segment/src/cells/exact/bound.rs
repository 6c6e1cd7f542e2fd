//! How near the rows of a cell may be, from their codes.
//!
//! With q a prepared query, x a prepared row, ĉ its centroid, r̂ its code and ρ = x − share · ĉ − r̂ what the code loses,
//! ⟨q, x⟩ = share · ⟨q, ĉ⟩ + ⟨q, r̂⟩ + ⟨q, ρ⟩. Kernels know ⟨q̂, r̂⟩, with q̂ the query in bytes. By the inequality of Cauchy
//! and Schwarz what they do not know is
//!
//! ⟨q − q̂, r̂⟩ + ⟨q, ρ⟩ ≤ ‖q − q̂‖ · ‖r̂‖ + ‖q‖ · ‖ρ‖,
//!
//! and for L2, whose rows' biases hold ⟨ĉ, ρ⟩, the last term is ‖q − ĉ‖ · ‖ρ‖. The directory has of each cell the least
//! `loss` with ‖ρ‖ ≤ loss · (factor + 1/256) for all rows, and the largest `spread` = ‖u − 7.5‖, so that
//! ‖r̂‖ ≤ factor · step · spread. Nearly all of the bound goes with a row's own factor: it is added where sums begin
//! ([`CodeQuery::lift`]), at no cost. The rest is the same for a cell, and so is ⟨q, ĉ⟩, which a second query in bytes, of
//! q − q̂, makes precise to 16 bits.
//!
//! Exact distances are f32, too. A row that the scan gives the distance F has a true distance of F within the rounding of
//! its kernel; likewise coordinates less the centre, or times an inverse norm, and the sums and products above. All of it is
//! below `rounding` times the product of the lengths (of L2: the square of their sum), of which a cell has an upper bound,
//! and what underflows is below `TINY`. Norms and products of the bound itself are f64.
//!
//! A directory that says less than rows lose makes bounds that hide rows, and does no other harm: what is no number reaches
//! no limit.

use tarn_model::Metric;

use crate::cells::kernels::{CellRows, CodeQuery};
use crate::cells::layout::FACTOR_FLOOR;
use crate::cells::{Map, MapQuery};

/// The largest lift: sums stay far from the ends of i32.
const MAX_LIFT: f64 = 4_194_304.0;
/// Twice what one operation of f32 may lose, relative to its result.
const EPSILON: f64 = f32::EPSILON as f64;
/// More operations than a score goes through, besides those that grow with the dimension.
const OPERATIONS: f64 = 64.0;
/// Larger than what is lost when numbers leave f32, of any dimension, relative to lengths.
const TINY: f64 = 1e-36;

/// A query, and what bounds the scores of all rows.
pub(super) struct Bound<'a> {
    map: &'a Map,
    pub(super) query: &'a MapQuery,
    /// Inner products with the centroids, and what bytes lost of them.
    dots: &'a [f32],
    lost_dots: Vec<f32>,
    /// ‖q‖, ‖q − q̂‖, and what a second query in bytes loses of the latter.
    norm: f64,
    lost: f64,
    lost_twice: f64,
    /// The centre's length, and its inner product with the query as given. Inner product only, else 0.
    centre: f64,
    along_centre: f64,
    /// What all operations of a score may lose, relative to the lengths.
    rounding: f64,
    /// The length of a vector of ones.
    ones: f64,
}

impl<'a> Bound<'a> {
    pub(super) fn new(map: &'a Map, query: &'a MapQuery, dots: &'a [f32]) -> Self {
        let lost = query.code.lost(&query.values);
        let values: Vec<f32> = lost.iter().map(|&x| x as f32).collect();
        let code = CodeQuery::new(&values);
        let lost_twice = norm(&code.lost(&values));
        let mut lost_dots = map.dots();
        map.route(&MapQuery { values, code }, 0, &mut lost_dots);
        let (mut centre, mut along_centre) = (0.0, 0.0);
        if map.metric == Metric::InnerProduct {
            let wide: Vec<f64> = map.directory.centre.iter().map(|&x| f64::from(x)).collect();
            centre = norm(&wide);
            along_centre = wide.iter().zip(&query.values).map(|(centre, &x)| centre * f64::from(x)).sum();
        }
        let wide: Vec<f64> = query.values.iter().map(|&x| f64::from(x)).collect();
        // An exact kernel adds up 64 lanes, one after the other 64 coordinates.
        let rounding = EPSILON * (OPERATIONS + wide.len().div_ceil(64) as f64);
        Self {
            map,
            query,
            dots,
            lost_dots,
            norm: norm(&wide),
            lost: norm(&lost),
            lost_twice,
            centre,
            along_centre,
            rounding,
            ones: (wide.len() as f64).sqrt(),
        }
    }

    /// A row at this distance or nearer has a bound that reaches this.
    pub(super) fn least_score(&self, limit: f64) -> f32 {
        let least = match self.map.metric {
            Metric::L2 => 0.5 * (self.norm * self.norm - limit),
            Metric::InnerProduct => -limit - self.along_centre,
            // Farther rows are said to be at a distance of 2, too.
            _ if limit >= 2.0 => f64::NEG_INFINITY,
            _ => 1.0 - limit,
        };
        // The greatest f32 that is not above, and one less: kernels may ask what is above or what is as high.
        -up(-least).next_up()
    }

    /// A cell whose rows score, with `code`, as high as they can be.
    pub(super) fn cell<'b>(&self, cell: usize, bytes: &'b [u8], code: &mut CodeQuery) -> CellRows<'b> {
        let directory = &self.map.directory;
        let entry = &directory.entries[cell];
        let [share, step, loss, spread] = [entry.share, entry.step, entry.loss, entry.spread].map(f64::from);
        let dot = f64::from(self.dots[cell]) + f64::from(self.lost_dots[cell]);
        // No centroid, and no row of the cell, is longer.
        let centroid = 63.5 * f64::from(entry.centroid_step).abs() * self.ones;
        let reach = share.abs() * centroid + step * spread + loss * (1.0 + FACTOR_FLOOR);
        let size = match self.map.metric {
            Metric::L2 => (self.norm + reach) * (self.norm + reach),
            _ => self.norm * (reach + self.centre),
        };
        let slack = self.rounding * size + TINY * (1.0 + self.norm) * (1.0 + reach);
        let toward = match self.map.metric {
            // The bias of an L2 cell is −‖c‖²/2.
            Metric::L2 => {
                let square = self.norm * self.norm - 2.0 * (dot + f64::from(entry.bias));
                (square + 2.0 * centroid * self.lost_twice + slack).max(0.0).sqrt()
            }
            _ => self.norm,
        };
        let by_factor = loss * toward + step * spread * self.lost;
        let lift = (by_factor / (step * self.query.code.lift_step())).ceil();
        // Factors are at most 1. The comparison is false for what is no number.
        let (lift, rest) = if (0.0..=MAX_LIFT).contains(&lift) { (lift as i32, 0.0) } else { (0, by_factor) };
        code.lift(&self.query.code, lift);
        let base = share * dot + share.abs() * centroid * self.lost_twice + FACTOR_FLOOR * loss * toward + rest + slack;
        CellRows { base: up(base), ..directory.cell(cell, bytes, 0.0) }
    }
}

fn norm(values: &[f64]) -> f64 {
    values.iter().map(|x| x * x).sum::<f64>().sqrt()
}

/// The least f32 that is not below.
pub(in crate::cells) fn up(x: f64) -> f32 {
    let rounded = x as f32;
    if f64::from(rounded) < x { rounded.next_up() } else { rounded }
}
