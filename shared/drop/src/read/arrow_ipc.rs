//! Arrow IPC, streams and files: a file is a stream between two marks, with an index after it that reading in order does
//! without.
//!
//! Messages say how long they are; a hostile one says anything. So each is bounded before the decoder sees it: its metadata,
//! its body, and what the buffers in it claim to grow to. So are the dictionaries, which the decoder keeps, as a whole.

use std::collections::HashMap;
use std::io::{self, BufRead, Read};

use arrow::buffer::Buffer;
use arrow::ipc::reader::StreamDecoder;
use arrow::ipc::root_as_message;
use tarn_timeline::check_arrow_frames;

use super::Job;
use crate::chunk::{Chunker, Stop};
use crate::detect::Compression;
use crate::mapping::DropMapping;
use crate::records::Place;
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
/// Longest body of a message, as stored and once uncompressed; all dictionaries together may have as much.
const BODY_BYTES: i64 = 512 << 20;
/// A body is read in steps of this size.
const STEP_BYTES: u64 = 16 << 20;

/// Why there is no next message.
#[derive(Debug)]
enum Fault {
    /// The bytes cannot be read, or end too early.
    Input(io::Error),
    /// They can, and are refused.
    Content(String),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Input(error)
    }
}

/// A message with its frame, as the decoder takes it.
#[derive(Debug)]
struct Message {
    frame: Vec<u8>,
    /// Uncompressed bytes of its buffers.
    claimed: u64,
    /// The dictionary that it brings, and whether that one's values come after those it has.
    dictionary: Option<(i64, bool)>,
}

pub(super) fn read(
    job: &Job,
    compression: Compression,
    mapping: &DropMapping,
    start: Place,
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
    let mut dictionaries = HashMap::new();
    let mut columns = None;
    let mut skip = start.row;
    loop {
        let message = next_message(&mut input).map_err(|fault| match fault {
            Fault::Input(error) => failed(&error),
            Fault::Content(what) => damaged(&what),
        })?;
        let is_last = message.is_none();
        if let Some(message) = &message {
            keep_dictionary(&mut dictionaries, message).map_err(|what| damaged(&what))?;
        }
        let mut message = Buffer::from_vec(message.map_or_else(|| END_OF_STREAM.to_vec(), |message| message.frame));
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
        format!("The Arrow IPC data cannot be taken: {error}."),
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

/// Counts what the decoder keeps.
fn keep_dictionary(kept: &mut HashMap<i64, u64>, message: &Message) -> Result<(), String> {
    let Some((id, is_delta)) = message.dictionary else { return Ok(()) };
    let bytes = kept.entry(id).or_default();
    *bytes = if is_delta { bytes.saturating_add(message.claimed) } else { message.claimed };
    let all = kept.values().fold(0_u64, |all, bytes| all.saturating_add(*bytes));
    if all > BODY_BYTES.unsigned_abs() {
        return Err(format!("its dictionaries have {all} bytes; at most {BODY_BYTES} are read: write plain columns"));
    }
    Ok(())
}

/// The next message; `None` at the end.
fn next_message(input: &mut impl Read) -> Result<Option<Message>, Fault> {
    let mut frame = Vec::with_capacity(8);
    input.take(4).read_to_end(&mut frame)?;
    if frame == CONTINUATION {
        input.take(4).read_to_end(&mut frame)?;
    }
    let Some(&length) = frame.last_chunk::<4>() else {
        return if frame.is_empty() { Ok(None) } else { Err(cut_off().into()) };
    };
    let length = u32::from_le_bytes(length);
    if length == 0 {
        return Ok(None);
    }
    if length > METADATA_BYTES {
        return Err(Fault::Content(format!(
            "the metadata of a message has {length} bytes; at most {METADATA_BYTES} are read"
        )));
    }
    let start = frame.len();
    read_exactly(input, &mut frame, u64::from(length))?;
    let message = root_as_message(&frame[start..]).map_err(|error| Fault::Content(error.to_string()))?;
    let body = message.bodyLength();
    let dictionary = message.header_as_dictionary_batch().map(|dictionary| (dictionary.id(), dictionary.isDelta()));
    if !(0..=BODY_BYTES).contains(&body) {
        return Err(Fault::Content(format!(
            "a record batch has {body} bytes; at most {BODY_BYTES} are read: write the file in smaller record batches"
        )));
    }
    read_exactly(input, &mut frame, u64::try_from(body).unwrap_or(0))?;
    let claimed = check_arrow_frames(&frame).map_err(Fault::Content)?;
    if claimed > BODY_BYTES.unsigned_abs() {
        return Err(Fault::Content(format!(
            "a record batch grows to {claimed} bytes; at most {BODY_BYTES} are read: write the file in smaller record batches"
        )));
    }
    Ok(Some(Message { frame, claimed, dictionary }))
}

/// Reads so many bytes; memory is taken as they come, not as they are claimed, and not twice as much.
fn read_exactly(input: &mut impl Read, into: &mut Vec<u8>, bytes: u64) -> io::Result<()> {
    let mut left = bytes;
    while left > 0 {
        let step = left.min(STEP_BYTES);
        into.reserve_exact(usize::try_from(step).unwrap_or(usize::MAX));
        if input.take(step).read_to_end(into)? as u64 != step {
            return Err(cut_off());
        }
        left -= step;
    }
    Ok(())
}

fn cut_off() -> io::Error {
    io::ErrorKind::UnexpectedEof.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_claims_the_sky_is_refused_before_it_is_believed() {
        let fault = next_message(&mut &b"\xff\xff\xff\xff\xff\xff\xff\x7f"[..]).unwrap_err();
        assert!(matches!(&fault, Fault::Content(what) if what.contains("at most")), "{fault:?}");
        let short = next_message(&mut &b"\xff\xff\xff\xff\x00\x00\xff\x00abc"[..]).unwrap_err();
        assert!(matches!(&short, Fault::Input(error) if error.kind() == io::ErrorKind::UnexpectedEof), "{short:?}");
        assert!(next_message(&mut &b""[..]).unwrap().is_none());
        assert!(next_message(&mut &b"\xff\xff\xff\xff\0\0\0\0"[..]).unwrap().is_none());
    }

    #[test]
    fn dictionaries_are_bounded_together() {
        let message = |id, is_delta, claimed| Message { frame: Vec::new(), claimed, dictionary: Some((id, is_delta)) };
        let half = BODY_BYTES.unsigned_abs() / 2;
        let mut kept = HashMap::new();
        assert_eq!(keep_dictionary(&mut kept, &message(1, false, half)), Ok(()));
        // A dictionary that replaces another takes its place.
        assert_eq!(keep_dictionary(&mut kept, &message(1, false, half)), Ok(()));
        assert_eq!(keep_dictionary(&mut kept, &message(2, false, half)), Ok(()));
        for more in [message(1, true, 1), message(3, false, 1)] {
            assert!(keep_dictionary(&mut kept.clone(), &more).unwrap_err().contains("at most"));
        }
    }
}
