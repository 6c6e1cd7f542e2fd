//! NDJSON: a row a line.

use std::io::BufReader;

use tarn_model::limits;
use tarn_rows::JsonRows;

use super::Job;
use crate::chunk::{Chunker, Stop};
use crate::detect::Compression;
use crate::mapping::DropMapping;
use crate::records::Place;
use crate::report::DropReport;
use crate::text;

pub(super) fn read(
    job: &Job,
    compression: Compression,
    mapping: &DropMapping,
    start: Place,
    mut chunker: Chunker<'_>,
) -> Result<(), Stop> {
    let failed = |error: std::io::Error| text::read_error(&job.remote, &error);
    let input = text::open(&job.remote, compression, start.offset).map_err(failed)?;
    let mut input = BufReader::with_capacity(1 << 20, input);
    let names = mapping.row_names(&job.source);
    let rows = JsonRows { source: &job.source, names: &names };
    let (mut line, mut number, mut position) = (Vec::new(), start.line, start.offset);
    loop {
        let bytes = text::read_line(&mut input, &mut line).map_err(failed)?;
        if bytes == 0 {
            return chunker.finish();
        }
        number += 1;
        position += bytes as u64;
        if bytes > limits::DROP_LINE_BYTES {
            let what = format!("The line is longer than {} bytes.", limits::DROP_LINE_BYTES);
            return Err(DropReport::row(chunker.next_row(), Some(number), None, what).into());
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        let update = rows
            .update(&line)
            .map_err(|error| DropReport::row(chunker.next_row(), Some(number), error.column, error.message))?;
        chunker.push(&update, bytes, (position, number), number)?;
    }
}
