//! Recall as it is estimated, from a few of the index's points and by the monitor from real searches, beside recall as it is.

use std::time::{Duration, Instant};

use tarn_benches::{Chart, Corner, Result, Series, Style};
use tarn_search::RecallRequest;

use crate::{K, World};

const SIZES: [u32; 5] = [20, 50, 100, 200, 500];
const SEEDS: u64 = 20;

pub(crate) async fn measure(world: &World) -> Result<()> {
    let engine = world.engine(2, 0.0)?;
    engine.warm(&world.one.id).await?;
    let estimate = async |queries: u32, seed: u64| {
        let request = RecallRequest { queries, seed, k: K, ..RecallRequest::default() };
        engine.recall(&world.one.id, request).await
    };
    let mut whole = Vec::new();
    for seed in 1000..1005 {
        whole.push(estimate(1000, seed).await?.recall);
    }
    let truth = whole.iter().sum::<f64>() / whole.len() as f64;
    println!(
        "\nrecall@{K} of searches for points of the index, promise .95: {truth:.4}, from 5 × 1,000 of them ({whole:.4?})"
    );
    println!("queries | mean | spread over {SEEDS} seeds | least, most | ms each, searches and exact ones");
    let (mut dots, mut high, mut low) = (Vec::new(), Vec::new(), Vec::new());
    for (size, place) in SIZES.into_iter().zip(1_u32..) {
        let mut estimates = Vec::new();
        let began = Instant::now();
        for seed in 0..SEEDS {
            estimates.push(estimate(size, seed).await?.recall);
        }
        let took = began.elapsed().as_secs_f64() * 1e3 / SEEDS as f64;
        let mean = estimates.iter().sum::<f64>() / SEEDS as f64;
        let spread = (estimates.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (SEEDS - 1) as f64).sqrt();
        let (least, most) = estimates.iter().fold((1.0_f64, 0.0_f64), |(l, m), &x| (l.min(x), m.max(x)));
        println!("{size:>7} | {mean:.4} | {spread:.4} | {least:.4}, {most:.4} | {took:.1}");
        let x = f64::from(place);
        dots.extend(estimates.iter().zip(0_u32..).map(|(&y, at)| (x - 0.2 + 0.4 * f64::from(at) / SEEDS as f64, y)));
        high.push((x, mean + 2.0 * spread));
        low.push((x, mean - 2.0 * spread));
    }
    monitor(world).await?;
    let names = (1..).zip(SIZES).map(|(place, size)| (f64::from(place), size.to_string()));
    let chart = Chart {
        title: format!("Recall as estimated from some points, {}, promise .95", world.name),
        x_label: "points searched for".to_owned(),
        y_label: format!("recall@{K}"),
        x: (0.5, SIZES.len() as f64 + 0.5),
        x_names: names.collect(),
        y: (0.85, 1.0),
        series: vec![
            Series::new(
                "recall over 5,000 points",
                Style::Reference,
                vec![(0.5, truth), (SIZES.len() as f64 + 0.5, truth)],
            ),
            Series::new(format!("estimates, {SEEDS} seeds"), Style::Dots, dots),
            Series::new("mean and two standard deviations", Style::Line, high),
            Series::new("", Style::Line, low),
        ],
        marks: Vec::new(),
        legend: Corner::BottomRight,
    };
    chart.write(&world.plots.join("recall-estimates.svg"))
}

/// A share of real searches, compared beside them, with the recall of all of them.
async fn monitor(world: &World) -> Result<()> {
    const SHARE: f64 = 0.25;
    let engine = world.engine(2, SHARE)?;
    engine.warm(&world.one.id).await?;
    let truth = world.data.truth(None)?;
    let queries = world.data.queries.rows();
    let mut recall = 0.0;
    for query in 0..queries {
        let response = engine.search(&world.one.id, world.request(query)).await?;
        let rows: Vec<u32> = response.results[0]
            .iter()
            .filter_map(|found| found.attributes.iter().find(|(name, _)| name == "id"))
            .filter_map(
                |(_, id)| if let tarn_model::AttributeValue::Int64(id) = id { u32::try_from(*id).ok() } else { None },
            )
            .collect();
        recall += world.data.recall(&truth, query, &rows, K as usize);
        // Searches come and go; comparisons are made between them.
        tokio::time::sleep(Duration::from_millis(4)).await;
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let observed = engine.observed_recall(&world.one.id);
    println!(
        "recall of {queries} searches: {:.4}; observed by the monitor, of {SHARE} of them: {observed:?}",
        recall / queries as f64
    );
    Ok(())
}
