//! The uncompressed bytes of a file, within bounds.
//!
//! Owns `decompression-is-bounded`: a compressed file grows to at most so many times its size, however small it is made.

use std::io::{self, BufRead, Read};

use flate2::bufread::MultiGzDecoder;
use tarn_model::limits;

use crate::blocks::Remote;
use crate::chunk::Stop;
use crate::detect::Compression;
use crate::report::DropReport;

/// Largest window of a Zstandard frame, as a power of two: 128 MiB, what the command line tool takes without being asked.
const ZSTD_WINDOW_LOG: u32 = 27;
/// What decoders read at a time.
const BUFFER_BYTES: usize = 256 * 1024;

/// The uncompressed bytes of a file from an offset of theirs. What is before it is not read where that can be avoided.
pub(crate) fn open(remote: &Remote, compression: Compression, offset: u64) -> io::Result<Box<dyn Read>> {
    if compression == Compression::None {
        return Ok(Box::new(remote.from(offset)));
    }
    let compressed = io::BufReader::with_capacity(BUFFER_BYTES, remote.from(0));
    let mut bounded: Box<dyn Read> = match compression {
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(compressed)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG)?;
            Box::new(Bounded::new(decoder, remote.len()))
        }
        _ => Box::new(Bounded::new(MultiGzDecoder::new(compressed), remote.len())),
    };
    let skipped = io::copy(&mut bounded.as_mut().take(offset), &mut io::sink())?;
    if skipped < offset {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(bounded)
}

/// Refuses to grow without bound.
struct Bounded<R> {
    inner: R,
    compressed: u64,
    left: u64,
}

impl<R: Read> Bounded<R> {
    fn new(inner: R, compressed: u64) -> Self {
        let most = compressed.saturating_mul(limits::DROP_COMPRESSION_RATIO).max(limits::DROP_UNCOMPRESSED_FLOOR);
        Self { inner, compressed, left: most }
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(out)?;
        match self.left.checked_sub(count as u64) {
            Some(left) => self.left = left,
            None => {
                return Err(io::Error::other(format!(
                    "{} compressed bytes grow to more than {} times as many",
                    self.compressed,
                    limits::DROP_COMPRESSION_RATIO
                )));
            }
        }
        Ok(count)
    }
}

/// An error of a reader over a file: the store's, or the file's.
pub(crate) fn read_error(remote: &Remote, error: &dyn std::fmt::Display) -> Stop {
    match remote.failure() {
        Some(failure) => failure.into(),
        None => DropReport::file(
            format!("The file cannot be read to its end: {error}."),
            "Nothing of the file was written. Check that it is complete and undamaged, and drop it again.",
        )
        .into(),
    }
}

/// Reads a line with its end into `line`, which is cleared; at most [`limits::DROP_LINE_BYTES`] of it. Returns how many bytes
/// were read: none at the end, more than the limit when the line is longer.
pub(crate) fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<usize> {
    line.clear();
    input.take(limits::DROP_LINE_BYTES as u64 + 1).read_until(b'\n', line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decompression_is_bounded() {
        let mut bomb = Bounded::new(io::repeat(0), 1_000);
        let most = io::copy(&mut bomb.by_ref().take(limits::DROP_UNCOMPRESSED_FLOOR), &mut io::sink());
        assert_eq!(most.unwrap(), limits::DROP_UNCOMPRESSED_FLOOR);
        let error = bomb.read(&mut [0; 16]).unwrap_err();
        assert!(error.to_string().contains("1000 compressed bytes grow"), "{error}");
    }

    #[test]
    fn a_line_is_bounded() {
        let mut line = Vec::new();
        let mut endless = io::BufReader::new(io::repeat(b'x'));
        assert_eq!(read_line(&mut endless, &mut line).unwrap(), limits::DROP_LINE_BYTES + 1);
        let mut short = io::BufReader::new(&b"a\nb"[..]);
        assert_eq!((read_line(&mut short, &mut line).unwrap(), line.as_slice()), (2, &b"a\n"[..]));
        assert_eq!((read_line(&mut short, &mut line).unwrap(), line.as_slice()), (1, &b"b"[..]));
        assert_eq!(read_line(&mut short, &mut line).unwrap(), 0);
    }
}
