//! Whether samples are like the whole: of many seeds, how often each point is drawn, and tests of what is drawn.

use tarn_benches::{Chart, Corner, Result, Series, Style, distribution};
use tarn_model::AttributeValue;
use tarn_search::{Sample, SampleRequest};

use crate::World;
use crate::tests_of::{chi_square, chi_square_beyond, kolmogorov_smirnov};

const SEEDS: u64 = 300;
const POINTS: u64 = 2_000;
/// Points are told apart by their number in so many classes.
const CLASSES: usize = 50;

pub(crate) async fn measure(world: &World) -> Result<()> {
    let rows = world.data.base.rows();
    println!("\n{SEEDS} samples of {POINTS} points of {rows}");
    let engine = world.engine(2, 0.0)?;
    engine.warm(&world.one.id).await?;
    let centre = centre(world);
    let distance = |row: usize| -> f64 {
        world.data.base.row(row).iter().zip(&centre).map(|(&x, c)| (f64::from(x) - c).powi(2)).sum::<f64>().sqrt()
    };
    let distances: Vec<f64> = (0..rows).map(distance).collect();
    let mut sorted = distances.clone();
    sorted.sort_by(f64::total_cmp);
    let class = |row: usize| row * CLASSES / rows;
    let mut sizes = vec![0_u64; CLASSES];
    (0..rows).for_each(|row| sizes[class(row)] += 1);
    let share = POINTS as f64 / rows as f64;
    let expected: Vec<f64> = sizes.iter().map(|&size| size as f64 * share).collect();
    let mut drawn = vec![0_u32; rows];
    let (mut by_class, mut by_distance) = (Vec::new(), Vec::new());
    let began = std::time::Instant::now();
    for seed in 0..SEEDS {
        let request = SampleRequest { sample: Sample { n: POINTS, seed }, ..SampleRequest::default() };
        let sampled = engine.sample(&world.one.id, request).await?;
        let mut counts = vec![0_u64; CLASSES];
        let mut own = Vec::with_capacity(sampled.points.len());
        for point in &sampled.points {
            let Some(AttributeValue::Int64(row)) =
                point.attributes.iter().find(|(name, _)| name == "id").map(|(_, id)| id)
            else {
                return Err("a point without an id".into());
            };
            let row = usize::try_from(*row)?;
            drawn[row] += 1;
            counts[class(row)] += 1;
            own.push(distances[row]);
        }
        own.sort_by(f64::total_cmp);
        by_class.push(chi_square(&counts, &expected));
        by_distance.push(kolmogorov_smirnov(&own, &sorted));
    }
    println!("{:.1} ms a sample", began.elapsed().as_secs_f64() * 1e3 / SEEDS as f64);
    // Each point's number of draws is binomial; the sum of all is fixed.
    let (mean, spread) = (SEEDS as f64 * share, SEEDS as f64 * share * (1.0 - share));
    let sum: f64 = drawn.iter().map(|&n| (f64::from(n) - mean).powi(2) / spread).sum();
    println!(
        "each point was drawn {mean:.3} times on average, at most {}; chi-square {sum:.0} of {} degrees of freedom, p = {:.3}",
        drawn.iter().max().unwrap_or(&0),
        rows - 1,
        chi_square_beyond(sum, rows as f64 - 1.0)
    );
    let mut first = vec![0_u64; CLASSES];
    (0..POINTS as usize).for_each(|row| first[class(row)] += 1);
    let nearest = &sorted[..rows - rows / 20];
    println!(
        "tests must see what is wrong: {POINTS} points without the farthest twentieth, p = {:.1e} (distances); the first {POINTS} \
         rows, p = {:.1e} (classes)",
        kolmogorov_smirnov(&every(nearest, POINTS as usize), &sorted),
        chi_square(&first, &expected)
    );
    for (what, values) in [("classes", &by_class), ("distances", &by_distance)] {
        let below = |p: f64| values.iter().filter(|&&value| value < p).count() as f64 / values.len() as f64;
        println!("p by {what}: below .01 {:.3}, below .05 {:.3}, below .5 {:.3}", below(0.01), below(0.05), below(0.5));
    }
    let chart = Chart {
        title: format!("{SEEDS} samples of {POINTS} points of {}: tests against the whole", world.name),
        x_label: "p-value".to_owned(),
        y_label: "share of samples below".to_owned(),
        x: (0.0, 1.0),
        x_names: Vec::new(),
        y: (0.0, 1.0),
        series: vec![
            Series::new("samples like the whole", Style::Reference, vec![(0.0, 0.0), (1.0, 1.0)]),
            Series::new("chi-square over 50 classes of points", Style::Line, distribution(by_class)),
            Series::new("Kolmogorov-Smirnov, distances to the centre", Style::Line, distribution(by_distance)),
        ],
        marks: Vec::new(),
        legend: Corner::TopLeft,
    };
    chart.write(&world.plots.join("samples.svg"))
}

/// So many of the values, evenly from all of them.
fn every(values: &[f64], count: usize) -> Vec<f64> {
    (0..count).map(|at| values[at * values.len() / count]).collect()
}

/// The mean of all rows.
pub(crate) fn centre(world: &World) -> Vec<f64> {
    let base = &world.data.base;
    let mut sum = vec![0.0; base.columns];
    for row in 0..base.rows() {
        sum.iter_mut().zip(base.row(row)).for_each(|(sum, &x)| *sum += f64::from(x));
    }
    sum.iter_mut().for_each(|sum| *sum /= base.rows() as f64);
    sum
}
