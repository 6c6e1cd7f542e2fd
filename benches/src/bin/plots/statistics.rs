//! Statistics that builders counted, beside an exact pass over the data set: what they say and what they cost.

use std::time::Instant;

use tarn_benches::{Chart, Corner, Result, Series, Style};
use tarn_search::StatisticsRequest;
use tarn_store::{CountingStore, Meter, Store};

use crate::World;
use crate::sample::centre;

pub(crate) async fn measure(world: &World) -> Result<()> {
    println!("\nstatistics of {} points", world.data.base.rows());
    let engine = world.engine(2, 0.0)?;
    let mut counted = None;
    for (what, exact) in [("as the builder counted", false), ("exactly, from the vectors", true)] {
        let request = || StatisticsRequest { exact, ..StatisticsRequest::default() };
        // The first one opens files.
        engine.statistics(&world.several.id, request()).await?;
        let mut times = Vec::new();
        for _ in 0..5 {
            let began = Instant::now();
            engine.statistics(&world.several.id, request()).await?;
            times.push(began.elapsed());
        }
        times.sort_unstable();
        let store = Store::disk(&world.directory)?.layer(|objects| std::sync::Arc::new(CountingStore::new(objects).0));
        let settings = tarn_search::EngineSettings { cache_dir: world.cache.join("none"), ..Default::default() };
        let (meter, fresh) = (Meter::new(), tarn_search::Engine::new(store, settings)?);
        let statistics = meter.scope(fresh.statistics(&world.several.id, request())).await?;
        let spent = meter.spent();
        println!(
            "{what}: {:.3} ms again; by a new engine {} requests, {:.1} MB; {} vectors read",
            times[2].as_secs_f64() * 1e3,
            spent.requests.total(),
            spent.requests.bytes_read as f64 / 1e6,
            statistics.rows_read
        );
        if !exact {
            counted = Some(statistics);
        }
    }
    let counted = counted.ok_or("no statistics")?.statistics;
    let true_centre = centre(world);
    let off =
        counted.centre().unwrap_or_default().iter().zip(&true_centre).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    let (reference, width) = (counted.reference(), counted.distances().width());
    let mut bins = vec![0_u64; counted.distances().bins().len()];
    let mut farthest = 0.0_f64;
    for row in 0..world.data.base.rows() {
        let pairs = world.data.base.row(row).iter().zip(&**reference);
        let distance = pairs.map(|(&x, &c)| (f64::from(x) - f64::from(c)).powi(2)).sum::<f64>().sqrt();
        let bin = ((distance / width) as usize).min(bins.len() - 1);
        bins[bin] += 1;
        farthest = farthest.max(distance);
    }
    let apart: u64 = bins.iter().zip(counted.distances().bins()).map(|(a, b)| a.abs_diff(*b)).sum::<u64>() / 2;
    println!(
        "centre: coordinates differ by at most {off:.1e}; farthest {} and {farthest}; rows in another bin: {apart} of {}",
        counted.distances().max(),
        counted.rows()
    );
    let point = |(bin, &count): (usize, &u64)| ((bin as f64 + 0.5) * width, count as f64 / 1e3);
    let own: Vec<(f64, f64)> = bins.iter().enumerate().map(point).collect();
    let catalogs: Vec<(f64, f64)> = counted.distances().bins().iter().enumerate().map(point).collect();
    let most = own.iter().map(|(_, count)| *count).fold(1.0, f64::max);
    let chart = Chart {
        title: format!("Distances to the reference, {}, eight segments", world.name),
        x_label: format!("distance, in bins of {width}"),
        y_label: "points, thousands".to_owned(),
        x: (0.0, width * bins.len() as f64),
        x_names: Vec::new(),
        y: (0.0, most * 1.1),
        series: vec![
            Series::new("as the builder counted, from the catalogs", Style::Bars, catalogs),
            Series::new("a pass over the data set", Style::Line, own),
        ],
        marks: Vec::new(),
        legend: Corner::TopRight,
    };
    chart.write(&world.plots.join("statistics.svg"))
}
