//! Points from rows of text: a JSON document, a line of NDJSON, a record of CSV.
//!
//! Owns what a row may look like: points of the HTTP API, flat objects with a property per attribute, records under a header;
//! and how each part of it is read. Uploads over HTTP, `tarn upload` and the drop folder read rows with the same code.
//!
//! Does no I/O: lines and records come from the caller, who bounds them. Does not decide whether a point fits its data source:
//! the model and the timeline do.

mod csv_rows;
mod error;
#[cfg(test)]
mod fixtures;
/// JSON in and out.
pub mod json;
mod json_rows;
mod names;
mod value;

pub use csv_rows::CsvRows;
pub use error::RowError;
pub use json_rows::{JsonRows, read_point, sparse_vector};
pub use names::RowNames;
pub use value::parse_value;
