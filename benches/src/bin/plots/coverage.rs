//! What a part of an answer is worth: recall against coverage, of one client with less and less time.

use std::time::Duration;

use tarn_benches::{Chart, Corner, Result, Series, Style};
use tarn_model::Index;
use tarn_search::SearchRequest;

use crate::{K, World};

const QUERIES: usize = 100;
/// Coverage is drawn in so many steps.
const STEPS: usize = 20;

pub(crate) async fn measure(world: &World) -> Result<()> {
    println!("\nrecall against coverage, exact searches, one thread, {QUERIES} queries");
    let mut series = vec![Series::new("rows in an order by chance", Style::Reference, vec![(0.0, 0.0), (1.0, 1.0)])];
    for (index, name) in [(&world.one, "one segment"), (&world.several, "eight segments")] {
        let answers = answers(world, index).await?;
        let wrong = answers.iter().filter(|(coverage, recall)| *coverage >= 1.0 && *recall < 1.0).count();
        println!("{name}: {} answers; {wrong} with coverage 1 and recall below 1", answers.len());
        println!("coverage | answers | recall: mean, lowest tenth");
        let mut mean = Vec::new();
        for step in 0..=STEPS {
            let (low, high) = (step as f64 / STEPS as f64, (step + 1) as f64 / STEPS as f64);
            let within = answers.iter().filter(|(coverage, _)| (low..high).contains(coverage));
            let mut recalls: Vec<(f64, f64)> = within.copied().collect();
            if recalls.len() < 5 {
                continue;
            }
            recalls.sort_by(|a, b| a.1.total_cmp(&b.1));
            let count = recalls.len() as f64;
            let coverage = recalls.iter().map(|(coverage, _)| coverage).sum::<f64>() / count;
            let recall = recalls.iter().map(|(_, recall)| recall).sum::<f64>() / count;
            println!("{coverage:>8.3} | {count:>7} | {recall:.3}, {:.3}", recalls[recalls.len() / 10].1);
            mean.push((coverage, recall));
        }
        series.push(Series::new(name, Style::Line, mean.clone()));
        series.push(Series::new("", Style::Dots, mean));
    }
    let chart = Chart {
        title: format!("Recall against coverage, exact searches of {}", world.name),
        x_label: "coverage of the answer".to_owned(),
        y_label: format!("recall@{K}, mean"),
        x: (0.0, 1.0),
        x_names: Vec::new(),
        y: (0.0, 1.0),
        series,
        marks: Vec::new(),
        legend: Corner::BottomRight,
    };
    chart.write(&world.plots.join("recall-against-coverage.svg"))
}

/// Coverage and recall of each answer.
async fn answers(world: &World, index: &Index) -> Result<Vec<(f64, f64)>> {
    let engine = world.engine(1, 0.0)?;
    engine.warm(&index.id).await?;
    let exact = |query: usize| SearchRequest { exact: true, ..world.request(query) };
    let mut limits = Vec::with_capacity(QUERIES);
    let began = std::time::Instant::now();
    for query in 0..QUERIES {
        let response = engine.search(&index.id, exact(query)).await?;
        limits.push(response.results[0].last().map_or(f64::MAX, |found| found.distance));
    }
    let whole = began.elapsed() / QUERIES as u32;
    println!("a whole search takes {:.2} ms", whole.as_secs_f64() * 1e3);
    let mut answers = Vec::new();
    for step in 1..=40_u32 {
        let deadline = Some(Duration::from_nanos(whole.as_nanos() as u64 * u64::from(step) / 32));
        for (query, &limit) in limits.iter().enumerate() {
            let response = engine.search(&index.id, SearchRequest { deadline, ..exact(query) }).await?;
            let right = response.results[0].iter().filter(|found| found.distance <= limit).count();
            answers.push((response.coverage, right as f64 / f64::from(K)));
        }
    }
    Ok(answers)
}
