//! Writes segment files.

use std::io::Write;
use std::path::Path;

use crate::calibration::Calibration;
use crate::error::SegmentError;
use crate::input::SegmentInput;
use crate::kind::{Build, SegmentKind, SegmentSettings};

/// What was written.
#[derive(Clone, Debug, PartialEq)]
pub struct SegmentSummary {
    /// Length of the file.
    pub bytes: u64,
    /// CRC-32C of the whole file.
    pub crc32c: u32,
    /// Rows.
    pub rows: u32,
    /// Kind.
    pub kind: SegmentKind,
    /// Of a graph.
    pub calibration: Option<Calibration>,
}

/// Called with rows done and rows in all, from one thread at a time.
pub type ProgressFn<'a> = &'a (dyn Fn(u64, u64) + Sync);

/// Writes a segment file to `path`, which must not exist, and syncs nothing: the store does.
///
/// # Errors
/// [`SegmentError::Input`], [`SegmentError::Io`] or [`SegmentError::Graph`]; the file is then incomplete and of no use.
pub fn write_segment(
    input: &SegmentInput,
    build: Build,
    settings: &SegmentSettings,
    path: &Path,
    progress: ProgressFn<'_>,
) -> Result<SegmentSummary, SegmentError> {
    let _ = (input, build, settings, path, progress);
    todo!()
}

/// As [`write_segment`], to any writer.
///
/// # Errors
/// See [`write_segment`].
pub fn write_segment_to(
    input: &SegmentInput,
    build: Build,
    settings: &SegmentSettings,
    out: &mut dyn Write,
    progress: ProgressFn<'_>,
) -> Result<SegmentSummary, SegmentError> {
    let _ = (input, build, settings, out, progress);
    todo!()
}
