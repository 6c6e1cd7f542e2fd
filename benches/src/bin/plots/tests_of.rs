//! Tests of whether numbers come from where they are said to, as probabilities to see what was seen if they do.

/// Of counts beside what is expected of each, by Pearson's chi-square.
pub(crate) fn chi_square(counts: &[u64], expected: &[f64]) -> f64 {
    let sum: f64 = counts.iter().zip(expected).map(|(&n, e)| (n as f64 - e).powi(2) / e).sum();
    chi_square_beyond(sum, counts.len() as f64 - 1.0)
}

/// The probability that a chi-square of so many degrees of freedom is greater (Wilson and Hilferty, 1931).
pub(crate) fn chi_square_beyond(sum: f64, freedom: f64) -> f64 {
    let spread = 2.0 / (9.0 * freedom);
    normal_beyond(((sum / freedom).cbrt() - (1.0 - spread)) / spread.sqrt())
}

/// The probability that a standard normal is greater (Abramowitz and Stegun, 26.2.17).
fn normal_beyond(z: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.231_641_9 * z.abs());
    let terms = [0.319_381_530, -0.356_563_782, 1.781_477_937, -1.821_255_978, 1.330_274_429];
    let sum = terms.iter().rev().fold(0.0, |sum, term| (sum + term) * t);
    let beyond = (-z * z / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt() * sum;
    if z >= 0.0 { beyond } else { 1.0 - beyond }
}

/// Of two lists of numbers, sorted: whether they are distributed alike (Kolmogorov and Smirnov).
pub(crate) fn kolmogorov_smirnov(a: &[f64], b: &[f64]) -> f64 {
    let (mut i, mut j, mut most) = (0, 0, 0.0_f64);
    while i < a.len() && j < b.len() {
        let at = a[i].min(b[j]);
        i += a[i..].iter().take_while(|&&value| value <= at).count();
        j += b[j..].iter().take_while(|&&value| value <= at).count();
        most = most.max((i as f64 / a.len() as f64 - j as f64 / b.len() as f64).abs());
    }
    let size = (a.len() as f64 * b.len() as f64 / (a.len() + b.len()) as f64).sqrt();
    let lambda = (size + 0.12 + 0.11 / size) * most;
    let term = |k: i32| {
        let sign = if k % 2 == 1 { 2.0 } else { -2.0 };
        sign * (-2.0 * f64::from(k * k) * lambda * lambda).exp()
    };
    if lambda < 0.2 { 1.0 } else { (1..100).map(term).sum::<f64>().clamp(0.0, 1.0) }
}
