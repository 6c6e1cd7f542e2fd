//! A data set in a segment file.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{BinaryArray, Int64Array, RecordBatch};
use roaring::RoaringBitmap;
use tarn_benches::{Data, Matrix};
use tarn_segment::{
    Answer, Build, Calibration, Effort, Plan, Query, Rows, Segment, SegmentInput, SegmentSettings, Vectors,
    write_segment,
};

use crate::Result;
use crate::timing::process_seconds;

pub(crate) struct World {
    pub(crate) data: Data,
    segment: Segment,
    /// The row of the data set that each row of the segment is.
    origin: Vec<u32>,
    build: Option<BuildTimes>,
    bytes: u64,
}

struct BuildTimes {
    wall: f64,
    cpu: f64,
}

impl World {
    /// Builds the file unless it is there, and opens it.
    pub(crate) fn open(data: Data, file: &Path, how: Build, rows_per_cell: Option<usize>) -> Result<Self> {
        let mut build = None;
        if !file.exists() {
            let threads = std::thread::available_parallelism().map_or(1, usize::from);
            let mut settings = SegmentSettings { threads, ..SegmentSettings::default() };
            settings.rows_per_cell = rows_per_cell.unwrap_or(settings.rows_per_cell);
            let input = input(&data)?;
            let (start, cpu) = (Instant::now(), process_seconds());
            write_segment(&input, how, &settings, file, &|_, _| {})?;
            build = Some(BuildTimes { wall: start.elapsed().as_secs_f64(), cpu: process_seconds() - cpu });
        }
        let segment = Segment::open(file, None)?;
        let row_of = |key: &[u8]| key.try_into().map(u32::from_be_bytes).unwrap_or(u32::MAX);
        let origin = (0..segment.rows()).map(|row| row_of(segment.key(row))).collect();
        Ok(Self { data, segment, origin, build, bytes: std::fs::metadata(file)?.len() })
    }

    pub(crate) fn queries(&self) -> usize {
        self.data.queries.rows()
    }

    pub(crate) fn print_build(&self) {
        let rows = self.data.base.rows() as f64;
        if let Some(BuildTimes { wall, cpu }) = self.build {
            println!("build: {wall:.2} s, {cpu:.2} CPU-s, {:.0} vectors per CPU-second", rows / cpu);
        }
        let raw = (self.data.base.values.len() * size_of::<f32>()) as f64;
        println!("file: {} bytes, {:.3} of the vectors in f32", self.bytes, self.bytes as f64 / raw);
    }

    /// Of the graph, if there is one.
    pub(crate) fn calibration(&self) -> Option<&Calibration> {
        self.segment.calibration()
    }

    pub(crate) fn print_calibration(&self) {
        if let Some(graph) = self.calibration() {
            println!("held out: {}\nef recall@10 floor recall@100 floor", graph.queries);
            for point in &graph.points {
                let [short, long] = [point.at_10, point.at_100];
                println!("{} {:.4} {:.4} {:.4} {:.4}", point.ef, short.mean, short.floor, long.mean, long.floor);
            }
        }
        let Some(calibration) = self.segment.cell_calibration() else { return };
        println!("held out: {}\nk nprobe rescored recall floor", calibration.queries);
        for (k, ladder) in [(10, &calibration.at_10), (100, &calibration.at_100)] {
            for point in ladder {
                println!("{k} {} {} {:.4} {:.4}", point.nprobe, point.rescored, point.recall.mean, point.recall.floor);
            }
        }
    }

    /// One query, from its coordinates on.
    pub(crate) fn search(
        &self,
        query: usize,
        k: usize,
        effort: Effort,
        matches: Option<&RoaringBitmap>,
    ) -> Option<Answer> {
        let query = Query::dense(self.data.metric, self.data.queries.row(query)).ok()?;
        let all = 0..self.segment.rows();
        let rows = Rows { ranges: std::slice::from_ref(&all), matches, ..Rows::default() };
        self.segment.search(&query, k, &rows, effort, &|| false).ok()
    }

    /// A flat segment of the same rows.
    pub(crate) fn flat(&self, file: &Path) -> Result<Segment> {
        write_segment(&input(&self.data)?, Build::Flat, &SegmentSettings::default(), file, &|_, _| {})?;
        Ok(Segment::open(file, None)?)
    }

    /// Whether these are answers, and the same, of this segment and of one in the order of the data.
    pub(crate) fn same(&self, found: Option<&[Answer]>, flat: Option<&[Answer]>) -> bool {
        let hits = |answers: &[Answer], origin: &dyn Fn(u32) -> u32| -> Vec<(u32, u64)> {
            let hits = answers.iter().flat_map(|answer| &answer.hits);
            hits.map(|hit| (origin(hit.row), hit.distance.to_bits())).collect()
        };
        let (Some(found), Some(flat)) = (found, flat) else { return false };
        hits(found, &|row| self.origin[row as usize]) == hits(flat, &|row| row)
    }

    /// A batch.
    pub(crate) fn search_many(
        &self,
        queries: &[usize],
        k: usize,
        effort: Effort,
        matches: Option<&RoaringBitmap>,
    ) -> Option<Vec<Answer>> {
        self.search_many_in(&self.segment, queries, k, effort, matches)
    }

    /// A batch, of another segment.
    pub(crate) fn search_many_in(
        &self,
        segment: &Segment,
        queries: &[usize],
        k: usize,
        effort: Effort,
        matches: Option<&RoaringBitmap>,
    ) -> Option<Vec<Answer>> {
        let query = |&query: &usize| Query::dense(self.data.metric, self.data.queries.row(query)).ok();
        let queries: Vec<Query> = queries.iter().map(query).collect::<Option<_>>()?;
        let all = 0..segment.rows();
        let rows = Rows { ranges: std::slice::from_ref(&all), matches, ..Rows::default() };
        segment.search_many(&queries, k, &rows, effort, &|| false).ok()
    }

    /// The mean recall over all queries, and the plan of the last.
    pub(crate) fn recall<'a>(
        &self,
        truth: &Matrix,
        k: usize,
        effort: Effort,
        matches: impl Fn(usize) -> Option<&'a RoaringBitmap>,
    ) -> Result<(f64, Plan)> {
        let (mut sum, mut plan) = (0.0, Plan::Exact);
        for query in 0..self.queries() {
            let answer = self.search(query, k, effort, matches(query)).ok_or("a search failed")?;
            let found: Vec<u32> = answer.hits.iter().map(|hit| self.origin[hit.row as usize]).collect();
            sum += self.data.recall(truth, query, &found, k);
            plan = answer.plan;
        }
        Ok((sum / self.queries() as f64, plan))
    }

    /// Rows of the segment whose `u` is below.
    pub(crate) fn rows_below(&self, permille: i32) -> Result<RoaringBitmap> {
        let u = self.data.integers("u")?;
        Ok(self.rows_where(|row| u[row] < permille))
    }

    /// For each query the rows of its own section; `None` when there are no sections.
    pub(crate) fn sections(&self) -> Result<Option<Vec<Arc<RoaringBitmap>>>> {
        let rows = self.data.texts("meta.parquet", "section")?;
        let queries = self.data.texts("queries_meta.parquet", "section")?;
        let Some((rows, queries)) = rows.zip(queries) else { return Ok(None) };
        let mut known = std::collections::HashMap::new();
        let of = |section: &String| {
            let bitmap = || Arc::new(self.rows_where(|row| rows[row] == *section));
            Arc::clone(known.entry(section.clone()).or_insert_with(bitmap))
        };
        Ok(Some(queries.iter().map(of).collect()))
    }

    fn rows_where(&self, allowed: impl Fn(usize) -> bool) -> RoaringBitmap {
        let rows = (0..self.segment.rows()).zip(&self.origin);
        rows.filter(|(_, origin)| allowed(**origin as usize)).map(|(row, _)| row).collect()
    }
}

fn input(data: &Data) -> Result<SegmentInput> {
    let rows = data.base.rows();
    let keys = BinaryArray::from_iter_values((0..rows as u32).map(u32::to_be_bytes));
    let numbers = Int64Array::from_iter_values(0..rows as i64);
    let attributes = RecordBatch::try_from_iter([("id", Arc::new(numbers) as _)])?;
    let vectors = Vectors::Dense(data.base.values.clone().into());
    Ok(SegmentInput { metric: data.metric, dimension: data.base.columns as u32, keys, attributes, vectors })
}
