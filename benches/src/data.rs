//! A data set as numpy and Parquet files, and the judge of what a search found.
//!
//! A directory holds `base.npy` (f32, rows × dimension), `queries.npy`, and per metric `M`, which is `cosine` or `l2`,
//! `gtd_M.npy`: the distances of each query's true neighbours. Filters: `meta.parquet` with a column `u` from 0 to 999 and
//! `gtfd_M_P.npy`, the same among rows with `u < P`; if there is a column `section`, `queries_meta.parquet` has the
//! queries' own and `gtfd_M_section.npy` the distances among rows of it.

use std::fs::File;
use std::path::{Path, PathBuf};

use arrow::array::AsArray;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int32Type};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tarn_model::Metric;

use crate::Result;

/// Numbers of a numpy file, row by row.
#[derive(Clone, Debug)]
pub struct Matrix {
    /// In each row.
    pub columns: usize,
    /// Row by row.
    pub values: Vec<f32>,
}

impl Matrix {
    /// Reads a file of little-endian f32 in rows, whatever its version.
    ///
    /// # Errors
    /// What cannot be read, or is no such file.
    pub fn read(path: &Path) -> Result<Self> {
        let wrong = |what: &str| format!("{}: {what}", path.display());
        let bytes = std::fs::read(path).map_err(|error| wrong(&error.to_string()))?;
        let version =
            *bytes.get(6).filter(|_| bytes.starts_with(b"\x93NUMPY")).ok_or_else(|| wrong("not a numpy file"))?;
        let (start, length) = match version {
            1 => (10, usize::from(u16::from_le_bytes([bytes[8], bytes[9]]))),
            _ => (12, u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]) as usize),
        };
        let head = bytes.get(start..start + length).and_then(|head| std::str::from_utf8(head).ok());
        let head = head.ok_or_else(|| wrong("no header"))?;
        if !head.contains("'<f4'") || !head.contains("'fortran_order': False") {
            return Err(wrong("only rows of little-endian f32 are read").into());
        }
        let shape = head.split_once("'shape': (").and_then(|(_, rest)| rest.split_once(')')).map(|(shape, _)| shape);
        let numbers: Vec<usize> =
            shape.into_iter().flat_map(|shape| shape.split(',')).filter_map(|n| n.trim().parse().ok()).collect();
        let columns = numbers.get(1).copied().unwrap_or(1);
        let values: Vec<f32> = bytes[start + length..]
            .chunks_exact(4)
            .map(|raw| f32::from_le_bytes([raw[0], raw[1], raw[2], raw[3]]))
            .collect();
        if values.len() != numbers.iter().product::<usize>() || columns == 0 {
            return Err(wrong("values that do not fill the shape").into());
        }
        Ok(Self { columns, values })
    }

    /// How many there are.
    pub fn rows(&self) -> usize {
        self.values.len() / self.columns
    }

    /// One of them.
    pub fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.columns..][..self.columns]
    }
}

/// One data set.
#[derive(Clone, Debug)]
pub struct Data {
    directory: PathBuf,
    /// That neighbours are nearest by.
    pub metric: Metric,
    /// What is searched.
    pub base: Matrix,
    /// What is searched for; not among the rows.
    pub queries: Matrix,
}

impl Data {
    /// Reads rows and queries.
    ///
    /// # Errors
    /// A file that is not there, or not what it should be.
    pub fn open(directory: &Path) -> Result<Self> {
        let metric = [Metric::Cosine, Metric::L2]
            .into_iter()
            .find(|&metric| directory.join(format!("gtd_{}.npy", name(metric))).exists())
            .ok_or_else(|| format!("{}: neither gtd_cosine.npy nor gtd_l2.npy is there", directory.display()))?;
        Ok(Self {
            directory: directory.to_owned(),
            metric,
            base: Matrix::read(&directory.join("base.npy"))?,
            queries: Matrix::read(&directory.join("queries.npy"))?,
        })
    }

    /// The distances of the true neighbours: of all rows, or of those that a filter leaves.
    ///
    /// # Errors
    /// See [`Self::open`].
    pub fn truth(&self, filter: Option<&str>) -> Result<Matrix> {
        let name = name(self.metric);
        let file = filter.map_or_else(|| format!("gtd_{name}.npy"), |filter| format!("gtfd_{name}_{filter}.npy"));
        Matrix::read(&self.directory.join(file))
    }

    /// A column of the rows' numbers.
    ///
    /// # Errors
    /// See [`Self::open`].
    pub fn integers(&self, column: &str) -> Result<Vec<i32>> {
        let mut out = Vec::new();
        for array in self.column("meta.parquet", column)? {
            out.extend_from_slice(cast(&array, &DataType::Int32)?.as_primitive::<Int32Type>().values());
        }
        Ok(out)
    }

    /// A column of texts, of the rows' or of the queries' attributes; `None` if there is none.
    ///
    /// # Errors
    /// See [`Self::open`].
    pub fn texts(&self, file: &str, column: &str) -> Result<Option<Vec<String>>> {
        let mut out = Vec::new();
        for array in self.column(file, column)? {
            let texts = cast(&array, &DataType::Utf8)?;
            out.extend(texts.as_string::<i32>().iter().map(|text| text.unwrap_or_default().to_owned()));
        }
        Ok((!out.is_empty()).then_some(out))
    }

    fn column(&self, file: &str, column: &str) -> Result<Vec<arrow::array::ArrayRef>> {
        let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(self.directory.join(file))?)?;
        if reader.schema().column_with_name(column).is_none() {
            return Ok(Vec::new());
        }
        let mask = ProjectionMask::columns(reader.parquet_schema(), [column]);
        let batches: std::result::Result<Vec<_>, _> = reader.with_projection(mask).build()?.collect();
        Ok(batches?.iter().map(|batch| batch.column(0).clone()).collect())
    }

    /// The share of the `k` nearest of a query that was found: an answer counts when it is as near as the true `k`-th
    /// neighbour, so ties are right. Where fewer than `k` rows match, of these.
    pub fn recall(&self, truth: &Matrix, query: usize, found: &[u32], k: usize) -> f64 {
        let distances = truth.row(query);
        let k = distances.iter().take(k).filter(|distance| distance.is_finite()).count();
        let Some(&farthest) = distances.get(k.wrapping_sub(1)) else { return 1.0 };
        let limit = f64::from(farthest) + 1e-5 * f64::from(farthest).abs().max(1.0);
        let near = |row: &&u32| self.distance(query, **row as usize) <= limit;
        found.iter().take(k).filter(near).count() as f64 / k as f64
    }

    fn distance(&self, query: usize, row: usize) -> f64 {
        let (a, b) = (self.queries.row(query), self.base.row(row));
        let pairs = || a.iter().zip(b).map(|(&a, &b)| (f64::from(a), f64::from(b)));
        if self.metric == Metric::L2 {
            return pairs().map(|(a, b)| (a - b) * (a - b)).sum();
        }
        let (aa, bb) = pairs().fold((0.0, 0.0), |(aa, bb), (a, b)| (aa + a * a, bb + b * b));
        1.0 - pairs().map(|(a, b)| a * b).sum::<f64>() / (aa * bb).sqrt()
    }
}

fn name(metric: Metric) -> &'static str {
    if metric == Metric::L2 { "l2" } else { "cosine" }
}
