//! Vector search in process, on real data: recall, time and size of segments with cells, and of a graph beside them.
//!
//! `cargo run --release -p tarn-benches --bin vectors -- --data DIR FIGURE`; `--help` lists the figures, `tarn_benches::Data` is what
//! a directory holds. One thread unless said otherwise. Rows are dealt with as `tarn` does behind its planner, filters,
//! deadlines and network: this measures segments, `search_overhead` and `end_to_end` what lies above them.

#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a benchmark prints, and measures real time")]

mod timing;
mod world;

use std::path::PathBuf;
use std::time::Instant;

use clap::{Parser, ValueEnum};
use roaring::RoaringBitmap;
use tarn_benches::{Data, Matrix, machine};
use tarn_model::HnswParams;
use tarn_segment::{Build, Effort, Plan, Segment};

use crate::timing::{least, median};
use crate::world::World;

/// Queries of an exact search, at most.
const EXACT_QUERIES: usize = 100;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Recall, time and size of segments with cells, on a data set of numpy files.
#[derive(Parser)]
struct Arguments {
    /// Directory of the data set: base.npy, queries.npy, gtd_*.npy, meta.parquet.
    #[arg(long)]
    data: PathBuf,
    /// Segment file. Written first if it does not exist; without it, a temporary one.
    #[arg(long)]
    file: Option<PathBuf>,
    /// How often each time is taken. The least one counts.
    #[arg(long, default_value_t = 5)]
    repetitions: usize,
    /// Neighbours asked for, in the ladder.
    #[arg(long, default_value_t = 10)]
    k: usize,
    /// Rows of a cell, on average. As the builder does, if not given.
    #[arg(long)]
    rows_per_cell: Option<usize>,
    /// Build a graph beside the cells, with so many links a row in each direction.
    #[arg(long)]
    graph: Option<u32>,
    /// Candidates for the links of a row.
    #[arg(long, default_value_t = 100)]
    ef_construction: u32,
    /// Candidates that a search along the graph keeps, in its ladder.
    #[arg(long, value_delimiter = ',', default_value = "16,24,32,48,64,96,128,192,256,384,512,768")]
    ef: Vec<u32>,
    /// Cells probed, in the ladder.
    #[arg(long, value_delimiter = ',', default_value = "8,16,32,48,64,80,96,128,160,192,256,320,384,512,768")]
    nprobe: Vec<u32>,
    /// Rows rescored, in the ladder. As many as suit `k`, if not given.
    #[arg(long, value_delimiter = ',')]
    rescored: Vec<u32>,
    /// Rows that a filter leaves, of a thousand.
    #[arg(long, value_delimiter = ',', default_value = "500,100,10,1")]
    permille: Vec<i32>,
    /// Recalls to ask for.
    #[arg(long, value_delimiter = ',', default_value = "0.8,0.9,0.95,0.99")]
    recall: Vec<f32>,
    /// What to measure.
    #[arg(required = true)]
    figures: Vec<Figure>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Figure {
    /// Seconds and processor seconds of a build, and the size of its file.
    Build,
    /// What the build measured on rows that it held out, of cells and of the graph if there is one.
    Calibration,
    /// Recall and queries per second by cells probed and rows rescored.
    Ladder,
    /// Recall and queries per second along the graph, by candidates kept.
    Graph,
    /// Recall and queries per second by the recall that was asked for, k = 1, 10, 100.
    Promise,
    /// The same under filters, k = 10 and 100; the median time of a query.
    Filters,
    /// Exact search, in turns with that of a flat segment, and the rate at which this machine reads memory.
    Exact,
    /// Batches of 100 queries against single ones.
    Batches,
    /// Two threads against one.
    Threads,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    println!("machine: {}", machine());
    let data = Data::open(&arguments.data)?;
    println!(
        "{}: {} x {}, {:?}, {} queries",
        arguments.data.display(),
        data.base.rows(),
        data.base.columns,
        data.metric,
        data.queries.rows()
    );
    let temporary = tempfile::tempdir()?;
    let file = arguments.file.clone().unwrap_or_else(|| temporary.path().join("cells.seg"));
    let params = |m| HnswParams { m, ef_construction: arguments.ef_construction, ef_search: 1 };
    let build = arguments.graph.map_or(Build::Cells, |m| Build::CellsAndGraph(params(m)));
    let world = World::open(data, &file, build, arguments.rows_per_cell)?;
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
    for figure in &arguments.figures {
        match figure {
            Figure::Build => world.print_build(),
            Figure::Calibration => world.print_calibration(),
            Figure::Ladder => one.install(|| ladder(&world, &arguments))?,
            Figure::Graph => one.install(|| graph(&world, &arguments))?,
            Figure::Promise => one.install(|| promise(&world, &arguments))?,
            Figure::Filters => one.install(|| filters(&world, &arguments))?,
            Figure::Exact => exact(&world, &world.flat(&temporary.path().join("flat.seg"))?, arguments.repetitions)?,
            Figure::Batches => batches(&world, arguments.repetitions)?,
            Figure::Threads => one.install(|| threads(&world))?,
        }
    }
    Ok(())
}

/// Efforts that suit ten neighbours, or a hundred.
fn rescored(arguments: &Arguments) -> Vec<u32> {
    match (arguments.rescored.is_empty(), arguments.k) {
        (false, _) => arguments.rescored.clone(),
        (true, ..=10) => vec![24, 32],
        (true, _) => vec![150, 200],
    }
}

fn ladder(world: &World, arguments: &Arguments) -> Result<()> {
    let truth = world.data.truth(None)?;
    let k = arguments.k;
    println!("nprobe rescored recall@{k} QPS µs µs-cpu");
    for &nprobe in &arguments.nprobe {
        for &rescored in &rescored(arguments) {
            let effort = Effort::Cells { nprobe, rescored };
            let (recall, _) = world.recall(&truth, k, effort, |_| None)?;
            let times = least(world.queries(), arguments.repetitions, |query| {
                world.search(query, k, effort, None);
            });
            println!(
                "{nprobe} {rescored} {recall:.4} {:.0} {:.1} {:.1}",
                1.0 / times.wall,
                times.wall * 1e6,
                times.cpu * 1e6
            );
        }
    }
    Ok(())
}

fn graph(world: &World, arguments: &Arguments) -> Result<()> {
    if world.calibration().is_none() {
        return Err("the file has no graph: give --graph M, and another --file".into());
    }
    let truth = world.data.truth(None)?;
    let k = arguments.k;
    println!("ef recall@{k} QPS µs µs-cpu");
    for &ef in &arguments.ef {
        let effort = Effort::Ef(ef);
        let (recall, plan) = world.recall(&truth, k, effort, |_| None)?;
        let times = least(world.queries(), arguments.repetitions, |query| {
            world.search(query, k, effort, None);
        });
        println!(
            "{ef} {recall:.4} {:.0} {:.1} {:.1} {}",
            1.0 / times.wall,
            times.wall * 1e6,
            times.cpu * 1e6,
            said(plan)
        );
    }
    Ok(())
}

fn promise(world: &World, arguments: &Arguments) -> Result<()> {
    let truth = world.data.truth(None)?;
    println!("k asked recall QPS plan");
    for k in [1, 10, 20, 50, 100] {
        for &asked in &arguments.recall {
            let effort = Effort::Recall(asked);
            let (recall, plan) = world.recall(&truth, k, effort, |_| None)?;
            let times = least(world.queries(), arguments.repetitions, |query| {
                world.search(query, k, effort, None);
            });
            println!("{k} {asked} {recall:.4} {:.0} {}{}", 1.0 / times.wall, said(plan), kept(recall, asked));
        }
    }
    Ok(())
}

/// Filters that leave a share of the rows whatever they are, then, where there is a section, those of the query's own.
fn filters(world: &World, arguments: &Arguments) -> Result<()> {
    println!("filter rows k asked recall µs plan");
    for &permille in &arguments.permille {
        let truth = world.data.truth(Some(&permille.to_string()))?;
        let matches = world.rows_below(permille)?;
        let name = format!("{} %", f64::from(permille) / 10.0);
        filter(world, &truth, &name, matches.len(), arguments, |_| Some(&matches))?;
    }
    if let Some(sections) = world.sections()? {
        let truth = world.data.truth(Some("section"))?;
        let mean = sections.iter().map(|rows| rows.len()).sum::<u64>() / sections.len() as u64;
        filter(world, &truth, "section", mean, arguments, |query| sections.get(query).map(|rows| &**rows))?;
    }
    Ok(())
}

fn filter<'a>(
    world: &World,
    truth: &Matrix,
    name: &str,
    rows: u64,
    arguments: &Arguments,
    matches: impl Fn(usize) -> Option<&'a RoaringBitmap>,
) -> Result<()> {
    for k in [10, 100] {
        let mut last = None;
        for &asked in &arguments.recall {
            let effort = Effort::Recall(asked);
            let (recall, plan) = world.recall(truth, k, effort, &matches)?;
            // From here on everything is exact.
            if last == Some(Plan::Exact) && plan == Plan::Exact {
                continue;
            }
            last = Some(plan);
            let time = median(world.queries(), arguments.repetitions, |query| {
                world.search(query, k, effort, matches(query));
            });
            println!("{name} {rows} {k} {asked} {recall:.4} {:.1} {}{}", time * 1e6, said(plan), kept(recall, asked));
        }
    }
    Ok(())
}

/// Cells and a flat segment of the same rows, in turns, whose answers are compared.
fn exact(world: &World, flat: &Segment, repetitions: usize) -> Result<()> {
    let bytes = (world.data.base.values.len() * size_of::<f32>()) as f64;
    let queries: Vec<usize> = (0..world.queries().min(EXACT_QUERIES)).collect();
    println!("k threads batch QPS QPS-flat ratio least-ratio GB/s-flat GB/s-read");
    for (k, threads) in [(10, 1), (100, 1), (10, 2)] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
        for batch in [1, 10, 100] {
            let (mut by_codes, mut by_scan, mut least, mut stream) = (0.0, 0.0, f64::INFINITY, f64::INFINITY);
            for queries in queries.chunks(batch) {
                let (mut codes, mut scan) = (f64::INFINITY, f64::INFINITY);
                for _ in 0..repetitions {
                    let start = Instant::now();
                    let found = pool.install(|| world.search_many(queries, k, Effort::Exact, None));
                    codes = codes.min(start.elapsed().as_secs_f64());
                    let start = Instant::now();
                    let want = pool.install(|| world.search_many_in(flat, queries, k, Effort::Exact, None));
                    scan = scan.min(start.elapsed().as_secs_f64());
                    if !world.same(found.as_deref(), want.as_deref()) {
                        return Err(format!("other answers than a flat segment's to {queries:?}").into());
                    }
                }
                by_codes += codes;
                by_scan += scan;
                least = least.min(scan / codes);
                let start = Instant::now();
                std::hint::black_box(read_stream(&world.data.base.values, threads));
                stream = stream.min(start.elapsed().as_secs_f64());
            }
            let asked = queries.len() as f64;
            println!(
                "{k} {threads} {batch} {:.0} {:.0} {:.2} {least:.2} {:.1} {:.1}",
                asked / by_codes,
                asked / by_scan,
                by_scan / by_codes,
                bytes * asked / batch as f64 / by_scan * 1e-9,
                bytes / stream * 1e-9,
            );
        }
    }
    Ok(())
}

/// Reads memory as fast as these threads can, several independent sums each.
fn read_stream(values: &[f32], threads: usize) -> f32 {
    let sum = |values: &[f32]| {
        let mut sums = [0.0f32; 64];
        for block in values.chunks_exact(64) {
            for (sum, x) in sums.iter_mut().zip(block) {
                *sum += x;
            }
        }
        sums.iter().sum::<f32>()
    };
    std::thread::scope(|scope| {
        let parts = values.chunks(values.len().div_ceil(threads));
        let readers: Vec<_> = parts.map(|part| scope.spawn(move || sum(part))).collect();
        readers.into_iter().filter_map(|reader| reader.join().ok()).sum()
    })
}

fn batches(world: &World, repetitions: usize) -> Result<()> {
    const BATCH: usize = 100;
    println!("asked threads QPS-single QPS-batch gain");
    for asked in [0.9, 0.95, 0.99] {
        let effort = Effort::Recall(asked);
        for threads in [1, 2] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
            let all: Vec<usize> = (0..world.queries()).collect();
            let (mut single, mut batch) = (0.0, 0.0);
            for queries in all.chunks(BATCH) {
                let (mut one, mut many) = (f64::INFINITY, f64::INFINITY);
                for _ in 0..repetitions {
                    let start = Instant::now();
                    pool.install(|| {
                        for &query in queries {
                            world.search(query, 10, effort, None);
                        }
                    });
                    one = one.min(start.elapsed().as_secs_f64());
                    let start = Instant::now();
                    pool.install(|| world.search_many(queries, 10, effort, None));
                    many = many.min(start.elapsed().as_secs_f64());
                }
                single += one;
                batch += many;
            }
            let count = all.len() as f64;
            println!("{asked} {threads} {:.0} {:.0} x {:.2}", count / single, count / batch, single / batch);
        }
    }
    Ok(())
}

fn threads(world: &World) -> Result<()> {
    const ROUNDS: usize = 3;
    println!("nprobe QPS-one QPS-two gain");
    for nprobe in [64, 128, 384] {
        let effort = Effort::Cells { nprobe, rescored: 24 };
        let all = || {
            for query in (0..world.queries()).cycle().take(ROUNDS * world.queries()) {
                world.search(query, 10, effort, None);
            }
        };
        let count = (ROUNDS * world.queries()) as f64;
        let (mut one, mut two) = (f64::INFINITY, f64::INFINITY);
        for _ in 0..5 {
            let start = Instant::now();
            all();
            one = one.min(start.elapsed().as_secs_f64());
            let start = Instant::now();
            std::thread::scope(|scope| [scope.spawn(all), scope.spawn(all)].map(|thread| thread.join().is_ok()));
            two = two.min(start.elapsed().as_secs_f64());
        }
        println!("{nprobe} {:.0} {:.0} x {:.2}", count / one, 2.0 * count / two, 2.0 * one / two);
    }
    Ok(())
}

fn said(plan: Plan) -> String {
    match plan {
        Plan::Exact | Plan::Postings => "exact".to_owned(),
        Plan::Graph { ef } => format!("graph ef={ef}"),
        Plan::Cells { nprobe, rescored } => format!("cells {nprobe}/{rescored}"),
    }
}

/// What stands behind a recall that is below what was promised.
fn kept(recall: f64, asked: f32) -> &'static str {
    if recall < f64::from(asked) - 0.01 { " BELOW" } else { "" }
}
