//! Arrow IPC, streams and files: a file is a stream between two marks, with an index after it that reading in order does
//! without.
//!
//! Messages say how long they are; a hostile one says anything. So each is bounded before the decoder sees it: its metadata,
//! its body, and what the buffers in it claim to grow to.

use std::io::{self, BufRead, Read};

use arrow::buffer::Buffer;
use arrow::ipc::reader::StreamDecoder;
use arrow::ipc::root_as_message;
use tarn_timeline::check_arrow_frames;

use super::{Job, Start};
use crate::chunk::{Chunker, Stop};
use crate::detect::Compression;
use crate::mapping::DropMapping;
use crate::report::DropReport;
use crate::text;

/// The mark at the start of a file, with its padding.
const FILE_MARK_BYTES: u64 = 8;
/// Most zeros between the mark and the first message.
const PADDING_BYTES: usize = 256;
const CONTINUATION: [u8; 4] = [0xff; 4];
const END_OF_STREAM: [u8; 8] = [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
/// Longest metadata of a message.
const METADATA_BYTES: u32 = 16 << 20;
/// Longest body of a message, as stored and once uncompressed.
const BODY_BYTES: i64 = 512 << 20;

pub(super) fn read(
    job: &Job,
    compression: Compression,
    mapping: &DropMapping,
    start: Start,
    is_file: bool,
    mut chunker: Chunker<'_>,
) -> Result<(), Stop> {
    let failed = |error: &dyn std::fmt::Display| text::read_error(&job.remote, error);
    let input = text::open(&job.remote, compression, if is_file { FILE_MARK_BYTES } else { 0 });
    let mut input = io::BufReader::with_capacity(1 << 20, input.map_err(|error| failed(&error))?);
    if is_file {
        skip_padding(&mut input).map_err(|error| failed(&error))?;
    }
    let mut decoder = StreamDecoder::new();
    let mut columns = None;
    let mut skip = start.row;
    loop {
        let message = next_message(&mut input).map_err(|error| failed(&error))?;
        let is_last = message.is_none();
        let mut message = Buffer::from_vec(message.unwrap_or_else(|| END_OF_STREAM.to_vec()));
        // A message without a body is decoded when the next one comes.
        while !message.is_empty() {
            let Some(batch) = decoder.decode(&mut message).map_err(|error| damaged(&error))? else { continue };
            let columns = columns.get_or_insert_with(|| {
                let schema = batch.schema();
                let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
                mapping.column_mapping(&job.source, &names)
            });
            let skipped = skip.min(batch.num_rows() as u64);
            skip -= skipped;
            let from = usize::try_from(skipped).unwrap_or(usize::MAX);
            if from < batch.num_rows() {
                chunker.push_columns(&batch.slice(from, batch.num_rows() - from), columns)?;
            }
        }
        if is_last {
            break;
        }
    }
    if decoder.schema().is_none() {
        return Err(damaged(&"it has no schema"));
    }
    chunker.finish()
}

fn damaged(error: &dyn std::fmt::Display) -> Stop {
    DropReport::file(
        format!("The Arrow IPC data is not valid: {error}."),
        "Nothing of the file was written. Write the file anew and drop it again.",
    )
    .into()
}

/// Skips the zeros after the mark of a file: some writers align the first message to more than eight bytes.
fn skip_padding(input: &mut impl BufRead) -> io::Result<()> {
    for _ in 0..PADDING_BYTES {
        if input.fill_buf()?.first() != Some(&0) {
            break;
        }
        input.consume(1);
    }
    Ok(())
}

/// The next message with its frame, as the decoder takes it; `None` at the end.
fn next_message(input: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut frame = Vec::with_capacity(8);
    input.take(4).read_to_end(&mut frame)?;
    if frame == CONTINUATION {
        input.take(4).read_to_end(&mut frame)?;
    }
    let Some(&length) = frame.last_chunk::<4>() else {
        return if frame.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
    };
    let length = u32::from_le_bytes(length);
    if length == 0 {
        return Ok(None);
    }
    if length > METADATA_BYTES {
        return Err(invalid(format!(
            "the metadata of a message has {length} bytes; at most {METADATA_BYTES} are read"
        )));
    }
    let start = frame.len();
    read_exactly(input, &mut frame, u64::from(length))?;
    let message = root_as_message(&frame[start..]).map_err(|error| invalid(error.to_string()))?;
    let body = message.bodyLength();
    if !(0..=BODY_BYTES).contains(&body) {
        return Err(invalid(format!(
            "a record batch has {body} bytes; at most {BODY_BYTES} are read: write the file in smaller record batches"
        )));
    }
    read_exactly(input, &mut frame, u64::try_from(body).unwrap_or(0))?;
    let claimed = check_arrow_frames(&frame).map_err(invalid)?;
    if claimed > BODY_BYTES.unsigned_abs() {
        return Err(invalid(format!(
            "a record batch grows to {claimed} bytes; at most {BODY_BYTES} are read: write the file in smaller record batches"
        )));
    }
    Ok(Some(frame))
}

/// Reads so many bytes; memory is taken as they come, not as they are claimed.
fn read_exactly(input: &mut impl Read, into: &mut Vec<u8>, bytes: u64) -> io::Result<()> {
    let read = input.take(bytes).read_to_end(into)?;
    if read as u64 == bytes { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_claims_the_sky_is_refused_before_it_is_believed() {
        let error = next_message(&mut &b"\xff\xff\xff\xff\xff\xff\xff\x7f"[..]).unwrap_err();
        assert!(error.to_string().contains("at most"), "{error}");
        let short = next_message(&mut &b"\xff\xff\xff\xff\x00\x00\xff\x00abc"[..]).unwrap_err();
        assert_eq!(short.kind(), io::ErrorKind::UnexpectedEof);
        assert!(next_message(&mut &b""[..]).unwrap().is_none());
        assert!(next_message(&mut &b"\xff\xff\xff\xff\0\0\0\0"[..]).unwrap().is_none());
    }
}
