//! The whole product, measured from outside: `cargo run --release -p tarn-benches --bin end_to_end`.
//!
//! Starts a release `tarn serve` on a directory and prints, for the machine it names: upload rates over HTTP per second of
//! the server's processor time, the overhead of a warm query over HTTP against the same search in process (interleaved, so
//! that both see the same machine), and how long the query library takes from nothing to ready. Does not compare with
//! other systems.

#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a benchmark prints, and measures real time")]

use std::path::Path;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use tarn_api::{ApiSettings, AppState};
use tarn_api_query::{QueryState, query_router};
use tarn_benches::{Connection, Quantiles, Result, Server, arrow_batch, machine};
use tarn_model::{IndexId, Vector};
use tarn_search::{Engine, EngineSettings, SearchRequest};
use tarn_store::Store;

const DIMENSION: usize = 128;
const SEED: u64 = 7;
const SOURCE: &str = r#"{"vectorDimension": 128, "vectorsAreSparse": false, "attributeValueTypes": {"id": "Int64"}, "permanentAttributes": ["id"]}"#;

fn main() -> Result<()> {
    println!("machine: {}", machine());
    let directory = tempfile::tempdir()?;
    let store = directory.path().join("store");
    uploads(&store)?;
    let latency_store = directory.path().join("latency");
    latency(&latency_store)?;
    Ok(())
}

fn define(connection: &mut Connection, name: &str) -> Result<()> {
    connection
        .send("PUT", &format!("/api/v1/data-sources/{name}/1"), "application/json", SOURCE.as_bytes())?
        .expect(201)?;
    let index = format!(
        r#"{{"dataSourceId": {{"name": "{name}", "version": "1"}}, "indexAlgorithm": {{"type": "FaissIndex.L2"}}, "idAttributes": ["id"]}}"#
    );
    connection.send("PUT", &format!("/api/v1/indices/{name}/1"), "application/json", index.as_bytes())?.expect(201)?;
    Ok(())
}

/// JSON and Arrow uploads, one connection, points per second of the server's processor time.
fn uploads(store: &Path) -> Result<()> {
    let server = Server::start(store)?;
    let mut connection = server.connect()?;
    let mut rng = SmallRng::seed_from_u64(SEED);
    for (format, media_type, batch, batches) in [
        ("json", "application/json", 1_000_usize, 40_usize),
        ("arrow", "application/vnd.apache.arrow.stream", 20_000, 20),
    ] {
        define(&mut connection, format)?;
        let bodies: Vec<Vec<u8>> = (0..batches)
            .map(|i| {
                let first = (i * batch) as i64;
                if format == "json" {
                    Ok(json_batch(&mut rng, first, batch))
                } else {
                    arrow_batch(&mut rng, first, batch, DIMENSION)
                }
            })
            .collect::<std::result::Result<_, _>>()?;
        let (start, cpu) = (Instant::now(), server.cpu()?);
        for body in &bodies {
            connection.send("POST", &format!("/api/v1/upload/{format}/1"), media_type, body)?.expect(200)?;
        }
        let (wall, cpu) = (start.elapsed(), server.cpu()?.saturating_sub(cpu));
        let points = (batch * batches) as f64;
        println!(
            "upload {format}, {DIMENSION}-d, {batch} a batch: {:.0} points/s of processor time, {:.0} points/s of wall time",
            points / cpu.as_secs_f64(),
            points / wall.as_secs_f64(),
        );
    }
    server.stop()
}

fn json_batch(rng: &mut SmallRng, first: i64, rows: usize) -> Vec<u8> {
    let points: Vec<String> = (0..rows as i64)
        .map(|row| {
            let coordinates: Vec<String> = (0..DIMENSION).map(|_| format!("{}", rng.random_range(-1.0_f32..1.0))).collect();
            format!(
                r#"{{"attributes":[{{"key":"id","value":{{"int64":{}}}}}],"vector":{{"isSparse":false,"coordinates":[{}]}}}}"#,
                first + row,
                coordinates.join(",")
            )
        })
        .collect();
    format!("[{}]", points.join(",")).into_bytes()
}

/// A warm query over HTTP against the same search in this process, over the same store, one after the other.
fn latency(store: &Path) -> Result<()> {
    const ROWS: usize = 10_000;
    const QUERIES: usize = 2_000;
    let server = Server::start(store)?;
    let mut connection = server.connect()?;
    let mut rng = SmallRng::seed_from_u64(SEED);
    define(&mut connection, "latency")?;
    let body = arrow_batch(&mut rng, 0, ROWS, DIMENSION)?;
    connection.send("POST", "/api/v1/upload/latency/1", "application/vnd.apache.arrow.stream", &body)?.expect(200)?;
    server.build(store)?;

    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let id = IndexId::new("latency", "1")?;
    let query = |rng: &mut SmallRng| (0..DIMENSION).map(|_| rng.random_range(-1.0_f32..1.0)).collect::<Vec<_>>();

    let mut ready = Vec::new();
    for _ in 0..20 {
        let start = Instant::now();
        let opened = Store::disk(store)?;
        let engine = Engine::new(opened.clone(), EngineSettings::default())?;
        let _router = query_router(QueryState::new(AppState::new(opened, ApiSettings::default()), engine));
        ready.push(start.elapsed());
    }
    println!("query library, from nothing to a router that is ready: {}", Quantiles::of(ready));

    let engine = Engine::new(Store::disk(store)?, EngineSettings::default())?;
    let (mut http, mut in_process) = (Vec::new(), Vec::new());
    for round in 0..QUERIES + 100 {
        let vector = query(&mut rng);
        let body = format!(
            r#"{{"k":10,"retrieveVectors":false,"queryVectors":[{{"isSparse":false,"coordinates":{}}}]}}"#,
            serde_json::to_string(&vector)?
        );
        let start = Instant::now();
        connection.send("POST", "/api/v1/search/latency/1", "application/json", body.as_bytes())?.expect(200)?;
        let over_http = start.elapsed();
        let start = Instant::now();
        let answer = runtime.block_on(engine.search(&id, SearchRequest::new(vec![Vector::Dense(vector)], 10)))?;
        let direct = start.elapsed();
        assert_eq!(answer.results[0].len(), 10, "every query has ten neighbours");
        // The first rounds open files and grow pools.
        if round >= 100 {
            http.push(over_http);
            in_process.push(direct);
        }
    }
    let (http, in_process) = (Quantiles::of(http), Quantiles::of(in_process));
    println!("warm query, {ROWS} rows × {DIMENSION}-d, k = 10, over HTTP: {http}");
    println!("the same search in process:                              {in_process}");
    println!("HTTP above in process, p50: {:.0} µs", micros(http.p50) - micros(in_process.p50));
    server.stop()
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}
